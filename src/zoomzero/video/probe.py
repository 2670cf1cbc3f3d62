"""What a video file is: the right stream, true duration, rotation, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoomzero.errors import ConfigError, VideoError
from zoomzero.video.types import VideoInfo

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
_LIE_S = 0.5  # a header this far from the last packet is worth a note
_MOST_TRIES = 600  # packets to look through for the first frame that decodes
_REENCODE = "re-encode it: ffmpeg -i IN -c:v libx264 OUT.mp4"


def probe(path: str | Path, *, fps: float | None = None, timeout_s: float = 60) -> VideoInfo:
    """Find out what a video is, in a worker process with a time limit.

    The stream is the container's best video stream that is not cover art. The duration is where the last packet
    ends, whatever the header says; where the two differ, `notes` says so.

    Args:
        path: a video file, or a directory of images in natural order of their names (then `fps` is needed).
        fps: frames a second of a directory of images; not allowed for a file, which has its own times.
        timeout_s: seconds the probe may take.

    Returns:
        Size as shown (rotation and pixel shape applied), duration in seconds from the first frame, average rate.

    Raises:
        VideoError: missing, empty, not a video, no moov, no picture, or the probe hung.
        ConfigError: `fps` is missing for a directory or given for a file.
    """
    from zoomzero.video._pool import borrow

    place = Path(path).absolute()
    _check_place(place, fps)
    with borrow(1) as workers:
        info: VideoInfo | VideoError = workers[0].ask(str(place), "probe", str(place), fps, limit_s=timeout_s)
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
        keys: tuple[float, ...] | VideoError = workers[0].ask(str(place), "key_frames", str(place), limit_s=timeout_s)
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


def examine(path: str, fps: float | None) -> VideoInfo:
    """Probe in this process: what `probe` runs in a worker."""
    if fps is not None:
        return _examine_images(Path(path), fps)
    with open_container(path) as container:
        stream = pick_stream(container, path)
        notes = _stream_notes(container, stream)
        first = _first_frame(container, stream, path)
        if first.pts is None:
            fix = "put it in a container: ffmpeg -i IN -c copy OUT.mp4"
            raise VideoError(path, "probe", "its frames carry no times (a raw stream)", fix)
        start_s = float(first.pts * stream.time_base)
        dark_s = start_s - float((stream.start_time or 0) * stream.time_base)
        if stream.start_time is not None and dark_s > _LIE_S:
            notes.append(f"the first {dark_s:.1f} s do not decode: times count from the first frame that does")
        header_s = _header_duration(container, stream)
        end_s, packets, whole = _measured_end(container, stream, header_s)
        duration_s = max(end_s - start_s, 0.0)
        if header_s is None:
            notes.append(f"the header has no duration: measured {duration_s:.2f} s")
        elif header_s - max(duration_s, end_s) > max(_LIE_S, 0.02 * header_s):  # matroska counts from 0
            notes.append(f"cut off or a wrong header: it says {header_s:.1f} s, the file ends at {duration_s:.1f} s")
        elif duration_s - header_s > max(_LIE_S, 0.02 * header_s):
            notes.append(f"a wrong header: it says {header_s:.1f} s, the file goes on to {duration_s:.1f} s")
        rate = _average_rate(stream, packets if whole else None, duration_s)
        rotation = int(round(first.rotation / 90) * 90) % 360
        width, height = _shown_size(first, stream, notes)
        if rotation % 180:
            width, height = height, width
        return VideoInfo(
            path=path,
            kind="file",
            duration_s=round(duration_s, 6) or 1.0 / rate,
            width=width,
            height=height,
            fps=rate,
            frame_count=packets if whole else stream.frames or None,
            stream_index=stream.index,
            start_s=start_s,
            rotation=rotation,
            codec=stream.codec_context.name,
            notes=tuple(notes),
        )


def examine_keys(path: str) -> tuple[float, ...]:
    """Read every packet of a file (or name every image) and return its key frames' times."""
    import av.error

    if Path(path).is_dir():
        return ()
    with open_container(path) as container:
        stream = pick_stream(container, path)
        first = _first_frame(container, stream, path)
        start = first.pts or 0
        container.seek(min(0, start), stream=stream)
        keys: list[float] = []
        with suppress(av.error.FFmpegError):  # a truncated file: the keys up to there are what it has
            keys.extend(
                float((packet.pts - start) * stream.time_base)
                for packet in read_packets(container, stream)
                if packet.is_keyframe and packet.size and packet.pts is not None and packet.pts >= start
            )
        return tuple(sorted(keys))


def open_container(path: str) -> Any:
    """Open a file with PyAV; what ffmpeg refuses becomes a VideoError that names the likely cause."""
    import av
    import av.error

    try:
        # a playlist must not make this process talk to the network
        return av.open(path, metadata_errors="replace", options={"protocol_whitelist": "file"})
    except (av.error.FFmpegError, OSError, ValueError) as error:
        with open(path, "rb") as file:
            head = file.read(64 * 1024)
        if b"ftyp" in head[:64]:
            reason = "the index (moov) is missing or damaged: a recording or download that was cut off"
            fix = "get the whole file again"
        elif not any(byte < 9 for byte in head[:4096]):
            reason, fix = "this is text, not a video", "give a video file"
        else:
            reason = f"not a video file that ffmpeg reads ({type(error).__name__})"
            fix = f"check that it plays, or {_REENCODE}"
        raise VideoError(path, "open", reason, fix) from error


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets from where the container stands; streams that begin in mid-file are passed over."""
    while True:
        try:
            yield from container.demux(stream)
            return
        except IndexError:  # PyAV met a packet of a stream that it did not list on opening
            continue


def pick_stream(container: Any, path: str, index: int | None = None) -> Any:
    """Return the stream with this index, or the best video stream that is not cover art."""
    if index is not None:
        return container.streams[index]
    videos = [s for s in container.streams.video if not _is_cover(s) and s.codec_context is not None]
    if not videos:
        if any(not _is_cover(s) for s in container.streams.video):
            raise VideoError(path, "probe", "its codec is not known to this ffmpeg", _REENCODE)
        holds = (
            "only cover art" if container.streams.video else "only sound" if container.streams.audio else "no picture"
        )
        raise VideoError(path, "probe", f"the file holds {holds}, no video stream", "give a file with a video stream")
    best = container.streams.best("video")
    return best if best in videos else max(videos, key=lambda s: s.codec_context.width * s.codec_context.height)


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return Disposition.attached_pic in stream.disposition


def image_files(directory: Path) -> list[Path]:
    """Return the images of a directory in natural order (`2.png` before `10.png`)."""
    files = [f for f in directory.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES and not f.name.startswith(".")]

    def natural(file: Path) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", file.name.lower())
        return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts]

    return sorted(files, key=lambda f: (natural(f), f.name))


def load_image(file: Path) -> npt.NDArray[np.uint8]:
    """Read one image, upright, as (H, W, 3) uint8; VideoError when it does not open."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise VideoError(
            file, "decode", f"not a readable image ({type(error).__name__})", "remove or replace it"
        ) from error


def _examine_images(directory: Path, fps: float) -> VideoInfo:
    from PIL import Image

    files = image_files(directory)
    if not files:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise VideoError(directory, "open", "the directory holds no images", f"give a directory with {kinds}")
    sizes: dict[tuple[int, int], Path] = {}
    for file in files:
        try:
            with Image.open(file) as image:
                turned = image.getexif().get(0x0112, 1) >= 5
                sizes.setdefault(image.size[::-1] if turned else image.size, file)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise VideoError(file, "probe", f"not a readable image ({type(error).__name__})", "remove it") from error
    if len(sizes) > 1:
        (a, file_a), (b, file_b) = list(sizes.items())[:2]
        reason = f"images differ in size: {file_a.name} is {a[0]}x{a[1]}, {file_b.name} is {b[0]}x{b[1]}"
        raise VideoError(directory, "probe", reason, "give one directory per size")
    (width, height) = next(iter(sizes))
    return VideoInfo(
        path=str(directory),
        kind="frames",
        duration_s=len(files) / fps,
        width=width,
        height=height,
        fps=fps,
        frame_count=len(files),
        stream_index=0,
        start_s=0.0,
        rotation=0,
        codec="images",
    )


def _stream_notes(container: Any, stream: Any) -> list[str]:
    others = [s for s in container.streams.video if s.index != stream.index and not _is_cover(s)]
    if not others:
        return []
    return [f"{len(others) + 1} video streams: took the best, stream {stream.index}"]


def _first_frame(container: Any, stream: Any, path: str) -> Any:
    """Decode the first frame that decodes: its time is time zero, and it knows rotation and size."""
    import av.error

    stream.codec_context.thread_count = 1
    tried = 0
    try:
        for packet in read_packets(container, stream):
            tried += 1
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except av.error.FFmpegError:
                frames = []
            for frame in frames:
                if not frame.is_corrupt:
                    return frame
            if tried > _MOST_TRIES:
                break
    except av.error.FFmpegError:
        pass  # reported below: nothing before the fault decoded
    reason = "no frame decodes" if tried > 1 else "the video stream is empty"
    raise VideoError(path, "probe", reason, f"the file is damaged or of zero length; {_REENCODE}")


def _header_duration(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _measured_end(container: Any, stream: Any, header_s: float | None) -> tuple[float, int, bool]:
    """Return where the last good packet ends in stream seconds, how many packets were read, and whether all were.

    Only what follows a seek to the end is read; the whole file when that finds nothing (a truncated file).
    """
    first = stream.start_time or 0
    for whole in (False, True):
        # back by more than a decoder reorders, as the last packet is seldom the last frame shown
        late_s = (header_s or 1e6) - max(2.0, 20 / float(stream.average_rate or 25))
        point = first if whole else first + max(0, int(late_s / float(stream.time_base)))
        end_s, packets = _read_to_end(container, stream, point)
        if end_s is not None:
            return end_s, packets, whole
    return 0.0, 0, False


def _read_to_end(container: Any, stream: Any, point: int) -> tuple[float | None, int]:
    import av.error

    last, packets = None, 0
    usual = 1 / (stream.average_rate or stream.guessed_rate or 25) / stream.time_base
    try:
        container.seek(point, stream=stream)
        for packet in read_packets(container, stream):
            if packet.pts is None or not packet.size or packet.is_corrupt or packet.is_discard:
                continue
            packets += 1
            end = packet.pts + (packet.duration or int(usual))
            last = end if last is None else max(last, end)
    except av.error.FFmpegError:
        pass  # the end of what can be read
    return (None if last is None else float(last * stream.time_base)), packets


def _average_rate(stream: Any, packets: int | None, duration_s: float) -> float:
    if packets and duration_s > 0 and not stream.average_rate:
        return packets / duration_s
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    return rate if 0 < rate <= 1000 else 25.0


def _shown_size(frame: Any, stream: Any, notes: list[str]) -> tuple[int, int]:
    """Return (width, height) with square pixels, before rotation."""
    shape = float(stream.sample_aspect_ratio or 1)
    if 0.98 <= shape <= 1.02 or not 0.25 <= shape <= 4:  # rounding of the container, or nonsense
        return frame.width, frame.height
    width = max(1, round(frame.width * shape))
    notes.append(f"pixels are not square: {frame.width}x{frame.height} is shown as {width}x{frame.height}")
    return width, frame.height
