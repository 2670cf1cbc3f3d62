"""Video files for the tests, written with PyAV: every frame carries its own number as black and white blocks."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from PIL import Image

WIDTH, HEIGHT = 256, 64
BITS = 16  # 16 columns of 16 x 64 pixels: readable after any resize the tests ask for
TICKS = 90_000


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return the (H, W, 3) uint8 picture of a frame number; the top quarter is a moving pattern for the encoder."""
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
    turns: int = 0,
    last_s: float | None = None,
    ticks: int = TICKS,
    pixel_shape: Fraction | None = None,
    first: int = 0,
    container_format: str | None = None,
) -> Path:
    """Write one frame at each time.

    Args:
        container_format: ffmpeg's name of it, where the file's ending could mean another.
        size: width and height as shown.
        turns: quarter turns counter-clockwise that a player has to apply (the file holds turned pictures).
        last_s: how long the last frame lasts.
        pixel_shape: width over height of one pixel.
        first: number of the first frame's picture.
        ticks: ticks a second of the encoder; AVI and MPEG-2 want the frame rate here.
    """
    step_s = (times_s[-1] - times_s[0]) / max(1, len(times_s) - 1) or 1.0
    ends = [*times_s[1:], times_s[-1] + (last_s or step_s)]
    with av.open(str(path), "w", format=container_format, options=container_options or {}) as container:
        rate = Fraction(round(1000 / step_s), 1000)
        stream: Any = container.add_stream(codec, rate=max(rate, Fraction(1)), options=options or presets(codec))
        stream.width, stream.height = size[::-1] if turns % 2 else size
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = Fraction(1, ticks)
        stream.gop_size = gop
        if pixel_shape is not None:
            stream.codec_context.sample_aspect_ratio = pixel_shape
        if codec in ("libx264", "libx265", "mpeg4", "mpeg2video"):
            stream.codec_context.max_b_frames = b_frames
        if turns:
            stream.set_display_rotation(90 * turns)
        for number, (time_s, end_s) in enumerate(zip(times_s, ends, strict=True)):
            turned = np.ascontiguousarray(np.rot90(picture(first + number, *size), -turns))
            frame = av.VideoFrame.from_ndarray(turned, "rgb24").reformat(format=pix_fmt)
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


def packets(path: Path) -> list[tuple[int, int, bool]]:
    """Return (position in the file, bytes, key frame or not) of every packet, in decode order."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [(p.pos, p.size, p.is_keyframe) for p in container.demux(stream) if p.size]


def write_sound(path: Path, cover: bool = False) -> Path:
    """Write a second of sound without video, or with a picture of the record's cover."""
    with av.open(str(path), "w") as container:
        sound: Any = container.add_stream("aac", rate=16_000)
        if cover:
            art: Any = container.add_stream("mjpeg", rate=1)
            art.width, art.height, art.pix_fmt = 64, 64, "yuvj420p"
            art.disposition = Disposition.attached_pic
            image = av.VideoFrame.from_ndarray(picture(1, 64, 64), "rgb24").reformat(format="yuvj420p")
            container.mux(art.encode(image))
        for i in range(16):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            frame.sample_rate, frame.pts = 16_000, i * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def write_two_streams(path: Path, count: int = 20) -> Path:
    """Write a small and a large video stream into one file, the small one first."""
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=10, options=presets("libx264")) for _ in range(2)]
        for stream, (width, height) in zip(streams, ((128, 32), (256, 64)), strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        streams[0].disposition, streams[1].disposition = Disposition.dub, Disposition.default
        for number in range(count):
            for stream in streams:
                frame = av.VideoFrame.from_ndarray(picture(number, stream.width, stream.height), "rgb24")
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def write_images(folder: Path, count: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """Write numbered PNG files whose names sort wrongly as plain text (1, 10, 11, 2, ...)."""
    folder.mkdir()
    for number in range(count):
        Image.fromarray(picture(number, *size)).save(folder / f"frame {number + 1}.png")
    (folder / "notes.txt").write_text("not an image")
    return folder
