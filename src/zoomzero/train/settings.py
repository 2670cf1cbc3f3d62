"""Settings of training runs. Light: reading them loads neither torch nor transformers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from zoomzero.config import Settings

# transformers' schedules that need no settings of their own
Schedule = Literal["constant", "constant_with_warmup", "linear", "cosine", "polynomial", "inverse_sqrt"]


class StageSettings(Settings):
    """Which lessons the procedural world gives, as shares; the rest are coarse looks at whole short videos."""

    windows: float = Field(0.3, ge=0, le=1, description="Coarse looks at a window of a long video.")
    sparse: float = Field(0.05, ge=0, le=1, description="Coarse looks at videos of up to 400 s.")
    zooms: float = Field(0.35, ge=0, le=1, description="Close looks at about the right spans.")
    listing: float = Field(0.5, ge=0, le=1, description="Share of coarse looks that also list everything that shows.")
    shortest_s: float = Field(48, ge=24, description="Shortest short video, seconds.")
    longest_s: float = Field(80, ge=24, description="Longest short video, seconds.")
    questions: int = Field(6, ge=1, description="Questions about one coarse look.")

    @model_validator(mode="after")
    def _check_together(self) -> StageSettings:
        if self.windows + self.sparse + self.zooms > 1 + 1e-9:
            raise ValueError("windows + sparse + zooms is more than 1")
        if self.shortest_s > self.longest_s:
            raise ValueError("shortest_s is more than longest_s")
        return self


class SftSettings(Settings):
    """A supervised run."""

    model: str = Field(description="Checkpoint to start from: a directory, a hub id or `tiny`.")
    out: str = Field(description="Directory for checkpoints and, at the end, the model.")
    examples: str | None = Field(None, description="Examples file to learn from; without it the procedural world.")
    world_seed: int = Field(1, ge=0, description="Stream of world lessons; `zoomzero world` draws from other streams.")
    stage: StageSettings = Field(StageSettings(), description="Mix of world lessons.")
    steps: int = Field(ge=1, description="Optimizer steps.")
    lessons_per_row: int = Field(4, ge=1, description="Lessons packed into one row.")
    rows_per_step: int = Field(2, ge=1, description="Rows whose gradients make one step.")
    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate of AdamW.")
    schedule: Schedule = Field("cosine", description="transformers' name of the learning-rate schedule.")
    warmup_steps: int = Field(50, ge=0, description="Steps of linear warm-up.")
    beta2: float = Field(0.98, gt=0, lt=1, description="AdamW's second decay.")
    weight_decay: float = Field(0.02, ge=0, description="AdamW's weight decay.")
    max_grad_norm: float = Field(1.0, gt=0, description="Gradient norm above which gradients are scaled down.")
    bf16: bool = Field(True, description="Compute in bfloat16 (weights and optimizer stay float32).")
    save_every: int = Field(200, ge=1, description="Steps between checkpoints.")
    keep: int = Field(2, ge=1, description="Checkpoints kept.")
    log_every: int = Field(10, ge=1, description="Steps between log lines.")
    report_to: str = Field("none", description="transformers' logging integrations: none, tensorboard, wandb, ...")
    seed: int = Field(0, ge=0, description="Of everything random outside the lessons.")
    threads: int = Field(0, ge=0, description="CPU threads; 0 leaves torch's choice.")
    train_only: Literal["all", "text", "embeddings"] = Field(
        "all", description="What learns: everything, all but the vision tower, or the token embeddings alone."
    )
