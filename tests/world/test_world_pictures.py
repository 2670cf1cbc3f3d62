"""Labelled pictures: every label is what the pixels show."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from zoomzero.video.decode import resize_frames
from zoomzero.world import pictures
from zoomzero.world.pictures import (
    LEAST_GLYPH,
    LEAST_PIXELS,
    NO_SYMBOL,
    NOTHING,
    SIDES,
    Pictures,
    View,
    draw_pictures,
)
from zoomzero.world.render import PALETTE, render, sprite
from zoomzero.world.scenes import KINDS, Event, Scene

BASE = (90.0, 100.0, 110.0)
RED_SQUARE, GREEN_TRIANGLE, BLUE_CROSS, PURPLE_RING = 0, 7, 14, 22


def event(kind: int, symbol: int, x: float, y: float, start_s: float = -5.0, end_s: float = 9.0) -> Event:
    """An object that stays where it is, its corner at pixel (80 x, 80 y)."""
    return Event(start_s, end_s, kind, symbol, x, y, 0.0, 0.0)


def drawn(monkeypatch: pytest.MonkeyPatch, view: View, *events: Event) -> tuple[Pictures, Scene]:
    """The picture of one chosen scene."""
    scene = Scene(9.0, events, BASE, 0.7)
    monkeypatch.setattr(pictures, "_draw_scene", lambda rng, lone: scene)
    return draw_pictures(np.random.default_rng(0), 1, view), scene


def test_sizes_and_types_are_as_said() -> None:
    for view, side in (("small", 32), ("crop", 64), ("large", 128)):
        made = draw_pictures(np.random.default_rng(1), 5, view)
        assert SIDES[view] == side
        assert (made.frames.shape, made.frames.dtype) == ((10, side, side, 3), np.uint8)
        assert made.kinds.shape == made.symbols.shape == (5, 2, side, side)
        assert (made.present.shape, made.carried.shape) == ((5, 2, KINDS), (5, KINDS))
        assert 0 <= made.kinds.min() <= made.kinds.max() <= NOTHING == KINDS == 24
        assert set(np.unique(made.present)) <= {-1, 0, 1}
        assert -1 <= made.carried.min() <= made.carried.max() < NO_SYMBOL == 8


def test_labels_of_a_large_pair_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """A red square marked H at pixel (0, 0) in both frames; a purple ring marked Z at (80, 40) in the second only."""
    square = event(RED_SQUARE, 1, 0.0, 0.0)
    ring = event(PURPLE_RING, 7, 1.0, 0.5, start_s=0.5)
    made, scene = drawn(monkeypatch, "large", square, ring)
    assert np.array_equal(made.frames, render(scene, (0.0, 1.0)))
    kinds = np.full((2, 128, 128), NOTHING)
    kinds[:, :48, :48] = RED_SQUARE
    kinds[1, 40:88, 80:128][sprite(PURPLE_RING, 7)[1][..., 0]] = PURPLE_RING
    assert np.array_equal(made.kinds[0], kinds)
    symbols = np.full((2, 128, 128), NO_SYMBOL)
    symbols[:, 15:33, 17:30] = 1
    symbols[1, 40 + 15 : 40 + 33, 80 + 17 : 80 + 30] = 7
    assert np.array_equal(made.symbols[0], symbols)
    present = np.zeros((2, KINDS), int)
    present[:, RED_SQUARE] = present[1, PURPLE_RING] = 1
    assert np.array_equal(made.present[0], present)
    carried = np.full(KINDS, -1)
    carried[[RED_SQUARE, PURPLE_RING]] = 1, 7
    assert np.array_equal(made.carried[0], carried)


def test_triangle_carries_its_symbol_seven_pixels_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    made, _ = drawn(monkeypatch, "large", event(GREEN_TRIANGLE, 3, 0.5, 0.5))
    rows, columns = np.nonzero(made.symbols[0, 0] == 3)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (62, 80, 57, 70)


def test_what_lies_on_top_hides_what_lies_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """A square exactly over a cross: nothing of the cross is left. Moved by 36 pixels, only a corner is hidden."""
    cross, square = event(BLUE_CROSS, 2, 0.5, 0.5), event(RED_SQUARE, 1, 0.5, 0.5)
    made, _ = drawn(monkeypatch, "large", cross, square)
    assert not (made.kinds == BLUE_CROSS).any()
    assert made.present[0, :, BLUE_CROSS].tolist() == [0, 0]
    assert made.carried[0, BLUE_CROSS] == -1
    assert made.carried[0, RED_SQUARE] == 1
    made, _ = drawn(monkeypatch, "large", cross, replace(square, x=0.95, y=0.95))
    assert made.present[0, :, [BLUE_CROSS, RED_SQUARE]].tolist() == [[1, 1], [1, 1]]
    assert made.carried[0, [BLUE_CROSS, RED_SQUARE]].tolist() == [2, 1]


def test_sliver_is_neither_there_nor_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """A square over all but a strip of another: 4 columns of 48 are 192 pixels, under 200; 5 are 240."""
    for columns, said in ((4, -1), (5, 1)):
        below, above = event(1, 0, 0.0, 0.0), event(RED_SQUARE, 1, columns / 80, 0.0)
        made, _ = drawn(monkeypatch, "large", below, above)
        assert (made.kinds[0, 0] == 1).sum() == 48 * columns
        assert made.present[0, :, 1].tolist() == [said, said]
        assert made.carried[0, 1] == -1, "its symbol is hidden"


def test_symbol_half_hidden_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The glyph's box is 13 columns of 18 from column 17 on: a cover from column 26 leaves 9 of them, 162 pixels."""
    for cover, said in ((26, 0), (25, -1)):
        made, _ = drawn(monkeypatch, "large", event(1, 0, 0.0, 0.0), event(RED_SQUARE, 1, cover / 80, 0.0))
        assert ((cover - 17) * 18 >= LEAST_GLYPH) == (said == 0)
        assert made.carried[0, 1] == said


def test_symbol_readable_in_one_frame_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    cover = event(RED_SQUARE, 1, 0.0, 0.0, start_s=0.5)
    made, _ = drawn(monkeypatch, "large", event(1, 6, 0.0, 0.0), cover)
    assert made.present[0, :, 1].tolist() == [1, 0]
    assert made.carried[0, 1] == 6


def test_small_labels_are_those_of_the_pixel_in_the_middle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixel (r, c) of 32 stands for rows 4r..4r+3: the label is that of (4r+2, 4c+2); counts are those of 128."""
    square = event(RED_SQUARE, 1, 0.0, 0.0)
    made, scene = drawn(monkeypatch, "small", square)
    assert np.array_equal(made.frames, resize_frames(render(scene, (0.0, 1.0)), 32, 32))
    kinds = np.full((2, 32, 32), NOTHING)
    kinds[:, :12, :12] = RED_SQUARE
    assert np.array_equal(made.kinds[0], kinds)
    symbols = np.full((2, 32, 32), NO_SYMBOL)
    symbols[:, 4:8, 4:7] = 1  # rows 18, 22, 26, 30 lie in 15..32; columns 18, 22, 26 in 17..29
    assert np.array_equal(made.symbols[0], symbols)
    assert made.present[0, :, RED_SQUARE].tolist() == [1, 1]
    assert made.carried[0, RED_SQUARE] == 1


def test_crop_is_a_quarter_that_holds_an_object_wholly(monkeypatch: pytest.MonkeyPatch) -> None:
    square = event(RED_SQUARE, 1, 0.5, 0.25)  # corner at column 40, row 20
    scene = Scene(9.0, (square,), BASE, 0.7)
    whole = render(scene, (0.0, 1.0))
    monkeypatch.setattr(pictures, "_draw_scene", lambda rng, lone: scene)
    made = draw_pictures(np.random.default_rng(0), 20, "crop")
    corners = set()
    for i in range(20):
        rows, columns = np.nonzero(made.kinds[i, 0] == RED_SQUARE)
        assert len(rows) == 48 * 48, "wholly"
        y, x = 20 - int(rows.min()), 40 - int(columns.min())
        corners.add((y, x))
        assert np.array_equal(made.frames[2 * i : 2 * i + 2], whole[:, y : y + 64, x : x + 64])
        assert made.present[i, :, RED_SQUARE].tolist() == [1, 1]
        assert made.carried[i, RED_SQUARE] == 1
    assert len(corners) > 8


def test_crop_labels_only_what_it_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Corners far apart: a crop around one object holds nothing of the other, or a part of it."""
    near, far = event(RED_SQUARE, 1, 0.0, 0.0), event(BLUE_CROSS, 2, 1.0, 1.0)
    scene = Scene(9.0, (near, far), BASE, 0.7)
    monkeypatch.setattr(pictures, "_draw_scene", lambda rng, lone: scene)
    made = draw_pictures(np.random.default_rng(0), 20, "crop")
    for i in range(20):
        for kind in range(KINDS):
            shown = (made.kinds[i] == kind).sum((1, 2))
            assert made.present[i, :, kind].tolist() == [
                1 if n >= LEAST_PIXELS else -1 if n else 0 for n in shown.tolist()
            ]
    assert {tuple(made.present[i, 0, [RED_SQUARE, BLUE_CROSS]]) for i in range(20)} >= {(1, 0), (0, 1)}


@pytest.mark.parametrize("view", ["large", "crop"])
def test_random_pictures_show_their_labels_in_colour(view: View) -> None:
    """Where a pixel is labelled with a kind and no symbol, it has the kind's colour (or a ring's dark middle)."""
    made = draw_pictures(np.random.default_rng(4), 100, view)
    frames = made.frames.reshape(100, 2, *made.frames.shape[1:]).astype(int)
    shown = 0
    for kind in np.unique(made.kinds):
        if kind == NOTHING:
            continue
        pixels = frames[(made.kinds == kind) & (made.symbols == NO_SYMBOL)]
        coloured = (pixels == PALETTE[kind % 6].astype(int)).all(1)
        dark = (pixels == 15).all(1) if kind >= 18 else np.zeros_like(coloured)
        assert (coloured | dark).all(), kind
        shown += 1
    assert shown == KINDS, "every kind comes up"
    assert set(np.unique(made.carried)) == set(range(-1, 8))


def test_background_label_is_background() -> None:
    """What is labelled as nothing changes slowly from pixel to pixel: no object's edge lies inside it."""
    made = draw_pictures(np.random.default_rng(5), 30, "large")
    frames = made.frames.reshape(30, 2, 128, 128, 3).astype(int)
    nothing = made.kinds == NOTHING
    both = nothing[..., 1:] & nothing[..., :-1]
    steps = np.abs(frames[..., 1:, :] - frames[..., :-1, :]).max(-1)
    assert steps[both].max() <= 3


def test_lone_pictures_hold_one_object_in_both_frames() -> None:
    made = draw_pictures(np.random.default_rng(6), 40, "large", lone=True)
    assert ((made.present == 1).sum(2) == 1).all()
    assert (made.present[:, 0] == made.present[:, 1]).all()
    assert ((made.carried >= 0).sum(1) == 1).all()


def test_objects_come_in_both_frames_or_in_one_and_none_to_three_at_a_time() -> None:
    made = draw_pictures(np.random.default_rng(7), 200, "small")
    seen = (made.present != 0).any(1)  # (N, KINDS)
    assert set(seen.sum(1).tolist()) == {0, 1, 2, 3}
    first, second = (made.present[:, i] == 1 for i in (0, 1))
    both, early, late = (first & second).sum(), (first & ~second).sum(), (second & ~first).sum()
    total = both + early + late
    assert 0.45 < both / total < 0.75  # three of five
    assert 0.1 < early / total < 0.32
    assert 0.1 < late / total < 0.32


def test_pictures_are_a_pure_function_of_their_seed() -> None:
    first, again, other = (draw_pictures(np.random.default_rng(s), 4, "crop") for s in (1, 1, 2))
    for name in ("frames", "kinds", "symbols", "present", "carried"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
    assert not np.array_equal(first.frames, other.frames)
