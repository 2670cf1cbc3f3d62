"""A run's numbers by step: small pictures that share one step axis, and the phases of a step stacked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from zoomzero.pages.charts.svg import colour, drawing, new_axes, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Points = tuple[tuple[float, float], ...]  # (step, value) by step; a value may be NaN
LEFT, RIGHT, TOP, BOTTOM = 38.0, 10.0, 8.0, 20.0  # margins in SVG units
SMALL = (270.0, 110.0)
WIDE = (900.0, 150.0)
_FEW_STEPS = 8  # a wide chart's bars are never wider than one in this many


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a chart's axes lie in its picture, in percent from each side: what is read off lies over it."""

    left: float
    right: float
    top: float
    bottom: float


def plane(size: tuple[float, float]) -> Plane:
    """Return where the axes of a picture of that size lie."""
    width, height = size
    share = (LEFT / width, RIGHT / width, TOP / height, BOTTOM / height)
    return Plane(*(round(one * 100, 3) for one in share))


def line_chart(
    lines: Sequence[Points],
    steps: tuple[float, float],
    label: str,
    *,
    band: tuple[Points, Points] | None = None,
    share: bool = False,
) -> Any:
    """Return one or two lines as a small SVG: the first drawn through, the second dashed.

    Args:
        lines: values that are no numbers leave a gap; a lone point is a dot.
        steps: the ends of the step axis.
        label: what a screen reader says.
        band: lower and upper edge of what is shaded around the first line.
        share: the value axis goes from 0 to 1.
    """
    with drawing():
        figure = new_figure(*SMALL)
        axes = _axes(figure, steps)
        for points, low_points in [band] if band else []:
            axes.fill_between(
                [step for step, _ in points], [v for _, v in points], [v for _, v in low_points],
                color=colour("coarse"), alpha=0.13, linewidth=0,
            )  # fmt: skip
        for place, points in reversed(list(enumerate(lines))):
            _line(axes, points, second=bool(place))
        if share:
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 0.5, 1])
        else:
            _value_axis(axes, [value for points in lines for _, value in points])
        return to_svg(figure, label)


def stacked_chart(columns: Sequence[Points], steps: tuple[float, float], label: str) -> Any:
    """Return stacked bars as a wide SVG: one a step, every column's part in the colour of its place.

    Args:
        columns: of equal steps, from the ground up.
        steps: the ends of the step axis; it has room for the whole of the first and the last bar.
        label: what a screen reader says.
    """
    with drawing():
        figure = new_figure(*WIDE)
        axes = _axes(figure, steps)
        places = [step for step, _ in columns[0]]
        width = bar_width(places, steps)
        floors = [0.0] * len(places)
        for place, points in enumerate(columns):
            values = [value for _, value in points]
            axes.bar(places, values, width, floors, color=colour(f"p{place % 8}"), linewidth=0)
            floors = [floor + value for floor, value in zip(floors, values, strict=True)]
        _value_axis(axes, [0.0, *floors])
        return to_svg(figure, label)


def bar_width(places: Sequence[float], steps: tuple[float, float]) -> float:
    """Return the width of a bar in steps: most of the least gap between two, and no more than a few steps' share."""
    gaps = [after - before for before, after in pairwise(places)]
    return 0.84 * min([*gaps, (steps[1] - steps[0]) / _FEW_STEPS])


def _axes(figure: Any, steps: tuple[float, float]) -> Axes:
    from matplotlib.ticker import MaxNLocator

    axes = new_axes(figure, LEFT, RIGHT, TOP, BOTTOM)
    axes.set_xlim(*steps)
    wide = figure.get_size_inches()[0] * 72 > SMALL[0]
    axes.xaxis.set_major_locator(MaxNLocator(10 if wide else 4, steps=(1, 2, 5, 10), integer=True))
    return axes


def _value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Set an axis with few round ticks: from 0 where the values come near it, else from below their least."""
    from matplotlib.ticker import MaxNLocator

    finite = [value for value in values if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    low = min(low, 0.0) if low < 0.5 * high or low < 0 or high == low else low
    high = high if high > low else low + 1.0
    locator = MaxNLocator(3, steps=(1, 2, 2.5, 5, 10))
    ticks = locator.tick_values(low, high)
    axes.set_yticks(ticks)
    axes.set_ylim(ticks[0], ticks[-1])
    axes.yaxis.set_major_formatter(lambda value, _: tick_label(value, ticks[1] - ticks[0]))


def tick_label(value: float, step: float) -> str:
    """Return a tick's number with as many digits as the step between ticks needs, thousands as k, millions as M."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if step >= size / 10 and abs(value) >= size:
            return f"{value / size:g}{letter}"
    digits = next((n for n in range(5) if math.isclose(round(step, n), step, rel_tol=1e-6)), None)
    if digits is None:  # so small that zeros would fill the margin
        return f"{value:.2g}" if value else "0"
    return f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _line(axes: Axes, points: Points, second: bool) -> None:
    import numpy as np

    steps, values = np.array([s for s, _ in points]), np.array([v for _, v in points])
    values = np.where(np.isfinite(values), values, np.nan)
    style: dict[str, Any] = {
        "color": colour("zoom" if second else "coarse"),
        "clip_on": False,
        "solid_capstyle": "round",
    }
    axes.plot(steps, values, linewidth=1.5 if second else 1.75, linestyle=(0, (4, 2)) if second else "-", **style)
    there = np.isfinite(values)
    alone = there & ~np.append(there[1:], False) & ~np.append(False, there[:-1])
    if alone.any():
        axes.plot(steps[alone], values[alone], "o", markersize=4, **style)
