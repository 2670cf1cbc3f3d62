"""What a video file is: the right stream, true duration, rotation, and what is wrong with it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

from zoomzero.errors import ConfigError, VideoError
from zoomzero.video.files.container import allowed_pixels
from zoomzero.video.types import VideoInfo


def probe(
    path: str | Path, *, fps: float | None = None, timeout_s: float = 60, max_pixels: int | None = None
) -> VideoInfo:
    """Find out what a video is, in a worker process with a time limit.

    The stream is the container's best video stream that is neither cover art nor a still beside a film. The duration
    is where the last packet ends, whatever the header says; where the two differ, `notes` says so.

    Args:
        path: a video file, or a directory of images in natural order of their names (then `fps` is needed).
        fps: frames a second of a directory of images; not allowed for a file, which has its own times.
        timeout_s: seconds the probe may take.
        max_pixels: the most pixels of one frame; None for the environment's ZOOMZERO_MAX_PIXELS, or 100 million.

    Returns:
        Size as shown (rotation and pixel shape applied), duration in seconds from the first frame, average rate.

    Raises:
        VideoError: missing, empty, not a video, no moov, no picture, no times, too large, or the probe hung.
        ConfigError: `fps` is missing for a directory or given for a file.
    """
    from zoomzero.video._pool import borrow

    place = Path(path).absolute()
    _check_place(place, fps)
    most = allowed_pixels() if max_pixels is None else max_pixels
    with borrow(1) as workers:
        info: VideoInfo | VideoError = workers[0].ask(str(place), "probe", str(place), fps, most, limit_s=timeout_s)
    if isinstance(info, VideoError):
        raise info
    return info


def key_frames(path: str | Path, *, timeout_s: float = 60) -> tuple[float, ...]:
    """Return the times of the key frames in seconds from the first frame, without decoding.

    Every packet is read, so this takes as long as reading the file. A directory of images has none.

    Raises:
        VideoError: as `probe`.
    """
    from zoomzero.video._pool import borrow

    place = Path(path).absolute()
    _check_place(place, None if place.is_file() else 1.0)
    with borrow(1) as workers:
        keys: tuple[float, ...] | VideoError = workers[0].ask(
            str(place), "key_frames", str(place), allowed_pixels(), limit_s=timeout_s
        )
    if isinstance(keys, VideoError):
        raise keys
    return keys


def _check_place(place: Path, fps: float | None) -> None:
    """Refuse what needs no decoder to be refused."""
    if not place.exists():
        raise VideoError(place, "open", "no such file or directory", "check the path")
    if place.is_dir():
        if fps is None:
            raise ConfigError(
                "--fps", f"{place} is a directory of images, which has no times", "give its frames a second"
            )
        if not 0 < fps <= 1000:
            raise ConfigError("--fps", f"{fps} frames a second", "give a rate above 0, at most 1000")
        return
    if fps is not None:
        raise ConfigError("--fps", f"{place} is a file and has its own times", "leave it out")
    if not place.is_file():
        raise VideoError(place, "open", "neither a regular file nor a directory", "give a video file")
    if place.stat().st_size == 0:
        raise VideoError(place, "open", "the file is empty (0 bytes)", "download or copy it again")


def examine(path: str, fps: float | None, max_pixels: int) -> VideoInfo:
    """Probe in this process: what `probe` runs in a worker."""
    if fps is not None:
        from zoomzero.video.files.images import examine_images

        return examine_images(Path(path), fps, max_pixels)
    from zoomzero.video.files.examine import examine_file

    return examine_file(path, max_pixels)


def examine_keys(path: str, max_pixels: int) -> tuple[float, ...]:
    """Read every packet of a file (or name every image) and return its key frames' times."""
    import av.error

    from zoomzero.video.files.clock import Clock, may_leap
    from zoomzero.video.files.container import open_container, read_packets

    if Path(path).is_dir():
        return ()
    info = examine(path, None, max_pixels)
    with open_container(path) as container:
        stream = container.streams[info.stream_index]
        tick_s = float(stream.time_base)
        clock = Clock(tick_s, info.fps, may_leap(container))
        keys: list[float] = []
        with suppress(av.error.FFmpegError):  # a truncated file: the keys up to there are what it has
            for packet in read_packets(container, stream):
                if not _counts(packet):
                    continue
                clock.run_on(packet)
                if packet.is_keyframe and packet.pts is not None:
                    keys.append(packet.pts * tick_s - info.start_s)
        return tuple(sorted(round(key, 6) for key in keys if key > -tick_s / 2))


def _counts(packet: Any) -> bool:
    return bool(packet.size and not packet.is_discard)
