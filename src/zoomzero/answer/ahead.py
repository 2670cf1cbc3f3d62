"""Work one batch ahead: the next batch is prepared in the background while somebody works on this one."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")
Ready = TypeVar("Ready")


def one_batch_ahead(
    batches: Sequence[Sequence[Item]], prepare: Callable[[Item], Ready]
) -> Generator[list[Ready], None, None]:
    """Yield every batch prepared, one item after the other; the next one is prepared meanwhile.

    Close it (`contextlib.closing`) where the work may be interrupted: then it waits for the item that is being
    prepared, not for the whole next batch.

    Args:
        batches: in order.
        prepare: called in another thread, for one item at a time.
    """
    stopped = Event()

    def prepared(batch: Sequence[Item]) -> list[Ready]:
        return [prepare(item) for item in batch if not stopped.is_set()]

    with ThreadPoolExecutor(1, "decode-ahead") as ahead:
        try:
            coming = [ahead.submit(prepared, batch) for batch in batches[:1]]
            for number in range(len(batches)):
                ready = coming.pop().result()
                coming = [ahead.submit(prepared, batch) for batch in batches[number + 1 : number + 2]]
                yield ready
        finally:
            stopped.set()
