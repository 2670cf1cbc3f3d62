"""Settings that supervised and reinforcement-learning runs share: how models are loaded, trained and kept. Light."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from zoomzero.config import ModelSettings, Settings, lay_over, parse_settings
from zoomzero.errors import ConfigError

# transformers' schedules that need no settings of their own
Schedule = Literal[
    "constant", "constant_with_warmup", "linear", "cosine", "polynomial", "inverse_sqrt", "warmup_stable_decay"
]

# Fields of TrainingArguments that a run sets itself, with the setting to write instead.
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


class LoraSettings(Settings):
    """Low-rank adapters on the text model instead of training its weights."""

    rank: int = Field(64, ge=1, description="Rank of the adapters.")
    alpha: int = Field(128, ge=1, description="Scale of the adapters: alpha / rank.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout inside the adapters; 0 keeps ratios exact.")


class EngineSettings(Settings):
    """What every training run says about its model and its engine."""

    SHARED: ClassVar[str]  # what the processes of an update share out

    model: str = Field(
        description="Checkpoint to start from: a directory, a hub id, or an embedded model such as `tiny`."
    )
    out: str = Field(description="Directory for logs, checkpoints and, at the end, the model.")
    ask: dict[str, Any] = Field(
        {}, description="How the model is asked, over the checkpoint's own zoomzero.json: coarse.fps, think, ..."
    )
    steps: int = Field(ge=1, description="Updates the run makes; a resumed run may raise it.")
    row_tokens: int = Field(
        16384, ge=1, description="Tokens packed into one forward pass; a single prompt may need more."
    )
    learning_rate: float = Field(1e-6, gt=0, description="Peak learning rate.")
    schedule: Schedule = Field("constant", description="transformers' name of the learning-rate schedule.")
    warmup_steps: int = Field(0, ge=0, description="Updates of linear warm-up.")
    weight_decay: float = Field(1e-2, ge=0, description="AdamW's weight decay.")
    beta2: float = Field(0.999, gt=0, lt=1, description="AdamW's second decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient norm above which gradients are scaled down.")
    lora: LoraSettings | None = Field(None, description="Train adapters; without it all weights of the text model.")
    gradient_checkpointing: bool = Field(True, description="Recompute activations in the backward pass.")
    head_chunk: int = Field(1024, ge=1, description="Tokens whose logits are in memory at once.")
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="Number type of frozen weights; auto: bfloat16 on a GPU, float32 on a CPU."
    )
    bf16: bool | Literal["auto"] = Field(
        "auto", description="Compute in bfloat16 (trained weights and optimizer stay float32); auto: on a GPU only."
    )
    trainer: dict[str, Any] = Field(
        {}, description="Fields of transformers' TrainingArguments passed on: optim, torch_compile, deepspeed, ..."
    )
    fsdp: bool = Field(False, description="Shard weights, gradients and optimizer over processes (FSDP2).")
    save_every: int = Field(50, ge=1, description="Updates between checkpoints.")
    keep: int = Field(2, ge=1, description="Checkpoints kept, besides the best ones.")
    log_every: int = Field(1, ge=1, description="Updates between log lines.")
    report_to: str = Field("tensorboard", description="transformers' logging integrations: none, wandb, ...")
    save_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "bfloat16", description="Number type of the final model and of the best ones; checkpoints keep float32."
    )
    seed: int = Field(0, ge=0, description="Seed of the order of examples and of what else is random.")
    threads: int = Field(
        0, ge=0, description="CPU threads, shared by the processes of a machine; 0 leaves torch's choice."
    )

    @field_validator("ask")
    @classmethod
    def _check_ask(cls, ask: dict[str, Any]) -> dict[str, Any]:
        try:
            parse_settings(ModelSettings, ask, "ask")
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return ask

    @field_validator("trainer")
    @classmethod
    def _check_trainer(cls, trainer: dict[str, Any]) -> dict[str, Any]:
        for name in sorted(trainer.keys() & OWN.keys()):
            raise ValueError(f"{name} is set by the run itself: write {OWN[name]} instead")
        return trainer

    @property
    def in_bf16(self) -> bool:
        """Whether passes compute in bfloat16 here; a CPU without instructions for it takes many times as long."""
        import torch

        return torch.cuda.is_available() and torch.cuda.is_bf16_supported() if self.bf16 == "auto" else self.bf16

    @property
    def learns_vision(self) -> bool:
        """Whether the vision tower learns; a frozen one's features are kept and reused."""
        raise NotImplementedError

    @property
    def shared_out(self) -> dict[str, int]:
        """What an update's processes share evenly: the settings that say how much, with their values."""
        raise NotImplementedError

    @property
    def sharded(self) -> bool:
        """Whether a process holds only a share of the weights that learn, by FSDP2 or DeepSpeed."""
        return self.fsdp or "deepspeed" in self.trainer

    def model_settings(self, own: ModelSettings) -> ModelSettings:
        """Return how the model is asked in this run: the checkpoint's `own` settings with `ask` laid over them."""
        return parse_settings(ModelSettings, lay_over(own.model_dump(), self.ask), "ask")


def schedule_of(settings: EngineSettings) -> str:
    """Return transformers' name of the schedule: its `constant` takes no notice of a warm-up."""
    warm = settings.schedule == "constant" and settings.warmup_steps
    return "constant_with_warmup" if warm else settings.schedule
