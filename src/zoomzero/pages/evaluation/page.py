"""The report over runs of a benchmark: scores and costs of every mode, comparisons, and every question to browse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.scoring.score import BootstrapSettings
from zoomzero.pages import timeline
from zoomzero.pages.charts.bars import Pile, share_chart
from zoomzero.pages.charts.cost import ModePoint, cost_chart
from zoomzero.pages.evaluation.facts import Facts, facts, warnings
from zoomzero.pages.evaluation.questions import Failure, failures, question_data
from zoomzero.pages.evaluation.runs import QuestionSet, read_runs
from zoomzero.pages.evaluation.scores import (
    IOU_BINS,
    Comparison,
    EntryScores,
    Figure,
    GroupTable,
    Histogram,
    OfficialRow,
    chance,
    compared_pairs,
    comparison,
    group_tables,
    histogram,
    official_rows,
    score_entry,
)
from zoomzero.pages.render import embedded_json, render, write_page

ASSETS = ("evaluation/evaluation.css", "elements.js", "evaluation/card.js", "evaluation/evaluation.js")
REASONS_SHOWN = 40
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Spread:
    """One entry's histogram of IoU, drawn."""

    name: str
    picture: Any


@dataclass(frozen=True, slots=True)
class CostPlot:
    """Accuracy (or, where nothing is answered, mean IoU) against one cost, drawn."""

    picture: Any
    title: str


@dataclass(frozen=True, slots=True)
class Section:
    """All that is shown of one question set. `marks` are the entries' classes, in the order of every table."""

    name: str
    questions: int
    videos: int
    entries: tuple[tuple[str, str, str], ...]  # name, kind, mark
    scores: tuple[EntryScores, ...]
    plots: tuple[CostPlot, ...]
    official: tuple[OfficialRow, ...]
    comparisons: tuple[Comparison, ...]
    histograms: tuple[Spread, ...]
    groups: tuple[GroupTable, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A report ready to be drawn."""

    sections: tuple[Section, ...]
    facts: Facts
    warnings: tuple[str, ...]
    failures: tuple[Failure, ...]
    questions: dict[str, Any]
    resamples: int

    @property
    def answers(self) -> int:
        """Answers in the page."""
        return sum(one.counted for section in self.sections for one in section.scores)


def evaluate_runs(
    folders: Sequence[str | Path],
    page_folder: Path,
    *,
    data: str | Path | None = None,
    draws: BootstrapSettings | None = None,
    say: Say = lambda text: None,
) -> Evaluation:
    """Read runs and work out everything their report shows.

    Args:
        folders: what `zoomzero eval --out` wrote; a run may be going on.
        page_folder: where the page will lie, to which links are relative.
        data: where the annotation is now; by default where run.json says it was.
        draws: how intervals are made.
        say: called with what is being done.

    Raises:
        ConfigError: no run, or one given twice.
        DataError: no run there, a damaged file, or annotation that is not there any more.
    """
    draws = draws or BootstrapSettings()
    sets = read_runs(folders, data, say)
    runs = sorted((run for found in sets for run in found.runs), key=lambda run: run.number)
    sections = tuple(_section(found, draws, say) for found in sets)
    say("collecting questions")
    return Evaluation(
        sections=sections,
        facts=facts(runs),
        warnings=warnings(sets),
        failures=failures(sets),
        questions=question_data(sets, page_folder),
        resamples=draws.resamples,
    )


def evaluation_page(found: Evaluation) -> str:
    """Return the report as one self-contained HTML document."""
    return render(
        "evaluation/evaluation.html.j2",
        assets=ASSETS,
        found=found,
        reasons_shown=REASONS_SHOWN,
        data=embedded_json(found.questions),
        intervals=intervals_note(found.resamples),
    )


def write_evaluation_page(path: str | Path, found: Evaluation) -> Path:
    """Write `evaluation_page` to a file, complete or not at all, and return its path.

    Raises:
        ConfigError: the file cannot be written (names --out).
    """
    return write_page(path, evaluation_page(found), "--out")


def intervals_note(resamples: int) -> str:
    """Return how intervals were made, as a sentence."""
    drawn = f"Small numbers: 95 % intervals, {resamples:,} bootstrap draws of whole videos"
    return f"{drawn} (Wilson's over the videos where all answers are right, or all wrong)."


# --- one question set -----------------------------------------------------------------------------------


def _section(found: QuestionSet, draws: BootstrapSettings, say: Say) -> Section:
    say(f"scoring {found.name}")
    scores = tuple(score_entry(found, entry, draws) for entry in found.entries)
    official = official_rows(found, draws)
    say(f"scoring {found.name} by group")
    groups = group_tables(found, draws)
    say(f"comparing on {found.name}")
    told = (comparison(found, one, two, draws) for one, two in compared_pairs(found.entries))
    drawn = [one for entry in found.entries if (one := histogram(entry)) is not None and one.n]
    asked = [one for i, one in enumerate(found.questions) if any(entry.counted[i] for entry in found.entries)]
    return Section(
        name=found.name,
        questions=len(asked),
        videos=len({one.video for one in asked}),
        entries=tuple((one.name, timeline.kind_of(one.mode), found.mark(one)) for one in found.entries),
        scores=scores,
        plots=_plots(found, scores),
        official=official,
        comparisons=tuple(one for one in told if one is not None and one.differences),
        histograms=_histograms(drawn),
        groups=groups,
    )


def _plots(found: QuestionSet, scores: Sequence[EntryScores]) -> tuple[CostPlot, ...]:
    """Return accuracy against visual tokens and against seconds; mean IoU where no question has options."""
    by_iou = all(one.accuracy is None for one in scores)
    what = "mean IoU" if by_iou else "accuracy"
    costs = (("visual_tokens", "visual tokens", 0), ("seconds", "seconds", 2))
    plots = []
    for key, unit, digits in costs:
        points = []
        for entry, one in zip(found.entries, scores, strict=True):
            figure = one.miou if by_iou else one.accuracy
            if figure is not None and key in one.costs:
                points.append(_point(one, figure, what, one.costs[key], unit, digits, bool(found.mark(entry))))
        title = f"{what.capitalize() if not by_iou else 'Mean IoU'} against {unit}"
        picture = cost_chart(points, f"{unit} a question", title, None if by_iou else chance(found))
        if picture is not None:
            plots.append(CostPlot(picture, title))
    return tuple(plots)


def _point(one: EntryScores, figure: Figure, what: str, cost: float, unit: str, digits: int, hollow: bool) -> ModePoint:
    title = f"{one.name}: {what} {figure.value:.1f} % of {one.counted:,} questions, {cost:,.{digits}f} {unit}"
    interval = None
    if figure.low is not None and figure.high is not None:
        title += f"; 95 % interval {figure.low:.0f} to {figure.high:.0f} %"
        interval = (figure.low / 100, figure.high / 100)
    return ModePoint(one.name, figure.value / 100, cost, one.counted, interval, title, hollow)


def _histograms(drawn: Sequence[Histogram]) -> tuple[Spread, ...]:
    """Return the histograms on one scale: the highest bar of all fills the height."""
    top = max((max(one.without_span, one.apart, *one.bins) / one.n for one in drawn), default=1.0)
    ticks = ((0.0, "none"), (1.5, "0"), (1.5 + IOU_BINS / 2, "0.5"), (1.5 + IOU_BINS, "1"))
    return tuple(Spread(one.name, share_chart(_piles(one), ticks, top, f"IoU of {one.name}")) for one in drawn)


def _piles(one: Histogram) -> list[Pile]:
    """Return a pile for no span, one for no overlap, and one a bin."""
    kind = timeline.kind_of(one.name)
    edges = [i / IOU_BINS for i in range(IOU_BINS + 1)]
    counted = [("no span named", one.without_span, "line", 1.0), ("no overlap", one.apart, kind, 0.45)]
    counted += [
        (f"IoU {low:.1f} to {high:.1f}", count, kind, 1.0)
        for low, high, count in zip(edges[:-1], edges[1:], one.bins, strict=True)
    ]
    return [
        Pile(((count / one.n, name, opacity),), f"{label}: {count:,} of {one.n:,} ({count / one.n:.0%})")
        for label, count, name, opacity in counted
    ]
