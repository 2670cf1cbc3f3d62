"""Drawing scenes: sprites pasted on a cached background, nothing computed per pixel and frame."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from zoomzero.video.types import VideoInfo
from zoomzero.world.scenes import COLOURS, SHAPES, SYMBOLS, Event, Scene

SIZE = 128  # frame height and width, pixels
ITS_WORLD = "the embedded model knows only the videos of `zoomzero world`; its answers say nothing about others"
SPRITE = 48
GLYPH_HEIGHT, GLYPH_WIDTH = 18, 13
PALETTE = np.array(
    [(220, 50, 47), (60, 180, 75), (50, 90, 220), (240, 220, 60), (160, 60, 200), (245, 140, 40)], np.float32
)
DARK_INK = {COLOURS.index("yellow"), COLOURS.index("orange")}
HOLE, DARK = 0.6, 15  # a ring's dark middle: its share of the ring's width, and its level

Frames = npt.NDArray[np.uint8]


def of_the_world(info: VideoInfo) -> bool:
    """Return whether a video may be one of the procedural world: it has the size that those have."""
    return (info.width, info.height) == (SIZE, SIZE)


def render(scene: Scene, times_s: Sequence[float]) -> Frames:
    """Draw the scene at the given moments.

    Args:
        scene: what is on screen when.
        times_s: moments in seconds, any order.

    Returns:
        (T, SIZE, SIZE, 3) uint8 RGB.
    """
    background = _background(scene)
    frames = np.empty((len(times_s), SIZE, SIZE, 3), np.uint8)
    starts = np.array([event.start_s for event in scene.events])
    ends = np.array([event.end_s for event in scene.events])
    for frame, time_s in zip(frames, times_s, strict=True):
        frame[:] = background
        for i in np.flatnonzero((starts <= time_s) & (time_s < ends)):
            _paste(frame, scene.events[i], time_s)
    return frames


def _background(scene: Scene) -> Frames:
    """Return (SIZE, SIZE, 3) uint8: two slow waves on a base colour."""
    axis = np.arange(SIZE, dtype=np.float32) / (SIZE / 2) - 1
    waves = 25 * np.sin(axis * 4 + scene.phase)[:, None] + 25 * np.cos(axis * 3 - scene.phase)[None, :]
    picture: Frames = np.clip(np.asarray(scene.base, np.float32) + waves[..., None], 0, 255).astype(np.uint8)
    return picture


def _paste(frame: Frames, event: Event, time_s: float) -> None:
    picture, mask = sprite(event.kind, event.symbol)
    x, y = place(event, time_s)
    np.copyto(frame[y : y + SPRITE, x : x + SPRITE], picture, where=mask)


def place(event: Event, time_s: float) -> tuple[int, int]:
    """Return the corner (x, y) of an object at a moment, in pixels."""
    free, seconds = SIZE - SPRITE, time_s - event.start_s
    x = int(np.clip(event.x * free + event.vx * seconds, 0, free))
    y = int(np.clip(event.y * free + event.vy * seconds, 0, free))
    return x, y


def glyph_corner(kind: int) -> tuple[int, int]:
    """Return the corner (top, left) of the symbol on an object: a triangle is wide enough only lower down."""
    lower = 7 if SHAPES[kind // len(COLOURS)] == "triangle" else 0
    return (SPRITE - GLYPH_HEIGHT) // 2 + lower, (SPRITE - GLYPH_WIDTH) // 2


@lru_cache(maxsize=1024)
def sprite(kind: int, symbol: int) -> tuple[Frames, npt.NDArray[np.bool_]]:
    """Return the picture (SPRITE, SPRITE, 3) uint8 of an object and its mask (SPRITE, SPRITE, 1), True where drawn."""
    colour, shape = kind % len(COLOURS), kind // len(COLOURS)
    v, u = np.mgrid[:SPRITE, :SPRITE].astype(np.float32)
    du, dv = np.abs(u - SPRITE / 2 + 0.5), np.abs(v - SPRITE / 2 + 0.5)
    masks = (
        np.ones_like(u, bool),  # square
        v >= du * 1.8,  # triangle
        (du < SPRITE / 6) | (dv < SPRITE / 6),  # cross
        du**2 + dv**2 < (SPRITE / 2) ** 2,  # ring
    )
    picture = np.broadcast_to(PALETTE[colour], (SPRITE, SPRITE, 3)).copy()
    ring = SHAPES[shape] == "ring"
    if ring:
        picture[du**2 + dv**2 < (SPRITE * HOLE / 2) ** 2] = DARK
    top, left = glyph_corner(kind)
    area = picture[top : top + GLYPH_HEIGHT, left : left + GLYPH_WIDTH]
    ink = 10.0 if colour in DARK_INK and not ring else 250.0
    area += _glyph(symbol)[..., None] * (ink - area)
    return picture.round().astype(np.uint8), masks[shape][..., None]


@lru_cache(maxsize=len(SYMBOLS))
def _glyph(symbol: int) -> npt.NDArray[np.float32]:
    """Return the symbol's ink, (GLYPH_HEIGHT, GLYPH_WIDTH) in [0, 1]."""
    font = ImageFont.load_default(size=64)
    image = Image.new("L", (96, 96))
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = draw.textbbox((0, 0), SYMBOLS[symbol], font=font)
    draw.text((-left, -top), SYMBOLS[symbol], fill=255, font=font)
    tight = image.crop((0, 0, int(right - left), int(bottom - top)))
    ink = np.asarray(tight.resize((GLYPH_WIDTH, GLYPH_HEIGHT), Image.Resampling.BILINEAR), np.float32)
    return ink / np.float32(255)
