"""Scoring a predictions file: official, strict and union measures, their intervals, tables, and counts of every fault.

`official`: the benchmark's own evaluator, its rule for missing predictions included. `strict`: the same measures with
every question counted, 0 where there is no usable prediction. `union`: spans as sets, the same for every benchmark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, pair, set_measures
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.metrics import (
    BoolArray,
    Definition,
    Difference,
    IntArray,
    Interval,
    Measure,
    average,
    bootstrap,
    compare,
)
from zoomzero.benchmarks.predictions import read_predictions
from zoomzero.data.annotation import Dataset, sha256

RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Scores:
    """One definition's values and their 95 % intervals, under every name; `names` are those shown as text."""

    names: tuple[str, ...]
    values: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a type of question."""

    n: int
    official: dict[str, float]
    strict: dict[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """The scores of one predictions file.

    `counts`: n, missing (no row), failed (a row that reports an error), unparsed (a row without a readable answer, or
    without spans where only spans are scored), without_spans. `faults`: see `predictions`. `notes`: what the reader of
    the annotation left out or assumed. `against`: differences to a second run, with missing predictions as 0.
    """

    benchmark: str
    split: str
    counts: dict[str, int]
    official: Scores
    strict: Scores
    union: Scores
    tables: dict[str, dict[str, Row]]
    faults: dict[str, int]
    notes: dict[str, int]
    sources: dict[str, str]
    settings: dict[str, Any]
    against: dict[str, Difference] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as one JSON object: `official`, `strict`, `union` hold metric name -> number."""
        blocks = {"official": self.official, "strict": self.strict, "union": self.union}
        tables = {
            group: {value: {"n": row.n, "official": row.official, "strict": row.strict} for value, row in table.items()}
            for group, table in self.tables.items()
        }
        out: dict[str, Any] = {"benchmark": self.benchmark, "split": self.split, **self.counts}
        out |= {name: scores.values for name, scores in blocks.items()}
        out["intervals"] = {
            name: {key: list(interval) for key, interval in scores.intervals.items()} for name, scores in blocks.items()
        }
        out |= {"by": tables, "faults": self.faults, "notes": self.notes, "sha256": self.sources}
        out["settings"] = self.settings
        if self.against:
            out["difference"] = {
                name: {"value": one.value, "interval": list(one.interval), "p": one.p}
                for name, one in self.against.items()
            }
        return out


@dataclass(frozen=True, slots=True)
class BootstrapSettings:
    """How intervals are made: number of draws, their seed, and what is drawn (`video` or `question`)."""

    resamples: int = RESAMPLES
    seed: int = 0
    unit: str = "video"


def score(
    name: str,
    data: str | Path,
    predictions: Sequence[str | Path],
    split: str | None = None,
    options: ReadOptions | None = None,
    draws: BootstrapSettings | None = None,
    against: Sequence[str | Path] = (),
) -> Report:
    """Score predictions on a benchmark.

    Args:
        name: the benchmark.
        data: folder or file of its annotation.
        predictions: one file, or several that complete each other.
        split: see `Benchmark.load`.
        options: how annotation is read where it leaves something open.
        draws: how intervals are made.
        against: predictions of a second run to compare with.

    Raises:
        ConfigError: no such benchmark or split.
        DataError: annotation or predictions that cannot be read.
    """
    options = options or ReadOptions()
    bench = benchmark(name)
    return score_dataset(bench, bench.load(data, split, options), predictions, options, draws, against)


def score_dataset(
    bench: Benchmark,
    dataset: Dataset,
    predictions: Sequence[str | Path],
    options: ReadOptions | None = None,
    draws: BootstrapSettings | None = None,
    against: Sequence[str | Path] = (),
) -> Report:
    """Score predictions on questions that are read already; see `score`."""
    options, draws = options or ReadOptions(), draws or BootstrapSettings()
    found = read_predictions(predictions, dataset.questions, bench.response_rule)
    pairs = pair(dataset.questions, found)
    clusters = _clusters(pairs, draws.unit)
    measures, sets = bench.measure(pairs), set_measures(bench, pairs)
    differences: dict[str, Difference] = {}
    if against:
        other = pair(dataset.questions, read_predictions(against, dataset.questions, bench.response_rule))
        differences = _differences(measures + _renamed(sets), bench, other, clusters, draws)
    files = [*dataset.files, *map(Path, predictions), *map(Path, against)]
    return Report(
        benchmark=bench.name,
        split=dataset.split,
        counts=_counts(bench, pairs),
        official=_scores(measures, "official", clusters, draws),
        strict=_scores(measures, "strict", clusters, draws),
        union=_scores(sets, "strict", clusters, draws),
        tables=_tables(bench, pairs, measures),
        faults=dict(found.faults),
        notes=_notes(dataset),
        sources={path.name: sha256(path) for path in files},
        settings={
            "seed": options.seed,
            "fps": options.fps,
            "resamples": draws.resamples,
            "bootstrap_seed": draws.seed,
            "bootstrap_unit": draws.unit,
        },
        against=differences,
    )


def _clusters(pairs: Pairs, unit: str) -> IntArray:
    if unit == "question" or not pairs.questions:
        return np.arange(len(pairs.questions), dtype=np.int64)
    _, clusters = np.unique([question.video for question in pairs.questions], return_inverse=True)
    return clusters.astype(np.int64)


def _counts(bench: Benchmark, pairs: Pairs) -> dict[str, int]:
    rows = pairs.rows
    unread = pairs.present & ~(pairs.answered if bench.scores_answers else pairs.grounded)
    return {
        "n": len(rows),
        "missing": sum(row is None for row in rows),
        "unparsed": int(unread.sum()),
        "failed": sum(row is not None and row.failed for row in rows),
        "without_spans": int((pairs.present & ~pairs.grounded).sum()),
    }


def _notes(dataset: Dataset) -> dict[str, int]:
    equal = sum(len(question.right) > 1 for question in dataset.questions)
    nothing_right = sum(bool(question.options) and not question.right for question in dataset.questions)
    return {**dataset.notes, "right_answer_twice": equal, "right_answer_not_among_options": nothing_right}


def _scores(
    measures: Sequence[Measure], definition: Definition, clusters: IntArray, draws: BootstrapSettings
) -> Scores:
    values: dict[str, float] = {}
    intervals: dict[str, Interval] = {}
    between = bootstrap(measures, definition, clusters, draws.resamples, draws.seed)
    for measure, interval in zip(measures, between, strict=True):
        value = average(measure, definition)
        if value is None:
            continue
        for key in (measure.name, *measure.also):
            values[key] = value
            if interval is not None:
                intervals[key] = interval
    return Scores(tuple(m.name for m in measures if m.name in values and not m.detail), values, intervals)


def _tables(bench: Benchmark, pairs: Pairs, measures: Sequence[Measure]) -> dict[str, dict[str, Row]]:
    tables: dict[str, dict[str, Row]] = {}
    shown = [measure for measure in measures if measure.in_tables and not measure.detail]
    for group in bench.groups:
        found = sorted({value for question in pairs.questions for value in question.groups.get(group, ())})
        table = {}
        for value in found:
            within = np.array([value in question.groups.get(group, ()) for question in pairs.questions], dtype=bool)
            table[value] = Row(int(within.sum()), _within(shown, "official", within), _within(shown, "strict", within))
        if table:
            tables[group] = table
    return tables


def _within(measures: Sequence[Measure], definition: Definition, within: BoolArray) -> dict[str, float]:
    values = {measure.name: average(measure, definition, within) for measure in measures}
    return {name: value for name, value in values.items() if value is not None}


def _renamed(sets: Sequence[Measure]) -> list[Measure]:
    """Return the union measures under names of their own, since official ones may be called the same."""
    return [Measure(f"union {m.name}", m.values, m.counted, m.domain, m.scale) for m in sets]


def _differences(
    measures: Sequence[Measure], bench: Benchmark, other: Pairs, clusters: IntArray, draws: BootstrapSettings
) -> dict[str, Difference]:
    second = {measure.name: measure for measure in [*bench.measure(other), *_renamed(set_measures(bench, other))]}
    out = {}
    for measure in measures:
        if measure.name in second:
            one = compare(measure, second[measure.name], clusters, draws.resamples, draws.seed)
            if one is not None:
                out[measure.name] = one
    return out


# --- text -----------------------------------------------------------------------------------------------


def report_text(report: Report) -> str:
    """Return a report as text for the terminal."""
    counts = report.counts
    head = ", ".join(f"{counts[name]} {name.replace('_', ' ')}" for name in counts if name != "n")
    lines = [f"{report.benchmark} {report.split}: {counts['n']} questions, {head}"]
    if wrong := [f"{count} {name.replace('_', ' ')}" for name, count in report.faults.items() if count]:
        lines.append(f"in the predictions: {', '.join(wrong)}")
    if odd := [f"{count} {name.replace('_', ' ')}" for name, count in report.notes.items() if count]:
        lines.append(f"in the annotation: {', '.join(odd)}")
    cells = {name: (_cell(report.official, name), _cell(report.strict, name)) for name in report.strict.names}
    lines += ["", *_columns(("", "official", "strict (missing = 0)"), cells)]
    if report.union.values:
        sets = {name: (_cell(report.union, name),) for name in report.union.names}
        lines += ["", *_columns(("", "union (sets of spans, missing = 0)"), sets)]
    for group, table in report.tables.items():
        lines += ["", *_table_lines(group, table)]
    if report.against:
        rows = {name: (_number(one.value, one.interval), f"{one.p:.3f}") for name, one in report.against.items()}
        lines += ["", *_columns(("difference", "first - second", "p"), rows)]
    return "\n".join(line.rstrip() for line in lines)


def _columns(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Return rows under a head, every column as wide as its widest cell and two blanks more."""
    table = [tuple(head), *((name, *cells) for name, cells in rows.items())]
    widths = [2 + max(map(len, column)) for column in zip(*table, strict=True)]
    return ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in table]


def _cell(scores: Scores, name: str) -> str:
    return _number(scores.values[name], scores.intervals.get(name)) if name in scores.values else "-"


def _number(value: float, interval: Interval | None) -> str:
    return f"{value:.2f}" + (f" [{interval.low:.2f}, {interval.high:.2f}]" if interval is not None else "")


def _table_lines(group: str, table: dict[str, Row]) -> list[str]:
    """Return a table by type: names to the left, numbers to the right under their names."""
    names = list(next(iter(table.values())).strict)
    first = max(len(text) for text in (f"strict, by {group}", *table)) + 2
    widths = [max(len(name), len("100.00")) + 2 for name in names]
    head = "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))
    lines = [f"{'strict, by ' + group:<{first}}{'n':>6}{head}"]
    for value, row in table.items():
        numbers = [f"{row.strict[name]:.2f}" if name in row.strict else "-" for name in names]
        cells = "".join(f"{number:>{width}}" for number, width in zip(numbers, widths, strict=True))
        lines.append(f"{value:<{first}}{row.n:>6}{cells}")
    return lines
