"""The embedded model's curriculum: what each step of a run reads, a pure function of the seed and the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoomzero.config import ModelSettings
from zoomzero.data.sft_sample import SFTSample
from zoomzero.video.types import Geometry
from zoomzero.world.samples import coarse_sample, context_sample, joint_sample, picture_sample, zoom_sample
from zoomzero.world.views import sparse_view, whole_view, window_view

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
    seed: int, step: int, stages: Sequence[Stage], settings: ModelSettings, geometry: Geometry
) -> list[SFTSample]:
    """Return what step `step` of the stream `seed` reads."""
    stage = stage_of(stages, step)
    rng = np.random.default_rng((_STREAM, seed, step))
    coarse, window, zoom = (one.budget() for one in (settings.coarse, settings.window, settings.zoom))
    looks = [
        *((whole_view(rng, stage.shortest_s, stage.longest_s), coarse) for _ in range(stage.clips)),
        *((window_view(rng), window) for _ in range(stage.windows)),
    ]
    sparse = [sparse_view(rng) for _ in range(stage.sparse)]
    return [
        *(picture_sample(rng, coarse, geometry, symbols=False) for _ in range(stage.pictures)),
        *(picture_sample(rng, zoom, geometry, symbols=True) for _ in range(stage.closeups)),
        *(
            coarse_sample(
                rng,
                view,
                budget,
                settings,
                geometry,
                questions=stage.questions,
                lookups=stage.lookups,
                listing=stage.listing,
            )
            for view, budget in looks
        ),
        *(  # without lists, which would be longer than all else that a step reads
            coarse_sample(
                rng, view, coarse, settings, geometry, questions=max(1, stage.questions), lookups=0, listing=0.0
            )
            for view in sparse
        ),
        *(joint_sample(rng, window, settings, geometry, lookups=stage.lookups) for _ in range(stage.joints)),
        *(
            zoom_sample(rng, settings, geometry, weight=stage.zoom_weight, strangers=stage.strangers)
            for _ in range(stage.zooms)
        ),
        *(context_sample(rng, settings, geometry, weight=stage.zoom_weight) for _ in range(stage.contexts)),
    ]
