"""Video files for the tests, written with PyAV: every frame carries its own number as black and white blocks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

WIDTH, HEIGHT = 256, 64
BITS = 16  # 16 columns of 16 x 64 pixels: readable after any resize the tests ask for
TICKS = 90_000


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return the (H, W, 3) uint8 picture of a frame number; the upper half is a moving pattern for the encoder."""
    bits = (number >> np.arange(BITS)) & 1
    columns = np.repeat(bits * 200 + 28, -(-width // BITS))[:width]
    frame = np.repeat(columns[None, :, None], height, 0).repeat(3, 2).astype(np.uint8)
    pattern = (np.add.outer(np.arange(height // 4), np.arange(width)) * 5 + number * 7) % 256
    frame[: height // 4] = pattern[:, :, None]
    return frame


def number_of(frame: np.ndarray) -> int:
    """Read the number back from a decoded (H, W, 3) frame of any size."""
    height, width = frame.shape[:2]
    row = frame[height // 2 :].astype(float).mean((0, 2))
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(((row[centres] > 128) << np.arange(BITS)).sum())


def write(
    path: Path,
    times_s: Sequence[float],
    *,
    codec: str = "libx264",
    gop: int = 30,
    b_frames: int = 2,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    rotation: int = 0,
    last_s: float | None = None,
    ticks: int = TICKS,
) -> Path:
    """Write one frame at each time; `last_s` is how long the last one lasts."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        rate = Fraction(round(1000 * (len(times_s) - 1) / max(times_s[-1] - times_s[0], 1e-3)), 1000)
        stream: Any = container.add_stream(codec, rate=max(rate, Fraction(1)), options=options or presets(codec))
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = Fraction(1, ticks)
        stream.gop_size = gop
        if codec in ("libx264", "libx265", "mpeg4", "mpeg2video"):
            stream.codec_context.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        ends = [*times_s[1:], times_s[-1] + (last_s or (times_s[-1] - times_s[0]) / max(1, len(times_s) - 1))]
        for number, (time_s, end_s) in enumerate(zip(times_s, ends, strict=True)):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), "rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time_s * ticks), Fraction(1, ticks)
            frame.duration = round((end_s - time_s) * ticks)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def presets(codec: str) -> dict[str, str]:
    """Return quick settings with key frames only where asked."""
    if codec == "libx264":
        return {"preset": "veryfast", "sc_threshold": "0", "crf": "20", "threads": "1"}
    if codec == "libx265":
        return {"preset": "ultrafast", "x265-params": "log-level=none:scenecut=0:pools=1:frame-threads=1"}
    if codec in ("libvpx", "libvpx-vp9"):
        return {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0", "crf": "20", "b": "1M"}
    return {}


def grid(count: int, fps: float, start_s: float = 0.0) -> list[float]:
    """Return `count` times at a constant rate."""
    return [start_s + i / fps for i in range(count)]
