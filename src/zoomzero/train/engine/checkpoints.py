"""What a reinforcement-learning run keeps: checkpoints it can go on from, and models as plain checkpoints.

A checkpoint holds the trainer's own part (weights, optimizer, schedule, random numbers) and, for every process, the
rollouts that are still to be learned from and the place in the data.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import save_fsdp_optimizer
from safetensors.torch import load_file
from torch import Tensor

from zoomzero.config import MODEL_SETTINGS_FILE
from zoomzero.policy.local.save import save_checkpoint
from zoomzero.train.engine.sharded import load_whole_weights, trained_weights
from zoomzero.train.engine.trainer import PolicyTrainer
from zoomzero.train.rollouts.collector import RolloutCollector
from zoomzero.train.rollouts.record import RolloutGroup, group_from_json
from zoomzero.train.run.directory import checkpoint_step, drop_later_checkpoints, flush
from zoomzero.train.run.log import RunLog
from zoomzero.train.settings import GrpoSettings

PREFIX = "model."  # what the names of weights have before them inside `GroupScores`


class CheckpointedTrainer(PolicyTrainer):
    """A trainer whose checkpoints hold rollouts too.

    `best` are the best validation values so far, `stale` the validations since, `pending` the groups that are still to
    be learned from.
    """

    settings: GrpoSettings
    collector: RolloutCollector
    run_log: RunLog
    out: Path
    best: dict[str, float]
    stale: int
    pending: list[RolloutGroup]

    @property
    def rank(self) -> int:
        """This process among all."""
        return int(self.args.process_index)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            self.save_weights(Path(output_dir or self.out), torch.float32, state_dict)

    def save_weights(self, directory: Path, dtype: torch.dtype, weights: dict[str, Tensor] | None = None) -> None:
        """Write the model as a plain checkpoint, or its adapter."""
        directory.mkdir(parents=True, exist_ok=True)
        if self.settings.lora is not None:
            own = None if weights is None else {name.removeprefix(PREFIX): value for name, value in weights.items()}
            self.policy.model.save_pretrained(str(directory), save_embedding_layers=False, state_dict=own)
            settings = self.model_settings.model_dump_json(indent=1)
            (directory / MODEL_SETTINGS_FILE).write_text(settings + "\n", encoding="utf-8")  # `zoomzero merge` takes it
            return
        own = None if weights is None else {name.removeprefix(PREFIX): value for name, value in weights.items()}
        model = self.policy.model
        save_checkpoint(model, self.source, directory, settings=self.model_settings, dtype=dtype, weights=own)

    def write_model(self, directory: Path, dtype: torch.dtype) -> None:
        """Write the finished model; under sharding all processes take part and the first one writes."""
        weights = None
        if self.settings.fsdp:
            adapters = self.settings.lora is not None
            weights = dict(trained_weights(self.model)) if adapters else self.accelerator.get_state_dict(self.model)
        if self.is_world_process_zero():
            self.save_weights(directory, dtype, weights)

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

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.settings.fsdp:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        # transformers would write the weights a second time
        save_fsdp_optimizer(
            self.accelerator.state.fsdp_plugin, self.accelerator, self.optimizer, self.model, output_dir
        )
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()
        flush(Path(output_dir))
        self.accelerator.wait_for_everyone()  # the state file, which is next, says that all is there

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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        where = Path(resume_from_checkpoint)
        adapters = self.settings.lora is not None
        if self.settings.fsdp:
            file = where / ("adapter_model.safetensors" if adapters else "model.safetensors")
            load_whole_weights(model, file, PREFIX, adapter=adapters)
        elif adapters:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.policy.model, load_file(where / "adapter_model.safetensors"))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)
