"""Found moments as text other programs read: SRT for players, EDL for editors. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoomzero.spans import Span

_TITLE_LENGTH = 70  # characters of an edit list's title
_NO_TAGS = str.maketrans({"<": "\N{SINGLE LEFT-POINTING ANGLE QUOTATION MARK}", "{": "("})


def srt(spans: Sequence[Span], text: str) -> str:
    """Return the moments as an SRT file: the text is shown while each lasts.

    Args:
        spans: in any order.
        text: what is shown; line ends become blanks, and nothing in it is read as a tag.
    """
    shown = " ".join(text.split()).replace("-->", "\N{RIGHTWARDS ARROW}").translate(_NO_TAGS) or "evidence"
    cues = (
        f"{number}\n{_stamp(span.start_s)} --> {_stamp(span.end_s)}\n{shown}\n"
        for number, span in enumerate(sorted(spans), 1)
    )
    return "\n".join(cues)


def edl(spans: Sequence[Span], fps: float, name: str, title: str) -> str:
    """Return the moments as a CMX 3600 edit list, one after the other on the record side.

    Args:
        spans: in any order; each becomes at least one frame.
        fps: of the video; time code counts frames at the nearest whole rate (non-drop), as editors do.
        name: of the source clip.
        title: of the list.

    Source: SMPTE 258M / CMX 3600 as DaVinci Resolve and Premiere read it.
    """
    rate = max(1, round(fps))
    lines = [f"TITLE: {_plain(title)[:_TITLE_LENGTH] or 'evidence'}", "FCM: NON-DROP FRAME", ""]
    at = 0
    for number, span in enumerate(sorted(spans), 1):
        first = round(span.start_s * fps)
        count = max(1, round(span.end_s * fps) - first)
        codes = (time_code(frame, rate) for frame in (first, first + count, at, at + count))
        lines += [f"{number:03d}  AX       V     C        {' '.join(codes)}", f"* FROM CLIP NAME: {_plain(name)}", ""]
        at += count
    return "\n".join(lines)


def time_code(frame: int, rate: int) -> str:
    """Return a frame's non-drop time code, HH:MM:SS:FF."""
    seconds, rest = divmod(frame, rate)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}:{rest:02d}"


def _stamp(time_s: float) -> str:
    """Return HH:MM:SS,mmm."""
    millis = math.floor(max(0.0, time_s) * 1000 + 0.5)
    seconds, millis = divmod(millis, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d},{millis:03d}"


def _plain(text: str) -> str:
    """Return text on one line without control characters: an edit list is read line by line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
