"""The drawings of bench/ from the numbers in docs/results: light and dark in one SVG.

python bench/charts.py lengths docs/results/answers/world.json docs/results/answers/world.svg
python bench/charts.py ablation docs/results/ablation.json docs/results/ablation.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomzero.pages.charts.svg import colour, drawing, new_axes, new_figure, to_svg
from zoomzero.pages.timeline import kind_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PANELS = (("iou", "mIoU"), ("coarse", "accuracy, coarse pass"), ("zoom", "accuracy with zoom"))
START = "start"  # the arm that was not trained


def lengths_svg(rows: Sequence[dict[str, Any]], about: str) -> str:
    """Return seconds (logarithmic) and memory (from 0) against the length of the video, one line a mode."""
    with drawing():
        figure = new_figure(840, 310)
        seconds = new_axes(figure, left=56, right=430, top=34, bottom=44)
        memory = new_axes(figure, left=476, right=14, top=34, bottom=44)
        modes = list(dict.fromkeys(row["mode"] for row in rows))
        for axes, key, title in (
            (seconds, "seconds", "seconds an answer takes"),
            (memory, "memory_mb", "peak memory, MB"),
        ):
            for mode in modes:
                points = [(row["minutes"], row[key]) for row in rows if row["mode"] == mode and row[key] > 0]
                axes.plot(*zip(*points, strict=True), "o-", color=colour(kind_of(mode)), label=mode, markersize=4.5)
            axes.set_title(title, loc="left", fontsize=11.5, fontweight=600, color=colour("ink"))
            _length_axis(axes, sorted({row["minutes"] for row in rows}))
        seconds.set_yscale("log")
        seconds.minorticks_off()
        seconds.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        memory.set_ylim(0)
        memory.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
        memory.legend(
            ncols=len(modes), loc="lower right", bbox_to_anchor=(1.02, 0.98), frameon=False, labelcolor=colour("ink"),
            columnspacing=0.9, handlelength=1.1, handletextpad=0.4,
        )  # fmt: skip
        return str(to_svg(figure, about, alone=True)) + "\n"


def ablation_svg(result: dict[str, Any]) -> str:
    """Return a dot plot with intervals: one panel a measure, one row an arm, a small dot a seed."""
    arms = list(result["arms"])
    names = 16 + 7 * max(map(len, arms))  # pixels
    width = names + 764
    with drawing():
        figure = new_figure(width, 74 + 34 * len(arms))
        for column, (measure, title) in enumerate(PANELS):
            left = names + column * 256
            axes = new_axes(figure, left=left, right=width - left - 226, top=30, bottom=34)
            axes.grid(False)
            axes.grid(axis="x", color=colour("line"), linewidth=0.8)
            for row, arm in enumerate(arms):
                value, ink = result["arms"][arm][measure], colour("soft" if arm == START else "coarse")
                axes.plot(value["interval"], [row, row], color=ink, linewidth=2)
                axes.plot([value["mean"]], [row], "o", color=ink, markersize=8)
                axes.plot(value["seeds"], [row + 0.28] * len(value["seeds"]), "o", color=ink, alpha=0.6, markersize=3.5)
            axes.set_ylim(len(arms) - 0.4, -0.6)
            axes.set_yticks(range(len(arms)), arms if not column else [""] * len(arms))
            axes.tick_params(axis="y", labelcolor=colour("ink"))
            axes.locator_params(axis="x", nbins=5)
            axes.margins(x=0.08)
            axes.set_title(title, loc="left", fontsize=11.5, fontweight=600, color=colour("ink"))
        return (
            str(to_svg(figure, "What each part of the method brings; the numbers are in the table", alone=True)) + "\n"
        )


def _length_axis(axes: Axes, minutes: Sequence[float]) -> None:
    axes.set_xscale("log")
    axes.set_xticks(minutes, [f"{value:g} min" if value < 60 else f"{value / 60:g} h" for value in minutes])
    axes.minorticks_off()
    axes.set_xlabel("length of the video", color=colour("soft"), labelpad=4)


def main() -> None:
    """Draw one file of results again."""
    kind, numbers, out = sys.argv[1:]
    result = json.loads(Path(numbers).read_text(encoding="utf-8"))
    about = f"Time and memory of an answer against the video's length; {result.get('model', '')}"
    drawn = lengths_svg(result["rows"], about) if kind == "lengths" else ablation_svg(result)
    Path(out).write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
