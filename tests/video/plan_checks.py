"""What every plan keeps to."""

from __future__ import annotations

from zoomzero.video.types import FrameBudget, FramePlan, Geometry, VideoInfo


def info(duration_s: float, width: int = 1280, height: int = 720, fps: float = 30.0) -> VideoInfo:
    return VideoInfo("v.mp4", "file", duration_s, width, height, fps, None, 0, 0.0, 0, "h264")


def check_plan(plan: FramePlan, budget: FrameBudget, geometry: Geometry, duration_s: float) -> None:
    """What holds for every plan."""
    count = len(plan.times_s)
    assert 2 <= count <= budget.max_frames
    assert count % geometry.temporal == 0
    assert list(plan.times_s) == sorted(plan.times_s)
    assert plan.times_s[0] >= 0
    assert plan.times_s[-1] < duration_s
    squares = (plan.height // geometry.factor) * (plan.width // geometry.factor)
    assert plan.height % geometry.factor == plan.width % geometry.factor == 0
    assert squares <= budget.max_frame_tokens
    assert plan.visual_tokens == count // geometry.temporal * squares <= budget.max_tokens
