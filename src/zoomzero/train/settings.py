"""Settings of training runs. Light: reading them loads neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from zoomzero.config import Settings, lay_over, parse_settings, read_settings
from zoomzero.train.credit.objective import PAPER_OBJECTIVE, ObjectiveSettings
from zoomzero.train.engine_settings import EngineSettings, LoraSettings, Schedule, schedule_of
from zoomzero.train.settings_server import RolloutServerSettings
from zoomzero.train.settings_world import StageSettings, VisionSettings, WorldData

__all__ = [
    "DataSettings",
    "EngineSettings",
    "FilterSettings",
    "GrpoSettings",
    "LoraSettings",
    "RolloutSettings",
    "SftSettings",
    "StageSettings",
    "TeacherSettings",
    "ValidationSettings",
    "VisionSettings",
    "WorldData",
    "load_grpo_settings",
    "schedule_of",
]


class ValidationSettings(Settings):
    """Greedy answers on held-out examples while the run goes on; the best checkpoints are kept."""

    examples: str | None = Field(None, description="Examples file; without it there is no validation.")
    world: WorldData | None = Field(None, description="Or videos of the procedural world.")
    limit: int = Field(128, ge=1, description="Most examples asked.")
    every: int = Field(50, ge=1, description="Updates between validations.")
    patience: int | None = Field(
        None, ge=1, description="Validations in a row without a better mean of answer and IoU that end the run."
    )


class TeacherSettings(Settings):
    """On-policy distillation: a model whose log-probabilities credit every token, beside the rewards."""

    model: str = Field(description="Its checkpoint; it must read the same tokens and frames as the trained one.")
    weight: float = Field(1.0, gt=0, description="How much log p_teacher - log p adds to a token's advantage.")
    most: float = Field(5.0, gt=0, description="Largest size of that difference.")


class DataSettings(Settings):
    """What a run learns from."""

    RENAMED: ClassVar[Mapping[str, str]] = dict.fromkeys(("decode_ahead", "decode_threads"), "rollout.prompts_at_once")

    examples: tuple[str, ...] = Field((), description="Examples files (docs/reference/formats.md).")
    world: WorldData | None = Field(None, description="Learn from the procedural world as well.")
    difficulty: tuple[str, ...] = Field(
        (),
        description="Records of `zoomzero filter` (FILE.filter.json): examples are drawn by (1 - mean IoU of the "
        "stored answers)^2 instead of once an epoch.",
    )
    evaluation: tuple[str, ...] = Field(
        (), description="Examples files or manifests nothing of which may be learned from."
    )
    allow_overlap: bool = Field(False, description="Learn from evaluation items all the same, and record it.")
    max_unreadable: float = Field(0.05, ge=0, le=1, description="Share of unreadable videos at which the run stops.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds one decoding job may take.")
    frame_cache_mb: int = Field(1024, ge=0, description="Decoded frames kept in memory.")
    feature_cache_mb: int = Field(1024, ge=0, description="Features of a frozen vision tower kept in memory.")
    feature_cache_dir: str | None = Field(
        None, description="Folder where they are kept too, in float16, for later epochs and runs; it only grows."
    )


class SftSettings(EngineSettings):
    """A supervised run."""

    RENAMED: ClassVar[Mapping[str, str]] = {"lessons_per_row": "samples_per_row", "stage": "stages"}
    SHARED: ClassVar[str] = "samples"

    model: str = Field(description="Start: a directory, a hub id, `tiny`, or `random` (the embedded model untrained).")
    examples: str | None = Field(None, description="Short for `data.examples` with this one file.")
    data: DataSettings = Field(DataSettings(), description="What is learned from; without it the procedural world.")
    world_seed: int = Field(1, ge=0, description="Stream of world samples; `zoomzero world` draws from other streams.")
    vision: VisionSettings | None = Field(None, description="Pretraining of a `random` model's vision tower.")
    stages: tuple[StageSettings, ...] = Field((), description="The curriculum of world samples, in order.")
    validation: ValidationSettings = Field(ValidationSettings(), description="What is watched while the run goes on.")
    steps: int = Field(ge=1, description="Updates the run makes; a resumed run may raise it; with stages their sum.")
    samples_per_row: int = Field(
        4, ge=1, description="Most samples packed into one row: clips, each with its questions."
    )
    rows_per_step: int = Field(2, ge=1, description="Rows of so many samples whose gradients make one update.")
    optimizer: Literal["adamw", "muon"] = Field(
        "adamw", description="With `muon` the layers' matrices get orthogonal updates, the rest AdamW's."
    )
    learning_rate: float = Field(3e-4, gt=0, description="Peak learning rate.")
    schedule: Schedule = Field("cosine", description="transformers' name of the learning-rate schedule.")
    decay: float = Field(0.3, gt=0, le=1, description="Last share of the steps, in which warmup_stable_decay falls.")
    rates: tuple[tuple[int, float], ...] = Field(
        (),
        description="In place of `schedule`: steps, and what `learning_rate` is multiplied with there; straight lines "
        "between them.",
    )
    warmup_steps: int = Field(50, ge=0, description="Steps of linear warm-up.")
    draw_ahead: int = Field(
        0, ge=0, description="Processes that prepare the next samples of the world; examples are always decoded ahead."
    )
    guidance: float = Field(
        0.0, ge=0, description="Weight of telling attention heads where to look, where samples say so."
    )
    beta2: float = Field(0.98, gt=0, lt=1, description="AdamW's second decay.")
    weight_decay: float = Field(0.02, ge=0, description="AdamW's weight decay.")
    save_every: int = Field(200, ge=1, description="Steps between checkpoints.")
    log_every: int = Field(10, ge=1, description="Steps between log lines.")
    report_to: str = Field("none", description="transformers' logging integrations: none, tensorboard, wandb, ...")
    save_dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float16", description="Number type of the finished model; checkpoints keep float32."
    )
    train_only: Literal["all", "text", "embeddings"] = Field(
        "all",
        description="What learns without `lora`: everything, all but the vision tower (its features are kept), or the "
        "token embeddings alone.",
    )

    @model_validator(mode="before")
    @classmethod
    def _sum_stages(cls, values: Any) -> Any:
        """The stages say how many steps a run has."""
        if not isinstance(values, Mapping) or not values.get("stages") or "steps" in values:
            return values
        steps = [stage.get("steps", 0) if isinstance(stage, Mapping) else stage.steps for stage in values["stages"]]
        return {**values, "steps": sum(step for step in steps if isinstance(step, int))}

    @model_validator(mode="after")
    def _check_sources(self) -> SftSettings:
        if not self.from_examples and not self.stages:
            raise ValueError("nothing to learn from: set examples, or stages of the procedural world")
        if self.from_examples and self.stages:
            raise ValueError("examples and stages of the procedural world do not mix: leave one out")
        if self.stages and self.steps != sum(stage.steps for stage in self.stages):
            raise ValueError("steps is not the sum of the stages' steps: leave it out")
        if self.vision is not None and self.model != "random":
            raise ValueError('vision pretrains a random tower: set model = "random", or leave [vision] out')
        return self

    @model_validator(mode="after")
    def _check_rates(self) -> SftSettings:
        steps, factors = [step for step, _ in self.rates], [factor for _, factor in self.rates]
        if steps != sorted(set(steps)) or any(factor < 0 for factor in factors):
            raise ValueError("rates: pairs [step, factor], steps rising, factors 0 or more")
        return self

    @model_validator(mode="after")
    def _check_what_learns(self) -> SftSettings:
        if self.lora is not None and self.train_only == "embeddings":
            raise ValueError('lora trains adapters alone: leave train_only = "embeddings" out')
        if self.lora is not None and self.stages:
            raise ValueError("stages of the procedural world train all weights: leave [lora] out")
        if self.sharded and self.optimizer == "muon":
            raise ValueError('muon needs whole matrices: set optimizer = "adamw", or do not shard')
        if self.sharded and self.stages:
            raise ValueError("stages of the procedural world are not sharded: set fsdp = false")
        return self

    @property
    def sources(self) -> DataSettings:
        """What is learned from, with `examples` among `data.examples`."""
        files = () if self.examples is None else (self.examples,)
        return self.data.model_copy(update={"examples": (*files, *self.data.examples)})

    @property
    def from_examples(self) -> bool:
        """Whether the run learns from videos, not from the stages of the procedural world."""
        return bool(self.examples or self.data.examples or self.data.world)

    @property
    def learns_vision(self) -> bool:
        """Whether the vision tower learns; a frozen one's features are kept and reused."""
        return self.lora is None and self.train_only == "all"

    @property
    def shared_out(self) -> dict[str, int]:
        """Samples, where they come from examples."""
        return {"samples_per_row x rows_per_step": self.samples_per_step} if self.from_examples else {}

    @property
    def samples_per_step(self) -> int:
        """Samples whose gradients make one update, over all processes."""
        return self.samples_per_row * self.rows_per_step


class FilterSettings(Settings):
    """Online filtering: groups that teach nothing are dropped and replaced.

    A group is kept if low < mean(answer) < high, or max(iou) - mean(iou) > low; weighted rewards about the evidence
    count as the IoU does, and the zoom reward stands in for them where an example has no spans.
    """

    enabled: bool = Field(True, description="Drop groups whose rewards do not vary.")
    low: float = Field(0.01, ge=0, lt=1, description="Least mean answer reward, and least spread of the overlap.")
    high: float = Field(0.99, gt=0, le=1, description="Largest mean answer reward.")
    max_tries: int = Field(
        4, ge=1, description="Rounds of drawing; then dropped groups fill the batch, and the log says how many."
    )

    @model_validator(mode="after")
    def _check_range(self) -> FilterSettings:
        if self.low >= self.high:
            raise ValueError("low must be less than high, or no group's answers would be kept")
        return self


class RolloutSettings(Settings):
    """How completions are drawn and verified."""

    RENAMED: ClassVar[Mapping[str, str]] = {"group_size": "num_generations"}

    num_generations: int = Field(8, ge=2, description="Completions of each prompt (G).")
    temperature: float = Field(
        1.0, gt=0, description="Temperature of sampling, and of the log-probabilities learned from."
    )
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 draws from the model itself.")
    max_new_tokens: int = Field(512, ge=1, description="Tokens a completion may have.")
    prompts_at_once: int = Field(
        8,
        ge=1,
        description="Prompts whose completions are drawn together; as many videos are decoded side by side meanwhile.",
    )
    verifier: Literal["reference", "policy", "off"] = Field(
        "reference", description="Who answers in the zoom pass: the frozen start model, the model itself, or nobody."
    )
    coarse_frames: tuple[int, int] | None = Field(
        None,
        description="Least and most frames of the coarse pass, drawn anew for each prompt so that looking closely pays "
        "and groups differ; none: the model's own budget for all.",
    )
    zoom_widen_s: float | None = Field(
        None, ge=0, description="Seconds added around spans before verifying; by default the model's own widen_s."
    )
    zoom_joined: bool = Field(
        False, description="Show the frames of several spans as one stretch from 0 s, their times lost (paper)."
    )
    think_leak: bool = Field(False, description="Paste the coarse pass's thoughts into the zoom prompt (paper).")
    filter: FilterSettings = Field(FilterSettings(), description="Which groups are learned from.")
    controls: int = Field(
        2, ge=0, description="Prompts of each batch also verified on their true and on random spans, for the log."
    )
    server: RolloutServerSettings | None = Field(None, description="A server that draws; without it this process does.")

    @model_validator(mode="after")
    def _check_frames(self) -> RolloutSettings:
        if self.coarse_frames is not None and not 2 <= self.coarse_frames[0] <= self.coarse_frames[1]:
            raise ValueError("coarse_frames must be two numbers, the least (2 or more) and the most frames")
        return self


class GrpoSettings(EngineSettings):
    """A reinforcement-learning run. The defaults are the published numbers, with our credit and rewards."""

    RENAMED: ClassVar[Mapping[str, str]] = {
        "prompts_per_rollout": "train_batch_size",
        "prompts_per_update": "mini_batch_size",
    }
    SHARED: ClassVar[str] = "prompts"

    preset: Literal["default", "paper"] = Field(
        "default", description="`paper`: every published behaviour where the settings file says nothing else."
    )
    data: DataSettings = Field(description="What is learned from.")
    validation: ValidationSettings = Field(ValidationSettings(), description="What is watched while the run goes on.")
    rollout: RolloutSettings = Field(RolloutSettings(), description="How completions are drawn and verified.")
    objective: ObjectiveSettings = Field(ObjectiveSettings(), description="Rewards, credit and loss.")
    teacher: TeacherSettings | None = Field(None, description="A model to be imitated; without it rewards alone teach.")
    train_batch_size: int = Field(
        64, ge=1, description="Prompts drawn before learning from them (verl's train_batch_size)."
    )
    mini_batch_size: int = Field(8, ge=1, description="Prompts whose gradients make one update (verl's mini-batch).")
    train_vision: bool = Field(False, description="Train the vision tower too; its features cannot be reused then.")
    offload_reference: bool = Field(
        False, description="Keep the reference in the machine's memory; it comes to the GPU only while it is asked."
    )
    rollouts_logged: int = Field(16, ge=0, description="Groups of each batch and process written to rollouts.jsonl.")

    @model_validator(mode="before")
    @classmethod
    def _lay_over_preset(cls, values: Any) -> Any:
        """Whoever makes these settings, `preset = "paper"` gives what is not said otherwise."""
        paper = isinstance(values, Mapping) and values.get("preset") == "paper"
        return lay_over(PAPER_RUN, values) if paper else values

    @model_validator(mode="after")
    def _check_together(self) -> GrpoSettings:
        if self.train_batch_size % self.mini_batch_size:
            raise ValueError("train_batch_size must be a multiple of mini_batch_size")
        if self.lora is not None and self.train_vision:
            raise ValueError("lora leaves the vision tower as it is: set train_vision = false, or train without lora")
        if self.rollout.server is not None:
            self.rollout.server.check_run(self.mini_batches, sharded=self.fsdp)
        if not (self.data.examples or self.data.world):
            raise ValueError("data names nothing to learn from: set data.examples or data.world")
        return self

    @property
    def learns_vision(self) -> bool:
        """Whether the vision tower learns; a frozen one's features are kept and reused."""
        return self.train_vision

    @property
    def shared_out(self) -> dict[str, int]:
        """Prompts, those that are drawn and those that are learned from."""
        return {"train_batch_size": self.train_batch_size, "mini_batch_size": self.mini_batch_size}

    @property
    def needs_reference(self) -> bool:
        """Whether anything asks the frozen start model."""
        return self.objective.loss.beta > 0 or self.rollout.verifier == "reference"

    @property
    def mini_batches(self) -> int:
        """Updates made from one batch of rollouts, one for each mini-batch."""
        return self.train_batch_size // self.mini_batch_size


# What the paper's code does where a settings file says nothing else (docs/method.md).
PAPER_RUN = {
    "objective": PAPER_OBJECTIVE.model_dump(),
    "rollout": {"zoom_widen_s": 0.0, "zoom_joined": True, "think_leak": True, "verifier": "reference"},
}


def load_grpo_settings(path: str, overrides: Sequence[str] = ()) -> GrpoSettings:
    """Read a run's settings; under `preset = "paper"` the paper's values are the defaults.

    Raises:
        ConfigError: as `zoomzero.config.load_settings`.
    """
    values = read_settings(path, overrides)
    if values.get("preset") == "paper":
        values = lay_over(PAPER_RUN, values)
    return parse_settings(GrpoSettings, values, path, overrides)
