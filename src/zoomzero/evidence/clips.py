"""Found moments as video: copied packet by packet where a key frame begins them, else encoded again."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from zoomzero.errors import ConfigError, VideoError
from zoomzero.files import PARTIAL
from zoomzero.spans import Span, clip
from zoomzero.video.files.container import reading_options
from zoomzero.video.types import VideoInfo

LEAD_S = 0.5  # a copied clip may begin this much before its moment, where the key frame lies
MOST_FPS = 60.0
GIF_FPS, GIF_SIDE = 8.0, 480  # of an animated image: it is for chats and issues
GIF_MOST_S = 60.0  # an animated image of more would be of no use and fill the memory
MP4_VIDEO = {"h264", "hevc", "av1", "mpeg4"}  # what every player of mp4 files reads
MP4_AUDIO = {"aac", "mp3", "ac3", "eac3", "opus"}
_SEEKABLE = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}  # formats whose times can be believed packet by packet
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Cut:
    """What was written: the file or folder, and whether its packets are the video's own."""

    path: Path
    how: Literal["copied", "encoded"]


def target_kind(out: Path, setting: str = "--clip") -> Literal["mp4", "gif", "folder"]:
    """Return what a path asks for: one file with all moments, or a folder with a file for each.

    Raises:
        ConfigError: an ending nobody writes (names `setting`).
    """
    if out.is_dir() or not out.suffix:
        return "folder"
    kind = out.suffix.lower().removeprefix(".")
    if kind not in ("mp4", "gif"):
        raise ConfigError(setting, f"clips are not written as {out.suffix}", "give FILE.mp4, FILE.gif or a folder")
    return "gif" if kind == "gif" else "mp4"


def write_clips(info: VideoInfo, spans: Sequence[Sequence[float]], out: Path, title: str) -> Cut:
    """Write the moments of a video, complete or not at all.

    Args:
        info: what `probe` returned.
        spans: the moments, in seconds; what lies outside the video is cut off.
        out: FILE.mp4 or FILE.gif with all moments one after the other, or a folder with an mp4 file for each.
        title: becomes the title in the files.

    Raises:
        ConfigError: no moment inside the video, an unknown ending, or too long for a GIF.
        VideoError: the video cannot be read again.
        OSError: nothing can be written there.
    """
    kind = target_kind(out)
    inside = [span for span in clip(spans, 0.0, info.duration_s) if span.end_s > span.start_s]
    if not inside:
        raise ConfigError("--clip", "no moment inside the video was found", "ask differently, or leave --clip out")
    title = " ".join(title.split())
    if kind == "folder":
        out.mkdir(parents=True, exist_ok=True)
        made = [
            _write(info, [span], out / f"{clip_name(i, span)}.mp4", title, "mp4") for i, span in enumerate(inside, 1)
        ]
        return Cut(out, "copied" if all(one.how == "copied" for one in made) else "encoded")
    return _write(info, inside, out, title, kind)


def clip_name(number: int, span: Span) -> str:
    """Return the name of a moment's file, such as `01_00m12.0s-00m18.5s`."""
    ends = (f"{int(round(t, 1) // 60):02d}m{round(t, 1) % 60:04.1f}s" for t in span)
    return f"{number:02d}_{'-'.join(ends)}"


def leftovers(out: Path) -> list[Path]:
    """Return unfinished files that a stopped `write_clips` left for `out`."""
    if out.is_dir():
        return list(out.glob(f".??_*{PARTIAL}"))
    return [one for one in (_partial(out),) if one.exists()]


def _partial(out: Path) -> Path:
    return out.with_name(f".{out.name}{PARTIAL}")


def _write(info: VideoInfo, spans: Sequence[Span], out: Path, title: str, kind: str) -> Cut:
    partial = _partial(out)
    try:
        if kind == "gif":
            _write_gif(info, spans, partial, title)
            how: Literal["copied", "encoded"] = "encoded"
        elif copy_packets(info, spans, partial, title):
            how = "copied"
        else:
            encode(info, spans, partial, title)
            how = "encoded"
        partial.replace(out)
    finally:
        partial.unlink(missing_ok=True)
    return Cut(out, how)


# --- copying ---------------------------------------------------------------------------------------------


def copy_packets(info: VideoInfo, spans: Sequence[Span], out: Path, title: str) -> bool:
    """Write the moments with the video's own packets, sound included; return whether that could be done.

    It can where the format is mp4 or Matroska, the codec goes into mp4, and a key frame lies at the beginning of every
    moment or at most `LEAD_S` before it.
    """
    import av

    if info.kind != "file":
        return False
    with _open(info.path) as source:
        video = source.streams[info.stream_index]
        if source.format.name not in _SEEKABLE or video.codec_context.name not in MP4_VIDEO:
            return False
        sound = next((s for s in source.streams.audio if s.codec_context.name in MP4_AUDIO), None)
        starts = [_key_before(source, video, info, span) for span in spans]
        if any(start is None for start in starts):
            return False
        with av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as target:
            target.metadata["title"] = title
            streams = {video.index: target.add_stream_from_template(video)}
            if sound is not None:
                streams[sound.index] = target.add_stream_from_template(sound)
            ends = dict.fromkeys(streams, _Ends())
            for start_s, span in zip(starts, spans, strict=True):
                assert start_s is not None
                _copy_span(source, target, video, streams, info, Span(start_s, span.end_s), ends)
    return True


def _key_before(source: Any, video: Any, info: VideoInfo, span: Span) -> float | None:
    """Return the time of the key frame that begins a moment, None where none is near enough."""
    base = float(video.time_base)
    source.seek(int((span.start_s + info.start_s) / base), stream=video)
    key = None
    for packet in source.demux(video):
        if packet.pts is None or packet.dts is None:
            return None
        at_s = packet.pts * base - info.start_s
        if packet.is_keyframe and at_s <= span.start_s + 1e-3:
            key = at_s
        if packet.dts * base - info.start_s > span.start_s:
            break
    return key if key is not None and span.start_s - key <= LEAD_S else None


@dataclass(frozen=True, slots=True)
class _Ends:
    """How far a stream is written: the end of what is shown, and the last decode time, in seconds."""

    shown_s: float = 0.0
    decoded_s: float = -math.inf


def _copy_span(
    source: Any,
    target: Any,
    video: Any,
    streams: dict[int, Any],
    info: VideoInfo,
    span: Span,
    ends: dict[int, _Ends],
) -> None:
    """Copy one moment's packets behind what is there. Video goes on until every frame before the end has come."""
    source.seek(int((span.start_s + info.start_s) / float(video.time_base)), stream=video)
    wanted = set(streams)
    move_s: float | None = None
    for packet in source.demux([source.streams[index] for index in streams]):
        index, base = packet.stream.index, packet.time_base
        if packet.dts is None or packet.pts is None or index not in wanted:
            continue
        shown_s, decoded_s = (float(time * base) - info.start_s for time in (packet.pts, packet.dts))
        if decoded_s >= span.end_s:
            wanted.discard(index)
            if not wanted:
                break
            continue
        if shown_s < span.start_s - 1e-3 or (index != video.index and shown_s >= span.end_s):
            continue
        if move_s is None:
            if index != video.index or not packet.is_keyframe:
                continue
            # so that nothing is shown or decoded before what is already written
            begin_s = max(one.shown_s for one in ends.values())
            begin_s = max(begin_s, ends[index].decoded_s + 1e-3 + shown_s - decoded_s)
            move_s = begin_s - span.start_s
        move = round((move_s - info.start_s) / float(base))
        packet.pts, packet.dts = packet.pts + move, packet.dts + move
        before, length_s = ends[index], float((packet.duration or 0) * base)
        ends[index] = _Ends(max(before.shown_s, shown_s + move_s + length_s), decoded_s + move_s)
        packet.stream = streams[index]
        target.mux(packet)


# --- encoding --------------------------------------------------------------------------------------------


def encode(info: VideoInfo, spans: Sequence[Span], out: Path, title: str) -> None:
    """Write the moments' frames, upright and at their own times, as H.264; without sound."""
    import av

    with av.open(str(out), "w", format="mp4", options={"movflags": "faststart"}) as target:
        target.metadata["title"] = title
        stream: Any = None
        last = -1
        for at_s, picture in _frames(info, spans, MOST_FPS):
            height, width = (side - side % 2 for side in picture.shape[:2])  # 4:2:0 has no odd sides
            if stream is None:
                stream = target.add_stream("libx264", rate=Fraction(max(info.fps, 1.0)).limit_denominator(1001))
                stream.width, stream.height, stream.pix_fmt = max(width, 2), max(height, 2), "yuv420p"
                stream.time_base = stream.codec_context.time_base = Fraction(1, 90000)
                stream.options = {"crf": "20", "preset": "veryfast"}
                stream.codec_context.max_b_frames = 0
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            last = max(round(at_s * 90000), last + 1)
            frame.pts, frame.time_base = last, Fraction(1, 90000)
            target.mux(stream.encode(frame))
        if stream is None:
            raise VideoError(info.path, "decode", "no frame of the found moments could be read", "re-encode the file")
        target.mux(stream.encode(None))


def _write_gif(info: VideoInfo, spans: Sequence[Span], out: Path, title: str) -> None:
    from PIL import Image

    length_s = sum(end - start for start, end in spans)
    if length_s > GIF_MOST_S:
        reason = f"{length_s:.0f} s are too long for a GIF (at most {GIF_MOST_S:.0f} s)"
        raise ConfigError("--clip", reason, "give FILE.mp4 instead")
    images, times_s = [], []
    for at_s, picture in _frames(info, spans, GIF_FPS):
        image = Image.fromarray(np.ascontiguousarray(picture), "RGB")
        image.thumbnail((GIF_SIDE, GIF_SIDE), Image.Resampling.LANCZOS)
        images.append(image.quantize(256, dither=Image.Dither.FLOYDSTEINBERG))
        times_s.append(at_s)
    if not images:
        raise VideoError(info.path, "decode", "no frame of the found moments could be read", "re-encode the file")
    ends_s = [*times_s[1:], max(length_s, times_s[-1] + 1 / GIF_FPS)]
    lasting = [max(20, round((end - at) * 100) * 10) for at, end in zip(times_s, ends_s, strict=True)]  # milliseconds
    comment = title.encode("utf-8")[:250]
    images[0].save(out, "GIF", save_all=True, append_images=images[1:], duration=lasting, loop=0, comment=comment)


def _frames(info: VideoInfo, spans: Sequence[Span], most_fps: float) -> Iterator[tuple[float, Rgb]]:
    """Yield (seconds in the clip, upright picture) of every frame of the moments, at most `most_fps` a second."""
    from zoomzero.video._source import open_source

    source = open_source(info)
    try:
        shift_s = 0.0
        for span in spans:
            fps = min(max(info.fps, 1.0), most_fps)
            count = max(1, math.ceil((span.end_s - span.start_s) * fps - 1e-6))
            wishes = [(i, span.start_s + i / fps, 0.0) for i in range(count)]
            seen = -1.0
            for _, time_s, pixels in source.frames(wishes):
                if time_s > seen:
                    yield shift_s + max(0.0, time_s - span.start_s), pixels()
                    seen = time_s
            shift_s += span.end_s - span.start_s
    finally:
        source.close()


def _open(path: str) -> Any:
    import av

    return av.open(path, **reading_options())
