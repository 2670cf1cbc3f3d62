"""What supervised fine-tuning and reinforcement learning share of `transformers.Trainer`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainingArguments

from zoomzero.config import ModelSettings
from zoomzero.errors import ConfigError, TrainingError
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.save import system_errors
from zoomzero.train.settings import GrpoSettings, SftSettings, schedule_of


class PolicyTrainer(Trainer):  # type: ignore[misc]
    """`Trainer` of a policy.

    Args:
        policy: the model that is trained.
        source: directory of the start checkpoint.
        model_settings: how the model is asked.
        kwargs: of `Trainer`.
    """

    def __init__(self, policy: QwenPolicy, source: Path, model_settings: ModelSettings, **kwargs: Any) -> None:
        self.policy, self.source, self.model_settings = policy, source, model_settings
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)  # it prints raw dictionaries; progress is the caller's

    @property
    def last_loss(self) -> float:
        """The mean loss of the last logged steps; `TrainOutput` has the mean since the start or the resume."""
        return next(float(row["loss"]) for row in reversed(self.state.log_history) if "loss" in row)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        out = Path(self.args.output_dir)
        try:
            with system_errors(out / f"checkpoint-{self.state.global_step}"):
                super()._save_checkpoint(model, trial)
        except OSError as error:
            reason = f"its checkpoint cannot be written to {out} ({error.strerror or error})"
            fix = "make room, then the same command with --resume goes on from the last one"
            raise TrainingError(self.state.global_step, reason, fix) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        weights = load_file(Path(resume_from_checkpoint) / "model.safetensors")
        missing, unexpected = self.policy.model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {"lm_head.weight"}:
            fix = "resume with the settings the run was started with"
            raise ConfigError("--resume", f"{resume_from_checkpoint} holds another model", fix)


# What a run sets itself, with the setting to write instead.
OWN = {
    "output_dir": "out",
    "max_steps": "steps",
    "num_train_epochs": "steps",
    "per_device_train_batch_size": "mini_batch_size (or samples_per_row in sft)",
    "gradient_accumulation_steps": "mini_batch_size (or rows_per_step in sft)",
    "learning_rate": "learning_rate",
    "lr_scheduler_type": "schedule",
    "warmup_steps": "warmup_steps",
    "weight_decay": "weight_decay",
    "adam_beta2": "beta2",
    "max_grad_norm": "max_grad_norm",
    "bf16": "bf16",
    "gradient_checkpointing": "gradient_checkpointing",
    "fsdp": "fsdp",
    "fsdp_config": "fsdp",
    "logging_steps": "log_every",
    "save_steps": "save_every",
    "save_total_limit": "keep",
    "report_to": "report_to",
    "seed": "seed",
    "eval_steps": "validation.every",
}


def check_passed_on(given: Mapping[str, Any]) -> None:
    """Refuse what `[trainer]` cannot pass on to `TrainingArguments`.

    Raises:
        ConfigError: it is no field of theirs, or one that the run sets itself.
    """
    known = {field.name for field in fields(TrainingArguments) if field.init}
    for name in given:
        if name in OWN:
            raise ConfigError(f"trainer.{name}", "is set by the run itself", f"write {OWN[name]} instead")
        if name not in known:
            fix = "look its name up in transformers' documentation of TrainingArguments"
            raise ConfigError(f"trainer.{name}", "is no field of transformers' TrainingArguments", fix)


def engine_arguments(settings: SftSettings | GrpoSettings, out: Path, **more: Any) -> TrainingArguments:
    """Return the engine's settings: what every run has, `more`, and over both what `[trainer]` passes on.

    Raises:
        ConfigError: as `check_passed_on`, or a value that transformers refuses.
    """
    check_passed_on(settings.trainer)
    given = _all_arguments(settings, out) | more | settings.trainer
    try:
        return TrainingArguments(**given)
    except (ValueError, TypeError, ImportError) as error:
        if not settings.trainer:
            raise
        reason = " ".join(str(error).split())
        raise ConfigError("trainer", f"transformers refuses it ({reason[:200]})", "correct the table") from error


def _all_arguments(settings: SftSettings | GrpoSettings, out: Path) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "max_steps": settings.steps,
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": schedule_of(settings),
        "warmup_steps": settings.warmup_steps,
        "adam_beta2": settings.beta2,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.bf16,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": min(settings.log_every, settings.steps),  # a short run logs its loss at its last step
        "save_steps": settings.save_every,
        "save_total_limit": settings.keep,
        "report_to": settings.report_to,
        "seed": settings.seed,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": [],
    }
