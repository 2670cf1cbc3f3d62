"""What becomes of a run whose rollouts a server draws when that server is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from zoomzero.errors import ServerError, TrainingError
from zoomzero.train.engine.checkpoints import CheckpointedTrainer
from zoomzero.train.run.directory import checkpoint_step, last_checkpoint


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
