"""What supervised fine-tuning and reinforcement learning share of `transformers.Trainer`.

Both learn from rows: one update's rows, over all processes, go forward and backward one after the other and count as
one batch. Both keep the same checkpoints: the trainer's own part and the weights, or the adapter, as a plain model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate.utils import save_fsdp_optimizer
from safetensors.torch import load_file
from torch import Tensor
from transformers import PrinterCallback, Trainer, TrainingArguments

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings
from zoomzero.errors import ConfigError, TrainingError
from zoomzero.files import write_whole
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.save import save_checkpoint, system_errors
from zoomzero.train.engine.sharded import fsdp_arguments, load_whole_weights, shard_with, trained_weights
from zoomzero.train.engine_settings import EngineSettings, schedule_of
from zoomzero.train.run.clock import MINUTES, RunClock
from zoomzero.train.run.directory import flush
from zoomzero.train.run.processes import check_processes

PREFIX = "model."  # what the names of weights have before them inside the modules that are trained
Row = TypeVar("Row")


class PolicyTrainer(Trainer):  # type: ignore[misc]
    """`Trainer` of a policy.

    Args:
        settings: of the run.
        policy: the model that is trained.
        source: directory of the start checkpoint.
        model_settings: how the model is asked.
        clock: of the run; its own when None.
        kwargs: of `Trainer`.
    """

    def __init__(
        self,
        settings: EngineSettings,
        policy: QwenPolicy,
        source: Path,
        model_settings: ModelSettings,
        clock: RunClock | None = None,
        **kwargs: Any,
    ) -> None:
        self.settings: Any = settings
        self.policy, self.source, self.model_settings = policy, source, model_settings
        super().__init__(**kwargs)
        self.remove_callback(PrinterCallback)  # it prints raw dictionaries; progress is the caller's
        self.clock = RunClock() if clock is None else clock
        self.add_callback(self.clock)

    def create_accelerator_and_postprocess(self) -> None:
        """Make the engine, sharding or not."""
        super().create_accelerator_and_postprocess()
        if self.settings.fsdp:
            shard_with(self.accelerator, self.args.fsdp_plugin_args, self.settings)
            self.is_fsdp_enabled = True

    @property
    def rank(self) -> int:
        """This process among all."""
        return int(self.args.process_index)

    @property
    def last_loss(self) -> float:
        """The mean loss of the last logged steps; `TrainOutput` has the mean since the start or the resume."""
        return next(float(row["loss"]) for row in reversed(self.state.log_history) if "loss" in row)

    # --- learning --------------------------------------------------------------------------------------------------

    def learn(self, model: Any, rows: Iterable[Row], count: int, loss_of: Callable[[Row], Tensor]) -> Tensor:
        """Go forward and backward over one update's rows and return its loss over all processes, 0-d.

        Args:
            model: as the trainer has wrapped it.
            rows: of this process.
            count: how many there are; equally many in every process when the model is sharded.
            loss_of: a row's part of the loss: all rows of all processes add up to the update's.
        """
        total = torch.zeros((), device=self.args.device)
        for i, row in enumerate(rows):
            with self._together(model, last=i == count - 1):
                loss = loss_of(row)
                self.accelerator.backward(loss * self.args.world_size)  # the engine averages over processes
            total += loss.detach()
        whole: Tensor = self.accelerator.reduce(total, "sum")  # so that all processes see, and stop, together
        if not bool(torch.isfinite(whole)):
            self.stop_not_finite("the loss")
        return whole

    def _together(self, model: Any, *, last: bool) -> AbstractContextManager[Any]:
        """Return where a row's gradients are made: processes add theirs up after the last row.

        Shards are summed row by row: whole gradients would not fit.
        """
        if self.is_deepspeed_enabled:
            return self._deepspeed_row(last)
        return nullcontext() if last or self.settings.fsdp else self.accelerator.no_sync(model)

    @contextmanager
    def _deepspeed_row(self, last: bool) -> Any:
        """Tell DeepSpeed, whose backward pass also makes the step, whether it is time for that."""
        self.accelerator.gradient_state._set_sync_gradients(last)
        yield
        self.accelerator.gradient_state._set_sync_gradients(True)

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm)
        if norm is not None and not math.isfinite(norm):
            self.stop_not_finite("the gradient")
        return norm

    def stop_not_finite(self, what: str) -> None:
        """End a run whose numbers are lost.

        Raises:
            TrainingError: always.
        """
        raise NotImplementedError

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the run has taken so far."""
        logs[MINUTES] = round(self.clock.minutes, 2)
        super().log(logs, start_time)

    # --- what is kept ----------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        out = Path(self.args.output_dir)
        try:
            with system_errors(out / f"checkpoint-{self.state.global_step}"):
                super()._save_checkpoint(model, trial)
        except OSError as error:
            reason = f"its checkpoint cannot be written to {out} ({error.strerror or error})"
            fix = "make room, then the same command with --resume goes on from the last one"
            raise TrainingError(self.state.global_step, reason, fix) from error

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        if self.args.should_save:
            self.save_weights(Path(output_dir or self.args.output_dir), torch.float32, state_dict)

    def save_weights(self, directory: Path, dtype: torch.dtype, weights: dict[str, Tensor] | None = None) -> None:
        """Write the model as a plain checkpoint, or its adapter.

        Args:
            directory: where to.
            dtype: number type of the weights on disk; an adapter stays as it is.
            weights: gathered ones of a model in shards.
        """
        directory.mkdir(parents=True, exist_ok=True)
        own = None if weights is None else {name.removeprefix(PREFIX): value for name, value in weights.items()}
        if self.settings.lora is not None:
            with system_errors(directory):
                self.policy.model.save_pretrained(str(directory), save_embedding_layers=False, state_dict=own)
            settings = self.model_settings.model_dump_json(indent=1)
            write_whole(directory / MODEL_SETTINGS_FILE, settings + "\n")  # `zoomzero merge` takes it
            return
        model = self.policy.model
        save_checkpoint(model, self.source, directory, settings=self.model_settings, dtype=dtype, weights=own)

    def write_model(self, directory: Path, dtype: torch.dtype) -> None:
        """Write the finished model; under sharding all processes take part and the first one writes."""
        weights = None
        if self.settings.sharded:
            adapters = self.settings.lora is not None
            whole = self.deepspeed if self.is_deepspeed_enabled else self.model
            weights = dict(trained_weights(self.model)) if adapters else self.accelerator.get_state_dict(whole)
        if self.is_world_process_zero():
            self.save_weights(directory, dtype, weights)

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

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        where, adapters = Path(resume_from_checkpoint), self.settings.lora is not None
        file = where / ("adapter_model.safetensors" if adapters else "model.safetensors")
        if self.settings.fsdp:
            load_whole_weights(model, file, PREFIX, adapter=adapters)
        elif adapters:
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.policy.model, load_file(file))
        else:
            missing, unexpected = self.policy.model.load_state_dict(load_file(file), strict=False)
            if unexpected or set(missing) - {"lm_head.weight"}:
                fix = "resume with the settings the run was started with"
                raise ConfigError("--resume", f"{resume_from_checkpoint} holds another model", fix)


def check_engine(settings: EngineSettings, processes: int) -> None:
    """Refuse, before anything is loaded or written, what the engine will not take.

    Args:
        settings: of the run.
        processes: that make it.

    Raises:
        ConfigError: updates cannot be shared by so many, a logging integration is not there, or `[trainer]` holds
            what is no field of `TrainingArguments`.
    """
    check_processes(settings, processes)
    check_reporting(settings.report_to)
    known = {field.name for field in fields(TrainingArguments) if field.init}
    for name in settings.trainer:
        if name not in known:
            fix = "look its name up in transformers' documentation of TrainingArguments"
            raise ConfigError(f"trainer.{name}", "is no field of transformers' TrainingArguments", fix)


def engine_arguments(settings: EngineSettings, out: Path, **more: Any) -> TrainingArguments:
    """Return the engine's settings: what every run has, `more`, and over both what `[trainer]` passes on.

    Raises:
        ConfigError: a value of `[trainer]` that transformers refuses.
    """
    given = _all_arguments(settings, out) | more | settings.trainer
    try:
        made = TrainingArguments(**given)
    except (ValueError, TypeError, ImportError) as error:
        if not settings.trainer:
            raise
        reason = " ".join(str(error).split())
        raise ConfigError("trainer", f"transformers refuses it ({reason[:200]})", "correct the table") from error
    made._n_gpu = min(made.n_gpu, 1)  # one process works on one GPU: several take torchrun
    return made


def _all_arguments(settings: EngineSettings, out: Path) -> dict[str, Any]:
    return {
        "output_dir": str(out),
        "max_steps": settings.steps,
        "per_device_train_batch_size": 1,  # an update is one item of the loaders
        "ddp_find_unused_parameters": False,  # every weight that learns is used in every pass
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": schedule_of(settings),
        "warmup_steps": settings.warmup_steps,
        "adam_beta2": settings.beta2,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": settings.in_bf16,
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": min(settings.log_every, settings.steps),  # a short run logs its loss at its last step
        "save_steps": settings.save_every,
        "save_total_limit": settings.keep,
        "report_to": settings.report_to,
        "seed": settings.seed,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "label_names": [],
        **(fsdp_arguments(settings) if settings.fsdp else {}),
    }


def check_reporting(name: str) -> None:
    """Refuse a logging integration that is unknown or not installed.

    Raises:
        ConfigError: it is.
    """
    from transformers.integrations import INTEGRATION_TO_CALLBACK, get_available_reporting_integrations

    if name in ("none", "all", *get_available_reporting_integrations()):
        return
    known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
    reason = f"{name} is not installed" if name in INTEGRATION_TO_CALLBACK else f"{name!r} is unknown"
    raise ConfigError("report_to", reason, f"install it, or choose none or another of {known}")
