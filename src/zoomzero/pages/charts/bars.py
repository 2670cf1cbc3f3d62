"""Bars of counts: one pile a bin, each telling its numbers when pointed at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zoomzero.pages.charts.svg import Told, colour, drawing, new_axes, new_figure, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDE = (460.0, 210.0)
_SMALL = (214.0, 126.0)


@dataclass(frozen=True, slots=True)
class Pile:
    """One bin: (height, colour, opacity) of its parts from the ground up, the number over it, what it tells."""

    parts: tuple[tuple[float, str, float], ...]
    title: str
    count: str = ""

    @property
    def height(self) -> float:
        """The height of all parts together."""
        return sum(height for height, _, _ in self.parts)


def count_chart(piles: Sequence[Pile], labels: Sequence[str], axis: str) -> Any:
    """Return counts as SVG, with the number over each pile and a label below each.

    Args:
        piles: from left to right.
        labels: one a pile.
        axis: what the axis says.
    """
    with drawing():
        figure = new_figure(*_WIDE)
        axes = new_axes(figure, left=4, right=4, top=18, bottom=40)
        axes.grid(False)
        axes.set_yticks([])
        axes.set_ylim(0, max([pile.height for pile in piles] + [1]))
        told = pile_up(axes, piles, 0.82)
        for place, pile in enumerate(piles):
            if pile.count:
                axes.annotate(
                    pile.count, (place, pile.height), (0, 3), textcoords="offset points", ha="center",
                    color=colour("ink"), annotation_clip=False,
                )  # fmt: skip
        axes.set_xticks(range(len(piles)), labels)
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel(axis, color=colour("soft"), labelpad=4)
        return to_svg(figure, f"{axis}: {'; '.join(pile.title for pile in piles)}", told)


def share_chart(piles: Sequence[Pile], ticks: Sequence[tuple[float, str]], top: float, label: str) -> Any:
    """Return shares in [0, 1] as a small SVG.

    Args:
        piles: from left to right; pile i is i wide of the axis, from i - 0.5 to i + 0.5.
        ticks: (place, label) on that axis.
        top: where the value axis ends, at least.
        label: what a screen reader says before the piles' titles.
    """
    from matplotlib.ticker import MaxNLocator

    with drawing():
        figure = new_figure(*_SMALL)
        axes = new_axes(figure, left=38, right=8, top=8, bottom=20)
        axes.set_ylim(0, max(top, 0.01))
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=(1, 2, 2.5, 5, 10)))
        axes.yaxis.set_major_formatter(lambda value, _: f"{round(value * 100, 6):g} %")
        told = pile_up(axes, piles, 0.86)
        axes.set_xticks([place for place, _ in ticks], [name for _, name in ticks])
        return to_svg(figure, f"{label}: {'; '.join(pile.title for pile in piles)}", told)


def pile_up(axes: Axes, piles: Sequence[Pile], width: float) -> dict[str, Told]:
    """Draw the piles, each whole and `width` of its bin wide; return what each tells."""
    from matplotlib.patches import Rectangle

    low, high = axes.get_ylim()
    axes.set_xlim(-0.5, len(piles) - 0.5)
    told = {}
    for place, pile in enumerate(piles):
        floor = 0.0
        for height, name, opacity in pile.parts:
            axes.bar(place, height, width, floor, color=colour(name), alpha=opacity, linewidth=0)
            floor += height
        reach = Rectangle((place - 0.5, low), 1, high - low, facecolor="none", edgecolor="none", gid=f"reach{place}")
        axes.add_patch(reach)
        told[f"reach{place}"] = Told("reach", pile.title)
    return told
