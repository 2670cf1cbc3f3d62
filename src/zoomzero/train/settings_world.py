"""Settings of what is learned from the procedural world. Light: reading them loads neither torch nor transformers."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from zoomzero.config import Settings


class VisionSettings(Settings):
    """Pretraining of a random tower on labelled pictures of the world."""

    steps: int = Field(ge=1, description="Batches of pictures.")
    small: int = Field(96, ge=1, description="Pairs of small frames in a batch of those.")
    crop: int = Field(32, ge=1, description="Crops of large pairs in a batch of those.")
    large: int = Field(12, ge=1, description="Pairs of large frames in a batch of those.")
    learning_rate: float = Field(2e-3, gt=0, description="Of Muon and AdamW alike.")
    decay: float = Field(0.4, gt=0, le=1, description="Last share of the steps in which the rate falls to 0.")
    lone_steps: int = Field(200, ge=0, description="First steps whose pictures hold one object.")
    symbols_from: int = Field(5000, ge=0, description="Step from which most batches show symbols.")
    measure_every: int = Field(500, ge=1, description="Steps between measures on held-out pictures and saved states.")
    draw_ahead: bool = Field(True, description="Draw the next batches in a process of its own.")
    seed: int = Field(0, ge=0, description="Stream of pictures.")


class StageSettings(Settings):
    """A stage of the curriculum: what one step reads, drawn from the procedural world."""

    steps: int = Field(ge=1, description="Optimizer steps of the stage.")
    pictures: int = Field(0, ge=0, description="Pairs of small frames, whose objects are listed.")
    closeups: int = Field(0, ge=0, description="Pairs of large frames, whose objects and symbols are listed.")
    clips: int = Field(0, ge=0, description="Looks at a whole short video.")
    windows: int = Field(0, ge=0, description="Looks at a window of a long video.")
    sparse: int = Field(0, ge=0, description="Looks at a whole long video, many seconds between its frames.")
    joints: int = Field(0, ge=0, description="Looks at several pieces of a long video together.")
    zooms: int = Field(0, ge=0, description="Close looks at about the right spans.")
    contexts: int = Field(0, ge=0, description="Close looks after a look at the whole video and its answer.")
    zoom_weight: float = Field(
        1.0, gt=0, description="How much a token of a close look's answers counts: they are short, all others long."
    )
    strangers: float = Field(
        1.0, ge=0, le=1, description="Share of close looks also asked about what they do not show: any answer is right."
    )
    shortest_s: int = Field(48, ge=4, description="Shortest short video, seconds.")
    longest_s: int = Field(80, ge=4, description="Longest short video, seconds.")
    questions: int = Field(4, ge=0, description="Questions about one look at a video.")
    lookups: int = Field(0, ge=0, description="Objects looked up in it: when they show, and nothing else.")
    listing: float = Field(0.5, ge=0, le=1, description="Share of those looks that also list everything that shows.")
    train_vision: bool = Field(False, description="Let the vision tower learn on.")

    @model_validator(mode="after")
    def _check_together(self) -> StageSettings:
        if not self.samples:
            raise ValueError("a stage that reads nothing: give it pictures, clips, zooms, ...")
        if self.shortest_s > self.longest_s:
            raise ValueError("shortest_s is more than longest_s")
        return self

    @property
    def samples(self) -> int:
        """Samples one step reads."""
        looks = self.clips + self.windows + self.sparse + self.joints + self.zooms + self.contexts
        return self.pictures + self.closeups + looks


class WorldData(Settings):
    """Videos of the procedural world, written as mp4 files when the run starts."""

    kind: Literal["short", "long"] = Field(
        "short", description="Length of the videos: short (48-80 s) or long (20 minutes)."
    )
    count: int = Field(ge=1, description="Videos, one question each.")
    seed: int = Field(description="Seed of the videos; take other ones for training and evaluation.")
    folder: str = Field("outputs/worlds", description="Where the videos are written, for all runs that want the same.")
    spans: Literal["true", "none", "shifted", "late"] = Field(
        "true", description="Span labels: true, none, each end shifted by up to half a span, or late by up to a span."
    )
