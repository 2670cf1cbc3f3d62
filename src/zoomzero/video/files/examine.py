"""Probing one file: runs inside a worker process."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import av.error

from zoomzero.errors import VideoError
from zoomzero.video.files.clock import Survey, index_kind, may_leap, survey
from zoomzero.video.files.container import (
    REENCODE,
    check_pixels,
    open_container,
    pick_stream,
    read_packets,
    refuse_untimed,
    untimed,
)
from zoomzero.video.files.order import first_in_order, is_steady, needs_order, place_of
from zoomzero.video.files.orient import UPRIGHT, is_askew, orientation
from zoomzero.video.types import VideoInfo

_LIE_S = 0.5  # a header this far from the last packet is worth a note
_MOST_TRIES = 600  # packets to look through for the first frame that decodes
_SPARSE_FPS = 2.0  # below this many frames a second plans follow the frames that exist
_FALL_FRAMES = 8  # see Clock
_UNREAD = 0.1  # share of a Flash file behind its last frame that is worth a note


@dataclass(frozen=True, slots=True)
class _Extent:
    """How long the stream is."""

    end_s: float
    packets: int | None  # of the whole stream; None where only its end was read
    fell: bool  # decode times started again on the way to the end
    last_byte: int = 0  # where the last packet ends in the file


def examine_file(path: str, max_pixels: int) -> VideoInfo:
    """Find out what a video file is.

    Raises:
        VideoError: it cannot be opened, has no picture or no times, is too large, or nothing decodes.
    """
    with open_container(path) as container:
        refuse_untimed(container, path)
        stream, notes = pick_stream(container, path)
        check_pixels(path, stream.codec_context.width, stream.codec_context.height, max_pixels)
        stream.codec_context.options = {"max_pixels": str(max_pixels)}
        first = _first_frame(container, stream, path)
        by_order = needs_order(container.format.name, stream, path)
        start = first_in_order(path, stream.index) if by_order else first.pts
        if start is None:
            raise untimed(path, container.format.name)
        start_s = float(start * stream.time_base)
        header_s = _header_duration(container, stream)
        by_place = by_order and not is_steady(container.format.name, stream)
        extent = _extent(container, stream, header_s, by_place)
        kind = index_kind(container, stream)
        unsure = kind == "restarts" or (kind == "plain" and _is_unsure(container, stream, header_s, extent))
        # every packet is read where seeking cannot be trusted before that is done
        read = survey(path, stream.index, _rate(stream)) if unsure and not by_order else None
        if read is not None and read.end is not None:
            extent = replace(extent, end_s=float(read.end * stream.time_base), packets=read.packets)
        duration_s = max(extent.end_s - start_s, 0.0)
        rate = _average_rate(stream, extent.packets, duration_s)
        _refuse_pipe(container, path, extent.packets, notes)
        if kind == "first" or _unread(container, path, extent):
            notes.append("recordings joined into one file: only the first is read")
        _note_times(stream, start_s, duration_s, header_s, extent, read, notes)
        rotation, mirrored = orientation(first) or UPRIGHT
        if is_askew(first):
            notes.append("its display matrix turns by less than a quarter turn: shown at the nearest quarter")
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
            frame_count=extent.packets if extent.packets is not None else stream.frames or None,
            stream_index=stream.index,
            start_s=start_s,
            rotation=rotation,
            codec=stream.codec_context.name,
            notes=tuple(notes),
            mirrored=mirrored,
            reading="order" if by_order else _reading(container.format.name, kind, read),
            max_pixels=max_pixels,
            frame_times_s=_frame_times(read, stream, start, rate),
        )


def _reading(format_name: str, kind: str, read: Survey | None) -> Literal["seek", "through"]:
    """Return how frames have to be reached (see `VideoInfo`)."""
    # program streams time only some frames, and after a seek the others are guessed wrong
    if format_name == "mpeg" or kind in ("parts", "first"):
        return "through"
    return "through" if read is not None and (read.restarts or read.untimed) else "seek"


def _first_frame(container: Any, stream: Any, path: str) -> Any:
    """Decode the first frame that decodes and has a time: that is time zero, and it knows rotation and size."""
    stream.codec_context.thread_count = 1
    tried, timeless = 0, False
    try:
        for packet in read_packets(container, stream):
            tried += 1
            try:
                frames = stream.codec_context.decode(packet if packet.size else None)
            except (av.error.FFmpegError, EOFError):
                frames = []
            for frame in frames:
                timeless = timeless or frame.pts is None
                if not frame.is_corrupt and frame.pts is not None:
                    return frame
            if tried > _MOST_TRIES:
                break
    except av.error.FFmpegError:
        pass  # reported below: nothing before the fault decoded
    if timeless:
        raise untimed(path, container.format.name)
    reason = "no frame decodes" if tried > 1 else "the video stream is empty"
    raise VideoError(path, "probe", reason, f"the file is damaged or of zero length; {REENCODE}")


def _header_duration(container: Any, stream: Any) -> float | None:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / 1e6 if container.duration else None


def _extent(container: Any, stream: Any, header_s: float | None, by_place: bool) -> _Extent:
    """Return where the last good packet ends, in stream seconds.

    Only what follows a seek to the end is read; the whole file when that finds nothing (a truncated file).
    """
    first = stream.start_time or 0
    for whole in (False, True):
        # back by more than a decoder reorders, as the last packet is seldom the last frame shown
        late_s = (header_s or 1e6) - max(2.0, 20 / float(stream.average_rate or 25))
        point = first if whole else first + max(0, int(late_s / float(stream.time_base)))
        end_s, packets, fell, last_byte = _read_to_end(container, stream, point, by_place)
        if end_s is not None:
            return _Extent(end_s, packets if whole else None, fell, last_byte)
    return _Extent(0.0, None, False)


def _read_to_end(container: Any, stream: Any, point: int, by_place: bool) -> tuple[float | None, int, bool, int]:
    last, before, packets, fell, last_byte = None, None, 0, False, 0
    usual = 1 / (stream.average_rate or stream.guessed_rate or 25) / stream.time_base
    try:
        container.seek(point, stream=stream)
        for packet in read_packets(container, stream):
            if packet.pts is None or not packet.size or packet.is_corrupt or packet.is_discard:
                continue
            packets += 1
            last_byte = max(last_byte, (packet.pos or 0) + packet.size)
            if packet.dts is not None:
                fell = fell or (before is not None and packet.dts < before - _FALL_FRAMES * usual)
                before = packet.dts
            time = (place_of(container.format.name, packet) or packet.pts) if by_place else packet.pts
            end = time + (packet.duration or int(usual))
            last = end if last is None else max(last, end)
    except (av.error.FFmpegError, OSError):
        pass  # the end of what can be read
    return (None if last is None else float(last * stream.time_base)), packets, fell, last_byte


def _is_unsure(container: Any, stream: Any, header_s: float | None, extent: _Extent) -> bool:
    """Return whether the clock may start again in this file, or it has so few frames that plans follow them."""
    index = stream.index_entries
    covered_s = 0.0
    if (
        len(index) > 1 and header_s is not None
    ):  # fragments, and live recordings: the index knows only what was read so far
        covered_s = float((index[len(index) - 1].timestamp - index[0].timestamp) * stream.time_base)
    trusted = header_s is not None and covered_s >= header_s / 2 and not may_leap(container)
    first = next((p for p in _from_start(container, stream) if p.size), None)
    lead = first is not None and first.pts is None
    return not trusted or extent.fell or lead or _rate(stream) < _SPARSE_FPS


def _from_start(container: Any, stream: Any) -> Any:
    try:
        container.seek(min(0, stream.start_time or 0), stream=stream)
        yield from read_packets(container, stream)
    except (av.error.FFmpegError, OSError):
        return


def _rate(stream: Any) -> float:
    rate = float(stream.average_rate or stream.guessed_rate or 25)
    return rate if 0 < rate <= 1000 else 25.0


def _average_rate(stream: Any, packets: int | None, duration_s: float) -> float:
    measured = packets / duration_s if packets and duration_s > 0 else None
    if measured is not None and (not stream.average_rate or measured < min(_SPARSE_FPS, _rate(stream))):
        return min(measured, 1000.0)
    return _rate(stream)


def _frame_times(read: Survey | None, stream: Any, start: int, rate: float) -> tuple[float, ...] | None:
    if read is None or not read.times or rate >= _SPARSE_FPS:
        return None
    return tuple(round(float((t - start) * stream.time_base), 6) for t in read.times if t >= start)


def _unread(container: Any, path: str, extent: _Extent) -> bool:
    """Return whether a second Flash header stopped the reading in mid-file."""
    size = Path(path).stat().st_size
    return container.format.name == "flv" and 0 < extent.last_byte < (1 - _UNREAD) * size


def _refuse_pipe(container: Any, path: str, packets: int | None, notes: list[str]) -> None:
    """Images put one after the other into a file have no times; one image is a still."""
    if container.format.name.endswith("_pipe") or container.format.name == "image2":
        if packets is None or packets > 1:
            raise untimed(path, container.format.name)
        notes.append("a single image: it is shown for a moment")


def _note_times(
    stream: Any,
    start_s: float,
    duration_s: float,
    header_s: float | None,
    extent: _Extent,
    read: Survey | None,
    notes: list[str],
) -> None:
    """Say where times are not what the file claims."""
    dark_s = start_s - float((stream.start_time or 0) * stream.time_base)
    if read is not None and read.untimed:
        notes.append(f"the first {read.untimed} frames have no times: times count from the first frame that has one")
    elif stream.start_time is not None and dark_s > _LIE_S:
        notes.append(f"the first {dark_s:.1f} s do not decode: times count from the first frame that does")
    if read is not None and read.restarts:
        times = "once" if read.restarts == 1 else f"{read.restarts} times"
        notes.append(f"its clock starts anew {times} (recordings joined into one file): times run on from the first")
    elif header_s is None:
        notes.append(f"the header has no duration: measured {duration_s:.2f} s")
    elif header_s - max(duration_s, extent.end_s) > max(_LIE_S, 0.02 * header_s):  # matroska counts from 0
        notes.append(f"cut off or a wrong header: it says {header_s:.1f} s, the file ends at {duration_s:.1f} s")
    elif duration_s - header_s > max(_LIE_S, 0.02 * header_s):
        notes.append(f"a wrong header: it says {header_s:.1f} s, the file goes on to {duration_s:.1f} s")


def _shown_size(frame: Any, stream: Any, notes: list[str]) -> tuple[int, int]:
    """Return (width, height) with square pixels, before rotation."""
    shape = float(stream.sample_aspect_ratio or 1)
    if 0.98 <= shape <= 1.02 or not 0.25 <= shape <= 4:  # rounding of the container, or nonsense
        return frame.width, frame.height
    width = max(1, round(frame.width * shape))
    notes.append(f"pixels are not square: {frame.width}x{frame.height} is shown as {width}x{frame.height}")
    return width, frame.height
