"""Plans of several spans, on a grid of their own and on the video's."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_checks import check_plan, info

from zoomzero.errors import VideoError
from zoomzero.spans import Span, contains
from zoomzero.video.plan import plan_on_grid, plan_spans
from zoomzero.video.types import FrameBudget, Geometry

QWEN25 = Geometry(patch=14, free_times=False)  # tokens of 28 x 28 x 2
QWEN3 = Geometry(patch=16)  # tokens of 32 x 32 x 2


# --- several spans ---


def test_spans_keep_true_times_and_even_counts() -> None:
    plan = plan_spans(info(60.0), [(40.0, 43.0), (10.0, 12.0)], FrameBudget(fps=2.0), QWEN3)
    assert plan.spans == (Span(10.0, 12.0), Span(40.0, 43.0))
    assert plan.times_s == pytest.approx((10, 10.5, 11, 11.5, 40, 40.5, 41, 41.5, 42, 42.5))
    assert plan.fps == pytest.approx(2.0)


def test_spans_too_short_for_a_step_get_one_patch_each() -> None:
    plan = plan_spans(info(60.0), [(10.0, 10.2), (30.0, 30.1)], FrameBudget(fps=1.0), QWEN3)
    assert plan.times_s == pytest.approx((10.0, 10.1, 30.0, 30.05))


def test_spans_overlapping_or_nearer_than_a_step_are_one() -> None:
    plan = plan_spans(info(60.0), [(10, 12), (11, 13), (13.4, 15)], FrameBudget(fps=2.0), QWEN3)
    assert plan.spans == (Span(10, 15),)


def test_spans_share_a_small_budget_at_one_rate() -> None:
    # 8 s and 4 s at 4 fps want 48 frames; 12 are allowed: 8 + 4
    plan = plan_spans(info(60.0), [(0, 8), (20, 24)], FrameBudget(fps=4.0, max_frames=12), QWEN3)
    inside = [sum(s <= t < e for t in plan.times_s) for s, e in plan.spans]
    assert inside == [8, 4]
    assert plan.fps == pytest.approx(1.0)


def test_spans_too_many_for_the_budget_are_joined_at_the_smallest_gap() -> None:
    plan = plan_spans(info(90.0), [(0, 4), (20, 24), (30, 34)], FrameBudget(fps=1.0, max_frames=4), QWEN3)
    assert plan.spans == (Span(0, 4), Span(20, 34))
    assert len(plan.times_s) == 4


@pytest.mark.parametrize("spans", [[(70.0, 80.0)], [(5.0, 5.0)], [(9.0, 3.0)], [(float("nan"), 3.0)], []])
def test_spans_outside_the_video_are_an_error(spans: list[tuple[float, float]]) -> None:
    with pytest.raises(VideoError, match="covers nothing of the video") as caught:
        plan_spans(info(60.0), spans, FrameBudget(), QWEN3)
    assert caught.value.stage == "plan"


@given(
    spans=st.lists(
        st.tuples(st.floats(-10, 320), st.floats(0.01, 100)).map(lambda t: (t[0], t[0] + t[1])), min_size=1, max_size=12
    ),
    fps=st.floats(0.1, 8.0),
    max_tokens=st.integers(16, 8000),
    max_frames=st.integers(2, 300),
    geometry=st.sampled_from([QWEN25, QWEN3]),
)
def test_spans_properties(
    spans: list[tuple[float, float]], fps: float, max_tokens: int, max_frames: int, geometry: Geometry
) -> None:
    budget = FrameBudget(fps=fps, max_tokens=max_tokens, max_frames=max_frames)
    try:
        plan = plan_spans(info(300.0), spans, budget, geometry)
    except VideoError:
        assert all(e <= 1e-6 or s >= 300 - 1e-6 for s, e in spans)
        return
    check_plan(plan, budget, geometry, 300.0)
    assert all(contains(plan.spans, t) for t in plan.times_s)
    for start_s, end_s in plan.spans:
        inside = [t for t in plan.times_s if start_s <= t < end_s]
        assert len(inside) >= 2
        assert len(inside) % 2 == 0  # so no temporal patch straddles two spans
        steps = [later - earlier for earlier, later in pairwise(inside)]
        assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6, abs=1e-9)
    for s, e in spans:  # every wished moment inside the video is covered
        if e > 0.1 and s < 299.9:
            assert contains(plan.spans, min(max((s + e) / 2, max(s, 0)), min(e, 300)))


# --- the video's own grid ---


def test_grid_takes_whole_patches_where_a_span_touches_them() -> None:
    # at 1 fps a patch holds 2 s: (3.5, 5) touches patches 1 (2-4) and 2 (4-6), (20, 22) is patch 10
    plan = plan_on_grid(info(60.0), [(3.5, 5.0), (20.0, 22.0)], FrameBudget(fps=1.0), QWEN3)
    assert plan.times_s == (2.0, 3.0, 4.0, 5.0, 20.0, 21.0)
    assert plan.spans == (Span(2.0, 6.0), Span(20.0, 22.0))
    assert plan.fps == 1.0
    # 720p is 22.5 x 40 = 900 squares; root(900 / 768) = 1.0825 -> 20.78 x 36.95 -> 20 x 36 = 720 for each of 3 patches
    assert (plan.height, plan.width) == (20 * 32, 36 * 32)
    assert plan.visual_tokens == 3 * 720


def test_grid_lets_overlapping_spans_share_their_frames() -> None:
    budget = FrameBudget(fps=2.0)  # a patch is 1 s
    first, second = (plan_on_grid(info(60.0), [span], budget, QWEN3) for span in [(10.3, 14.2), (12.9, 16.4)])
    assert first.times_s == tuple(10 + i / 2 for i in range(10))
    assert set(first.times_s) & set(second.times_s) == {12.0, 12.5, 13.0, 13.5, 14.0, 14.5}
    apart = [plan_spans(info(60.0), [span], budget, QWEN3) for span in [(10.3, 14.2), (12.9, 16.4)]]
    assert not set(apart[0].times_s) & set(apart[1].times_s), "which is what the grid is for"


@pytest.mark.parametrize(
    ("duration_s", "times_s"),
    [
        (9.5, (6.0, 7.0, 8.0, 9.0)),  # the video ends inside patch 4, after both of its frames
        (8.6, (6.0, 7.0, 8.0, 8.5)),  # there is no frame at 9: the last one on screen, 8.6 - 1/10
        (8.05, (6.0, 7.0, 7.95, 7.95)),  # nor one at 8
    ],
)
def test_grid_sees_the_end_of_the_video(duration_s: float, times_s: tuple[float, ...]) -> None:
    plan = plan_on_grid(info(duration_s, fps=10.0), [(7.0, duration_s)], FrameBudget(fps=1.0), QWEN3)
    assert plan.times_s == pytest.approx(times_s)
    assert plan.spans == (Span(6.0, duration_s),)


def test_grid_becomes_coarser_when_the_budget_is_too_small() -> None:
    budget = FrameBudget(fps=1.0, max_frames=6)
    assert plan_on_grid(info(60.0), [(1.0, 6.0)], budget, QWEN3).times_s == (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert plan_on_grid(info(60.0), [(1.0, 6.5)], budget, QWEN3).times_s == (0.0, 2.0, 4.0, 6.0)  # four patches of 2 s
    # 30 s in three patches: of 10 s where the span lies on that grid, of 12 s (12 to 48) where it does not
    assert plan_on_grid(info(60.0), [(10.0, 40.0)], budget, QWEN3).times_s == (10.0, 15.0, 20.0, 25.0, 30.0, 35.0)
    assert plan_on_grid(info(60.0), [(13.0, 43.0)], budget, QWEN3).times_s == (12.0, 18.0, 24.0, 30.0, 36.0, 42.0)


def test_grid_falls_back_where_its_patches_would_outlast_a_span() -> None:
    budget, spans = FrameBudget(fps=1.0, max_frames=6), [(1.0, 3.0), (20.0, 22.0), (41.0, 43.0)]
    assert plan_on_grid(info(60.0), spans, budget, QWEN3) == plan_spans(info(60.0), spans, budget, QWEN3)


@pytest.mark.parametrize("spans", [[(70.0, 80.0)], [(5.0, 5.0)], [(float("nan"), 3.0)], []])
def test_grid_refuses_spans_outside_the_video(spans: list[tuple[float, float]]) -> None:
    with pytest.raises(VideoError, match="covers nothing of the video"):
        plan_on_grid(info(60.0), spans, FrameBudget(), QWEN3)


spans_anywhere = st.lists(
    st.tuples(st.floats(-10, 320), st.floats(0.01, 100)).map(lambda t: (t[0], t[0] + t[1])), min_size=1, max_size=8
)


@given(
    spans=spans_anywhere,
    duration_s=st.floats(0.05, 300.0),
    fps=st.floats(0.1, 8.0),
    max_frames=st.integers(2, 300),
    geometry=st.sampled_from([QWEN25, QWEN3]),
)
def test_grid_properties(
    spans: list[tuple[float, float]], duration_s: float, fps: float, max_frames: int, geometry: Geometry
) -> None:
    budget = FrameBudget(fps=fps, max_tokens=8000, max_frames=max_frames)
    try:
        plan = plan_on_grid(info(duration_s), spans, budget, geometry)
    except VideoError:
        assert all(end <= 1e-6 or start >= duration_s - 1e-6 for start, end in spans)
        return
    check_plan(plan, budget, geometry, duration_s)
    if plan == plan_spans(info(duration_s), spans, budget, geometry):
        return  # too many patches for the budget, or the same thing
    coarser = fps / plan.fps
    assert coarser == pytest.approx(round(coarser))  # fps / 1, fps / 2, ...
    fps, patch_s = plan.fps, 2 / plan.fps
    wanted = {  # all patches of the video that share time with a span
        k
        for k in range(int(duration_s / patch_s) + 1)
        if any(min(end, (k + 1) * patch_s, duration_s) - max(start, k * patch_s, 0.0) > 1e-5 for start, end in spans)
    }
    last_s = duration_s - 1 / 30
    for k in wanted:
        for wished_s in (2 * k / fps, (2 * k + 1) / fps):
            assert min(abs(t - max(min(wished_s, last_s), 0.0)) for t in plan.times_s) < 1e-6 or wished_s > last_s
    assert len(plan.times_s) // 2 <= len(wanted) + 2 * len(spans)  # and no others, but for what merely touches


@given(first=spans_anywhere, second=spans_anywhere)
def test_grid_of_a_part_is_a_part_of_the_grid(
    first: list[tuple[float, float]], second: list[tuple[float, float]]
) -> None:
    budget, video = FrameBudget(fps=1.0, max_tokens=100_000, max_frames=1000), info(330.0)
    try:
        both, alone = (plan_on_grid(video, spans, budget, QWEN3) for spans in ([*first, *second], first))
    except VideoError:
        return  # `first` lies before the video
    assert set(alone.times_s) <= set(both.times_s)
