"""Drawing: objects are there exactly while their events last, in their colour, with their symbol, on the background."""

from __future__ import annotations

import numpy as np
import pytest

from zoomzero.world.render import GLYPH_HEIGHT, GLYPH_WIDTH, PALETTE, SIZE, SPRITE, glyph_corner, place, render, sprite
from zoomzero.world.scenes import KINDS, Event, Scene, make_scene

BASE = (90.0, 100.0, 110.0)


def scene_with(*events: Event) -> Scene:
    return Scene(30.0, events, BASE, 0.7)


def still(kind: int, symbol: int = 0, x: float = 0.5, y: float = 0.5, start_s: float = 5.0) -> Event:
    return Event(start_s, start_s + 4.0, kind, symbol, x, y, 0.0, 0.0)


EMPTY = render(scene_with(), [0.0])[0]
CORNER = 40  # of a sprite at (0.5, 0.5): half of the 80 free pixels
BOX = slice(CORNER, CORNER + 48)


def changed(frame: np.ndarray) -> np.ndarray:
    """(SIZE, SIZE) bool, True where a frame differs from the empty background."""
    return (frame != EMPTY).any(-1)


def test_sizes_are_those_the_model_was_trained_on() -> None:
    assert (SIZE, SPRITE, GLYPH_HEIGHT, GLYPH_WIDTH) == (128, 48, 18, 13)
    assert EMPTY.shape == (128, 128, 3)
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
    """Shares of the 48-pixel box: all of it; a triangle whose sides leave it at 0.9; two bars of a third; a disc."""
    expected = [1.0, 0.9 / 2 + 0.1, 2 / 3 - 1 / 9, np.pi / 4]
    for shape, share in enumerate(expected):
        frame = render(scene_with(still(6 * shape)), [6.0])[0]
        assert changed(frame)[BOX, BOX].mean() == pytest.approx(share, abs=0.015), shape


@pytest.mark.parametrize("shape", range(4))
def test_symbols_differ_in_their_area_and_nowhere_else(shape: int) -> None:
    pictures = [render(scene_with(still(6 * shape, symbol)), [6.0])[0].astype(int) for symbol in range(8)]
    top, left = CORNER + 15 + (7 if shape == 1 else 0), CORNER + 17
    assert glyph_corner(6 * shape) == (top - CORNER, left - CORNER)
    for a in range(8):
        for b in range(a):
            difference = np.abs(pictures[a] - pictures[b])
            assert difference[top : top + 18, left : left + 13].mean() > 10, (a, b)
            difference[top : top + 18, left : left + 13] = 0
            assert difference.max() == 0, (a, b)


def test_symbol_lies_wholly_on_every_shape() -> None:
    for kind in range(KINDS):
        frames = [render(scene_with(still(kind, symbol)), [6.0])[0] for symbol in range(8)]
        top, left = (CORNER + offset for offset in glyph_corner(kind))
        for frame in frames:
            assert changed(frame)[top : top + 18, left : left + 13].mean() > 0.97


def test_ring_carries_its_symbol_in_light_ink_on_a_dark_middle() -> None:
    """Beside the symbol, 13 pixels from the middle (the hole's radius is 14.4) it is dark; 16 from it, coloured."""
    for colour in range(6):
        picture, mask = sprite(18 + colour, 0)
        assert picture[24, 24 + 13].tolist() == picture[24 + 13, 24].tolist() == [15, 15, 15]
        assert picture[24, 24 + 16].tolist() == PALETTE[colour].astype(int).tolist()
        assert picture[15:33, 17:30].max() == 250
        assert mask[24, 24, 0]
        assert not mask[0, 0, 0]


def test_ink_stands_out_from_its_object() -> None:
    """Dark on yellow and orange, light on the others."""
    for colour in range(6):
        glyph = sprite(colour, 0)[0][15:33, 17:30]
        dark = colour in (3, 5)
        assert (glyph.min(0).min(0) if dark else glyph.max(0).max(0)).tolist() == [10 if dark else 250] * 3
        assert np.abs(float(10 if dark else 250) - PALETTE[colour]).max() > 100


def test_sprite_is_what_a_frame_shows() -> None:
    for kind in range(0, KINDS, 5):
        picture, mask = sprite(kind, 3)
        frame = render(scene_with(still(kind, 3)), [6.0])[0]
        assert np.array_equal(frame[BOX, BOX], np.where(mask, picture, EMPTY[BOX, BOX]))


def test_drift_is_in_pixels_a_second() -> None:
    """After 2 s at (1, -1) an object is 2 pixels further right and 2 up."""
    event = Event(0.0, 8.0, 1, 0, 0.5, 0.5, 1.0, -1.0)
    first, later = render(scene_with(event), [0.0, 2.0])
    assert np.array_equal(later[38:86, 42:90], first[40:88, 40:88])  # a square covers its whole box
    rows, columns = np.nonzero(changed(later))
    assert (rows.min(), columns.min()) == (38, 42)
    assert (place(event, 0.0), place(event, 2.0)) == ((40, 40), (42, 38)), "x before y"


def test_object_never_leaves_the_frame() -> None:
    event = Event(0.0, 8.0, 0, 0, 1.0, 0.0, 1.5, -1.5)
    for frame in render(scene_with(event), [0.0, 4.0, 7.9]):
        rows, columns = np.nonzero(changed(frame))
        assert (rows.min(), rows.max(), columns.min(), columns.max()) == (0, 47, 80, 127)


def test_later_object_lies_on_top() -> None:
    below, above = still(0, 0, start_s=5.0), still(2, 1, start_s=6.0)
    both = render(scene_with(below, above), [5.5, 7.0])
    assert np.array_equal(both[0], render(scene_with(below), [5.5])[0])
    assert np.array_equal(both[1], render(scene_with(above), [7.0])[0])


def test_frames_do_not_depend_on_the_company_they_are_drawn_in() -> None:
    scene = make_scene(np.random.default_rng(5), 40.0)
    times = [31.25, 0.0, 12.5, 39.875, 12.5]
    together = render(scene, times)
    assert together.shape == (5, 128, 128, 3)
    for frame, time_s in zip(together, times, strict=True):
        assert np.array_equal(frame, render(scene, [time_s])[0])


def test_background_is_the_same_all_through_and_near_its_base() -> None:
    scene = make_scene(np.random.default_rng(8), 40.0)
    empty = render(Scene(40.0, (), scene.base, scene.phase), [0.0])[0]
    for frame, time_s in zip(render(scene, [3.0, 17.0, 38.0]), [3.0, 17.0, 38.0], strict=True):
        shown = [e for e in scene.events if e.start_s <= time_s < e.end_s]
        differs = (frame != empty).any(-1)
        assert differs.sum() <= len(shown) * 48 * 48
        assert np.array_equal(frame[~differs], empty[~differs])
    assert np.abs(empty.astype(float).mean((0, 1)) - scene.base).max() < 30
