"""The numbers of the evaluation report: scores with intervals, costs, histogram, tables by group, comparisons. Pure.

Scores are the `union` measures of `zoomzero.benchmarks`, in percent, over the questions an entry has answered so far;
a failed answer, one that cannot be read and one whose video was not there count 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from zoomzero.benchmarks.metrics import (
    BoolArray,
    Definition,
    Difference,
    FloatArray,
    Interval,
    Measure,
    average,
    bootstrap,
    compare,
)
from zoomzero.benchmarks.scoring.costs import mean_costs
from zoomzero.benchmarks.scoring.score import BootstrapSettings
from zoomzero.benchmarks.wilson import wilson
from zoomzero.data.annotation import Question
from zoomzero.pages.evaluation.runs import Entry, QuestionSet

COMPARED = ("Acc@QA", "Acc@GQA", "mIoU", "mIoP")
IOU_BINS = 10
DURATION_EDGES_S = (30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)
DURATION_LABELS = (
    "under 30 s",
    "30 s to 1 min",
    "1 to 2 min",
    "2 to 5 min",
    "5 to 10 min",
    "10 to 30 min",
    "30 min to 1 h",
    "1 h and more",
)


@dataclass(frozen=True, slots=True)
class Figure:
    """A number with its 95 % interval, which is None where there is none."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class EntryScores:
    """One line of the table; what was not measured is None. Shares are in percent, costs are means a question.

    `chosen` questions were to be answered, `counted` of them are scored, of which `failed` report an error, `unread`
    name no option and `skipped` had no video.
    """

    name: str
    accuracy: Figure | None
    acc_gqa: Figure | None
    miou: Figure | None
    miop: Figure | None
    hit: Figure | None
    gap: Figure | None
    costs: Mapping[str, float]
    chosen: int
    counted: int
    failed: int
    unread: int
    skipped: int


@dataclass(frozen=True, slots=True)
class OfficialRow:
    """One of the benchmark's own measures: for each entry the official value and, where it differs, the strict one."""

    name: str
    cells: tuple[tuple[Figure | None, float | None], ...]


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One kind of question: how many there are, how many of them each entry counts, its accuracy and mean IoU."""

    value: str
    n: int
    counted: tuple[int, ...]
    accuracy: tuple[Figure | None, ...]
    miou: tuple[Figure | None, ...]


@dataclass(frozen=True, slots=True)
class GroupTable:
    """Scores by one property of the questions."""

    name: str
    rows: tuple[GroupRow, ...]


@dataclass(frozen=True, slots=True)
class Histogram:
    """How an entry's IoUs are spread: answers without a span, without overlap, and in bins of a tenth above 0."""

    name: str
    without_span: int
    apart: int
    bins: tuple[int, ...]

    @property
    def n(self) -> int:
        """Questions in it."""
        return self.without_span + self.apart + sum(self.bins)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two entries on the questions both have answered: first minus second, in points.

    `gained` questions only the first has right, `lost` ones only the second.
    """

    first: str
    second: str
    n: int
    gained: int
    lost: int
    differences: Mapping[str, Difference]


def entry_measures(entry: Entry) -> dict[str, Measure]:
    """Return an entry's union measures over the questions that are counted; no span measure for a mode without any."""
    kept = {name: one for name, one in entry.union.items() if entry.names_spans or name == "Acc@QA"}
    return {name: within(one, entry.counted) for name, one in kept.items()}


def within(measure: Measure, mask: BoolArray) -> Measure:
    """Return a measure over the questions of a mask alone."""
    return replace(measure, domain=measure.mask("strict") & mask)


def figures(
    found: QuestionSet, measures: Sequence[Measure], draws: BootstrapSettings, definition: Definition = "strict"
) -> list[Figure | None]:
    """Return the averages with their 95 % intervals, by drawing whole videos.

    Answers that are all right or all wrong are alike in every draw; their interval is Wilson's over the videos.
    """
    between = bootstrap(measures, definition, found.clusters, draws.resamples, draws.seed)
    return [_figure(found, one, interval, definition) for one, interval in zip(measures, between, strict=True)]


def _figure(found: QuestionSet, measure: Measure, interval: Interval | None, definition: Definition) -> Figure | None:
    value = average(measure, definition)
    if value is None:
        return None
    low, high = interval if interval is not None else (None, None)
    mask = measure.mask(definition)
    seen = measure.values[mask]
    if measure.name == "Acc@QA" and (seen == seen[0]).all() and seen[0] in (0.0, 1.0):
        videos = len(np.unique(found.clusters[mask]))
        low, high = (edge * measure.scale for edge in wilson(float(seen[0]), videos))
    return Figure(value, low, high)


def score_entry(found: QuestionSet, entry: Entry, draws: BootstrapSettings) -> EntryScores:
    """Return an entry's line of the table."""
    measures = entry_measures(entry)
    evidence = {name: _evidence(entry, name) for name in ("hit", "gap")}
    told = {name: one for name, one in {**measures, **evidence}.items() if one.mask("strict").any()}
    by_name = dict(zip(told, figures(found, list(told.values()), draws), strict=True))
    rows = list(entry.rows.values())
    failed = sum(row["failed"] is not None for row in rows)
    present = entry.pairs.present & entry.counted
    unread = present & ~(entry.pairs.answered if found.bench.scores_answers else entry.pairs.grounded)
    return EntryScores(
        name=entry.name,
        accuracy=by_name.get("Acc@QA"),
        acc_gqa=by_name.get("Acc@GQA"),
        miou=by_name.get("mIoU"),
        miop=by_name.get("mIoP"),
        hit=by_name.get("hit"),
        gap=by_name.get("gap"),
        costs=mean_costs(rows),
        chosen=int(entry.chosen.sum()),
        counted=int(entry.counted.sum()),
        failed=failed,
        unread=int(unread.sum()),
        skipped=int(entry.skipped.sum()),
    )


def _evidence(entry: Entry, name: str) -> Measure:
    """Return the evidence hit rate or the faithfulness gap, over the rows where it was measured."""
    given = [entry.rows.get(one.id, {}).get("evidence", {}).get(name) for one in entry.pairs.questions]
    known = np.array([value is not None for value in given], dtype=bool)
    return Measure(name, np.array([value or 0.0 for value in given], dtype=float), known, known)


def official_rows(found: QuestionSet, draws: BootstrapSettings) -> tuple[OfficialRow, ...]:
    """Return the benchmark's own measures, one line each; none where they are the union measures themselves."""
    own = [[within(one, entry.counted) for one in found.bench.measure(entry.pairs)] for entry in found.entries]
    union = [
        {name: average(within(one, entry.counted), "strict") for name, one in entry.union.items()}
        for entry in found.entries
    ]
    if all(
        one.name in known and average(one, "official") == known[one.name]
        for measures, known in zip(own, union, strict=True)
        for one in measures
    ):
        return ()
    cells: dict[str, list[tuple[Figure | None, float | None]]] = {}
    for place, measures in enumerate(own):
        shown = [one for one in measures if not one.detail]
        for one, figure in zip(shown, figures(found, shown, draws, "official"), strict=True):
            row = cells.setdefault(one.name, [(None, None)] * len(found.entries))
            strict = average(one, "strict")
            differs = strict is not None and (figure is None or abs(strict - figure.value) > 1e-9)
            row[place] = (figure, strict if differs else None)
    return tuple(OfficialRow(name, tuple(row)) for name, row in cells.items())


def histogram(entry: Entry) -> Histogram | None:
    """Return how an entry's IoUs are spread, None where there is no evidence to find or the mode names none."""
    ious = entry_measures(entry).get("mIoU")
    if ious is None or not ious.mask("strict").any():
        return None
    mask = ious.mask("strict")
    grounded = entry.pairs.grounded & mask
    values = ious.values[grounded & (ious.values > 0)]
    places = np.minimum((values * IOU_BINS).astype(int), IOU_BINS - 1)
    return Histogram(
        name=entry.name,
        without_span=int((mask & ~grounded).sum()),
        apart=int((grounded & (ious.values <= 0)).sum()),
        bins=tuple(int(count) for count in np.bincount(places, minlength=IOU_BINS)),
    )


# --- by group -------------------------------------------------------------------------------------------


def durations_s(found: QuestionSet) -> FloatArray:
    """Return (n,) lengths of the questions' videos in seconds: as opened, else as annotated, else 0."""

    def one(question: Question) -> float:
        opened = (entry.rows[question.id]["duration_s"] for entry in found.entries if question.id in entry.rows)
        known = next((length for length in opened if length), None)
        return float(known or question.duration_s or question.estimate_s)

    return np.array([one(question) for question in found.questions], dtype=float)


def duration_label(duration_s: float) -> str:
    """Return the group of a length; an edge belongs to the longer group."""
    if not math.isfinite(duration_s) or duration_s <= 0:
        return "unknown"
    return DURATION_LABELS[sum(duration_s >= edge for edge in DURATION_EDGES_S)]


def group_masks(found: QuestionSet) -> dict[str, dict[str, BoolArray]]:
    """Return the properties questions are grouped by: name -> value -> (n,) True where a question has it.

    The first is the video's length; then those of the benchmark's tables. A property with one value is left out.
    """
    lengths = [duration_label(length) for length in durations_s(found)]
    order = [label for label in (*DURATION_LABELS, "unknown") if label in lengths]
    groups = {"video length": {label: np.array([one == label for one in lengths], dtype=bool) for label in order}}
    for name in found.bench.groups:
        held = [question.groups.get(name, ()) for question in found.questions]
        values = sorted({value for one in held for value in one})
        groups[name] = {value: np.array([value in one for one in held], dtype=bool) for value in values}
    return {name: table for name, table in groups.items() if len(table) > 1}


def group_tables(found: QuestionSet, draws: BootstrapSettings) -> tuple[GroupTable, ...]:
    """Return accuracy and mean IoU of every entry by video length and by the benchmark's groups."""
    measures = [entry_measures(entry) for entry in found.entries]
    asked = np.any([entry.counted for entry in found.entries], axis=0)
    tables = []
    for name, groups in group_masks(found).items():
        rows = []
        for value, mask in groups.items():
            if not (mask & asked).any():
                continue
            cells = [[within(one[key], mask) if key in one else None for one in measures] for key in ("Acc@QA", "mIoU")]
            there = [one for row in cells for one in row if one is not None]
            told = iter(figures(found, there, draws))
            accuracy, miou = (tuple(None if one is None else next(told) for one in row) for row in cells)
            counted = tuple(int((mask & entry.counted).sum()) for entry in found.entries)
            rows.append(GroupRow(value, int((mask & asked).sum()), counted, accuracy, miou))
        tables.append(GroupTable(name, tuple(rows)))
    return tuple(tables)


# --- comparing ------------------------------------------------------------------------------------------


def compared_pairs(entries: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Return which entries are compared, first with second.

    Runs with the first run, mode by mode (every mode with the first run's first mode where they share none); and within
    a run its modes with its first one and, where that one names no spans, with the first that does.
    """
    runs: dict[int, list[Entry]] = {}
    for entry in entries:
        runs.setdefault(entry.run.number, []).append(entry)
    base, *others = runs.values()
    pairs = []
    for other in others:
        shared = [(one, two) for one in other for two in base if one.mode == two.mode]
        pairs += shared or [(one, base[0]) for one in other]
    for modes in runs.values():
        grounding = next((one for one in modes if one.names_spans), modes[0])
        for base_mode in dict.fromkeys((modes[0], grounding)):
            pairs += [(one, base_mode) for one in modes[modes.index(base_mode) + 1 :]]
    return pairs


def comparison(found: QuestionSet, first: Entry, second: Entry, draws: BootstrapSettings) -> Comparison | None:
    """Compare two entries on the questions both have answered, None when there is none."""
    both = first.counted & second.counted
    if not both.any():
        return None
    a, b = entry_measures(first), entry_measures(second)
    differences = {}
    for name in COMPARED:
        if name in a and name in b:
            one, two = within(a[name], both), within(b[name], both)
            told = compare(one, two, found.clusters, draws.resamples, draws.seed)
            if told is not None:
                differences[name] = told
    right, other = first.pairs.right[both] > 0, second.pairs.right[both] > 0
    return Comparison(
        first=first.name,
        second=second.name,
        n=int(both.sum()),
        gained=int((right & ~other).sum()),
        lost=int((other & ~right).sum()),
        differences=differences,
    )


def chance(found: QuestionSet) -> float | None:
    """Return the accuracy of guessing among the options, a share; None where a counted question is open."""
    asked = np.any([entry.counted for entry in found.entries], axis=0)
    options = [len(one.options) for one, here in zip(found.questions, asked, strict=True) if here]
    return sum(1 / count for count in options) / len(options) if options and all(options) else None
