"""What checkpoints of a reinforcement-learning run hold besides what every run keeps (`PolicyTrainer`).

For every process: the rollouts that are still to be learned from, and the place in the data. When a server that draws
rollouts is lost, one is written before the run ends.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zoomzero.errors import ServerError, TrainingError
from zoomzero.train.engine.trainer import PolicyTrainer
from zoomzero.train.rollouts.collector import RolloutCollector
from zoomzero.train.rollouts.record import RolloutGroup, group_from_json
from zoomzero.train.run.directory import checkpoint_step, drop_later_checkpoints, last_checkpoint
from zoomzero.train.run.log import RunLog


class CheckpointedTrainer(PolicyTrainer):
    """A trainer whose checkpoints hold rollouts too.

    `best` are the best validation values so far, `stale` the validations since, `pending` the groups that are still to
    be learned from.
    """

    collector: RolloutCollector
    run_log: RunLog
    out: Path
    best: dict[str, float]
    stale: int
    pending: list[RolloutGroup]

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write where the run stands, then the trainer's part, whose state file marks a whole checkpoint."""
        directory = self.out / f"checkpoint-{self.state.global_step}"
        directory.mkdir(parents=True, exist_ok=True)
        state = {
            "taken": self.collector.stream.taken,
            "seen": self.collector.seen,
            "unreadable": self.collector.unreadable,
            "best": self.best,
            "stale": self.stale,
            "pending": [json.loads(group.to_json()) for group in self.pending],
        }
        (directory / f"grpo_state_{self.rank}.json").write_text(json.dumps(state), encoding="utf-8")
        super()._save_checkpoint(model, trial)
        self.accelerator.wait_for_everyone()

    def restore(self, checkpoint: Path | None) -> None:
        """Take up the rollouts and the place in the data that a checkpoint holds, and forget what came after it.

        Args:
            checkpoint: None where the run was killed before its first one.
        """
        step = 0
        if checkpoint is not None:
            step = checkpoint_step(checkpoint)
            state = json.loads((checkpoint / f"grpo_state_{self.rank}.json").read_text(encoding="utf-8"))
            self.collector.stream.taken = state["taken"]
            self.collector.seen, self.collector.unreadable = state["seen"], state["unreadable"]
            self.best, self.stale = state["best"], state.get("stale", 0)
            self.pending = [group_from_json(values) for values in state["pending"]]
            self.args.eval_on_start = False
        self.run_log.cut(step)
        if self.is_world_process_zero():
            drop_later_checkpoints(self.out, step)


@contextmanager
def kept_when_lost(trainer: CheckpointedTrainer) -> Iterator[None]:
    """Keep where a run stands when a server fails it between two updates.

    Raises:
        TrainingError: it did; the message says where the run is kept.
    """
    try:
        yield
    except ServerError as error:
        step, last = trainer.state.global_step, last_checkpoint(trainer.out)
        if step and (last is None or checkpoint_step(last) != step):
            trainer._save_checkpoint(trainer.model, None)
        kept = f"its state is kept in checkpoint-{step}: mend the server" if step else "mend the server"
        raise TrainingError(step, str(error), f"{kept}, then start it again with --resume") from error
