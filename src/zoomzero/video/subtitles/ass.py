"""ASS and SSA: the Dialogue lines of [Events], without drawings, comments and override codes."""

from __future__ import annotations

import re

from zoomzero.video.subtitles.blocks import stamp_s
from zoomzero.video.subtitles.found import Found

_USUAL = ("layer", "start", "end", "style", "name", "marginl", "marginr", "marginv", "effect", "text")
_OVERRIDE = re.compile(r"\{([^{}]*)\}")
_DRAW = re.compile(r"\\p(\d+)(?![\da-z])")


def read_ass(text: str) -> Found:
    """Read every Dialogue line by the columns its Format line names."""
    found = Found()
    columns: tuple[str, ...] = _USUAL
    in_events = True
    for number, line in enumerate(text.split("\n"), 1):
        key, colon, rest = line.strip().partition(":")
        if key.startswith("[") and key.endswith("]") and not colon:
            in_events = key.lower() == "[events]"
        elif in_events and key.lower() == "format":
            named = tuple(name.strip().lower() for name in rest.split(","))
            columns = named if {"start", "end", "text"} <= set(named) and named[-1] == "text" else columns
        elif in_events and key.lower() == "dialogue":
            values = dict(zip(columns, rest.lstrip().split(",", len(columns) - 1), strict=False))
            if "text" not in values:
                found.add(None, None, "", number)
                continue
            found.add(stamp_s(values["start"].strip()), stamp_s(values["end"].strip()), _spoken(values["text"]), number)
    return found


def _spoken(text: str) -> str:
    """Return the text without override codes and without what is drawn (`{\\p1}m 0 0 l ..{\\p0}`)."""
    pieces, drawing, at = [], False, 0
    for m in _OVERRIDE.finditer(text):
        if not drawing:
            pieces.append(text[at : m.start()])
        if scales := _DRAW.findall(m[1]):
            drawing = int(scales[-1]) > 0
        at = m.end()
    if not drawing:
        pieces.append(text[at:])
    return "".join(pieces).replace("\\h", " ").replace("\\n", "\n").replace("\\N", "\n")
