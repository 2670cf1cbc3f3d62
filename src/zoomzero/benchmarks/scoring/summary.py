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
from zoomzero.benchmarks.runner.run import Row
from zoomzero.benchmarks.scoring.costs import mean_costs
from zoomzero.benchmarks.scoring.metrics import Interval, Measure, average, bootstrap
from zoomzero.benchmarks.scoring.score import BootstrapSettings, Report, score_dataset
from zoomzero.data.annotation import Dataset

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
        {"n", "modes": {mode: scores, costs, evidence}, "table", "differences"}; see docs/evaluation.md.
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
            modes[mode] = _mode(report, dataset, found, draws)
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
    """Return the table of modes for the terminal: what each reached, and what one question cost."""
    head = f"{'mode':<9}{'accuracy':<20}{'mIoU':<20}{'visual':>8}{'read':>8}{'written':>9}{'frames':>8}{'seconds':>9}"
    lines = [f"{head}{'hit':>7}{'gap':>7}{'n':>7}{'failed':>8}{'missing':>9}"]
    for row in summary["table"]:
        costs = "".join(
            f"{_number(row[name], digits):>{width}}"
            for name, digits, width in (
                ("visual_tokens", 0, 8),
                ("prefill_tokens", 0, 8),
                ("generated_tokens", 0, 9),
                ("frames", 0, 8),
                ("seconds", 2, 9),
                ("hit", 2, 7),
                ("gap", 2, 7),
            )
        )
        counts = f"{row['n']:>7}{row['failed']:>8}{row['missing']:>9}"
        lines.append(
            f"{row['mode']:<9}{_with_interval(row, 'accuracy'):<20}{_with_interval(row, 'miou'):<20}{costs}{counts}"
        )
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
        took = f"{asking['rows']} answers in {asking['seconds']:.1f} s, {who} busy {100 * asking['busy']:.1f} % of it"
        lines += ["", took]
    return "\n".join(line.rstrip() for line in lines)


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    value, interval = row[name], row[f"{name}_interval"]
    if value is None:
        return "-"
    return f"{value:.1f}" + (f" [{interval[0]:.1f}, {interval[1]:.1f}]" if interval else "")


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def with_questions(dataset: Dataset, ids: set[str]) -> Dataset:
    """Return the data set with these questions alone, in its order."""
    return replace(dataset, questions=tuple(one for one in dataset.questions if one.id in ids))
