"""Labelled pictures of the world: what the vision tower learns to see before a language model asks it anything.

A picture is a pair of frames a second apart (one temporal patch) with up to three objects, each in both frames or in
one of them. Its labels say what every pixel shows, and which kinds with which symbols the pair holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from zoomzero.spans import Span
from zoomzero.video.decode import resize_frames
from zoomzero.world.render import GLYPH_HEIGHT, GLYPH_WIDTH, SIZE, SPRITE, glyph_corner, place, render, sprite
from zoomzero.world.scenes import KINDS, SYMBOLS, Event, Scene, draw_places

View = Literal["small", "crop", "large"]
SIDES: dict[View, int] = {"small": 32, "crop": 64, "large": 128}  # pixels of the frames the tower gets
NOTHING = KINDS  # label of a pixel that shows the background
NO_SYMBOL = len(SYMBOLS)
LEAST_PIXELS = 200  # of a 128 x 128 frame, of an object that can be told; a whole one has 770 to 2304
LEAST_GLYPH = 160  # of the 234 pixels of a glyph's box
_COUNTS = (0, 1, 1, 2, 2, 3)  # objects in a picture
_SECONDS = ((-5.0, 9.0), (-5.0, 9.0), (-5.0, 9.0), (0.5, 9.0), (-5.0, 0.5))  # both frames thrice, the second, the first

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pictures:
    """A batch of N labelled pairs, the frames at the tower's size.

    `frames` is (2N, side, side, 3) uint8. `kinds` (N, 2, side, side) holds the kind each pixel shows or NOTHING,
    `symbols` (N, 2, side, side) the symbol whose glyph box it lies in or NO_SYMBOL. `present` (N, 2, KINDS) says which
    kinds each frame holds: 1, 0, or -1 where so little shows that nobody could tell. `carried` (N, KINDS) is the symbol
    of each kind, -1 where it cannot be read in the pair.
    """

    frames: npt.NDArray[np.uint8]
    kinds: IntArray
    symbols: IntArray
    present: IntArray
    carried: IntArray


def draw_pictures(rng: np.random.Generator, count: int, view: View, *, lone: bool = False) -> Pictures:
    """Draw labelled pairs.

    Args:
        rng: the only source of randomness.
        count: pairs.
        view: `small` as in a pass over the whole video, `large` as in a close look, `crop` a quarter of a large one.
        lone: one object in every pair, in both frames.
    """
    pairs = [_draw_pair(rng, view, lone) for _ in range(count)]
    frames, kinds, symbols, present, carried = zip(*pairs, strict=True)
    side = SIDES[view]
    shrink = SIZE // side if view == "small" else 1
    middle = shrink // 2
    return Pictures(
        resize_frames(np.concatenate(frames), side, side),
        np.stack(kinds)[:, :, middle::shrink, middle::shrink],
        np.stack(symbols)[:, :, middle::shrink, middle::shrink],
        np.stack(present),
        np.stack(carried),
    )


def _draw_pair(
    rng: np.random.Generator, view: View, lone: bool
) -> tuple[npt.NDArray[np.uint8], IntArray, IntArray, IntArray, IntArray]:
    """Return frames (2, H, W, 3), kind and symbol of each pixel (2, H, W), kinds of each frame, symbols of kinds."""
    scene = _draw_scene(rng, lone)
    frames = render(scene, (0.0, 1.0))
    kinds = np.full((2, SIZE, SIZE), NOTHING)
    symbols = np.full((2, SIZE, SIZE), NO_SYMBOL)
    for i in (0, 1):
        for event in scene.events:
            if event.start_s <= i < event.end_s:
                _label(kinds[i], symbols[i], event, float(i))
    if view == "crop":
        side = SIDES["crop"]
        y, x = _corner(rng, scene, side)
        frames, kinds, symbols = (a[:, y : y + side, x : x + side] for a in (frames, kinds, symbols))
    shown = np.stack([np.bincount(k.ravel(), minlength=KINDS + 1)[:KINDS] for k in kinds])  # (2, KINDS) pixels
    present = np.where(shown >= LEAST_PIXELS, 1, np.where(shown > 0, -1, 0))
    carried = np.full(KINDS, -1)
    for event in scene.events:
        readable = (kinds == event.kind) & (symbols == event.symbol)
        if readable.sum((1, 2)).max() >= LEAST_GLYPH:
            carried[event.kind] = event.symbol
    return frames, kinds, symbols, present, carried


def _draw_scene(rng: np.random.Generator, lone: bool) -> Scene:
    count = 1 if lone else int(rng.choice(_COUNTS))
    places = draw_places(rng, [Span(0.0, 3.0)] * count)
    events = []
    for kind, (x, y) in zip(rng.permutation(KINDS)[:count], places, strict=True):
        start_s, end_s = _SECONDS[0 if lone else int(rng.integers(len(_SECONDS)))]
        vx, vy = rng.uniform(-1.5, 1.5, 2)
        symbol = int(rng.integers(len(SYMBOLS)))
        events.append(Event(start_s, end_s, int(kind), symbol, x, y, float(vx), float(vy)))
    r, g, b = rng.uniform(40, 150, 3)
    return Scene(9.0, tuple(events), (float(r), float(g), float(b)), float(rng.uniform(0, 2 * np.pi)))


def _label(kinds: IntArray, symbols: IntArray, event: Event, time_s: float) -> None:
    """Write one object over the labels of a frame, as drawing does over its pixels."""
    x, y = place(event, time_s)
    mask = sprite(event.kind, event.symbol)[1][..., 0]
    kinds[y : y + SPRITE, x : x + SPRITE][mask] = event.kind
    symbols[y : y + SPRITE, x : x + SPRITE][mask] = NO_SYMBOL
    top, left = glyph_corner(event.kind)
    symbols[y + top : y + top + GLYPH_HEIGHT, x + left : x + left + GLYPH_WIDTH] = event.symbol


def _corner(rng: np.random.Generator, scene: Scene, side: int) -> tuple[int, int]:
    """Return the corner (y, x) of a crop that holds one object of the scene wholly, if there is one."""
    low, high = np.zeros(2, int), np.full(2, SIZE - side)
    if scene.events:
        x, y = place(scene.events[int(rng.integers(len(scene.events)))], 0.0)
        corner = np.array([y, x])
        low, high = np.maximum(low, corner + SPRITE - side + 2), np.minimum(high, corner - 2)
        low, high = np.minimum(low, SIZE - side), np.maximum(high, 0)
        high = np.maximum(low, high)
    return int(rng.integers(low[0], high[0] + 1)), int(rng.integers(low[1], high[1] + 1))
