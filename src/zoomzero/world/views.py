"""Stretches of scenes as a model gets to see them: whole videos, windows of long ones, and their planned frames drawn.

Frames are drawn straight from the scene at the planned times: what the mp4 file would show, without the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoomzero.spans import Span, clip
from zoomzero.video.decode import resize_frames
from zoomzero.video.types import Clip, FramePlan, VideoInfo
from zoomzero.world.render import SIZE, render
from zoomzero.world.scenes import GRID_S, Event, Scene, make_scene
from zoomzero.world.write import FPS, LONG_DURATION_S

WINDOW_S = 80.0
WINDOW_MARGIN_S = 20.0  # what happens around a window, so that events are cut at its edges
MIN_SEEN_S = 1.0  # an event shows in a window when at least this much of it does


@dataclass(frozen=True, slots=True)
class View:
    """A stretch of a scene as the model gets to see it: scene time + `shift_s` = video time."""

    scene: Scene
    shift_s: float
    span: Span  # in video time
    total_s: float

    @property
    def whole(self) -> bool:
        """Whether it is the whole video."""
        return self.span.start_s == 0 and self.span.end_s == self.total_s

    @property
    def info(self) -> VideoInfo:
        """The video file it would be."""
        return VideoInfo("", "file", self.total_s, SIZE, SIZE, FPS, None, 0, 0.0, 0, "h264")

    def seen(self, spans: Sequence[Span], plan: FramePlan) -> tuple[Span, ...]:
        """Return the visible part of scene-time spans, in video time.

        What lies outside the plan's spans is left out, and so are parts too short to notice and those that lie
        between the planned frames.
        """
        moved = [(s + self.shift_s, e + self.shift_s) for s, e in spans]
        cut = (s for span in moved for piece in plan.spans for s in clip([span], *piece))
        parts = (s for s in cut if s.length_s >= MIN_SEEN_S)
        return tuple(s for s in parts if any(s.start_s <= t < s.end_s for t in plan.times_s))

    def frames_of(self, event: Event, plan: FramePlan) -> int:
        """Count the planned frames that show an event."""
        return sum(event.start_s <= t - self.shift_s < event.end_s for t in plan.times_s)

    def draw(self, plan: FramePlan) -> Clip:
        """Draw the planned frames: the video's own frame at each time, at the planned size."""
        times_s = np.floor(np.array(plan.times_s) * FPS + 1e-6) / FPS
        pictures = render(self.scene, (times_s - self.shift_s).tolist())
        frames = resize_frames(pictures, plan.height, plan.width)
        return Clip(frames, tuple(times_s.tolist()), plan.fps, plan.spans, len(frames))


def even_s(rng: np.random.Generator, shortest_s: float, longest_s: float) -> float:
    """Draw a length in seconds, a multiple of GRID_S."""
    return GRID_S * float(rng.integers(round(shortest_s / GRID_S), round(longest_s / GRID_S) + 1))


def whole_view(rng: np.random.Generator, shortest_s: float, longest_s: float) -> View:
    """Draw a whole video; one too short for a scene of its own is a piece of a longer one."""
    length_s = even_s(rng, shortest_s, longest_s)
    if length_s >= 48:
        return View(make_scene(rng, length_s), 0.0, Span(0, length_s), length_s)
    scene = make_scene(rng, even_s(rng, 48, 80))
    last_s = scene.duration_s - length_s
    first_s = last_s if rng.random() < 0.35 else even_s(rng, 0, last_s)  # the end of a video is asked for, too
    return View(scene, -first_s, Span(0, length_s), length_s)


def window_view(rng: np.random.Generator) -> View:
    """Draw a window of a 20-minute video: a local scene that goes on around it, at one of the windows' places."""
    scene = make_scene(rng, WINDOW_S + 2 * WINDOW_MARGIN_S)
    windows = round(LONG_DURATION_S / WINDOW_S)
    place = windows - 1 if rng.random() < 0.2 else int(rng.integers(windows - 1))
    start_s = WINDOW_S * place
    # the last window ends where the scene and the video end
    from_s = scene.duration_s - WINDOW_S if place == windows - 1 else WINDOW_MARGIN_S
    return View(scene, start_s - from_s, Span(start_s, start_s + WINDOW_S), LONG_DURATION_S)


def sparse_view(rng: np.random.Generator) -> View:
    """Draw a whole long video, of which a pass sees a frame every few seconds."""
    length_s = LONG_DURATION_S if rng.random() < 0.5 else even_s(rng, 120, LONG_DURATION_S)
    return View(make_scene(rng, length_s), 0.0, Span(0, length_s), length_s)
