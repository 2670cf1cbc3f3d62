"""Who asks a run's questions: one model in this process, or many elsewhere; and what is left to be asked."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from zoomzero.benchmarks.runner.asking import Asker, Batch, Item, Key, ModelSpec, failed_row, load_asker
from zoomzero.errors import ModelError

TRIES = 3  # a question whose process dies is asked twice more
Facts = dict[str, Any]
Load = Callable[[ModelSpec], tuple[Asker, Facts]]


class Executor(Protocol):
    """One or more models that turn batches into rows; `models` says how many, once it has started."""

    @property
    def models(self) -> int: ...

    def start(self) -> Facts:
        """Make the model, or the first of several, and return its facts (`load_asker`).

        Raises:
            ModelError: it cannot be made.
        """
        ...

    def rows(self, batches: Sequence[Batch]) -> Iterator[tuple[Item, str]]:
        """Yield every item with its row (one JSON line) as it is done."""
        ...

    def close(self) -> None:
        """End what `start` has started."""
        ...


class Alone:
    """One model in this process."""

    models = 1

    def __init__(self, spec: ModelSpec, load: Load = load_asker) -> None:
        self.spec, self.load = spec, load
        self.asker: Asker | None = None

    def start(self) -> Facts:
        self.asker, facts = self.load(self.spec)
        return facts

    def rows(self, batches: Sequence[Batch]) -> Iterator[tuple[Item, str]]:
        assert self.asker is not None, "start comes before rows"
        for batch in batches:
            for item in batch:
                yield item, self.asker.ask(item)

    def close(self) -> None:
        self.asker = None


class Schedule:
    """What is left to be asked, and who asks what: a worker is given one batch, and its items one by one.

    Args:
        batches: everything to be asked.
        tries: how often an item is given out before its workers' deaths are its fault.
    """

    def __init__(self, batches: Sequence[Batch], tries: int = TRIES) -> None:
        self.tries = tries
        self._waiting: deque[deque[Item]] = deque(deque(batch) for batch in batches)
        self._held: dict[int, deque[Item]] = {}  # worker -> its batch, the item being asked first
        self._tried: dict[Key, int] = {}

    @property
    def finished(self) -> bool:
        """Whether nothing waits and nobody works."""
        return not self._waiting and not self._held

    @property
    def waiting(self) -> int:
        """Batches that nobody has taken yet."""
        return len(self._waiting)

    def give(self, worker: int) -> Item | None:
        """Return the worker's next item, None when there is none for it."""
        if worker not in self._held:
            if not self._waiting:
                return None
            self._held[worker] = self._waiting.popleft()
        item = self._held[worker][0]
        self._tried[item.key] = self._tried.get(item.key, 0) + 1
        return item

    def done(self, worker: int) -> Item:
        """Take note that the worker's item is done, and return the item."""
        batch = self._held[worker]
        item = batch.popleft()
        if not batch:
            del self._held[worker]
        return item

    def lost(self, worker: int, why: str) -> tuple[Item, str] | None:
        """Take back a dead worker's batch.

        Returns:
            The item it was asking and a failed row, when that was the last try; None when it will be asked again, or
            when the worker had nothing.
        """
        batch = self._held.pop(worker, None)
        if batch is None:
            return None
        item, row = batch[0], None
        if self._tried[item.key] >= self.tries:
            batch.popleft()
            reason = f"its process died {self.tries} times ({why}); ask it alone with `zoomzero ask` to see why"
            row = (item, json.dumps(failed_row(item, reason)))
        if batch:
            self._waiting.appendleft(batch)
        return row


# --- many models ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Event:
    """What a worker reports: `ready` (value: its facts), `row` (a JSON line), `dead` (why)."""

    worker: int
    kind: Literal["ready", "row", "dead"]
    value: Any


class Pool(Protocol):
    """Workers somewhere else, numbered from 0, each with a model of its own."""

    spec: ModelSpec

    def events(self) -> Sequence[Event]:
        """Wait until at least one worker has something to report.

        Raises:
            ZoomZeroError: a worker's model does not load.
        """
        ...

    def send(self, worker: int, item: Item) -> None:
        """Give a ready worker an item; that it has died meanwhile comes as an event."""
        ...

    def replace(self, worker: int) -> None:
        """Start a worker in a dead one's place."""
        ...


class Crowd:
    """An executor over a pool: hands out questions, replaces workers that die, asks lost questions again.

    Args:
        pool: the workers; its `events` begin with a `ready` of each.
        tries: see `Schedule`.
    """

    def __init__(self, pool: Pool, tries: int = TRIES) -> None:
        self.pool, self.tries = pool, tries
        self._loaded: set[int] = set()
        self._idle: set[int] = set()  # of those, the ones without an item
        self._loading_deaths = 0

    def first_ready(self) -> Facts:
        """Wait for the first model and return its facts."""
        while True:
            facts = [event.value for event in self.pool.events() if self._settled(event)]
            if facts:
                return dict(facts[0])

    def rows(self, batches: Sequence[Batch]) -> Iterator[tuple[Item, str]]:
        """Yield every item with its row as it is done, in no particular order."""
        schedule = Schedule(batches, self.tries)
        self._hand_out(schedule)
        while not schedule.finished:
            for event in self.pool.events():
                done: tuple[Item, str] | None = None
                if event.kind == "row":
                    done = schedule.done(event.worker), event.value
                    self._idle.add(event.worker)
                elif event.kind == "dead":
                    done = schedule.lost(event.worker, event.value)
                    self._settled(event)
                else:
                    self._settled(event)
                self._hand_out(schedule)  # first: no worker waits for this process to write a row
                if done is not None:
                    yield done

    def _hand_out(self, schedule: Schedule) -> None:
        for worker in sorted(self._idle):
            item = schedule.give(worker)
            if item is not None:
                self._idle.discard(worker)
                self.pool.send(worker, item)

    def _settled(self, event: Event) -> bool:
        """Take note of a worker that came or went; return whether it came."""
        if event.kind == "ready":
            self._idle.add(event.worker)
            self._loaded.add(event.worker)
            self._loading_deaths = 0
            return True
        if event.worker not in self._loaded:
            self._loading_deaths += 1
        if self._loading_deaths >= self.tries:
            fix = "use fewer --workers if memory is short; workers.log in the run's folder may say more"
            raise ModelError(self.pool.spec.model, f"its process dies while loading it ({event.value})", fix)
        self._idle.discard(event.worker)
        self._loaded.discard(event.worker)
        self.pool.replace(event.worker)
        return False
