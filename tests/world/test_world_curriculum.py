"""The curriculum: what a step reads is told by its stage, and is a pure function of seed and step."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from zoomzero.config import load_settings
from zoomzero.data.sft_sample import SFTSample
from zoomzero.policy.local.text import TextCodec
from zoomzero.prompts import video_header
from zoomzero.train.settings import SftSettings, StageSettings
from zoomzero.video.types import Geometry
from zoomzero.world.curriculum import Stage, stage_of, step_samples
from zoomzero.world.start import TINY_SETTINGS as SETTINGS
from zoomzero.world.vocabulary import build_tokenizer

GEOMETRY = Geometry(patch=8, merge=4)
CONFIG = Path(__file__).resolve().parents[2] / "configs" / "tiny.toml"
EVERYTHING = Stage(
    2,
    pictures=2,
    closeups=1,
    clips=3,
    windows=1,
    sparse=1,
    joints=1,
    zooms=2,
    contexts=1,
    shortest_s=6,
    longest_s=10,
    questions=1,
)


def samples_of(seed: int, step: int, *stages: Stage) -> list[SFTSample]:
    return step_samples(seed, step, stages, SETTINGS, GEOMETRY)


def test_stage_of_a_step_is_the_one_it_falls_into() -> None:
    stages = [Stage(2, clips=1), Stage(1, clips=2), Stage(3, clips=3)]
    assert [stage_of(stages, step).clips for step in range(9)] == [1, 1, 2, 3, 3, 3, 3, 3, 3]


def test_stage_says_how_close_looks_are_asked() -> None:
    """Its weight and its share of strangers reach the samples."""
    plain, other = (
        [item for step in range(8) for item in samples_of(1, step, Stage(8, zooms=1, **changes))[0].items]
        for changes in ({}, {"zoom_weight": 4.0, "strangers": 0.0})
    )
    assert len(plain) == len(other) + 8
    assert {item.weight for item in plain} == {1.0}
    assert {item.weight for item in other} == {1.0, 4.0}


def test_settings_of_a_stage_are_its_fields() -> None:
    assert {field.name for field in dataclasses.fields(Stage)} == set(StageSettings.model_fields)
    settings = StageSettings(steps=3, zooms=2, questions=2)
    assert Stage(**settings.model_dump()) == Stage(3, zooms=2, questions=2), "the defaults are the same, too"


def kind_of(sample: SFTSample) -> str:
    """What a sample is, from its frames and words alone."""
    frames, side = sample.clip.frames.shape[:2]
    (first, *_) = sample.clip.spans
    if sample.history:
        return "context"
    if not sample.header:
        listed = len(sample.items) == 1 and first == (0.0, 2.0)
        return ("closeup" if side == 128 else "picture") if listed else "zoom"
    if len(sample.clip.spans) > 1:
        return "joint"
    if sample.header == video_header(first.end_s) and first.start_s == 0:
        return "sparse" if first.end_s > 96 and frames == 80 else "clip"
    return "window"


def test_step_reads_as_many_samples_of_each_kind_as_its_stage_says() -> None:
    samples = samples_of(1, 1, EVERYTHING)
    assert [kind_of(sample) for sample in samples] == [
        *("picture", "picture", "closeup"),
        *("clip", "clip", "clip"),
        *("window", "sparse", "joint", "zoom", "zoom", "context"),
    ]
    for clip in samples[3:6]:
        assert 6 <= clip.clip.spans[0].end_s <= 10
        assert 1 <= len(clip.items) <= 2, "one question, and a listing in half of them"


def test_next_stage_begins_after_the_steps_of_the_first() -> None:
    stages = (Stage(2, clips=1, questions=0, shortest_s=4, longest_s=4), Stage(1, zooms=2))
    kinds = [[kind_of(sample) for sample in samples_of(1, step, *stages)] for step in range(4)]
    assert kinds == [["clip"], ["clip"], ["zoom", "zoom"], ["zoom", "zoom"]]


def test_step_is_a_pure_function_of_seed_and_step() -> None:
    first, again, later, other = (samples_of(*place, EVERYTHING) for place in ((1, 0), (1, 0), (1, 1), (2, 0)))
    for mine, same in zip(first, again, strict=True):
        assert np.array_equal(mine.clip.frames, same.clip.frames)
        assert (mine.items, mine.header, mine.clip.times_s) == (same.items, same.header, same.clip.times_s)
        for before, before_again in zip(mine.history, same.history, strict=True):
            assert np.array_equal(before.clip.frames, before_again.clip.frames)
            assert (before.text, before.reply) == (before_again.text, before_again.reply)
    for another in (later, other):
        assert all(a.items != b.items for a, b in zip(first[3:], another[3:], strict=True))


def test_processes_share_out_what_one_would_draw() -> None:
    whole = samples_of(1, 1, EVERYTHING)
    shares = [step_samples(1, 1, [EVERYTHING], SETTINGS, GEOMETRY, rank, 3) for rank in range(3)]
    assert [len(share) for share in shares] == [4, 4, 4]
    for place, sample in enumerate(whole):
        same = shares[place % 3][place // 3]
        assert np.array_equal(sample.clip.frames, same.clip.frames)
        assert (sample.items, sample.header) == (same.items, same.header)


def test_settings_of_the_embedded_model_make_steps_it_can_read() -> None:
    """Every stage of `configs/tiny.toml` is drawn once; no taught answer is longer than the model may write."""
    settings = load_settings(SftSettings, str(CONFIG))
    assert settings.steps == sum(stage.steps for stage in settings.stages)
    stages = [Stage(**stage.model_dump()) for stage in settings.stages]
    step, codec = 0, TextCodec(build_tokenizer())
    for stage, wanted in zip(stages, settings.stages, strict=True):
        samples = step_samples(settings.world_seed, step, stages, SETTINGS, GEOMETRY)
        assert len(samples) == wanted.samples
        answers = [item.target for sample in samples for item in sample.items if "<answer>" in item.target]
        assert all(len(codec.encode(answer)) < SETTINGS.max_new_tokens for answer in answers)
        step += stage.steps
