"""Drawing: objects are there exactly while their events last, in their colour, with their symbol, on the background."""

from __future__ import annotations

import numpy as np
import pytest

from zoomzero.world.render import GLYPH_HEIGHT, GLYPH_WIDTH, PALETTE, SIZE, SPRITE, render
from zoomzero.world.scenes import KINDS, Event, Scene, make_scene

BASE = (90.0, 100.0, 110.0)


def scene_with(*events: Event) -> Scene:
    return Scene(30.0, events, BASE, 0.7)


def still(kind: int, symbol: int = 0, x: float = 0.5, y: float = 0.5, start_s: float = 5.0) -> Event:
    return Event(start_s, start_s + 4.0, kind, symbol, x, y, 0.0, 0.0)


EMPTY = render(scene_with(), [0.0])[0]
CORNER = int(0.5 * (192 - 66))  # of a sprite at (0.5, 0.5)
BOX = slice(CORNER, CORNER + 66)


def changed(frame: np.ndarray) -> np.ndarray:
    """(SIZE, SIZE) bool, True where a frame differs from the empty background."""
    return (frame != EMPTY).any(-1)


def test_sizes_are_those_the_model_was_trained_on() -> None:
    assert (SIZE, SPRITE, GLYPH_HEIGHT, GLYPH_WIDTH) == (192, 66, 27, 20)
    assert EMPTY.shape == (192, 192, 3)
    assert EMPTY.dtype == np.uint8


def test_object_is_drawn_from_its_start_up_to_its_end() -> None:
    """An event covers [start, end): at 5.0 s it is there, at 9.0 s it is gone."""
    frames = render(scene_with(still(0)), [0.0, 4.999, 5.0, 7.0, 8.999, 9.0, 20.0])
    assert [bool(changed(f).any()) for f in frames] == [False, False, True, True, True, False, False]


@pytest.mark.parametrize("kind", range(KINDS))
def test_object_has_its_colour_and_leaves_the_background_alone(kind: int) -> None:
    frame = render(scene_with(still(kind)), [6.0])[0]
    outside = np.ones((SIZE, SIZE), bool)
    outside[BOX, BOX] = False
    assert not changed(frame)[outside].any()
    colours, counts = np.unique(frame[BOX, BOX][changed(frame)[BOX, BOX]], axis=0, return_counts=True)
    assert colours[counts.argmax()].tolist() == PALETTE[kind % 6].astype(int).tolist()
    assert counts.max() / counts.sum() > 0.6  # the rest is the symbol


def test_shapes_cover_what_their_geometry_says() -> None:
    """Shares of the 66-pixel box: circle pi/4, square 1, triangle 1/1.8 of it, diamond 1 - 2 (1 - 0.57)^2."""
    expected = [np.pi / 4, 1.0, 1 / 1.8, 1 - 2 * (1 - 0.57) ** 2]
    for shape, share in enumerate(expected):
        frame = render(scene_with(still(6 * shape)), [6.0])[0]
        assert changed(frame)[BOX, BOX].mean() == pytest.approx(share, abs=0.03), shape


@pytest.mark.parametrize("shape", range(4))
def test_symbols_differ_in_their_area_and_nowhere_else(shape: int) -> None:
    pictures = [render(scene_with(still(6 * shape, symbol)), [6.0])[0].astype(int) for symbol in range(8)]
    top = CORNER + (66 - 27) // 2 + (9 if shape == 2 else 0)
    left = CORNER + (66 - 20) // 2
    for a in range(8):
        for b in range(a):
            difference = np.abs(pictures[a] - pictures[b])
            assert difference[top : top + 27, left : left + 20].mean() > 10, (a, b)
            difference[top : top + 27, left : left + 20] = 0
            assert difference.max() == 0, (a, b)


def test_symbol_lies_wholly_on_every_shape() -> None:
    for kind in range(KINDS):
        frames = [render(scene_with(still(kind, symbol)), [6.0])[0] for symbol in range(8)]
        top, left = CORNER + 19 + (9 if kind // 6 == 2 else 0), CORNER + 23
        for frame in frames:
            assert changed(frame)[top : top + 27, left : left + 20].mean() > 0.97


def test_drift_is_in_pixels_of_a_128_pixel_frame() -> None:
    """1 pixel a second of 128 is 1.5 of 192: after 2 s an object is 3 pixels further right and 3 up."""
    event = Event(0.0, 8.0, 7, 0, 0.5, 0.5, 1.0, -1.0)
    first, later = render(scene_with(event), [0.0, 2.0])
    assert np.array_equal(later[60:126, 66:132], first[63:129, 63:129])  # a square covers its whole box
    rows, columns = np.nonzero(changed(later))
    assert (rows.min(), columns.min()) == (60, 66)


def test_object_never_leaves_the_frame() -> None:
    event = Event(0.0, 8.0, 6, 0, 1.0, 0.0, 1.5, -1.5)
    for frame in render(scene_with(event), [0.0, 4.0, 7.9]):
        rows, columns = np.nonzero(changed(frame))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 65, 126, 191)


def test_later_object_lies_on_top() -> None:
    below, above = still(6, 0, start_s=5.0), still(8, 1, start_s=6.0)
    both = render(scene_with(below, above), [5.5, 7.0])
    assert np.array_equal(both[0], render(scene_with(below), [5.5])[0])
    assert np.array_equal(both[1], render(scene_with(above), [7.0])[0])


def test_frames_do_not_depend_on_the_company_they_are_drawn_in() -> None:
    scene = make_scene(np.random.default_rng(5), 40.0)
    times = [31.25, 0.0, 12.5, 39.875, 12.5]
    together = render(scene, times)
    assert together.shape == (5, 192, 192, 3)
    for frame, time_s in zip(together, times, strict=True):
        assert np.array_equal(frame, render(scene, [time_s])[0])


def test_background_is_the_same_all_through_and_near_its_base() -> None:
    scene = make_scene(np.random.default_rng(8), 40.0)
    empty = render(Scene(40.0, (), scene.base, scene.phase), [0.0])[0]
    for frame, time_s in zip(render(scene, [3.0, 17.0, 38.0]), [3.0, 17.0, 38.0], strict=True):
        shown = [e for e in scene.events if e.start_s <= time_s < e.end_s]
        differs = (frame != empty).any(-1)
        assert differs.sum() <= len(shown) * 66 * 66
        assert np.array_equal(frame[~differs], empty[~differs])
    assert np.abs(empty.astype(float).mean((0, 1)) - scene.base).max() < 30
