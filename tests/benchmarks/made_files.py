"""Files of made-up annotations and predictions, written and read back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.scoring.score import BootstrapSettings, Report, score
from zoomzero.data.annotation import Question

FEW = BootstrapSettings(resamples=20)
FRUIT = ["apple", "banana", "cherry", "date", "elder"]


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def scored(name: str, folder: Path, *rows: dict[str, Any]) -> Report:
    """Score these rows, written beside the folder."""
    return score(name, folder, [write_lines(folder.parent / "run.jsonl", rows)], draws=FEW)


def by_id(name: str, folder: Path, **kwargs: Any) -> dict[str, Question]:
    return {question.id: question for question in benchmark(name).load(folder, **kwargs).questions}
