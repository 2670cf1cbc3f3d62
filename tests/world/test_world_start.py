"""The embedded model before training: it loads like any checkpoint, and is asked in a way its vision can bear."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from zoomzero.config import load_model_settings
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.load import load_policy
from zoomzero.spans import Span
from zoomzero.video.plan import plan_regular, plan_spans, plan_windows
from zoomzero.video.types import Clip, Geometry, VideoInfo
from zoomzero.world.start import TINY_SETTINGS, write_start


def test_start_loads_like_any_checkpoint(start: Path) -> None:
    policy = load_policy(start, device="cpu")
    assert policy.geometry.factor == 32
    assert policy.builder.codec.tokenizer.id_to_token(policy.end_of_turn) == "<|im_end|>"
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 64, 3), np.uint8)
    clip = Clip(frames, (0.0, 1.0, 2.0, 3.0), 1.0, (Span(0, 4),), 4)
    context = policy.read([Turn("user", (clip, "Which symbol is on the red ring?"))])
    assert context.visual_tokens == 2 * 1 * 2
    (completion,) = policy.generate(context, 1, Sampling(max_tokens=3))
    assert all(np.isfinite(completion.logprobs))
    assert len(completion.token_ids) <= 3


def test_start_carries_its_settings_and_is_small(start: Path) -> None:
    assert load_model_settings(start) == TINY_SETTINGS
    count = sum(value.numel() for value in load_file(start / "model.safetensors").values())
    assert 2 * count <= 12e6, "12 MB in half precision"
    assert "lm_head.weight" not in load_file(start / "model.safetensors"), "tied to the embedding"


def test_start_is_a_pure_function_of_its_seed(start: Path, tmp_path: Path) -> None:
    write_start(tmp_path / "same", seed=3)
    write_start(tmp_path / "other", seed=4)
    name = "model.visual.blocks.0.attn.qkv.weight"
    mine = load_file(start / "model.safetensors")
    same = load_file(tmp_path / "same" / "model.safetensors")
    assert mine.keys() == same.keys()
    assert all(torch.equal(mine[key], same[key]) for key in mine)
    assert not torch.equal(mine[name], load_file(tmp_path / "other" / "model.safetensors")[name])


def info_of(duration_s: float) -> VideoInfo:
    return VideoInfo("", "file", duration_s, 128, 128, 8.0, None, 0, 0.0, 0, "h264")


def test_pass_over_a_short_video_gives_each_pair_of_seconds_one_token() -> None:
    """80 s in 40 tokens; pair k is told as 2k + 0.5, so both ends of a span on the 2-second grid can be read off."""
    geometry = Geometry(patch=8, merge=4)
    plan = plan_regular(info_of(80.0), TINY_SETTINGS.coarse.budget(), geometry)
    assert (plan.height, plan.width, plan.visual_tokens) == (32, 32, 40)
    assert plan.times_s == tuple(float(i) for i in range(80))
    (window,) = plan_windows(info_of(80.0), TINY_SETTINGS.window.budget(), geometry, TINY_SETTINGS.window.max_frames)
    assert window.times_s == plan.times_s
    long = plan_windows(info_of(1200.0), TINY_SETTINGS.window.budget(), geometry, TINY_SETTINGS.window.max_frames)
    assert [one.spans for one in long] == [(Span(80.0 * i, 80.0 * (i + 1)),) for i in range(15)], "as trained"


def test_close_look_gives_a_pair_sixteen_tokens_of_whole_frames() -> None:
    plan = plan_spans(info_of(80.0), [Span(10.0, 14.0)], TINY_SETTINGS.zoom.budget(), Geometry(patch=8, merge=4))
    assert (plan.height, plan.width, len(plan.times_s), plan.visual_tokens) == (128, 128, 4, 32)
