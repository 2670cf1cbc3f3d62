"""Views: what a pass over a video, a window or a few frames of it gets to see, and that the mp4 file shows the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoomzero.spans import Span
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.probe import probe
from zoomzero.video.types import FrameBudget, FramePlan, Geometry
from zoomzero.world.scenes import GRID_S, Event, Scene, make_scene
from zoomzero.world.start import TINY_SETTINGS
from zoomzero.world.views import View, even_s, sparse_view, whole_view, window_view
from zoomzero.world.write import write_video

GEOMETRY = Geometry(patch=8, merge=4)


def generators(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng((8, seed)) for seed in range(count)]


def event(start_s: float, end_s: float, kind: int = 0) -> Event:
    return Event(start_s, end_s, kind, 0, 0.5, 0.5, 0.0, 0.0)


def plan_at(*times_s: float, spans: tuple[Span, ...] = (Span(100.0, 120.0),)) -> FramePlan:
    return FramePlan(times_s, 32, 32, 1.0, spans, 0)


def test_lengths_are_even_and_hold_both_ends() -> None:
    rng = np.random.default_rng(0)
    assert {even_s(rng, 4, 10) for _ in range(80)} == {4.0, 6.0, 8.0, 10.0}
    assert {even_s(rng, 0, 0) for _ in range(5)} == {0.0}


def test_whole_view_is_a_scene_or_a_piece_of_a_longer_one() -> None:
    pieces = 0
    for rng in generators(60):
        view = whole_view(rng, 16, 80)
        assert view.whole
        assert view.span == (0.0, view.total_s)
        assert 16 <= view.total_s <= 80
        assert view.total_s % GRID_S == view.shift_s % GRID_S == 0
        if view.total_s >= 48:
            assert (view.shift_s, view.scene.duration_s) == (0.0, view.total_s)
        else:
            pieces += 1
            assert 48 <= view.scene.duration_s <= 80
            assert 0 <= -view.shift_s <= view.scene.duration_s - view.total_s, "the piece lies inside its scene"
    assert 15 < pieces < 45


def test_window_view_lies_where_windows_of_a_20_minute_video_lie() -> None:
    last = 0
    for rng in generators(80):
        view = window_view(rng)
        assert not view.whole
        assert view.total_s == 1200.0
        assert view.span.length_s == 80.0
        assert view.span.start_s % 80 == 0
        scene_from_s, scene_to_s = (t - view.shift_s for t in view.span)
        assert view.scene.duration_s == 120.0
        if view.span.end_s == 1200.0:
            last += 1
            assert (scene_from_s, scene_to_s) == (40.0, 120.0), "the last window ends with its scene"
        else:
            assert (scene_from_s, scene_to_s) == (20.0, 100.0), "events go on beyond both edges"
    assert 6 <= last <= 30  # binomial(80, 1/5): mean 16, standard deviation 3.6


def test_sparse_view_is_a_whole_long_video() -> None:
    lengths = []
    for rng in generators(24):
        view = sparse_view(rng)
        assert view.whole
        assert (view.shift_s, view.scene.duration_s) == (0.0, view.total_s)
        lengths.append(view.total_s)
    assert all(120 <= length <= 1200 and length % 2 == 0 for length in lengths)
    assert 5 <= lengths.count(1200.0) <= 20
    assert len(set(lengths)) > 5


def test_what_is_seen_is_what_the_view_and_its_frames_hold() -> None:
    """A window 100-120 s of a video whose scene begins at 90 s: scene time 10-30 s."""
    view = View(Scene(60.0, (), (0.0, 0.0, 0.0), 0.0), 90.0, Span(100.0, 120.0), 1200.0)
    every = plan_at(*(float(t) for t in range(100, 120)))
    assert view.seen([Span(14, 18)], every) == (Span(104, 108),)
    assert view.seen([Span(4, 14)], every) == (Span(100, 104),), "cut at the window's start"
    assert view.seen([Span(28, 38)], every) == (Span(118, 120),), "cut at its end"
    assert view.seen([Span(2, 10), Span(30, 36)], every) == (), "outside"
    assert view.seen([Span(5, 10.5)], every) == (), "less than a second shows"
    assert view.seen([Span(5, 11)], every) == (Span(100, 101),)
    assert view.seen([Span(14, 18), Span(20, 24)], every) == (Span(104, 108), Span(110, 114))
    pieces = plan_at(*(float(t) for t in range(100, 120)), spans=(Span(100, 106), Span(110, 120)))
    assert view.seen([Span(14, 22)], pieces) == (Span(104, 106), Span(110, 112)), "cut by what lies between pieces"
    sparse = plan_at(100.0, 108.0, 114.0, 119.0)
    assert view.seen([Span(14, 18)], sparse) == (), "over when the frame at 108 s is taken"
    assert view.seen([Span(18, 20)], sparse) == (Span(108, 110),), "begins with it"
    assert [view.frames_of(event(*ends), sparse) for ends in ((14, 18), (18, 20), (0, 60), (18, 24.5))] == [0, 1, 4, 2]


def test_info_is_that_of_the_file_that_would_be_written(tmp_path: Path) -> None:
    view = whole_view(np.random.default_rng(3), 48, 48)
    write_video(tmp_path / "scene.mp4", view.scene)
    real, said = probe(tmp_path / "scene.mp4"), view.info
    assert (said.duration_s, said.width, said.height, said.codec) == (48.0, real.width, real.height, real.codec)
    assert real.duration_s == pytest.approx(48.0, abs=1e-3)
    assert real.fps == pytest.approx(said.fps)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> tuple[Scene, Path]:
    """A scene and its mp4 file."""
    scene = make_scene(np.random.default_rng(11), 48.0)
    path = tmp_path_factory.mktemp("views") / "scene.mp4"
    write_video(path, scene)
    return scene, path


@pytest.mark.parametrize(
    ("shift_s", "window", "spans"),
    [
        (0.0, Span(0, 48), None),  # the whole video
        (400.0, Span(408, 440), None),  # a window of a longer one
        (0.0, Span(0, 48), [Span(3.3, 9.1), Span(30.0, 34.7)]),  # a close look, frames between those of the file
        (760.0, Span(760, 808), [Span(771.77, 780.2)]),
        (-6.0, Span(0, 30), None),  # a piece
    ],
)
def test_drawn_frames_are_those_of_the_file(
    scene: tuple[Scene, Path], shift_s: float, window: Span, spans: list[Span] | None
) -> None:
    view = View(scene[0], shift_s, window, 1200.0)
    budget = TINY_SETTINGS.zoom.budget() if spans else TINY_SETTINGS.coarse.budget()
    plan = (
        plan_spans(view.info, spans, budget, GEOMETRY) if spans else plan_regular(view.info, budget, GEOMETRY, window)
    )
    drawn = view.draw(plan)
    assert (drawn.fps, drawn.spans) == (plan.fps, plan.spans)
    in_file = FramePlan(tuple(t - shift_s for t in plan.times_s), plan.height, plan.width, plan.fps, plan.spans, 0)
    decoded = decode(probe(scene[1]), in_file, workers=1)
    assert drawn.times_s == pytest.approx([t + shift_s for t in decoded.times_s], abs=1e-6)
    errors = np.abs(decoded.frames.astype(np.int16) - drawn.frames).mean((1, 2, 3))
    assert errors.max() < 4, "more than the codec costs"


def test_frames_are_drawn_at_the_planned_size_only_smaller() -> None:
    view = whole_view(np.random.default_rng(3), 48, 48)
    for tokens, side in ((1, 32), (4, 64), (16, 128), (64, 128)):
        budget = FrameBudget(fps=0.5, max_tokens=4096, max_frames=8, min_frame_tokens=1, max_frame_tokens=tokens)
        assert view.draw(plan_regular(view.info, budget, GEOMETRY)).frames.shape == (8, side, side, 3)
