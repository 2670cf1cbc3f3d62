"""Subtitles as cues in seconds, and the cues of a window grouped for a prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomzero.errors import DataError
from zoomzero.spans import Span

_MOST_BYTES = 64 * 2**20  # a day of speech is under 5 MB
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d\d:\d\d[\d:.]*>|\{\\[^{}]*\}")  # <i>, <v Name>, <00:01.000>, {\an8}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&nbsp;": " ", "&lrm;": "", "&rlm;": ""}


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: what is said from `start_s` to `end_s`. Lines are separated by newlines, tags removed."""

    start_s: float
    end_s: float
    text: str


def read_subtitles(path: str | Path) -> tuple[Cue, ...]:
    """Read an SRT or WebVTT file (or ASS, SSA) in time order.

    The text is read as UTF-8, as UTF-16 where the file starts with its mark, else as Windows-1252.

    Args:
        path: the subtitle file; its content decides the format, not its name.

    Returns:
        The cues that hold text and last longer than nothing, times in seconds.

    Raises:
        DataError: the file is missing, not text, or holds no cue.
    """
    import pysubs2
    from pysubs2.exceptions import Pysubs2Error

    file = Path(path)
    if not file.is_file():
        raise DataError(path, "file", "does not exist; give an .srt or .vtt file")
    text = _read_text(file)
    try:
        events = pysubs2.SSAFile.from_string(text).events
    except (Pysubs2Error, ValueError, KeyError, IndexError, OverflowError) as error:
        reason = f"is not a subtitle file ({type(error).__name__}); give SRT or WebVTT"
        raise DataError(path, "content", reason) from error
    spoken = (e for e in events if not e.is_comment)
    cues = [Cue(e.start / 1000, e.end / 1000, _clean(e.plaintext)) for e in spoken]
    kept = sorted((c for c in cues if c.text and c.end_s > c.start_s), key=lambda c: (c.start_s, c.end_s))
    if not kept:
        raise DataError(path, "content", "holds no timed line; give SRT or WebVTT with text")
    return tuple(kept)


def cues_in(cues: Sequence[Cue], span: Span, group_s: float = 5.0) -> list[tuple[Span, str]]:
    """Return what is said inside a span, in groups of `group_s` seconds counted from its start.

    A cue belongs to the group in which it starts (the first one when it starts before the span). Lines are joined by
    spaces; a line that was already said in the same or the previous group is left out, as captions that roll repeat
    every line once or twice.

    Args:
        cues: in time order, as `read_subtitles` returns them.
        span: the window in seconds.
        group_s: length of one group.

    Returns:
        (time the group covers within the span, its text), groups without text left out.
    """
    if group_s <= 0:
        raise ValueError(f"group_s must be above 0, got {group_s}")
    groups: dict[int, list[str]] = {}
    for cue in cues:
        if cue.end_s > span.start_s and cue.start_s < span.end_s:
            number = max(0, math.floor((cue.start_s - span.start_s) / group_s))
            groups.setdefault(number, []).extend(cue.text.split("\n"))
    result = []
    before: set[str] = set()
    for number in sorted(groups):
        previous = before if number - 1 in groups else set()
        lines = [line for line in dict.fromkeys(groups[number]) if line not in previous]
        before = set(groups[number])
        if lines:
            low_s = span.start_s + number * group_s
            result.append((Span(low_s, min(low_s + group_s, span.end_s)), " ".join(lines)))
    return result


def _read_text(file: Path) -> str:
    """Return the file's text in whichever of the usual encodings it is."""
    if file.stat().st_size > _MOST_BYTES:
        raise DataError(file, "file", f"is larger than {_MOST_BYTES >> 20} MB; give an .srt or .vtt file")
    data = file.read_bytes()
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"
    elif b"\0" in data[:4096]:
        raise DataError(file, "content", "is not text; give an .srt or .vtt file")
    else:
        encoding = "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError:
        return data.decode("cp1252", errors="replace")


def _clean(text: str) -> str:
    """Return the lines of a cue without tags, entities and doubled spaces."""
    plain = _TAG.sub("", text)
    for entity, character in _ENTITIES.items():
        plain = plain.replace(entity, character)
    lines = (" ".join(line.split()) for line in plain.splitlines())
    return "\n".join(line for line in lines if line)
