"""The reports' plot, accuracy against cost: places of marks and labels, to be drawn as SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoomzero.benchmarks.scoring.metrics import wilson
from zoomzero.pages import timeline

WIDTH, HEIGHT = 460.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 44.0, 16.0, 14.0, 44.0  # margins
LOG_FROM = 8.0  # largest over smallest cost from which the axis is logarithmic
LEAST_COST = 1e-3  # a millisecond; what is below it is drawn as 0 and never on a logarithmic axis
_CHARACTER = 7.0  # width of a label's character, and its height below, in SVG units
_LINE = 14.0


@dataclass(frozen=True, slots=True)
class ModePoint:
    """One mode's result: accuracy in [0, 1] over n questions, mean cost of a question.

    The cost is in visual tokens unless `title` says otherwise. `interval` is the accuracy's, Wilson's over n when it is
    None. `title` is what the mark tells; by default accuracy, tokens and interval.
    """

    mode: str
    accuracy: float
    cost: float
    n: int
    interval: tuple[float, float] | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class Mark:
    """One drawn point with its error bar and label, in SVG units."""

    mode: str
    kind: str
    title: str
    x: float
    y: float
    low_y: float
    high_y: float
    label_x: float
    label_y: float
    anchor: str


@dataclass(frozen=True, slots=True)
class GridLine:
    """A labelled value on an axis, in SVG units along that axis."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Plot:
    """All that is drawn. `chance_y` is where guessing would lie, None when that is not known."""

    marks: tuple[Mark, ...]
    x_lines: tuple[GridLine, ...]
    y_lines: tuple[GridLine, ...]
    chance_y: float | None
    logarithmic: bool


def plot(points: Sequence[ModePoint], chance: float | None = None) -> Plot | None:
    """Return the plot of modes, None when there is none.

    Args:
        points: what to draw, in the order of the table.
        chance: accuracy of guessing, drawn as a line.
    """
    if not points:
        return None
    costs = [point.cost for point in points]
    logarithmic = min(costs) >= LEAST_COST and max(costs) / min(costs) >= LOG_FROM
    low, high, values = _log_axis(costs) if logarithmic else _linear_axis(costs)

    def place_x(cost: float) -> float:
        share = math.log(cost / low) / math.log(high / low) if logarithmic else (cost - low) / (high - low)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    return Plot(
        marks=_marks(points, [place_x(cost) for cost in costs]),
        x_lines=tuple(GridLine(place_x(value), _short(value)) for value in values),
        y_lines=tuple(GridLine(place_y(i / 4), f"{i * 25} %") for i in range(5)),
        chance_y=place_y(chance) if chance is not None else None,
        logarithmic=logarithmic,
    )


def place_y(accuracy: float) -> float:
    """Return the height of an accuracy in SVG units: 1 at the top."""
    return round(TOP + (1 - min(max(accuracy, 0.0), 1.0)) * (HEIGHT - TOP - BOTTOM), 1)


def _linear_axis(costs: Sequence[float]) -> tuple[float, float, list[float]]:
    """Return (low, high, labelled values) of an axis from 0 with at most six round steps."""
    high = max(max(costs) * 1.08, LEAST_COST)
    magnitude = 10 ** math.floor(math.log10(high))
    step = next(m * magnitude for m in (0.2, 0.5, 1, 2) if high / (m * magnitude) <= 6)
    return 0.0, high, [step * i for i in range(math.floor(high / step) + 1)]


def _log_axis(costs: Sequence[float]) -> tuple[float, float, list[float]]:
    """Return (low, high, labelled values) of a logarithmic axis; 1, 2, 5 of each decade on short ones."""
    low, high = min(costs) / 1.3, max(costs) * 1.3
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if high / low < 300 else (1,)
    return low, high, [m * 10.0**d for d in decades for m in steps if low <= m * 10.0**d <= high]


def _marks(points: Sequence[ModePoint], xs: Sequence[float]) -> tuple[Mark, ...]:
    """Place each point's label on the first free side: right, left, above, below."""
    ys = [place_y(point.accuracy) for point in points]
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in zip(xs, ys, strict=True)]
    marks = []
    for point, x, y in zip(points, xs, ys, strict=True):
        length = len(point.mode) * _CHARACTER
        sides = (
            (x + 10, y + 4, "start", x + 10),
            (x - 10, y + 4, "end", x - 10 - length),
            (x, y - 11, "middle", x - length / 2),
            (x, y + 20, "middle", x - length / 2),
        )
        boxes = [(left, base - _LINE + 3, left + length, base + 3) for _, base, _, left in sides]
        free = (i for i, box in enumerate(boxes) if _inside(box) and not any(_overlap(box, t) for t in taken))
        best = next(free, 0)
        taken.append(boxes[best])
        low, high = point.interval or wilson(point.accuracy, point.n)
        title = point.title or (
            f"{point.mode}: {point.accuracy:.1%} of {point.n} right, "
            f"{point.cost:,.0f} visual tokens; 95 % interval {low:.0%} to {high:.0%}"
        )
        label_x, label_y, anchor, _ = sides[best]
        kind = timeline.kind_of(point.mode)
        marks.append(
            Mark(
                point.mode,
                kind,
                title,
                x,
                y,
                place_y(low),
                place_y(high),
                round(label_x, 1),
                round(label_y, 1),
                anchor,
            )
        )
    return tuple(marks)


def _inside(box: tuple[float, float, float, float]) -> bool:
    return box[0] >= LEFT and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT - BOTTOM


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _short(value: float) -> str:
    """Return 500, 2k, 1.5k."""
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
