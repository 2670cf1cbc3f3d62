"""TTML: timed paragraphs and spans, with clock times, offsets, frames and ticks.

Source: W3C TTML1 section 10 (timing) and 6.2 (parameters). In `seq` containers children follow one
another, in all others they lie side by side.
"""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zoomzero.errors import DataError
from zoomzero.video.subtitles.found import Found

_CLOCK = re.compile(r"(\d{1,7}):(\d\d):(\d\d)(?:\.(\d{1,9})|:(\d{1,4})(?:\.\d{1,4})?)?")
_OFFSET = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s?(h|ms|m|s|f|t)")
_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_MOST_DEPTH = 100
_TIMED = ("begin", "end", "dur")


@dataclass(frozen=True, slots=True)
class _Rates:
    """Frames and ticks a second."""

    frames: float = 30.0
    ticks: float = 1.0

    def seconds(self, text: str | None) -> float | None:
        """Return a time expression in seconds, None when it cannot be read."""
        text = (text or "").strip()
        if m := _CLOCK.fullmatch(text):
            hours, minutes, seconds = int(m[1]), int(m[2]), int(m[3])
            frame = int(m[5] or 0)
            if minutes >= 60 or seconds >= 60 or frame >= math.ceil(self.frames):
                return None
            whole = hours * 3600 + minutes * 60 + seconds
            return round(whole + float(f"0.{m[4] or 0}") + frame / self.frames, 3)
        if m := _OFFSET.fullmatch(text):
            per_s = {"f": self.frames, "t": self.ticks}.get(m[2])
            return round(float(m[1]) / per_s if per_s else float(m[1]) * _UNITS_S[m[2]], 3)
        return None


def read_ttml(file: Path, text: str) -> Found:
    """Read the body of a TTML document.

    Raises:
        DataError: it is not XML, is cut off, declares entities or is nested too deeply.
    """
    if "<!ENTITY" in text:
        raise DataError(file, "content", "declares XML entities, which subtitles do not need; give SRT or WebVTT")
    try:
        root = ET.fromstring(text)  # as text: whatever encoding it declares, it is decoded already
    except (ET.ParseError, ValueError) as error:
        reason = f"is not whole TTML ({str(error).splitlines()[0]}); fetch the file again, or give SRT or WebVTT"
        raise DataError(file, "content", reason) from error
    found = Found()
    body = next((child for child in root if _name(child) == "body"), None)
    if body is not None:
        _Walk(file, _rates(root), found).element(body, 0.0, math.inf, 0)
    return found


def _name(element: ET.Element) -> str:
    """Return an element's name without its namespace; empty for comments."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _rates(root: ET.Element) -> _Rates:
    given = {name.rpartition("}")[2]: value for name, value in root.attrib.items()}
    frames = _number(given.get("frameRate")) or 30.0
    above, _, below = given.get("frameRateMultiplier", "1 1").replace(":", " ").partition(" ")
    multiplier = (_number(above) or 1.0) / (_number(below) or 1.0)
    sub_frames = _number(given.get("subFrameRate")) or 1.0
    usual_ticks = frames * multiplier * sub_frames if "frameRate" in given else 1.0
    return _Rates(frames * multiplier, _number(given.get("tickRate")) or usual_ticks)


def _number(text: str | None) -> float | None:
    return float(text) if text is not None and re.fullmatch(r"\s*[1-9]\d{0,11}\s*", text) else None


@dataclass(slots=True)
class _Walk:
    """Goes through the elements and keeps what is said."""

    file: Path
    rates: _Rates
    found: Found

    def element(self, element: ET.Element, base_s: float, limit_s: float, depth: int) -> float:
        """Take an element whose times count from `base_s` and end at `limit_s`; return its end."""
        if depth > _MOST_DEPTH:
            raise DataError(self.file, "content", f"is nested over {_MOST_DEPTH} deep; give SRT or WebVTT")
        times = {name: self.rates.seconds(element.get(name)) for name in _TIMED if element.get(name) is not None}
        said = "".join(_words(element)) if _name(element) in ("p", "span") else ""
        if None in times.values():
            self.found.add(None, None, said, 0)
            return base_s
        given = {name: value for name, value in times.items() if value is not None}
        start_s = base_s + given.get("begin", 0.0)
        end_s = min(limit_s, base_s + given.get("end", math.inf), start_s + given.get("dur", math.inf))
        if said.strip():
            if math.isfinite(end_s):
                self.found.add(start_s, end_s, said, 0)
            else:
                self.found.untimed += 1
        next_s = start_s
        in_turn = element.get("timeContainer") == "seq"
        for child in _timed_children(element):
            done_s = self.element(child, next_s, end_s, depth + 1)
            next_s = done_s if in_turn and math.isfinite(done_s) else next_s
        return end_s if math.isfinite(end_s) else next_s


def _is_timed(element: ET.Element) -> bool:
    return any(element.get(name) is not None for name in _TIMED)


def _timed_children(element: ET.Element) -> Iterator[ET.Element]:
    """Yield the children with times of their own: divisions and paragraphs, and spans that state them."""
    for child in element:
        if _name(child) in ("div", "p") or (
            _name(child) == "span" and (_is_timed(child) or any(map(_is_timed, child)))
        ):
            yield child


def _words(element: ET.Element) -> Iterator[str]:
    """Yield the text of an element without that of timed children; `<br/>` is a line end."""
    yield (element.text or "").replace("\n", " ")
    timed = {id(child) for child in _timed_children(element)}
    for child in element:
        if _name(child) == "br":
            yield "\n"
        elif _name(child) == "span" and id(child) not in timed:
            yield from _words(child)
        yield (child.tail or "").replace("\n", " ")
