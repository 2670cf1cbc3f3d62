"""Where spans lie on a drawn time axis: labels, ticks, blocks in percent, lanes. Pure; no HTML here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from zoomzero import spans as span_math
from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.spans import Span

# First word of a pass or mode name -> the colour class of the style sheet.
KINDS = {
    "direct": "direct",
    "coarse": "coarse",
    "window": "window",
    "windows": "window",
    "divide": "window",
    "candidate": "candidate",
    "search": "candidate",
    "zoom": "zoom",
    "verify": "zoom",
    "context": "context",
    "outside": "outside",
}
KIND_MEANINGS = {
    "direct": "looked at, answering directly",
    "coarse": "looked at, coarse pass",
    "window": "looked at, window by window",
    "candidate": "looked at, candidate span",
    "zoom": "looked at, zoomed in",
    "context": "looked at, zoomed in context",
    "outside": "looked at, outside the candidates",
    "other": "looked at",
}
LANES_PER_KIND = 4  # more passes of one kind than this share a lane
MAX_TICKS = 8
STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200)
_DAY_S = 86400
_TENTHS_BELOW_S = 3600


@dataclass(frozen=True, slots=True)
class Block:
    """One stretch on a lane, in percent of the axis. `role` is seen, found, final or true."""

    left: float
    width: float
    start_s: float
    end_s: float
    title: str
    role: str
    row: int = 0


@dataclass(frozen=True, slots=True)
class Lane:
    """One labelled line. `marks` are the frames' places in percent; `note` tells what is not drawn."""

    label: str
    kind: str
    blocks: tuple[Block, ...]
    marks: tuple[float, ...] = ()
    rows: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """A labelled moment on the axis, in percent."""

    left: float
    label: str


def kind_of(name: str) -> str:
    """Return the colour class of a pass or mode name (`window 3` -> `window`); `other` when it is unknown."""
    words = name.lower().split()
    return KINDS.get(words[0], "other") if words else "other"


def clock(time_s: float, tenths: bool = False, hours: bool = False) -> str:
    """Return mm:ss, or h:mm:ss from an hour on (or with `hours`); with one decimal when `tenths`."""
    units = round(max(0.0, time_s) * 10) if tenths else round(max(0.0, time_s)) * 10
    whole_minutes, rest = divmod(units, 600)
    seconds = f"{rest / 10:04.1f}" if tenths else f"{rest // 10:02d}"
    if hours or whole_minutes >= 60:
        return f"{whole_minutes // 60}:{whole_minutes % 60:02d}:{seconds}"
    return f"{whole_minutes:02d}:{seconds}"


def length_label(length_s: float) -> str:
    """Return a duration, with tenths when it is under an hour and not a whole second."""
    return clock(length_s, tenths=length_s < _TENTHS_BELOW_S and not _is_whole(length_s))


def span_label(span: Sequence[float]) -> str:
    """Return `mm:ss – mm:ss`; tenths where an end is no whole second, from an hour on `h:mm:ss` for both."""
    start_s, end_s = span
    hours = round(end_s) >= _TENTHS_BELOW_S
    tenths = not hours and not (_is_whole(start_s) and _is_whole(end_s))
    return f"{clock(start_s, tenths, hours)} – {clock(end_s, tenths, hours)}"


def extent_s(trace: Trace, true_spans: Iterable[Sequence[float]] = ()) -> float:
    """Return the length of the axis: the video's duration, or the last known moment when it has none."""
    if math.isfinite(trace.duration_s) and trace.duration_s > 0:
        return trace.duration_s
    ends = [end for _, end in (*true_spans, *trace.spans)]
    ends += [end for one in trace.passes for _, end in (*one.spans, *one.found)]
    ends += [time_s for one in trace.passes for time_s in one.times_s]
    return max((end for end in ends if math.isfinite(end) and end > 0), default=1.0)


def percent(time_s: float, axis_s: float) -> float:
    """Return where a moment lies on the axis, 0 to 100."""
    return round(min(max(time_s / axis_s, 0.0), 1.0) * 100, 3)


def ticks(axis_s: float) -> tuple[Tick, ...]:
    """Return at most MAX_TICKS + 1 round moments from 0 on, days for what no step of hours covers."""
    days = math.ceil(axis_s / _DAY_S / MAX_TICKS) * _DAY_S
    step = next((s for s in STEPS_S if axis_s / s <= MAX_TICKS), days)
    count = math.floor(axis_s / step + 1e-9)
    return tuple(Tick(percent(i * step, axis_s), clock(i * step, tenths=step < 1)) for i in range(count + 1))


def blocks(spans: Iterable[Sequence[float]], axis_s: float, what: str, role: str) -> tuple[Block, ...]:
    """Return the union of the spans, cut to the axis, as blocks titled `what` and their time."""
    inside = span_math.clip(spans, 0.0, axis_s)
    return tuple(_block(span, axis_s, what, role) for span in inside)


def seek_s(time_s: float) -> str:
    """Return a time as a player position: rounded UP to a millisecond, lest the frame before shows."""
    return f"{math.ceil(round(max(0.0, time_s) * 1000, 3)) / 1000:.3f}".rstrip("0").rstrip(".")


def lanes(trace: Trace, true_spans: Sequence[Sequence[float]] = ()) -> tuple[Lane, ...]:
    """Return the lanes of an evidence page, top to bottom: truth (when known), evidence, then the passes.

    A pass has a lane of its own; many passes of one kind (40 windows) share one, overlaps on further rows.
    """
    axis_s = extent_s(trace, true_spans)
    top = []
    if true_spans:
        note = _outside(true_spans, axis_s)
        top.append(Lane("true", "true", blocks(true_spans, axis_s, "true evidence", "true"), note=note))
    note = _outside(trace.spans, axis_s) if trace.spans else "none found"
    top.append(Lane("evidence", "final", blocks(trace.spans, axis_s, "evidence", "final"), note=note))
    groups: dict[str, list[PassTrace]] = {}
    for one in trace.passes:
        groups.setdefault(kind_of(one.name), []).append(one)
    for kind, group in groups.items():
        if len(group) > LANES_PER_KIND:
            top.append(_packed_lane(kind, group, axis_s))
        else:
            top.extend(_pass_lane(one, axis_s) for one in group)
    return tuple(top)


def legend(drawn: Iterable[Lane]) -> tuple[tuple[str, str, str], ...]:
    """Return (kind, role, meaning) for what the lanes show, each once."""
    entries: dict[tuple[str, str], str] = {}
    for lane in drawn:
        roles = {block.role for block in lane.blocks}
        if "true" in roles:
            entries[lane.kind, "true"] = "true evidence"
        if "final" in roles:
            entries[lane.kind, "final"] = "evidence of the answer"
        if "seen" in roles:
            entries[lane.kind, "seen"] = KIND_MEANINGS[lane.kind]
        if "found" in roles:
            entries["other", "found"] = "named as evidence by that pass"
    if any(lane.marks for lane in drawn):
        entries["other", "mark"] = "one frame"
    return tuple((kind, role, meaning) for (kind, role), meaning in entries.items())


def pack_rows(ranges: Sequence[tuple[float, float]]) -> list[int]:
    """Return the lowest free row for each (start, end): no two on a row overlap; touching is no overlap."""
    ends: list[float] = []
    rows = [0] * len(ranges)
    for i in sorted(range(len(ranges)), key=lambda i: ranges[i]):
        start, end = ranges[i]
        row = next((r for r, taken in enumerate(ends) if taken <= start + 1e-9), len(ends))
        if row == len(ends):
            ends.append(end)
        ends[row] = max(ends[row], end)
        rows[i] = row
    return rows


def _is_whole(time_s: float) -> bool:
    return abs(time_s - round(time_s)) < 0.05


def _block(span: Span, axis_s: float, what: str, role: str) -> Block:
    left, right = percent(span.start_s, axis_s), percent(span.end_s, axis_s)
    title = f"{what}, {span_label(span)}"
    return Block(left, round(right - left, 3), span.start_s, span.end_s, title, role)


def _pass_blocks(one: PassTrace, axis_s: float, row: int = 0) -> tuple[Block, ...]:
    frames = f"{len(one.times_s)} frame" + ("" if len(one.times_s) == 1 else "s")
    seen = blocks(one.spans, axis_s, f"{one.name} looked here ({frames})", "seen")
    found = blocks(one.found, axis_s, f"{one.name} found", "found")
    return tuple(replace(block, row=row) for block in (*seen, *found))


def _pass_lane(one: PassTrace, axis_s: float) -> Lane:
    note = _outside((*one.spans, *one.found), axis_s)
    return Lane(one.name, kind_of(one.name), _pass_blocks(one, axis_s), _marks(one.times_s, axis_s), note=note)


def _packed_lane(kind: str, group: Sequence[PassTrace], axis_s: float) -> Lane:
    hulls = [
        (min((s for s, _ in one.spans), default=0.0), max((e for _, e in one.spans), default=0.0)) for one in group
    ]
    rows = pack_rows(hulls)
    drawn = tuple(b for one, row in zip(group, rows, strict=True) for b in _pass_blocks(one, axis_s, row))
    times_s = sorted({time_s for one in group for time_s in one.times_s})
    note = _outside([span for one in group for span in (*one.spans, *one.found)], axis_s)
    plural = {"window": "windows", "candidate": "candidates", "other": "passes"}.get(kind, f"{kind} passes")
    return Lane(f"{len(group)} {plural}", kind, drawn, _marks(times_s, axis_s), max(rows) + 1, note)


def _marks(times_s: Iterable[float], axis_s: float) -> tuple[float, ...]:
    """Return the frames' places, to a thousandth of the axis: finer ones look the same on a screen."""
    places = (round(min(max(t / axis_s, 0.0), 1.0) * 100, 1) for t in times_s if math.isfinite(t))
    return tuple(dict.fromkeys(places))


def _outside(spans: Iterable[Sequence[float]], axis_s: float) -> str:
    """Return a note on spans that do not show on the axis at all, empty when every one does."""
    lost = sum(not span_math.clip([span], 0.0, axis_s) for span in spans)
    return f"{lost} span{'s' if lost > 1 else ''} outside the video" if lost else ""
