"""How long a run has taken, over all its sittings."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerState

MINUTES = "minutes"  # in every row of the trainer's log, which checkpoints hold


class RunClock(TrainerCallback):  # type: ignore[misc]
    """Counts the minutes of a run; a resumed one goes on from those its checkpoint's last log row names."""

    def __init__(self) -> None:
        self._began, self._before = time.perf_counter(), 0.0

    @property
    def minutes(self) -> float:
        """Of this sitting, and of all before it up to the last log row of the checkpoint that it went on from."""
        return self._before + (time.perf_counter() - self._began) / 60

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **kwargs: Any) -> None:
        """Go on from what the checkpoint says."""
        rows = [row[MINUTES] for row in state.log_history if MINUTES in row]
        self._began, self._before = time.perf_counter(), rows[-1] if rows else 0.0
