"""Opening files with PyAV, refusing what has no times of its own, and choosing the video stream."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from zoomzero.errors import ConfigError, VideoError

REENCODE = "re-encode it: ffmpeg -i IN -c:v libx264 OUT.mp4"
MAX_PIXELS = 100_000_000  # of one frame: the largest cameras have 80 million
MAX_PIXELS_SETTING = "ZOOMZERO_MAX_PIXELS"
_SHORT = 0.5  # a stream shorter than this share of the longest is not the film


def open_container(path: str) -> Any:
    """Open a file with PyAV; what ffmpeg refuses becomes a VideoError that names the likely cause."""
    import av
    import av.error

    try:
        return av.open(path, **reading_options())
    except (av.error.FFmpegError, OSError, ValueError) as error:
        with open(path, "rb") as file:
            head = file.read(64 * 1024)
        if _is_animated_webp(head):
            raise _no_animated_webp(path) from error
        if b"ftyp" in head[:64]:
            reason = "the index (moov) is missing or damaged: a recording or download that was cut off"
            fix = "get the whole file again"
        elif not any(byte < 9 for byte in head[:4096]):
            reason, fix = "this is text, not a video", "give a video file"
        else:
            reason = f"not a video file that ffmpeg reads ({type(error).__name__})"
            fix = f"check that it plays, or {REENCODE}"
        raise VideoError(path, "open", reason, fix) from error


def reading_options() -> dict[str, Any]:
    """Return what PyAV opens a file of somebody's with."""
    import av

    # a playlist must not make this process talk to the network; "f%03d.png" is the name of one file
    options = {"protocol_whitelist": "file", "pattern_type": "none"}
    old = int(av.__version__.partition(".")[0]) < 19  # later ones never refuse a title for its letters
    return {"options": options, **({"metadata_errors": "replace"} if old else {})}


def refuse_untimed(container: Any, path: str) -> None:
    """Refuse formats in which every time would be a guess at 25 frames a second, and animated WebP."""
    from av.format import Flags

    with open(path, "rb") as file:
        if _is_animated_webp(file.read(4096)):
            raise _no_animated_webp(path)
    if container.format.flags & Flags.no_timestamps.value:
        raise untimed(path, container.format.name)


def untimed(path: str, format_name: str) -> VideoError:
    """Return the error for a file whose frames have no times of their own."""
    reason = f"its frames carry no times (a raw stream, {format_name}): their rate would be a guess"
    return VideoError(path, "probe", reason, "say what it is: ffmpeg -r FRAMES_A_SECOND -i IN -c copy OUT.mkv")


def check_pixels(path: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse frames of more than `max_pixels` before one is decoded."""
    if width * height > max_pixels:
        reason = f"frames of {width}x{height} have {width * height:,} pixels, and {max_pixels:,} are allowed"
        raise VideoError(path, "probe", reason, f"scale it down with ffmpeg, or raise {MAX_PIXELS_SETTING}")


def allowed_pixels() -> int:
    """Return the most pixels of one frame: the environment's ZOOMZERO_MAX_PIXELS, or the default.

    Raises:
        ConfigError: the value is no whole number above 0.
    """
    text = os.environ.get(MAX_PIXELS_SETTING, "").strip()
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(MAX_PIXELS_SETTING, f"{text!r} is no number of pixels", f"write one such as {MAX_PIXELS}")
    return int(text)


def read_packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets from where the container stands.

    Streams that begin in mid-file are passed over, and so are the headers of Theora recordings that are joined on.
    """
    while True:
        try:
            for packet in container.demux(stream):
                theora = packet.size and packet.stream.codec_context.name == "theora"
                if not (theora and bytes(packet)[0] & 0x80):
                    yield packet
            return
        except IndexError:  # PyAV met a packet of a stream that it did not list on opening
            continue


def pick_stream(container: Any, path: str) -> tuple[Any, list[str]]:
    """Return the best video stream that is neither cover art nor a still beside a film, and what to note of it."""
    videos = [s for s in container.streams.video if not _is_cover(s) and s.codec_context is not None]
    if not videos:
        if any(not _is_cover(s) for s in container.streams.video):
            raise VideoError(path, "probe", "its codec is not known to this ffmpeg", REENCODE)
        holds = (
            "only cover art" if container.streams.video else "only sound" if container.streams.audio else "no picture"
        )
        raise VideoError(path, "probe", f"the file holds {holds}, no video stream", "give a file with a video stream")
    films = _films(videos, path)
    best = container.streams.best("video")
    chosen = best if best in films else max(films, key=lambda s: s.codec_context.width * s.codec_context.height)
    if len(videos) == 1:
        return chosen, []
    why = "the best" if len(films) == len(videos) else "the best of those that last"
    return chosen, [f"{len(videos)} video streams: took {why}, stream {chosen.index}"]


def _films(videos: list[Any], path: str) -> list[Any]:
    """Return the streams that are no stills and last about as long as the longest."""
    if len(videos) == 1:
        return videos
    known = all(s.frames and s.duration for s in videos)
    lengths = {s.index: (s.frames, float(s.duration * s.time_base)) for s in videos} if known else _measure(path)
    moving = [s for s in videos if lengths.get(s.index, (0, 0.0))[0] > 1] or videos
    longest_s = max(lengths.get(s.index, (0, 0.0))[1] for s in moving)
    return [s for s in moving if lengths.get(s.index, (0, 0.0))[1] >= _SHORT * longest_s]


def _measure(path: str) -> dict[int, tuple[int, float]]:
    """Return the frames and seconds of every video stream by reading all packets."""
    import av.error

    spans: dict[int, tuple[int, float, float]] = {}
    with open_container(path) as container:
        try:
            for packet in read_packets(container, list(container.streams.video)):
                if not packet.size or packet.pts is None:
                    continue
                start_s = float(packet.pts * packet.time_base)
                end_s = start_s + float((packet.duration or 0) * packet.time_base)
                count, low_s, high_s = spans.get(packet.stream_index, (0, start_s, end_s))
                spans[packet.stream_index] = count + 1, min(low_s, start_s), max(high_s, end_s)
        except av.error.FFmpegError:
            pass  # the end of what can be read
    return {index: (count, high_s - low_s) for index, (count, low_s, high_s) in spans.items()}


def _is_cover(stream: Any) -> bool:
    from av.stream import Disposition

    return Disposition.attached_pic in stream.disposition


def _is_animated_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP" and (b"ANIM" in head[12:64] or b"ANMF" in head[12:4096])


def _no_animated_webp(path: str) -> VideoError:
    fix = "convert it to GIF, APNG or MP4 with a program that reads it (webpmux, ImageMagick)"
    return VideoError(path, "open", "animated WebP is not supported", fix)
