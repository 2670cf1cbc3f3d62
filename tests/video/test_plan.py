"""Planners: numbers worked by hand, and properties that hold for any video and budget."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from plan_checks import check_plan, info

from zoomzero.errors import ConfigError
from zoomzero.spans import Span
from zoomzero.video.plan import fit_size, plan_on_grid, plan_regular, plan_spans, plan_uniform, plan_windows
from zoomzero.video.types import FrameBudget, Geometry, VideoInfo

QWEN25 = Geometry(patch=14, free_times=False)  # tokens of 28 x 28 x 2
QWEN3 = Geometry(patch=16)  # tokens of 32 x 32 x 2


# --- sizes ---


@pytest.mark.parametrize(
    ("height", "width", "frames", "budget", "size"),
    [
        # 448 x 784 is 16 x 28 = 448 tokens: everything fits, nothing changes
        (448, 784, 2, FrameBudget(max_tokens=4096, max_frame_tokens=768), (448, 784)),
        # sides round to the nearest multiple: 450 / 28 = 16.07 -> 16, 770 / 28 = 27.5 -> 28 (half to even)
        (450, 770, 2, FrameBudget(), (448, 784)),
        # 720p by the 768 cap: 25.71 x 45.71 squares = 1175.5; root(1175.5 / 768) = 1.2372 -> 20.78 x 36.95 -> 20 x 36
        (720, 1280, 2, FrameBudget(max_frame_tokens=768), (560, 1008)),
        # 64 frames are 32 patches: 4096 / 32 = 128 tokens each; root(1175.5 / 128) = 3.0304 -> 8.48 x 15.08 -> 8 x 15
        (720, 1280, 64, FrameBudget(max_tokens=4096), (224, 420)),
        # a thumbnail of 28 x 56 = 2 tokens grows to 16: root(16 / 2) = 2.83 -> 2.83 x 5.66 -> 3 x 6 (18 >= 16)
        (28, 56, 2, FrameBudget(min_frame_tokens=16), (84, 168)),
        # ... unless 17 is the cap: 3 x 6 is over it and loses a column
        (28, 56, 2, FrameBudget(min_frame_tokens=16, max_frame_tokens=17), (84, 140)),
        # a strip of 10 x 10000: 16 tokens is the cap, so the width gives way
        (10, 10_000, 2, FrameBudget(max_frame_tokens=16), (28, 448)),
    ],
)
def test_fit_size_by_hand(height: int, width: int, frames: int, budget: FrameBudget, size: tuple[int, int]) -> None:
    assert fit_size(height, width, frames, budget, QWEN25) == size


@example(height=98, width=2097, patches=1, least=1, most=270, spare=269, geometry=QWEN25)
@given(
    height=st.integers(1, 5000),
    width=st.integers(1, 5000),
    patches=st.integers(1, 400),
    least=st.integers(1, 64),
    most=st.integers(1, 2000),
    spare=st.integers(0, 20_000),
    geometry=st.sampled_from([QWEN25, QWEN3]),
)
def test_fit_size_keeps_its_limits(
    height: int, width: int, patches: int, least: int, most: int, spare: int, geometry: Geometry
) -> None:
    budget = FrameBudget(max_tokens=patches * min(least, most) + spare, min_frame_tokens=least, max_frame_tokens=most)
    h, w = fit_size(height, width, 2 * patches, budget, geometry)
    rows, cols = h // geometry.factor, w // geometry.factor
    assert h % geometry.factor == 0
    assert w % geometry.factor == 0
    assert 1 <= rows * cols <= most
    assert rows * cols * patches <= budget.max_tokens
    if rows > -(-height // geometry.factor) or cols > -(-width // geometry.factor):
        nearest = max(1, round(height / geometry.factor)) * max(1, round(width / geometry.factor))
        limit = min(most, budget.max_tokens // patches)
        # only frames below the minimum are enlarged beyond their own size; and, as in transformers, those that rounding
        # alone brought over the maximum, by a row or a column: 98 x 2097 pixels are 262 tokens, but 4 x 75 are 300
        assert nearest < least or nearest > limit >= height * width / geometry.factor**2


@given(height=st.integers(200, 3000), width=st.integers(200, 3000), frames=st.integers(2, 64))
def test_fit_size_keeps_the_aspect_of_ordinary_frames(height: int, width: int, frames: int) -> None:
    h, w = fit_size(height, width, frames, FrameBudget(max_tokens=32_768, max_frame_tokens=4096), QWEN25)
    exact = height / width
    assert (h - 28) / (w + 28) <= exact <= (h + 28) / (w - 28)


# --- regular grids ---


def test_regular_takes_every_step_before_the_end() -> None:
    plan = plan_regular(info(6.0), FrameBudget(fps=2.0), QWEN25)
    assert plan.times_s == tuple(i / 2 for i in range(12))
    assert plan.fps == 2.0
    assert plan.spans == (Span(0.0, 6.0),)


def test_regular_adds_the_last_frame_to_an_odd_grid() -> None:
    plan = plan_regular(info(4.5, fps=10.0), FrameBudget(fps=1.0), QWEN25)
    assert plan.times_s == pytest.approx((0, 1, 2, 3, 4, 4.4))


def test_regular_of_a_span_stays_inside_it() -> None:
    plan = plan_regular(info(60.0), FrameBudget(fps=1.0), QWEN25, Span(10.0, 14.0))
    assert plan.times_s == (10.0, 11.0, 12.0, 13.0)
    assert plan.spans == (Span(10.0, 14.0),)


def test_regular_clips_a_span_to_the_video() -> None:
    plan = plan_regular(info(12.0), FrameBudget(fps=1.0), QWEN25, Span(10.0, 99.0))
    assert plan.spans == (Span(10.0, 12.0),)
    assert plan.times_s == (10.0, 11.0)


def test_regular_counts_its_tokens() -> None:
    # 64 frames, 32 patches of 8 x 15 tokens (the size worked out above)
    plan = plan_regular(info(64.0), FrameBudget(fps=1.0, max_tokens=4096), QWEN25)
    assert (plan.height, plan.width) == (224, 420)
    assert plan.visual_tokens == 32 * 8 * 15


def test_regular_drops_frames_when_the_smallest_do_not_fit() -> None:
    # an hour at 1 fps wants 3600 frames; 4096 tokens hold 256 patches of 16: 512 frames, 3600 / 512 s apart
    plan = plan_regular(info(3600.0), FrameBudget(fps=1.0, max_tokens=4096, min_frame_tokens=16), QWEN25)
    assert len(plan.times_s) == 512
    assert plan.times_s[1] == pytest.approx(3600 / 512)
    assert plan.fps == pytest.approx(512 / 3600)
    assert plan.visual_tokens <= 4096


def test_regular_obeys_max_frames() -> None:
    plan = plan_regular(info(100.0), FrameBudget(fps=1.0, max_frames=11), QWEN25)
    assert len(plan.times_s) == 10


def test_regular_of_one_frame_repeats_it() -> None:
    assert plan_regular(info(0.04, fps=25.0), FrameBudget(fps=1.0), QWEN25).times_s == (0.0, 0.0)


@given(
    duration_s=st.floats(0.02, 40_000),
    fps=st.floats(0.05, 8.0),
    max_tokens=st.integers(16, 20_000),
    max_frames=st.integers(2, 1000),
    geometry=st.sampled_from([QWEN25, QWEN3]),
)
def test_regular_properties(
    duration_s: float, fps: float, max_tokens: int, max_frames: int, geometry: Geometry
) -> None:
    budget = FrameBudget(fps=fps, max_tokens=max_tokens, max_frames=max_frames)
    plan = plan_regular(info(duration_s), budget, geometry)
    check_plan(plan, budget, geometry, duration_s)
    steps = [later - earlier for earlier, later in pairwise(plan.times_s[:-1])]
    assert steps == pytest.approx([1 / plan.fps] * len(steps), rel=1e-6)
    assert plan.fps <= fps * (1 + 1e-9)
    assert plan.times_s[0] == 0.0


# --- uniform ---


def test_uniform_spreads_a_count() -> None:
    plan = plan_uniform(info(30.0), 3, FrameBudget(), QWEN25)
    assert plan.times_s == pytest.approx((0.0, 7.5, 15.0, 22.5))
    assert plan.fps == pytest.approx(4 / 30)


def test_uniform_of_a_span_and_within_the_budget() -> None:
    plan = plan_uniform(info(100.0), 500, FrameBudget(max_tokens=64, min_frame_tokens=16), QWEN25, Span(20.0, 60.0))
    assert plan.times_s == pytest.approx((20, 25, 30, 35, 40, 45, 50, 55))


def test_uniform_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 frames"):
        plan_uniform(info(10.0), 0, FrameBudget(), QWEN25)


# --- windows ---


def test_windows_are_equal_and_cover_the_video() -> None:
    # 600 s at 2 fps are 600 patches of 1 s; 256 frames are 128 patches: 5 windows of 120
    plans = plan_windows(info(600.0), FrameBudget(fps=2.0, max_tokens=8192), QWEN25, 256)
    assert [plan.spans[0] for plan in plans] == [Span(120.0 * i, 120.0 * (i + 1)) for i in range(5)]
    assert {len(plan.times_s) for plan in plans} == {240}


def test_windows_overlap_by_whole_patches() -> None:
    plans = plan_windows(info(100.0), FrameBudget(fps=1.0), QWEN25, 40, overlap_s=9.0)  # 5 patches of 2 s
    assert [tuple(plan.spans[0]) for plan in plans] == [(0, 40), (30, 70), (60, 100)]


def test_windows_of_a_short_video_are_one() -> None:
    plans = plan_windows(info(5.0), FrameBudget(fps=2.0), QWEN25, 256)
    assert len(plans) == 1
    assert plans[0].spans == (Span(0.0, 5.0),)


def test_windows_that_never_advance_are_refused() -> None:
    with pytest.raises(ConfigError, match="window_frames"):
        plan_windows(info(100.0), FrameBudget(fps=1.0), QWEN25, 8, overlap_s=8.0)


@given(
    duration_s=st.floats(0.1, 20_000),
    fps=st.floats(0.2, 4.0),
    window_frames=st.integers(2, 600),
    overlap_s=st.floats(0, 20),
)
def test_windows_properties(duration_s: float, fps: float, window_frames: int, overlap_s: float) -> None:
    budget = FrameBudget(fps=fps, max_tokens=16_384)
    try:
        plans = plan_windows(info(duration_s), budget, QWEN3, window_frames, overlap_s)
    except ConfigError:
        assert overlap_s * fps / 2 > window_frames // 2 - 1
        return
    spans = [plan.spans[0] for plan in plans]
    assert spans[0].start_s == 0.0
    assert spans[-1].end_s == pytest.approx(duration_s)
    for earlier, later in pairwise(spans):
        assert earlier.start_s < later.start_s
        assert earlier.end_s - later.start_s >= overlap_s - 1e-5 or later is spans[-1]
    for plan in plans:
        assert len(plan.times_s) <= window_frames
        check_plan(plan, budget, QWEN3, duration_s)


# --- refusals ---


def test_a_budget_too_small_names_the_least() -> None:
    with pytest.raises(ConfigError, match=r"--budget: 10 visual tokens cannot hold 2 frames.*give at least 16"):
        plan_regular(info(10.0), FrameBudget(max_tokens=10, min_frame_tokens=16), QWEN25)


@pytest.mark.parametrize(
    "budget", [FrameBudget(fps=0.0), FrameBudget(fps=float("nan")), FrameBudget(fps=-1.0), FrameBudget(max_frames=1)]
)
def test_nonsense_budgets_are_refused(budget: FrameBudget) -> None:
    with pytest.raises(ConfigError):
        plan_regular(info(10.0), budget, QWEN25)
    with pytest.raises(ConfigError):
        plan_spans(info(10.0), [(1, 2)], budget, QWEN25)


# --- sparse videos: the frames that exist ---


def sparse(times_s: tuple[float, ...], duration_s: float) -> VideoInfo:
    rate = len(times_s) / duration_s
    return VideoInfo(
        "v.mp4", "file", duration_s, 1280, 720, rate, len(times_s), 0, 0.0, 0, "h264", frame_times_s=times_s
    )


def test_frames_that_do_not_exist_are_not_planned() -> None:
    # 40 frames, one every 1000 s: at 2 a second that was 80,000 wishes in 313 windows
    slow = sparse(tuple(1000.0 * i for i in range(40)), 40_000.0)
    budget = FrameBudget(fps=2.0, max_tokens=4096, max_frames=256)
    windows = plan_windows(slow, budget, QWEN3, 256)
    assert len(windows) == 1
    assert windows[0].times_s == pytest.approx(slow.frame_times_s)
    assert plan_regular(slow, budget, QWEN3).times_s == pytest.approx(slow.frame_times_s)
    assert windows[0].fps == pytest.approx(0.001)
    # 5000 s to 9000 s shows the frames at 5, 6, 7 and 8 thousand; 5100 s to 5900 s one frame, twice for its patch
    assert plan_regular(slow, budget, QWEN3, Span(5000, 9000)).times_s == pytest.approx((5000, 6000, 7000, 8000))
    assert len(plan_regular(slow, budget, QWEN3, Span(5100, 5900)).times_s) == 2
    assert len(plan_spans(slow, [(5000, 9000), (20_100, 20_200)], budget, QWEN3).times_s) == 6
    assert len(plan_on_grid(slow, [(5000, 9000)], budget, QWEN3).times_s) == 6  # whole patches: 4000 to 10,000 s


def test_a_burst_of_frames_keeps_its_rate() -> None:
    # nothing for 1000 s, then four frames in a second
    burst = sparse((0.0, 1000.0, 1000.25, 1000.5, 1000.75), 2000.0)
    budget = FrameBudget(fps=2.0, max_frames=64)
    assert plan_regular(burst, budget, QWEN3, Span(1000, 1002)).times_s == pytest.approx((1000, 1000.5, 1001, 1001.5))
    assert len(plan_regular(burst, budget, QWEN3, Span(1, 999)).times_s) == 2
    windows = plan_windows(burst, budget, QWEN3, 64)
    assert sum(len(window.times_s) for window in windows) <= 2 * len(windows) + 64


@given(gaps=st.lists(st.floats(0.6, 500), min_size=1, max_size=30), fps=st.floats(0.1, 4))
def test_every_frame_of_a_sparse_video_is_seen(gaps: list[float], fps: float) -> None:
    times_s = [0.0]
    for gap in gaps:
        times_s.append(times_s[-1] + gap)
    video = sparse(tuple(times_s), times_s[-1] + 1.0)
    plan = plan_regular(video, FrameBudget(fps=fps, max_frames=10**6, max_tokens=10**9), QWEN3)
    dense = plan_regular(
        replace(video, frame_times_s=None), FrameBudget(fps=fps, max_frames=10**6, max_tokens=10**9), QWEN3
    )
    assert len(plan.times_s) <= len(dense.times_s)
    if fps * min(gaps) >= 1:  # steps as long as the shortest frame: none is stepped over, but for rounding and the end
        assert len({bisect_right(times_s, t + 0.002) for t in plan.times_s}) >= len(times_s) - 2
