"""The page of `zoomzero filter`: how many examples were kept, why the others were not, and how hard all of them are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomzero.config import settings_hash
from zoomzero.data.difficulty import KEPT, REASONS, Bin, Judged, histogram, hit_histogram
from zoomzero.pages.charts.bars import Pile, count_chart
from zoomzero.pages.render import render, write_page

if TYPE_CHECKING:
    from zoomzero.train.filter import FilterReport

SHOWN = 6  # examples of each reason


@dataclass(frozen=True, slots=True)
class Chart:
    """A histogram, drawn, and its title."""

    title: str
    picture: Any


@dataclass(frozen=True, slots=True)
class Group:
    """The examples with one verdict: how many, what that means, and the first of them."""

    name: str
    verdict: str
    meaning: str
    count: int
    share: float
    shown: tuple[Judged, ...]
    answered: bool


def filter_page(report: FilterReport) -> str:
    """Return the page as one self-contained HTML document."""
    judged = report.judged
    answered = [one for one in judged if one.difficulty is not None]
    sizes = {one.difficulty.n for one in answered if one.difficulty is not None}
    charts = (
        Chart("Right answers", _counts("share of an example's answers that are right", hit_histogram(judged))),
        Chart("Overlap", _counts("mean IoU of an example's answers", histogram(judged, lambda one: one.mean_iou))),
    )
    return render(
        "training/filter.html.j2",
        assets=["training/filter.css"],
        report=report,
        total=len(judged),
        kept=report.counts[KEPT],
        answers=f"{min(sizes)} to {max(sizes)}" if len(sizes) > 1 else next(map(str, sizes), ""),
        hash=settings_hash(report.settings),
        rule=report.settings.rule,
        charts=charts if answered else (),
        groups=_groups(judged, report.counts),
        sources=_sources(judged),
    )


def write_filter_page(path: str | Path, report: FilterReport) -> Path:
    """Write `filter_page` to a file, complete or not at all, and return its path.

    Raises:
        ConfigError: the file cannot be written (names --html).
    """
    return write_page(path, filter_page(report), "--html")


def _counts(axis: str, bins: Sequence[Bin]) -> Any:
    """Return a histogram with the kept part of each bin below the dropped one."""
    piles = [
        Pile(
            ((one.kept, "final", 1.0), (one.dropped, "soft", 0.38)),
            f"{one.label}: {one.kept} kept, {one.dropped} dropped",
            f"{one.kept + one.dropped:,}" if one.kept + one.dropped else "",
        )
        for one in bins
    ]
    return count_chart(piles, [one.label for one in bins], axis)


def _groups(judged: Sequence[Judged], counts: dict[str, int]) -> tuple[Group, ...]:
    meanings = {KEPT: "there is something to learn", **REASONS}
    groups = []
    for verdict, meaning in meanings.items():
        of_it = [one for one in judged if one.verdict == verdict]
        if of_it or verdict == KEPT:
            answered = any(one.difficulty is not None for one in of_it)
            name, share = verdict.replace("_", " "), counts[verdict] / max(len(judged), 1)
            groups.append(Group(name, verdict, meaning, len(of_it), share, tuple(of_it[:SHOWN]), answered))
    return tuple(groups)


def _sources(judged: Sequence[Judged]) -> tuple[tuple[str, str, int, int], ...]:
    """Return (source, split, kept, all) for every source and split."""
    tally: dict[tuple[str, str], list[int]] = {}
    for one in judged:
        pair = tally.setdefault((one.example.source, one.example.split), [0, 0])
        pair[0] += one.kept
        pair[1] += 1
    return tuple((source, split, *pair) for (source, split), pair in sorted(tally.items()))  # type: ignore[misc]
