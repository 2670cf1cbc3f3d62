"""One batch ahead: what is yielded, what is prepared meanwhile, and what is not after the end."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from zoomzero.answer.ahead import one_batch_ahead


@pytest.mark.parametrize("batches", [[], [[]], [[1]], [[1, 2], [3], [], [4, 5, 6]]])
def test_every_item_once_and_in_order(batches: list[list[int]]) -> None:
    seen: list[int] = []
    found = list(one_batch_ahead(batches, lambda item: seen.append(item) or -item))  # type: ignore[func-returns-value]
    assert found == [[-item for item in batch] for batch in batches]
    assert seen == [item for batch in batches for item in batch]


def test_the_next_batch_and_no_other_is_prepared_meanwhile() -> None:
    begun = [threading.Event() for _ in range(4)]
    with closing(one_batch_ahead([[0], [1], [2], [3]], lambda item: begun[item].set())) as batches:
        for number, _ in enumerate(batches):
            assert number == 3 or begun[number + 1].wait(30)
            assert not any(event.is_set() for event in begun[number + 2 :])


def test_closing_waits_for_one_item_only() -> None:
    seen: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def prepare(item: int) -> None:
        seen.append(item)
        if item == 1:
            begun.set()
            assert go_on.wait(30)

    batches = one_batch_ahead([[0], [1, 2, 3]], prepare)
    next(batches)
    assert begun.wait(30)
    threading.Timer(0.1, go_on.set).start()
    batches.close()
    assert seen == [0, 1]


def test_errors_come_out_where_their_batch_would() -> None:
    def prepare(item: int) -> int:
        if item == 2:
            raise ValueError("bad item")
        return item

    batches = one_batch_ahead([[1], [2], [3]], prepare)
    assert next(batches) == [1]
    with pytest.raises(ValueError, match="bad item"):
        next(batches)
