"""Many questions at once to one model behind a server: a thread for each video, one policy for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Any

from zoomzero.benchmarks.runner.asking import Asker, Batch, Item, ModelSpec, load_asker


class SideBySide:
    """Asks a server about several videos at once; each thread keeps the frames of the video it is at.

    Args:
        spec: the model, behind a server.
        models: threads.
        load: opens it.
    """

    def __init__(
        self,
        spec: ModelSpec,
        models: int,
        load: Callable[[ModelSpec], tuple[Asker, dict[str, Any]]] = load_asker,
    ) -> None:
        self.spec, self.models, self.load = spec, models, load
        self._policy: Any = None
        self._stopped = Event()

    def start(self) -> dict[str, Any]:
        """Open the model and return its facts."""
        asker, facts = self.load(self.spec)
        self._policy = asker.policy
        return facts

    def rows(self, batches: Sequence[Batch]) -> Iterator[tuple[Item, str]]:
        """Yield every item with its row as it is done, in no particular order."""
        done: SimpleQueue[tuple[Item, str] | Future[None]] = SimpleQueue()

        def ask(batch: Batch) -> None:
            asker = Asker(self._policy, self.spec)
            for item in batch:
                if not self._stopped.is_set():
                    done.put((item, asker.ask(item)))

        with ThreadPoolExecutor(self.models, "asking") as threads:
            try:
                for batch in batches:
                    threads.submit(ask, batch).add_done_callback(done.put)
                left = len(batches)
                while left:
                    found = done.get()
                    if isinstance(found, Future):
                        found.result()  # raises what ended the batch
                        left -= 1
                    else:
                        yield found
            finally:
                self._stopped.set()
                threads.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Ask nothing more."""
        self._stopped.set()
