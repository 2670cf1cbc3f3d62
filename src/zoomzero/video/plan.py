"""Which frames to take, and how large, within a budget of visual tokens. Pure: nothing is opened or decoded.

Sizes follow the `smart_resize` rule of the Qwen-VL processors (sides are multiples of `geometry.factor`, aspect kept)
with two limits of ours: the most tokens a frame may cost always holds, and so does the budget over all frames.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from zoomzero.errors import ConfigError, VideoError
from zoomzero.spans import Span, clip, covered_s, merge
from zoomzero.video.types import FrameBudget, FramePlan, Geometry, VideoInfo

_EPSILON_S = 1e-6


def fit_size(height: int, width: int, frames: int, budget: FrameBudget, geometry: Geometry) -> tuple[int, int]:
    """Return the (height, width) in pixels that `frames` frames of a source get within the budget.

    A frame keeps its own size (sides rounded to the nearest multiple of the factor) when the budget allows, is
    shrunk until it fits otherwise, and is enlarged only when smaller than `min_frame_tokens`. Rounding may end a row
    or a column below the minimum, never above the maximum: for extreme shapes the aspect gives way.

    Args:
        height: source pixels, as shown.
        width: source pixels, as shown.
        frames: how many frames share `budget.max_tokens`.
        budget: tokens over all frames, and the least and most for one.
        geometry: the model's token square.

    Returns:
        (height, width), both multiples of `geometry.factor`.

    Source: `smart_resize` in transformers' `image_processing_qwen2_vl.py` (the rule, rewritten).
    """
    side = geometry.factor
    patches = max(1, math.ceil(frames / geometry.temporal))
    most = max(1, min(budget.max_frame_tokens, budget.max_tokens // patches))
    least = min(budget.min_frame_tokens, most)
    rows, cols = max(1, round(height / side)), max(1, round(width / side))
    exact_squares = height * width / side**2
    if rows * cols > most:
        shrink = math.sqrt(exact_squares / most)
        rows, cols = max(1, int(height / side / shrink)), max(1, int(width / side / shrink))
    elif rows * cols < least:
        grow = math.sqrt(least / exact_squares)
        rows, cols = math.ceil(height / side * grow - 1e-9), math.ceil(width / side * grow - 1e-9)
    if rows * cols > most:
        rows, cols = (min(rows, most), max(1, most // rows)) if cols > rows else (max(1, most // cols), min(cols, most))
    return rows * side, cols * side


def plan_regular(info: VideoInfo, budget: FrameBudget, geometry: Geometry, span: Span | None = None) -> FramePlan:
    """Plan a regular grid over a video or one span of it: start, start + 1/fps, ... before the end.

    An odd grid gets one more frame at the end of the span (the last frame on screen), so the count is even and the
    last moments are seen. When even the smallest frames do not fit, the whole span is sampled at a lower rate.

    Raises:
        ConfigError: the budget cannot hold two frames.
        VideoError: the span lies outside the video.
    """
    low_s, high_s = _inside(info, [span])[0] if span is not None else Span(0.0, info.duration_s)
    limit = _most_frames(budget, geometry)
    length_s = high_s - low_s
    fps = _useful_rate(info, budget.fps, low_s, high_s)
    count = max(1, math.ceil(length_s * fps - _EPSILON_S))
    if count > limit:
        count, fps = limit, limit / length_s
    times = [low_s + i / fps for i in range(count)]
    if count % geometry.temporal:
        times.append(max(times[-1], high_s - 1.0 / info.fps))
    return _finish(info, times, fps, (Span(low_s, high_s),), budget, geometry)


def plan_uniform(
    info: VideoInfo, count: int, budget: FrameBudget, geometry: Geometry, span: Span | None = None
) -> FramePlan:
    """Plan `count` frames (rounded up to whole temporal patches) evenly over a video or one span of it.

    Fewer are planned where the budget cannot hold them; `budget.fps` plays no part.
    """
    if count < 1:
        raise ConfigError("count", f"{count} frames cannot be planned", "ask for at least 2")
    low_s, high_s = _inside(info, [span])[0] if span is not None else Span(0.0, info.duration_s)
    even = min(_whole(count, geometry), _most_frames(budget, geometry))
    step_s = (high_s - low_s) / even
    times = [low_s + i * step_s for i in range(even)]
    return _finish(info, times, 1.0 / step_s, (Span(low_s, high_s),), budget, geometry)


def plan_spans(info: VideoInfo, spans: Sequence[Sequence[float]], budget: FrameBudget, geometry: Geometry) -> FramePlan:
    """Plan the frames of several spans at the base rate, every span an even count of its own.

    Spans are clipped to the video and merged (spans closer than one sampling step are one). Inside a span frames are
    evenly spaced, at `budget.fps` or just above it where whole temporal patches need it; so no temporal patch ever
    straddles two spans, and a family that only knows a constant rate sees one inside each span. When the budget is
    too small the rate falls for all spans alike, down to one patch each; then the nearest spans are joined.

    Raises:
        VideoError: no span covers any part of the video.
        ConfigError: the budget cannot hold two frames.
    """
    limit = _most_frames(budget, geometry)
    kept = merge(_inside(info, spans), gap_s=1.0 / budget.fps)
    while len(kept) * geometry.temporal > limit:
        gaps = [later.start_s - earlier.end_s for earlier, later in pairwise(kept)]
        kept = merge(kept, gap_s=min(gaps) + _EPSILON_S)
    counts = _share(kept, [_useful_rate(info, budget.fps, *span) for span in kept], limit, geometry)
    times = [
        span.start_s + i * span.length_s / count for span, count in zip(kept, counts, strict=True) for i in range(count)
    ]
    return _finish(info, times, sum(counts) / covered_s(kept), kept, budget, geometry)


def plan_on_grid(
    info: VideoInfo, spans: Sequence[Sequence[float]], budget: FrameBudget, geometry: Geometry
) -> FramePlan:
    """Plan the frames of spans on the video's own sampling grid, so that overlapping spans share frames.

    Temporal patch k holds the frames at (k * temporal + j) / fps; every patch a span touches is taken whole. In the
    patch that the video ends in, the last frame on screen stands for those that do not exist. Where all this is more
    than the budget holds, the grid is that of the highest rate fps / n at which it fits, for a whole number n; where a
    patch of it would outlast a span, this is `plan_spans`.

    Raises:
        VideoError, ConfigError: as `plan_spans`.
    """
    inside = merge(_inside(info, spans))
    most = _most_frames(budget, geometry) // geometry.temporal
    finest_s = geometry.temporal / _useful_rate(info, budget.fps, 0.0, info.duration_s)
    coarser = max(1, math.ceil(covered_s(inside) / most / finest_s - _EPSILON_S))
    while len(patches := _touched(inside, patch_s := coarser * finest_s)) > most:
        coarser += 1
        if coarser * finest_s > min(span.length_s for span in inside):
            return plan_spans(info, spans, budget, geometry)
    fps = geometry.temporal / patch_s
    last_s = info.duration_s - 1.0 / info.fps
    times: list[float] = []
    for k in patches:
        for j in range(geometry.temporal):
            times.append(max(min((k * geometry.temporal + j) / fps, last_s), times[-1] if times else 0.0))
    kept = merge([Span(k * patch_s, min((k + 1) * patch_s, info.duration_s)) for k in patches], gap_s=_EPSILON_S)
    return _finish(info, times, fps, kept, budget, geometry)


def _touched(spans: Sequence[Span], patch_s: float) -> list[int]:
    """Return which patches of so many seconds share time with a span."""
    touched: set[int] = set()
    for start_s, end_s in spans:
        stop = math.ceil((end_s - _EPSILON_S) / patch_s)
        touched.update(range(min(math.floor((start_s + _EPSILON_S) / patch_s), stop - 1), stop))
    return sorted(touched)


def plan_windows(
    info: VideoInfo, budget: FrameBudget, geometry: Geometry, window_frames: int, overlap_s: float = 0.0
) -> list[FramePlan]:
    """Plan equal windows of at most `window_frames` frames at `budget.fps` that cover the whole video.

    Windows are made as long as each other (a multiple of one temporal patch), so that no short rest is left over.

    Args:
        window_frames: the most frames one window may have.
        overlap_s: seconds that neighbours share, rounded up to whole temporal patches.
    """
    patch = geometry.temporal
    patch_s = patch / _useful_rate(info, budget.fps, 0.0, info.duration_s)
    overlap = math.ceil(overlap_s / patch_s - _EPSILON_S)
    most = window_frames // patch
    if most < 1 or overlap >= most:
        fix = f"give at least {patch * (overlap + 1)} frames a window or less overlap"
        raise ConfigError("window_frames", f"{window_frames} frames do not outlast the overlap of {overlap_s:g} s", fix)
    total = max(1, math.ceil(info.duration_s / patch_s - _EPSILON_S))
    windows = max(1, math.ceil((total - overlap) / (most - overlap)))
    length = math.ceil((total + (windows - 1) * overlap) / windows)
    inner = replace(budget, max_frames=min(budget.max_frames, length * patch))
    starts = [i * (length - overlap) * patch_s for i in range(windows)]
    ends = [min(start + length * patch_s, info.duration_s) for start in starts]
    return [
        plan_regular(info, inner, geometry, Span(start, end))
        for start, end in zip(starts, ends, strict=True)
        if end - start > _EPSILON_S
    ]


def _most_frames(budget: FrameBudget, geometry: Geometry) -> int:
    """Return how many frames of the smallest size the budget holds, in whole temporal patches."""
    if budget.fps <= 0 or not math.isfinite(budget.fps):
        raise ConfigError("fps", f"{budget.fps} frames a second cannot be planned", "give a rate above 0")
    least = max(1, min(budget.min_frame_tokens, budget.max_frame_tokens))
    patches = min(budget.max_tokens // least, budget.max_frames // geometry.temporal)
    if budget.max_frames < geometry.temporal:
        fix = f"allow at least {geometry.temporal}"
        raise ConfigError("max_frames", f"{budget.max_frames} is less than one temporal patch", fix)
    if patches < 1:
        reason = f"{budget.max_tokens} visual tokens cannot hold {geometry.temporal} frames of the smallest size"
        raise ConfigError("--budget", reason, f"give at least {least}")
    return patches * geometry.temporal


def _useful_rate(info: VideoInfo, fps: float, low_s: float, high_s: float) -> float:
    """Return the rate to sample a span at: `fps`, or less where no two of its frames are that close together."""
    times_s = info.frame_times_s
    if not times_s:
        return fps
    on_screen = max(0, bisect_right(times_s, low_s + _EPSILON_S) - 1)
    shown = times_s[on_screen : max(on_screen + 1, bisect_left(times_s, high_s - _EPSILON_S))]
    closest_s = min((later - earlier for earlier, later in pairwise(shown) if later > earlier), default=high_s - low_s)
    return min(fps, 1.0 / max(closest_s, _EPSILON_S))


def _inside(info: VideoInfo, spans: Sequence[Sequence[float] | None]) -> tuple[Span, ...]:
    """Return the part of the spans that the video has; VideoError when there is none."""
    given = [span for span in spans if span is not None]
    kept = tuple(s for s in clip(given, 0.0, info.duration_s) if s.length_s > _EPSILON_S)
    if not kept:
        shown = ", ".join(f"({s:.1f}, {e:.1f})" for s, e in given[:4]) or "no span"
        reason = f"{shown} covers nothing of the video"
        raise VideoError(info.path, "plan", reason, f"give (start, end) seconds within 0 and {info.duration_s:.1f}")
    return kept


def _whole(count: int, geometry: Geometry) -> int:
    """Round a frame count up to whole temporal patches."""
    return max(1, math.ceil(count / geometry.temporal)) * geometry.temporal


def _share(spans: Sequence[Span], rates: Sequence[float], limit: int, geometry: Geometry) -> list[int]:
    """Return the frames of each span: its own rate, or the highest common rate below it that stays within the limit."""

    def counts(rate: float) -> list[int]:
        return [
            _whole(math.ceil(span.length_s * min(rate, own) - _EPSILON_S), geometry)
            for span, own in zip(spans, rates, strict=True)
        ]

    low, high = 0.0, max(rates)
    if sum(counts(high)) <= limit:
        return counts(high)
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(counts(middle)) <= limit else (low, middle)
    return counts(low)


def _finish(
    info: VideoInfo,
    times: Sequence[float],
    fps: float,
    spans: tuple[Span, ...],
    budget: FrameBudget,
    geometry: Geometry,
) -> FramePlan:
    """Choose the size for the times and count what they cost."""
    height, width = fit_size(info.height, info.width, len(times), budget, geometry)
    squares = (height // geometry.factor) * (width // geometry.factor)
    return FramePlan(tuple(times), height, width, fps, spans, len(times) // geometry.temporal * squares)
