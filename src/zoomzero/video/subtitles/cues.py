"""Reading a subtitle file of any usual format, and the cues of a window grouped for a prompt."""

from __future__ import annotations

import html
import math
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomzero.errors import DataError
from zoomzero.spans import Span
from zoomzero.video.subtitles import ass, blocks, ttml
from zoomzero.video.subtitles.encoding import read_text
from zoomzero.video.subtitles.found import Found

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|<\d\d:\d\d[\d:.]*>|\{\\[^{}]*\}")  # <i>, <v Name>, <00:01.000>, {\an8}
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_INVISIBLE = dict.fromkeys(map(ord, "\u200b\u200e\u200f\u2060\ufeff"))
_ENDLESS = frozenset({"sami", "tmp"})
LATEST_S = 1e7  # 116 days: a later time is damage


@dataclass(frozen=True, slots=True)
class Cue:
    """One subtitle: what is said from `start_s` to `end_s`. Lines are separated by newlines, tags removed."""

    start_s: float
    end_s: float
    text: str


class Subtitles(tuple[Cue, ...]):
    """The cues of a file in time order; `notes` says what was guessed, cut or left out."""

    notes: tuple[str, ...]

    def __new__(cls, cues: Iterable[Cue] = (), notes: Iterable[str] = ()) -> Subtitles:
        """Return the cues with their notes."""
        self = super().__new__(cls, cues)
        self.notes = tuple(notes)
        return self


def read_subtitles(path: str | Path) -> Subtitles:
    """Read a subtitle file (SRT, WebVTT, TTML, ASS, SSA; MicroDVD, MPL2, TMP, SAMI) in time order.

    The text is read as UTF-8 or as the file's mark says, else in the likeliest encoding, which the notes name. Cues
    whose times cannot be read are left out and counted in the notes; comments, styles and drawings are not speech.

    Args:
        path: the subtitle file; its content decides the format, not its name.

    Returns:
        The cues that hold text and last longer than nothing, times in seconds, with `notes`.

    Raises:
        DataError: the file is missing, not text, or holds no cue.
    """
    file = Path(path)
    if not file.is_file():
        raise DataError(path, "file", "does not exist; give an .srt or .vtt file")
    text, notes = read_text(file)
    found = _parse(file, text)
    cues, cut, outside = [], 0, 0
    for start_s, end_s, words in found.cues:
        said = _clean(words)
        if not said or not end_s > start_s:
            continue
        if end_s <= 0 or end_s > LATEST_S:
            outside += 1
            continue
        cut += start_s < 0
        cues.append(Cue(max(start_s, 0.0), end_s, said))
    if not cues:
        left = f" ({found.unread} have times that cannot be read)" if found.unread else ""
        raise DataError(path, "content", f"holds no timed line{left}; give SRT or WebVTT with text")
    counted = (
        (found.unread, f"left out, their times cannot be read (first at line {found.first_unread})"),
        (found.untimed, "left out, they have no time"),
        (outside, "left out, they lie before 0 or beyond any video"),
        (cut, "start before 0 and are cut there"),
    )
    notes += tuple(f"subtitles: {n} cue{'s' * (n > 1)} {what}" for n, what in counted if n)
    if found.endless:
        notes += ("subtitles: the format has no ends; they are guessed from how much is said",)
    return Subtitles(sorted(cues, key=lambda c: (c.start_s, c.end_s)), notes)


def _parse(file: Path, text: str) -> Found:
    """Return the cues of a text in whichever format it is."""
    start = text.lstrip("\ufeff \t\n")
    head = start[:10_000]
    if start.startswith("WEBVTT"):
        return blocks.read_vtt(text)
    if (start.startswith("<") and "/ttml" in head.lower()) or re.match(r"(?:<\?xml[^>]*>\s*)?<(?:\w+:)?tt[\s>]", start):
        return ttml.read_ttml(file, start)
    if re.search(r"^\[(?:Script Info|Events|V4\+? Styles)\]", head, re.MULTILINE | re.IGNORECASE):
        return ass.read_ass(text)
    if blocks.has_times(text):
        return blocks.read_srt(text)
    return _other(file, text)


def _other(file: Path, text: str) -> Found:
    """Return the cues of the rarer formats, read by pysubs2."""
    import pysubs2
    from pysubs2.exceptions import Pysubs2Error

    wrong = (Pysubs2Error, ValueError, LookupError, ArithmeticError, TypeError, AttributeError, AssertionError)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it guesses ends, which our notes say
            read = pysubs2.SSAFile.from_string(text)
        cues = [(e.start / 1000, e.end / 1000, e.plaintext) for e in read.events if not e.is_comment]
        return Found(cues, endless=read.format in _ENDLESS)
    except (*wrong, SyntaxError, NotImplementedError, RecursionError) as error:  # XML errors are SyntaxErrors
        reason = f"is not a subtitle file ({type(error).__name__}); give SRT or WebVTT"
        raise DataError(file, "content", reason) from error


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


def _clean(text: str) -> str:
    """Return the lines of a cue without tags, entities, invisible marks and doubled spaces."""
    plain = _ENTITY.sub(lambda m: html.unescape(m.group()), _TAG.sub("", text)).translate(_INVISIBLE)
    lines = (" ".join(line.split()) for line in plain.splitlines())
    return "\n".join(line for line in lines if line)
