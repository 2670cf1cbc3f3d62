"""How long a run has taken, over all its sittings."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerState
from transformers.trainer_callback import ExportableState

MINUTES = "minutes"  # in every row of the trainer's log, and among what a checkpoint says of this clock


class RunClock(TrainerCallback, ExportableState):  # type: ignore[misc]
    """Counts the minutes of a run's steps; a resumed one goes on from those that its checkpoint holds."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._before = 0.0

    @property
    def minutes(self) -> float:
        """Of this sitting, and of all before it up to the checkpoint that it went on from; 0 before the first step."""
        return self._before + (0.0 if self._began is None else (time.perf_counter() - self._began) / 60)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint keeps, in the trainer's form."""
        return {"args": {}, "attributes": {MINUTES: self.minutes}}

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Go on from what the checkpoint says; one that an earlier version wrote says nothing."""
        kept = state.stateful_callbacks.get(type(self).__name__, {"attributes": {MINUTES: 0.0}})
        self._before = float(kept["attributes"][MINUTES])
        self._began = time.perf_counter()
