"""What is said in a video, written down by a local recogniser (faster-whisper, extra `[transcribe]`), as subtitles.

The transcript is kept beside the video, as `walk.mp4.small.srt` for the recogniser `small`, and used again while the
video is not newer. Where nothing can be written there it is kept in the cache.
"""

from __future__ import annotations

import hashlib
import importlib
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from zoomzero.errors import ConfigError, ModelError, VideoError
from zoomzero.files import write_whole
from zoomzero.inputs.fetch import cache_folder
from zoomzero.video.files.container import reading_options

DEFAULT_RECOGNISER = "small"
INSTALL = "install faster-whisper (`pip install faster-whisper`), or give --subtitles"
Progress = Callable[[int, int], None]  # (seconds of sound heard, seconds in all)


def transcribe(video: str | Path, recogniser: str = DEFAULT_RECOGNISER, progress: Progress | None = None) -> Path:
    """Return an SRT file with what is said in a video; it is made when there is none yet.

    Args:
        video: a file.
        recogniser: a model of faster-whisper (tiny, base, small, medium, large-v3, ...) or a directory with one.
        progress: called with (seconds of sound heard, seconds in all).

    Raises:
        VideoError: no such file, or no sound in it.
        ConfigError: faster-whisper is not installed.
        ModelError: the recogniser cannot be found or loaded.
    """
    path = Path(video)
    if not path.is_file():
        raise VideoError(path, "transcribe", "is no file", "give a video file")
    places = transcript_places(path, recogniser)
    for place in places:
        if place.is_file() and place.stat().st_mtime >= path.stat().st_mtime:
            return place
    check_sound(path)
    text = srt_text(hear(path, load_recogniser(recogniser), progress))
    for place in places:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            write_whole(place, text)
        except OSError:
            continue  # a folder that cannot be written: the next place
        return place
    raise ConfigError("--transcribe", f"nothing can be written to {places[-1].parent}", "make it writable")


def transcript_places(video: Path, recogniser: str) -> tuple[Path, Path]:
    """Return where a transcript may lie: beside the video, and in the cache."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", Path(recogniser).name) or "recogniser"
    key = hashlib.sha256(str(video.resolve()).encode()).hexdigest()[:16]
    return (
        video.with_name(f"{video.name}.{name}.srt"),
        cache_folder().parent / "transcripts" / f"{video.stem}.{key}.{name}.srt",
    )


def check_sound(video: Path) -> None:
    """Raise when a video has no sound; nothing is decoded.

    Raises:
        VideoError: it cannot be opened, or has no audio stream.
    """
    import av

    try:
        with av.open(str(video), **reading_options()) as container:
            sound = len(container.streams.audio)
    except av.FFmpegError as error:
        raise VideoError(video, "transcribe", f"cannot be opened ({error.strerror})", "give a video file") from error
    if not sound:
        raise VideoError(video, "transcribe", "has no sound", "leave --transcribe out, or give --subtitles")


def load_recogniser(name: str) -> Any:
    """Return a loaded faster-whisper model: on a GPU in float16 where there is one, else on the CPU in 8 bits.

    Raises:
        ConfigError: faster-whisper is not installed.
        ModelError: there is no such recogniser, or it does not load.
    """
    try:
        library = importlib.import_module("faster_whisper")
    except ImportError as error:
        raise ConfigError("--transcribe", f"needs faster-whisper ({error})", INSTALL) from error
    try:
        return library.WhisperModel(name, device="auto", compute_type="default")
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        fix = "give tiny, base, small, medium, large-v3 or the directory of one"
        raise ModelError(name, f"is no recogniser that loads ({reason})", fix) from error


def hear(video: Path, recogniser: Any, progress: Progress | None = None) -> Iterable[tuple[float, float, str]]:
    """Yield (start, end, text) of what a faster-whisper model hears; silence is left out before it listens."""
    segments, info = recogniser.transcribe(str(video), vad_filter=True)
    for segment in segments:
        if progress:
            progress(round(segment.end), round(info.duration))
        yield segment.start, segment.end, segment.text


def srt_text(said: Iterable[tuple[float, float, str]]) -> str:
    """Return cues as an SRT file; empty ones and those without length are left out."""
    blocks: list[str] = []
    for start_s, end_s, text in said:
        words = " ".join(text.split())
        if words and end_s > start_s >= 0:
            blocks.append(f"{len(blocks) + 1}\n{_stamp(start_s)} --> {_stamp(end_s)}\n{words}\n")
    return "\n".join(blocks)


def _stamp(seconds: float) -> str:
    """Return seconds as SRT writes them: 00:01:02,500."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02},{ms % 1000:03}"
