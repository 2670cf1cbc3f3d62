"""The records that carry video between rooms: what a file is, which frames to take, the frames themselves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from zoomzero.spans import Span


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """What a probe learned about one video.

    Times are seconds from the first frame: `start_s` is what the container adds to them and is already taken out of
    every time the project reports. `width` and `height` are as shown, after rotation.

    `reading` says how frames are reached: "seek" jumps to each group of pictures; "through" reads from the first packet
    on (clocks that start again, edit lists of several parts, program streams); "order" also decodes everything and
    gives frames the packets' times in the order they come out (AVI and packed B-frames). The last two are read by one
    worker.
    """

    path: str
    kind: Literal["file", "frames"]
    duration_s: float
    width: int
    height: int
    fps: float  # average
    frame_count: int | None  # None when the container does not say
    stream_index: int
    start_s: float
    rotation: int  # degrees counter-clockwise to apply (after mirroring), one of 0, 90, 180, 270
    codec: str
    notes: tuple[str, ...] = ()  # what the user should know: several streams, duration measured, truncated, ...
    mirrored: bool = False  # left and right change sides before the rotation
    reading: Literal["seek", "through", "order"] = "seek"
    max_pixels: int = 100_000_000  # of one frame; the decoder refuses more
    # where frames begin, ascending; only for videos of less than two frames a second, whose plans follow them
    frame_times_s: tuple[float, ...] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a model family cuts video into visual tokens.

    One visual token is a `merge*patch` pixel square of `temporal` frames. `free_times` says whether the family can
    be told any frame times (Qwen3-VL writes them as text) or only a constant frame rate (Qwen2.5-VL).
    """

    patch: int
    merge: int = 2
    temporal: int = 2
    free_times: bool = True

    @property
    def factor(self) -> int:
        """Pixels on a side of one visual token: frame sides are multiples of it."""
        return self.patch * self.merge


@dataclass(frozen=True, slots=True)
class FrameBudget:
    """How many frames and pixels a pass may spend.

    Args:
        fps: frames a second when the budget allows.
        max_tokens: visual tokens over all frames; frames get smaller, then fewer, to stay within it.
        max_frames: frames over all spans.
        min_frame_tokens: smallest frame, in visual-token squares; when even that does not fit, frames are dropped.
        max_frame_tokens: largest frame, in visual-token squares; frames are never enlarged beyond their own size.
    """

    fps: float = 1.0
    max_tokens: int = 4096
    max_frames: int = 768
    min_frame_tokens: int = 16
    max_frame_tokens: int = 768


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Which frames to decode, and at which size, before anything is decoded."""

    times_s: tuple[float, ...]  # wished times, ascending, an even number (whole temporal patches)
    height: int
    width: int
    fps: float  # the rate that was planned: what Qwen2.5-VL's positions are computed from
    spans: tuple[Span, ...]  # the part of the video it covers
    visual_tokens: int


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Decoded frames with their own times.

    `frames` is (T, height, width, 3) uint8 RGB with T even; `times_s` is (T,) true presentation times in seconds.
    `fps` is the planned rate; `spans` the part of the video the frames stand for. `key` names the exact pixels (file
    identity, times, size) for caches; `notes` says what is missing (a truncated file, frames that would not decode).
    """

    frames: npt.NDArray[np.uint8]
    times_s: tuple[float, ...]
    fps: float
    spans: tuple[Span, ...]
    decoded_frames: int  # frames the decoder had to produce for these, skipped ones included
    key: str = ""
    notes: tuple[str, ...] = ()

    def visual_tokens(self, geometry: Geometry) -> int:
        """Return how many visual tokens the clip becomes."""
        t, h, w = (int(n) for n in self.frames.shape[:3])
        return (t // geometry.temporal) * (h // geometry.factor) * (w // geometry.factor)
