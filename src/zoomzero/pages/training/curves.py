"""A run's log as small curves: which numbers belong in which picture, and where their lines lie. Pure; no HTML here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from zoomzero.train.credit.rewards import REWARDS
from zoomzero.train.run.stopwatch import PHASES

Points = tuple[tuple[float, float], ...]  # (step, value) by step; a value may be NaN
HEIGHT = 40.0  # of a picture whose width is 100
MOST_POINTS = 240  # of a line
MOST_BARS = 80
SECONDS = "seconds/"  # what the names of phases begin with


@dataclass(frozen=True, slots=True)
class Line:
    """One drawn line: what it shows, its SVG path, its last value, and the points it was drawn from."""

    label: str
    role: str  # main | second
    path: str
    last: str
    points: Points


@dataclass(frozen=True, slots=True)
class Chart:
    """One small picture. `band` is a path around the main line; `low` and `high` label the value axis.

    `logged` is False where the log has no such number and the rollouts were asked.
    """

    title: str
    lines: tuple[Line, ...]
    low: str
    high: str
    band: str = ""
    logged: bool = True


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the step: its bars as one SVG path, its mean seconds and its share of all phases' seconds."""

    label: str
    place: int
    path: str
    mean_s: float
    share: float
    points: Points


@dataclass(frozen=True, slots=True)
class Curves:
    """Everything drawn of a run over the steps `first` to `last`; `others` are charts of all that is left."""

    first: float
    last: float
    charts: tuple[Chart, ...]
    phases: tuple[Phase, ...]
    phases_high_s: float
    others: tuple[Chart, ...]


@dataclass(frozen=True, slots=True)
class _Picture:
    """Logged names that are drawn together: (label, name) of the lines, and the deviation of the first."""

    title: str
    lines: tuple[tuple[str, str], ...]
    deviation: str = ""
    share: bool = False  # drawn from 0 to 1

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.lines} | ({self.deviation} if self.deviation else set())


# What a researcher looks at first, by the names the trainer logs.
_PICTURES = (
    *(
        _Picture(
            f"{name} reward",
            (("", f"reward/{name}"), ("no spread", f"zero_variance/{name}")),
            f"reward/{name}_std",
            True,
        )
        for name in REWARDS
    ),
    _Picture("validation", (("answer", "validation/answer"), ("IoU", "validation/iou")), share=True),
    _Picture(
        "zoom answers right", (("true spans", "zoom/true_span"), ("random spans", "zoom/random_span")), share=True
    ),
    _Picture("tokens a completion", (("", "completion/tokens"),)),
    _Picture("completions at fault", (("misread", "completion/parse_failures"), ("cut off", "completion/truncated"))),
    _Picture("KL to the reference", (("", "loss/kl"),)),
    _Picture("clipped tokens", (("", "loss/clip_share"),)),
    _Picture("entropy", (("", "loss/entropy"),)),
    _Picture("groups dropped", (("", "filter/dropped"),)),
)


def curves(log: Mapping[str, Points], rollouts: Mapping[str, Points]) -> Curves | None:
    """Return the pictures of a run, None when there is nothing to draw.

    Args:
        log: the logged numbers by name.
        rollouts: some of the same numbers as found in the rollouts, drawn where the log has none.
    """
    numbers = {**rollouts, **log}
    steps = [step for points in numbers.values() for step, _ in points]
    if not steps:
        return None
    frame = _Frame(min(steps), max(steps))
    charts = [
        _chart(one, numbers, frame, bool(one.names & log.keys())) for one in _PICTURES if one.names & set(numbers)
    ]
    seconds = {name.removeprefix(SECONDS): points for name, points in log.items() if name.startswith(SECONDS)}
    phases, high_s = _phases(seconds, frame)
    drawn = {name for one in _PICTURES for name in one.names} | {SECONDS + name for name in seconds}
    others = [_chart(_Picture(name, (("", name),)), log, frame, True) for name in sorted(log.keys() - drawn)]
    return Curves(frame.first, frame.last, tuple(charts), phases, high_s, tuple(others))


def thin(points: Points, most: int) -> Points:
    """Return at most `most` points: means of neighbours, NaN where all of them are."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    return tuple(_mean(points[i : i + size]) for i in range(0, len(points), size))


@dataclass(frozen=True, slots=True)
class _Frame:
    """The steps every picture spans."""

    first: float
    last: float

    def x(self, step: float) -> float:
        return round((step - self.first) / (self.last - self.first) * 100, 2) if self.last > self.first else 50.0


def _chart(picture: _Picture, numbers: Mapping[str, Points], frame: _Frame, logged: bool) -> Chart:
    drawn = [(label, thin(numbers[name], MOST_POINTS)) for label, name in picture.lines if name in numbers]
    values = [value for _, points in drawn for _, value in points]
    low, high = (0.0, 1.0) if picture.share and not any(value > 1 for value in values) else _extent(values)
    lines = tuple(
        Line(label, "second" if place else "main", _path(points, low, high, frame), _number(_last(points)), points)
        for place, (label, points) in enumerate(drawn)
    )
    mean, deviation = numbers.get(picture.lines[0][1], ()), numbers.get(picture.deviation, ())
    return Chart(picture.title, lines, _end(low), _end(high), _band(mean, deviation, frame), logged)


def _extent(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of a value axis: from 0 where the values come near it, else from their least."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = min(finite), max(finite)
    low = min(low, 0.0) if low < 0.5 * high or low < 0 else low
    return (low, high) if high > low else (min(low, 0.0), high if high > 0 else 1.0)


def _path(points: Points, low: float, high: float, frame: _Frame) -> str:
    """Return an SVG path; values that are no numbers leave a gap, a lone point is a dot."""
    path, pen = [], False
    for step, value in points:
        if not math.isfinite(value):
            pen = False
            continue
        path.append(f"{'L' if pen else 'M'}{frame.x(step):g} {_y(value, low, high):g}" + ("" if pen else "h0"))
        pen = True
    return "".join(path)


def _band(mean: Points, std: Points, frame: _Frame) -> str:
    """Return the outline of mean plus and minus deviation, within [0, 1], over the steps that have both."""
    deviations = dict(std)
    both = tuple((step, value) for step, value in mean if math.isfinite(value + deviations.get(step, math.nan)))
    upper = thin(tuple((step, min(1.0, value + deviations[step])) for step, value in both), MOST_POINTS)
    lower = thin(tuple((step, max(0.0, value - deviations[step])) for step, value in both), MOST_POINTS)
    places = [f"{frame.x(step):g} {_y(value, 0, 1):g}" for step, value in (*upper, *reversed(lower))]
    return f"M{'L'.join(places)}Z" if len(upper) > 1 else ""


def _phases(found: Mapping[str, Points], frame: _Frame) -> tuple[tuple[Phase, ...], float]:
    """Return the phases' bars, stacked in the order of the step, and the seconds the axis ends at."""
    labels = sorted(found, key=lambda name: (PHASES.index(name) if name in PHASES else len(PHASES), name))
    steps = sorted({step for points in found.values() for step, _ in points})
    tables = {label: dict(found[label]) for label in labels}
    columns = {
        label: thin(tuple((step, _or_zero(tables[label].get(step))) for step in steps), MOST_BARS) for label in labels
    }
    places = [step for step, _ in columns[labels[0]]] if labels else []
    heights = [sum(columns[label][i][1] for label in labels) for i in range(len(places))]
    high_s = max(heights, default=0.0) or 1.0
    total = sum(heights) or 1.0
    edges = _edges(places, frame)
    floors = [0.0] * len(places)
    phases = []
    for place, label in enumerate(labels):
        values = [value for _, value in columns[label]]
        bars = [_bar(edges[i], floors[i], floors[i] + value, high_s) for i, value in enumerate(values) if value > 0]
        floors = [floor + value for floor, value in zip(floors, values, strict=True)]
        mean_s = sum(values) / len(values)
        phases.append(
            Phase(label.replace("_", " "), place % 8, "".join(bars), mean_s, sum(values) / total, columns[label])
        )
    return tuple(phases), high_s


def _edges(steps: Sequence[float], frame: _Frame) -> list[tuple[float, float]]:
    """Return the left and right end of each bar: half-way to its neighbours, less a gap."""
    places = [frame.x(step) for step in steps]
    widths = [right - left for left, right in pairwise(places)]
    edges = []
    for i, place in enumerate(places):
        left = widths[i - 1] if i else (widths[0] if widths else 8.0)
        right = widths[i] if i < len(widths) else (widths[-1] if widths else 8.0)
        edges.append((max(0.0, place - left * 0.42), min(100.0, place + right * 0.42)))
    return edges


def _bar(edges: tuple[float, float], low_s: float, top_s: float, high_s: float) -> str:
    left, right = edges
    bottom, top = _y(low_s, 0, high_s), _y(top_s, 0, high_s)
    return f"M{left:.2f} {bottom:g}H{right:.2f}V{top:g}H{left:.2f}Z"


def _y(value: float, low: float, high: float) -> float:
    """Return a value's height: `high` at the top, within the picture."""
    return round((1 - min(max((value - low) / (high - low), 0.0), 1.0)) * HEIGHT, 2)


def _mean(points: Points) -> tuple[float, float]:
    finite = [value for _, value in points if math.isfinite(value)]
    return sum(step for step, _ in points) / len(points), sum(finite) / len(finite) if finite else math.nan


def _last(points: Points) -> float:
    return next((value for _, value in reversed(points) if math.isfinite(value)), math.nan)


def _or_zero(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


def _end(value: float) -> str:
    """Return an axis end in few characters."""
    return f"{value:.3g}" if abs(value) >= 10 else f"{value:.2g}"


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not a number"
