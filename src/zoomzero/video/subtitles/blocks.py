"""SRT and WebVTT: lines of times with the lines said behind them.

Our own, since the library's reader takes identifiers and comments for speech and says nothing of what it drops.
"""

from __future__ import annotations

import re

from zoomzero.video.subtitles.found import Found

# 1:02:03,5 | 00:02.500 | 00:00:01:500 (milliseconds: frames have two digits); a sign and blanks are tolerated.
_STAMP = r"-?\s?(?:\d{1,7}\s?:\s?)?\d{1,3}\s?:\s?\d{1,2}(?:\s?[.,]\s?\d{1,9}|:\d{3})?"
_TIMES = re.compile(rf"\s*({_STAMP})\s*-{{1,3}}>\s*({_STAMP})(?=\s|\Z)")
_ARROW = re.compile(r"-->|\d\s*->\s*\d")
_STAMP_RE = re.compile(r"(-?)(?:(\d+):)?(\d+):(\d+)(?:[.,:](\d+))?")
_NO_CUE = re.compile(r"(?:NOTE|STYLE|REGION)(?:\s|\Z)")


def has_times(text: str) -> bool:
    """Return whether a line of a text is a line of times."""
    return any(_ARROW.search(line) and (_TIMES.match(line) or line.strip()[:1].isdigit()) for line in text.split("\n"))


def stamp_s(text: str) -> float | None:
    """Return the seconds of a stamp, None when it is none."""
    m = _STAMP_RE.fullmatch(re.sub(r"\s", "", text))
    if m is None or int(m[4]) >= 60 or (m[2] is not None and int(m[3]) >= 60):
        return None
    seconds = int(m[2] or 0) * 3600 + int(m[3]) * 60 + int(m[4])
    # Whole milliseconds, divided once: the same numbers as others read.
    value = (seconds * 1000 + round(float(f"0.{m[5] or 0}") * 1000)) / 1000
    return -value if m[1] else value


def _times(line: str) -> tuple[float | None, float | None]:
    m = _TIMES.match(line)
    return (stamp_s(m[1]), stamp_s(m[2])) if m else (None, None)


def read_srt(text: str) -> Found:
    """Read SRT: what is said goes on to the line before the next times, or to that line's number."""
    lines = text.split("\n")
    at = [i for i, line in enumerate(lines) if _ARROW.search(line)]
    found = Found()
    numbered = any(line.strip().isdigit() for line in lines[: at[0]]) if at else False
    for place, next_at in zip(at, [*at[1:], len(lines)], strict=True):
        said = lines[place + 1 : next_at]
        while said and not said[-1].strip():
            said.pop()
        if numbered and next_at < len(lines) and said and said[-1].strip().isdigit():
            said.pop()  # the next cue's number
        found.add(*_times(lines[place]), "\n".join(said), place + 1)
    return found


def read_vtt(text: str) -> Found:
    """Read WebVTT: blocks between empty lines, with an identifier or none; NOTE, STYLE and REGION are not said."""
    found = Found()
    block: list[str] = []
    first = 0
    lines = [*text.split("\n"), ""]
    header = True
    for number, line in enumerate(lines, 1):
        if line.strip():
            block = block or []
            first = first if block else number
            block.append(line)
            continue
        if block:
            _vtt_block(found, block, first, header)
            header = False
        block = []
    return found


def _vtt_block(found: Found, block: list[str], first: int, header: bool) -> None:
    if not header and _NO_CUE.match(block[0]):
        return
    at = [i for i, line in enumerate(block) if "-->" in line]
    if not at:
        found.untimed += not header
        return
    for place, next_at in zip(at, [*at[1:], len(block)], strict=True):
        said = block[place + 1 : next_at]
        if next_at < len(block) and said and said[-1].strip().isdigit():
            said.pop()  # an identifier without an empty line before it
        found.add(*_times(block[place]), "\n".join(said), first + place)
