"""A run's log as small curves: which numbers belong in which picture. Pure; no HTML here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from zoomzero.pages.charts.lines import SMALL, WIDE, Plane, Points, line_chart, plane, stacked_chart
from zoomzero.train.credit.rewards import REWARDS
from zoomzero.train.stopwatch import PHASES

MOST_POINTS = 240  # of a line
MOST_BARS = 80
SECONDS = "seconds/"  # what the names of phases begin with


@dataclass(frozen=True, slots=True)
class Line:
    """One line: what it shows, its last value, and the points it is drawn from."""

    label: str
    role: str  # main | second
    last: str
    points: Points


@dataclass(frozen=True, slots=True)
class Chart:
    """One small picture. `band` is the lower and the upper edge of what is shaded; a `share` goes from 0 to 1.

    `logged` is False where the log has no such number and the rollouts were asked.
    """

    title: str
    lines: tuple[Line, ...]
    band: tuple[Points, Points] | None = None
    share: bool = False
    logged: bool = True


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase of the step: its seconds by step, their mean and its share of all phases' seconds."""

    label: str
    place: int
    mean_s: float
    share: float
    points: Points


@dataclass(frozen=True, slots=True)
class Curves:
    """Everything drawn of a run over the steps `first` to `last`; `others` are charts of all that is left.

    The axis of every picture reaches from `low` to `high`: as far beyond the steps as their bars do.
    """

    first: float
    last: float
    low: float
    high: float
    charts: tuple[Chart, ...]
    phases: tuple[Phase, ...]
    others: tuple[Chart, ...]

    def draw(self, chart: Chart) -> Any:
        """Return a chart as SVG."""
        lines = [line.points for line in chart.lines]
        said = "".join(f"; {line.label} last {line.last}" for line in chart.lines)
        ends = (self.low, self.high)
        return line_chart(lines, ends, f"{chart.title} by step{said}", band=chart.band, share=chart.share)

    def draw_phases(self) -> Any:
        """Return the phases' seconds as SVG."""
        columns = [phase.points for phase in self.phases]
        label = "Seconds of each phase by step, stacked; the means are listed below"
        return stacked_chart(columns, (self.low, self.high), label)

    @property
    def plane(self) -> Plane:
        """Where the axes of a small chart lie in it."""
        return plane(SMALL)

    @property
    def wide_plane(self) -> Plane:
        """Where the axes of the phases' chart lie in it."""
        return plane(WIDE)


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
    charts = [_chart(one, numbers, bool(one.names & log.keys())) for one in _PICTURES if one.names & set(numbers)]
    seconds = {name.removeprefix(SECONDS): points for name, points in log.items() if name.startswith(SECONDS)}
    phases = _phases(seconds)
    drawn = {name for one in _PICTURES for name in one.names} | {SECONDS + name for name in seconds}
    others = [_chart(_Picture(name, (("", name),)), log, True) for name in sorted(log.keys() - drawn)]
    first, last = min(steps), max(steps)
    beyond = max((last - first) / 100, _half_bar(phases)) or 0.5
    return Curves(first, last, first - beyond, last + beyond, tuple(charts), phases, tuple(others))


def thin(points: Points, most: int) -> Points:
    """Return at most `most` points: means of neighbours, NaN where all of them are."""
    if len(points) <= most:
        return points
    size = math.ceil(len(points) / most)
    return tuple(_mean(points[i : i + size]) for i in range(0, len(points), size))


def _chart(picture: _Picture, numbers: Mapping[str, Points], logged: bool) -> Chart:
    drawn = [(label, thin(numbers[name], MOST_POINTS)) for label, name in picture.lines if name in numbers]
    lines = tuple(
        Line(label, "second" if place else "main", _number(_last(points)), points)
        for place, (label, points) in enumerate(drawn)
    )
    share = picture.share and not any(value > 1 for _, points in drawn for _, value in points)
    mean, deviation = numbers.get(picture.lines[0][1], ()), numbers.get(picture.deviation, ())
    return Chart(picture.title, lines, _band(mean, deviation), share, logged)


def _band(mean: Points, std: Points) -> tuple[Points, Points] | None:
    """Return mean minus and plus deviation, within [0, 1], over the steps that have both."""
    deviations = dict(std)
    both = tuple((step, value) for step, value in mean if math.isfinite(value + deviations.get(step, math.nan)))
    lower = thin(tuple((step, max(0.0, value - deviations[step])) for step, value in both), MOST_POINTS)
    upper = thin(tuple((step, min(1.0, value + deviations[step])) for step, value in both), MOST_POINTS)
    return (lower, upper) if len(upper) > 1 else None


def _phases(found: Mapping[str, Points]) -> tuple[Phase, ...]:
    """Return the phases' seconds, in the order of the step, all over the same steps."""
    labels = sorted(found, key=lambda name: (PHASES.index(name) if name in PHASES else len(PHASES), name))
    steps = sorted({step for points in found.values() for step, _ in points})
    columns = []
    for label in labels:
        table = dict(found[label])
        columns.append(thin(tuple((step, _or_zero(table.get(step))) for step in steps), MOST_BARS))
    total = sum(value for points in columns for _, value in points) or 1.0
    phases = []
    for place, (label, points) in enumerate(zip(labels, columns, strict=True)):
        values = [value for _, value in points]
        share = sum(values) / total
        phases.append(Phase(label.replace("_", " "), place % 8, sum(values) / len(values), share, points))
    return tuple(phases)


def _half_bar(phases: tuple[Phase, ...]) -> float:
    """Return half the distance of two bars in steps, 0 where there are not two."""
    places = [step for step, _ in phases[0].points] if phases else []
    return min((after - before for before, after in pairwise(places)), default=0.0) / 2


def _mean(points: Points) -> tuple[float, float]:
    finite = [value for _, value in points if math.isfinite(value)]
    return sum(step for step, _ in points) / len(points), sum(finite) / len(finite) if finite else math.nan


def _last(points: Points) -> float:
    return next((value for _, value in reversed(points) if math.isfinite(value)), math.nan)


def _or_zero(value: float | None) -> float:
    return value if value is not None and math.isfinite(value) else 0.0


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "not a number"
