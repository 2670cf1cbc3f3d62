"""When validation ends a run, and which of its rows are shown at the end: worked by hand on the trainer's methods."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from zoomzero.train.engine.grpo import GrpoTrainer


def trainer(patience: int | None) -> Any:
    """What the two methods read of a trainer."""
    settings = SimpleNamespace(validation=SimpleNamespace(patience=patience))
    return SimpleNamespace(best={}, stale=0, settings=settings, control=SimpleNamespace(should_training_stop=False))


def row(step: int, answer: float, iou: float) -> dict[str, float]:
    return {"step": step, "validation/answer": answer, "validation/iou": iou, "validation/format": 1.0}


@pytest.mark.parametrize(
    ("patience", "rewards", "stops_after"),
    [
        (2, [0.2, 0.3, 0.3, 0.1], 4),  # equal is not better
        (2, [0.2, 0.1, 0.3, 0.2, 0.1], 5),  # a better one starts the count anew
        (1, [0.2, 0.2], 2),
        (3, [0.1, 0.2, 0.3, 0.4], None),
        (None, [0.3, 0.2, 0.1, 0.0], None),
    ],
)
def test_a_run_ends_when_validation_no_longer_gets_better(
    patience: int | None, rewards: list[float], stops_after: int | None
) -> None:
    run, stopped = trainer(patience), None
    for number, reward in enumerate(rewards, 1):
        # the mean of answer and IoU counts, not one of them: here they always move apart
        GrpoTrainer._stop_on_plateau(run, row(number, answer=reward + 0.1, iou=reward - 0.1))
        if run.control.should_training_stop and stopped is None:
            stopped = number
    assert stopped == stops_after


def test_the_start_model_stands_beside_the_last_and_the_best() -> None:
    rows = [row(0, 0.2, 0.1), {"step": 1, "loss": 0.5}, row(10, 0.5, 0.6), row(20, 0.6, 0.4)]
    found = GrpoTrainer.validation_summary(SimpleNamespace(state=SimpleNamespace(log_history=rows)))  # type: ignore[arg-type]
    assert {which: one["step"] for which, one in found.items()} == {"start": 0, "last": 20, "best": 10}
    assert found["start"] == row(0, 0.2, 0.1)
    nothing = GrpoTrainer.validation_summary(SimpleNamespace(state=SimpleNamespace(log_history=rows[1:2])))  # type: ignore[arg-type]
    assert nothing == {}
