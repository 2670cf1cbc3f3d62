"""Accuracy against cost: one point a mode, with its interval and its name beside it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoomzero.benchmarks.wilson import wilson
from zoomzero.pages import timeline
from zoomzero.pages.charts.svg import Told, colour, drawing, new_axes, new_figure, text, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation
    from matplotlib.transforms import Bbox

WIDTH, HEIGHT = 460.0, 290.0
LOG_FROM = 8.0  # largest over smallest cost from which the axis is logarithmic
LEAST_COST = 1e-3  # a millisecond; what is below it is drawn as 0 and never on a logarithmic axis
_SIDES = (
    *((9, 0, "left", "center"), (-9, 0, "right", "center"), (0, 8, "center", "bottom"), (0, -9, "center", "top")),
    *((7, 9, "left", "bottom"), (-7, 9, "right", "bottom"), (7, -9, "left", "top"), (-7, -9, "right", "top")),
)


@dataclass(frozen=True, slots=True)
class ModePoint:
    """One mode's result: accuracy in [0, 1] over n questions, mean cost of a question.

    The cost is in visual tokens unless `title` says otherwise. `interval` is the accuracy's, Wilson's over n when it is
    None. `title` is what the mark tells; by default accuracy, tokens and interval. A `hollow` mark is drawn as a ring.
    """

    mode: str
    accuracy: float
    cost: float
    n: int
    interval: tuple[float, float] | None = None
    title: str = ""
    hollow: bool = False


def cost_chart(points: Sequence[ModePoint], unit: str, title: str, chance: float | None = None) -> Any:
    """Return accuracy against cost as SVG, None when there is no point.

    Args:
        points: what to draw, in the order of the table.
        unit: of the cost, as the axis says it.
        title: what a screen reader says.
        chance: accuracy of guessing, drawn as a line.
    """
    if not points:
        return None
    with drawing():
        figure, told = cost_figure(points, unit, chance)
        return to_svg(figure, f"{title}, one point a mode; the numbers are in the table", told)


def cost_figure(points: Sequence[ModePoint], unit: str, chance: float | None) -> tuple[Figure, dict[str, Told]]:
    """Return the figure and what its marks tell; call it inside `drawing()`."""
    from matplotlib.ticker import PercentFormatter

    figure = new_figure(WIDTH, HEIGHT)
    axes = new_axes(figure, left=42, right=16, top=12, bottom=40)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    logarithmic = _cost_axis(axes, [point.cost for point in points])
    axes.set_xlabel(unit + (", logarithmic" if logarithmic else ""), color=colour("soft"), labelpad=4)
    if chance is not None:
        axes.axhline(chance, color=colour("soft"), linewidth=1, linestyle=(0, (3, 4)))
    told = {f"mark{i}": _mark(axes, f"mark{i}", point) for i, point in enumerate(points)}
    taken, whiskers = _crowd(axes, points)
    for i, label in enumerate(_name(axes, points, taken, whiskers)):
        label.set_gid(f"name{i}")
        told[f"name{i}"] = Told("name")
    if chance is not None:
        _name_chance(axes, chance, [*taken, *whiskers])
    return figure, told


def _cost_axis(axes: Axes, costs: Sequence[float]) -> bool:
    """Set limits and round ticks; return whether the axis is logarithmic."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    low, high = min(costs), max(costs)
    logarithmic = low >= LEAST_COST and high / low >= LOG_FROM
    if logarithmic:
        axes.set_xscale("log")
        axes.set_xlim(low / 1.3, high * 1.3)
        axes.xaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5) if high / low < 300 else (1,)))
        axes.xaxis.set_minor_locator(NullLocator())
    else:
        axes.set_xlim(0, max(high * 1.08, LEAST_COST))
        axes.xaxis.set_major_locator(MaxNLocator(6, steps=(1, 2, 2.5, 5, 10)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    return logarithmic


def _mark(axes: Axes, gid: str, point: ModePoint) -> Told:
    kind = colour(timeline.kind_of(point.mode))
    low, high = interval(point)
    axes.vlines(point.cost, low, high, color=kind, linewidth=1.5, alpha=0.55)
    face = colour("paper") if point.hollow else kind
    axes.plot(
        [point.cost], [point.accuracy], "o", ms=9, color=face, mec=kind if point.hollow else colour("paper"),
        mew=2 if point.hollow else 1.2, gid=gid, clip_on=False, zorder=3,
    )  # fmt: skip
    title = point.title or (
        f"{point.mode}: {point.accuracy:.1%} of {point.n} right, {point.cost:,.0f} visual tokens; "
        f"95 % interval {low:.0%} to {high:.0%}"
    )
    return Told(f"mark k-{timeline.kind_of(point.mode)}" + (" hollow" if point.hollow else ""), title)


def interval(point: ModePoint) -> tuple[float, float]:
    """Return a point's interval."""
    return point.interval or wilson(point.accuracy, point.n)


def _crowd(axes: Axes, points: Sequence[ModePoint]) -> tuple[list[Bbox], list[Bbox]]:
    """Return the boxes of marks and of whiskers, in pixels."""
    from matplotlib.transforms import Bbox

    places = axes.transData.transform([(point.cost, point.accuracy) for point in points])
    whiskers = []
    for point, (x, _) in zip(points, places, strict=True):
        low_y, high_y = axes.transData.transform([(point.cost, value) for value in interval(point)])[:, 1]
        whiskers.append(Bbox.from_extents(x - 1, low_y, x + 1, high_y))
    return [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in places], whiskers


def _name(axes: Axes, points: Sequence[ModePoint], taken: list[Bbox], whiskers: Sequence[Bbox]) -> Iterator[Annotation]:
    """Write each point's name inside, where it covers least: first of all no mark and no name, then no whisker.

    Adds the names' boxes to `taken`.
    """
    renderer = axes.figure._get_renderer()  # type: ignore[union-attr]
    inside = axes.get_window_extent(renderer)
    for point in points:
        label = axes.annotate(
            text(point.mode), (point.cost, point.accuracy), (0, 0), textcoords="offset points",
            fontsize=11.5, fontweight=600, color=colour("ink"), annotation_clip=False, zorder=4,
        )  # fmt: skip
        boxes = []
        for dx, dy, ha, va in _SIDES:
            label.set(position=(dx, dy), ha=ha, va=va)
            boxes.append(label.get_window_extent(renderer))
        costs = [(_outside(box, inside), box.count_overlaps(taken), box.count_overlaps(whiskers)) for box in boxes]
        best = costs.index(min(costs))
        dx, dy, ha, va = _SIDES[best]
        label.set(position=(dx, dy), ha=ha, va=va)
        taken.append(boxes[best])
        yield label


def _name_chance(axes: Axes, chance: float, crowd: Sequence[Bbox]) -> None:
    """Say what the line of guessing is, along it where nothing else is drawn: at its ends before its middle."""
    renderer = axes.figure._get_renderer()  # type: ignore[union-attr]
    inside = axes.get_window_extent(renderer)
    label = axes.annotate(
        "guessing", (1, chance), (0, 0), axes.get_yaxis_transform(), "offset points", color=colour("soft")
    )
    places = [
        (x, ha, dy, va)
        for x, ha in ((1, "right"), (0, "left"), (0.75, "center"), (0.25, "center"), (0.5, "center"))
        for dy, va in ((3, "bottom"), (-3, "top"))
    ]

    def put(x: float, ha: str, dy: float, va: str) -> tuple[int, bool]:
        label.xy = (x, chance)
        label.set(position=(0, dy), ha=ha, va=va)
        box = label.get_window_extent(renderer)
        return box.count_overlaps(crowd), _outside(box, inside)

    put(*min(places, key=lambda place: put(*place)))


def _outside(box: Any, inside: Any) -> bool:
    """Whether a name would leave the picture, whose margins it may use."""
    across = box.x0 < inside.x0 or box.x1 > inside.x1 + 16
    return bool(across or box.y0 < inside.y0 - 8 or box.y1 > inside.y1 + 11)


def short(value: float) -> str:
    """Return 500, 2k, 1.5k, 3M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"
