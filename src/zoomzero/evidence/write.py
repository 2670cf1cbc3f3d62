"""What `zoomzero ask` writes beside its answer: the found moments as clip, subtitles and edit list."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zoomzero.answer.trace import Trace
from zoomzero.errors import ConfigError
from zoomzero.evidence.apart import write_clips_apart
from zoomzero.evidence.lists import edl, srt
from zoomzero.files import write_whole
from zoomzero.video.types import VideoInfo

NOTHING = "nothing was written: the model named no moment"


@dataclass(frozen=True, slots=True)
class Places:
    """Where evidence goes; None: that kind is not wanted."""

    clip: Path | None = None
    srt: Path | None = None
    edl: Path | None = None

    @property
    def any(self) -> bool:
        """Whether anything is wanted."""
        return any((self.clip, self.srt, self.edl))


def write_evidence(places: Places, trace: Trace, info: VideoInfo, timeout_s: float = 120.0) -> list[str]:
    """Write what is wanted of an answer's moments and return a line about each.

    Args:
        places: where to.
        trace: the answer.
        info: its video.
        timeout_s: seconds that writing a clip may take.

    Raises:
        ConfigError: a file cannot be written (names its option).
        VideoError: the video cannot be read again.
    """
    if not trace.spans:
        return [f"Evidence  {NOTHING}"] if places.any else []
    answer = trace.question if trace.answer is None else f"{trace.question} {trace.answer}"
    name = Path(trace.video).name
    lines = []
    if places.clip is not None:
        try:
            made = write_clips_apart(info, trace.spans, places.clip, trace.question, timeout_s)
        except OSError as error:
            raise _unwritable("--clip", places.clip, error) from error
        lines.append(
            f"Clip      {made.path} ({'packets of the video itself' if made.how == 'copied' else 'encoded again'})"
        )
    for setting, label, path, text in (
        ("--srt", "SRT", places.srt, srt(trace.spans, answer)),
        ("--edl", "EDL", places.edl, edl(trace.spans, info.fps, name, trace.question)),
    ):
        if path is not None:
            try:
                write_whole(path, text)
            except OSError as error:
                raise _unwritable(setting, path, error) from error
            lines.append(f"{label:<10}{path}")
    return lines


def _unwritable(setting: str, path: Path, error: OSError) -> ConfigError:
    return ConfigError(setting, f"cannot write {path} ({error.strerror or error})", "give a place that can be written")
