"""What a run has reached: scores, costs and evidence of every mode, and the one table that sets them side by side."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, ReadOptions
from zoomzero.benchmarks.metrics import Interval, Measure, average, bootstrap
from zoomzero.benchmarks.scoring.costs import mean_costs
from zoomzero.benchmarks.scoring.score import BootstrapSettings, Report, score_dataset
from zoomzero.data.annotation import Dataset

Row = dict[str, Any]  # a line of a predictions file
MOST_OFFICIAL = 5
TABLE_COSTS = ("visual_tokens", "prefill_tokens", "generated_tokens", "frames", "decoded_frames", "seconds")


def summarise(
    bench: Benchmark,
    dataset: Dataset,
    rows: Mapping[str, Mapping[str, Row]],
    options: ReadOptions | None = None,
    draws: BootstrapSettings | None = None,
) -> dict[str, Any]:
    """Score the rows of every mode on the same questions.

    Args:
        bench: the benchmark.
        dataset: the questions that count; one without a row counts as wrong.
        rows: mode -> id -> row; rows of other questions are left out.
        options: how the annotation was read.
        draws: how intervals are made.

    Returns:
        {"n", "modes": {mode: scores, costs, evidence}, "table", "differences"}; see docs/reference/evaluation.md.
    """
    draws = draws or BootstrapSettings()
    kept = {mode: _of_questions(dataset, found) for mode, found in rows.items()}
    kept = {mode: found for mode, found in kept.items() if found}
    modes: dict[str, Any] = {}
    compared: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        files = {mode: _write(Path(folder) / f"{mode}.jsonl", found) for mode, found in kept.items()}
        first = next(iter(files), None)
        for mode, found in kept.items():
            against = [files[first]] if first is not None and mode != first else []
            report = score_dataset(bench, dataset, [files[mode]], options, draws, against)
            modes[mode] = _mode(report, dataset, found, draws) | {"headline": _headline(bench, report, mode)}
            if against:
                compared[f"{mode} - {first}"] = report.to_dict().get("difference", {})
    table = [_table_row(mode, values) for mode, values in modes.items()]
    return {"n": len(dataset.questions), "modes": modes, "table": table, "differences": compared}


def _of_questions(dataset: Dataset, found: Mapping[str, Row]) -> list[Row]:
    return [found[question.id] for question in dataset.questions if question.id in found]


def _write(path: Path, rows: Sequence[Row]) -> Path:
    """Write what scoring reads of rows."""
    keys = ("id", "answer", "spans", "failed")
    path.write_text("".join(json.dumps({key: row[key] for key in keys}) + "\n" for row in rows), encoding="utf-8")
    return path


def _mode(report: Report, dataset: Dataset, rows: Sequence[Row], draws: BootstrapSettings) -> dict[str, Any]:
    values = report.to_dict()
    for key in ("benchmark", "split", "sha256", "settings", "difference"):
        values.pop(key, None)
    return values | {"costs": mean_costs(rows), "evidence": _evidence(dataset, rows, draws)}


def _headline(bench: Benchmark, report: Report, mode: str) -> list[str]:
    """Return the names of the official measures people report, as far as this mode has them."""
    names = bench.headline or report.official.names
    asked = {"Acc@GQA", "mIoU", "mIoP"} if mode == "direct" else set()  # it is not asked for spans
    return [name for name in names if name in report.official.values and name not in asked][:MOST_OFFICIAL]


def _evidence(dataset: Dataset, rows: Sequence[Row], draws: BootstrapSettings) -> dict[str, Any]:
    """Return the evidence hit rate (a share) and the faithfulness gap (a difference of shares) with 95 % intervals."""
    by_id = {row["id"]: row["evidence"] for row in rows}
    out: dict[str, Any] = {}
    for name in ("hit", "gap"):
        given = [by_id.get(question.id, {}).get(name) for question in dataset.questions]
        domain = np.array([value is not None for value in given], dtype=bool)
        measure = Measure(name, np.array([value or 0.0 for value in given], dtype=float), domain, domain, scale=1.0)
        out[name] = average(measure, "strict") if domain.any() else None
        interval = bootstrap([measure], "strict", _clusters(dataset), draws.resamples, draws.seed)[0]
        out[f"{name}_interval"] = list(interval) if isinstance(interval, Interval) else None
        out[f"{name}_n"] = int(domain.sum())
    return out


def _clusters(dataset: Dataset) -> Any:
    _, clusters = np.unique([question.video for question in dataset.questions], return_inverse=True)
    return clusters.astype(np.int64)


def _table_row(mode: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mode's line: accuracy, IoU and IoP in percent, mean costs of a question, None for what there is not."""
    union, intervals = values["union"], values["intervals"]["union"]
    row: dict[str, Any] = {"mode": mode}
    if mode == "direct":  # it is not asked for spans
        union = {name: value for name, value in union.items() if name == "Acc@QA"}
    for key, name in (("accuracy", "Acc@QA"), ("acc_gqa", "Acc@GQA"), ("miou", "mIoU"), ("miop", "mIoP")):
        row[key] = union.get(name)
        row[f"{key}_interval"] = list(intervals[name]) if name in union and name in intervals else None
    row |= {name: values["costs"].get(name) for name in TABLE_COSTS}
    row |= {name: values["evidence"][name] for name in ("hit", "gap")}
    return row | {name: values[name] for name in ("n", "missing", "failed", "unparsed")}


def table_text(summary: Mapping[str, Any]) -> str:
    """Return the tables of modes for the terminal: the official measures and counts, then ours and what it cost."""
    if not summary["table"]:
        return ""
    lines = [*_official_lines(summary), "", *_cost_lines(summary["table"])]
    for pair, measures in summary["differences"].items():
        shown = ("union Acc@QA",) if "direct" in pair.split(" - ") else ("union Acc@QA", "union mIoU")
        told = [
            f"{name.removeprefix('union ')} {one['value']:+.1f} [{one['interval'][0]:+.1f}, {one['interval'][1]:+.1f}]"
            f" (p {one['p']:.3f})"
            for name, one in measures.items()
            if name in shown
        ]
        if told:
            lines.append(f"{pair}: {', '.join(told)}")
    if asking := summary.get("asking"):
        who = "the model" if asking["models"] == 1 else f"{asking['models']} models"
        how = f"{who} busy {100 * asking['busy']:.1f} % of it"
        if asking["served"]:
            how = f"at most {asking['models']} videos at once"
        lines += ["", f"{asking['rows']} answers in {asking['seconds']:.1f} s, {how}"]
    return "\n".join(line.rstrip() for line in lines)


def _official_lines(summary: Mapping[str, Any]) -> list[str]:
    """Return the benchmark's own measures for every mode, and how many rows have failed, are missing or say nothing."""
    modes = summary["modes"]
    headlines = sorted((values["headline"] for values in modes.values()), key=len, reverse=True)
    names: list[str] = list(dict.fromkeys(name for headline in headlines for name in headline))
    cells = {mode: [_official(values, name) for name in names] for mode, values in modes.items()}
    columns = zip(names, *cells.values(), strict=True)
    widths = [2 + max(map(len, column)) for column in columns]
    head = "".join(f"{name:<{width}}" for name, width in zip(names, widths, strict=True))
    lines = [f"{'official':<10}{head}{'n':>6}{'failed':>8}{'missing':>9}{'unparsed':>10}"]
    for mode, row in cells.items():
        shown = "".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        counts = modes[mode]
        numbers = f"{counts['n']:>6}{counts['failed']:>8}{counts['missing']:>9}{counts['unparsed']:>10}"
        lines.append(f"{mode:<10}{shown}{numbers}")
    return lines


def _official(values: Mapping[str, Any], name: str) -> str:
    if name not in values["headline"]:
        return "-"
    return _cell(values["official"][name], values["intervals"]["official"].get(name))


def _cost_lines(table: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return accuracy and IoU by one rule for all benchmarks, and what one question cost."""
    columns = (
        ("visual", "visual_tokens", 0, 8),
        ("read", "prefill_tokens", 0, 8),
        ("written", "generated_tokens", 0, 9),
        ("frames", "frames", 0, 8),
        ("seconds", "seconds", 2, 9),
        ("hit", "hit", 2, 7),
        ("gap", "gap", 2, 7),
    )
    head = "".join(f"{title:>{width}}" for title, _, _, width in columns)
    lines = [f"{'strict':<10}{'accuracy':<20}{'mIoU':<20}{head}"]
    for row in table:
        costs = "".join(f"{_number(row[name], digits):>{width}}" for _, name, digits, width in columns)
        lines.append(f"{row['mode']:<10}{_with_interval(row, 'accuracy'):<20}{_with_interval(row, 'miou'):<20}{costs}")
    return lines


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    value, interval = row[name], row[f"{name}_interval"]
    return "-" if value is None else _cell(value, interval)


def _cell(value: float, interval: Sequence[float] | None) -> str:
    return f"{value:.1f}" + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def with_questions(dataset: Dataset, ids: set[str]) -> Dataset:
    """Return the data set with these questions alone, in its order."""
    return replace(dataset, questions=tuple(one for one in dataset.questions if one.id in ids))
