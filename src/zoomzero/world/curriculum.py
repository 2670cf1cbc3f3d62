"""The embedded model's curriculum: what each step of a run reads, a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from zoomzero.config import ModelSettings
from zoomzero.data.sft_sample import SFTSample
from zoomzero.video.types import Geometry
from zoomzero.world.samples import coarse_sample, context_sample, joint_sample, picture_sample, zoom_sample
from zoomzero.world.views import sparse_view, whole_view, window_view

Draw = Callable[..., SFTSample]

_STREAM = 1  # keeps these random numbers apart from those of `zoomzero world`


@dataclass(frozen=True, slots=True)
class Stage:
    """How many samples of each kind one step reads; see `zoomzero.train.settings.StageSettings`."""

    steps: int
    pictures: int = 0
    closeups: int = 0
    clips: int = 0
    windows: int = 0
    sparse: int = 0
    joints: int = 0
    zooms: int = 0
    contexts: int = 0
    zoom_weight: float = 1.0
    strangers: float = 1.0
    shortest_s: int = 48
    longest_s: int = 80
    questions: int = 4
    lookups: int = 0
    listing: float = 0.5
    train_vision: bool = False


def stage_of(stages: Sequence[Stage], step: int) -> Stage:
    """Return the stage a step belongs to; the last one goes on for ever."""
    for stage in stages:
        if step < stage.steps:
            return stage
        step -= stage.steps
    return stages[-1]


def step_samples(
    seed: int,
    step: int,
    stages: Sequence[Stage],
    settings: ModelSettings,
    geometry: Geometry,
    rank: int = 0,
    processes: int = 1,
) -> list[SFTSample]:
    """Return what step `step` of the stream `seed` reads.

    Each sample has random numbers of its own: several processes take every so manyth, and draw no others.

    Args:
        seed: of the stream.
        step: of the run.
        stages: of the curriculum.
        settings: how the model is asked.
        geometry: of the model.
        rank, processes: this process among those that share the step's samples.
    """
    draws = _draws(stage_of(stages, step), settings, geometry)
    mine = range(rank, len(draws), processes)
    return [draws[place](np.random.default_rng((_STREAM, seed, step, place))) for place in mine]


def _draws(stage: Stage, settings: ModelSettings, geometry: Geometry) -> list[Draw]:
    """Return how each sample of a stage's step is drawn; kinds lie together, so processes get about as many of each."""
    coarse, window, zoom = (one.budget() for one in (settings.coarse, settings.window, settings.zoom))
    look: Draw = partial(coarse_sample, settings=settings, geometry=geometry)
    asked = {"questions": stage.questions, "lookups": stage.lookups, "listing": stage.listing}
    alone = {"questions": max(1, stage.questions), "lookups": 0, "listing": 0.0}  # lists of a long video eat a step
    weight, lookups, strangers = stage.zoom_weight, stage.lookups, stage.strangers
    shortest_s, longest_s = stage.shortest_s, stage.longest_s
    kinds: list[tuple[int, Draw]] = [
        (stage.pictures, lambda rng: picture_sample(rng, coarse, geometry, symbols=False)),
        (stage.closeups, lambda rng: picture_sample(rng, zoom, geometry, symbols=True)),
        (stage.clips, lambda rng: look(rng, whole_view(rng, shortest_s, longest_s), coarse, **asked)),
        (stage.windows, lambda rng: look(rng, window_view(rng), window, **asked)),
        (stage.sparse, lambda rng: look(rng, sparse_view(rng), coarse, **alone)),
        (stage.joints, lambda rng: joint_sample(rng, window, settings, geometry, lookups=lookups)),
        (stage.zooms, lambda rng: zoom_sample(rng, settings, geometry, weight=weight, strangers=strangers)),
        (stage.contexts, lambda rng: context_sample(rng, settings, geometry, weight=weight)),
    ]
    return [draw for count, draw in kinds for _ in range(count)]
