"""LongVideoBench: referring questions on videos of 8 seconds to an hour, with subtitles.

`lvb_val.json` (`lvb_test_wo_gt.json` without the answers): a list of id, video_path, question, candidates,
correct_choice (from 0), duration, duration_group (15, 60, 600, 3600), question_category, topic_category, level; or the
release's parquet, with option0 .. option4 (`N/A` where there is none).

Source: longvideobench/LongVideoBench, longvideobench_dataset.py; EvolvingLMMs-Lab/lmms-eval, tasks/longvideobench.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source
from zoomzero.benchmarks.definitions.choice.letters import first_capital
from zoomzero.benchmarks.metrics import Measure
from zoomzero.data.annotation import Dataset, Question, read_rows, require
from zoomzero.data.values import Id, Options, Seconds, Text, shown, typed
from zoomzero.errors import DataError
from zoomzero.prompts import option_labels

COLUMNS = {
    "id": Id,
    "video_path": Id,
    "question": Text,
    "duration": Seconds,
    "duration_group": Id,
    "question_category": Id,
}
LENGTHS = {"15": "8-15 s", "60": "15-60 s", "600": "3-10 min", "3600": "15-60 min"}
NO_OPTION = "N/A"
LEADS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option is",
    "The correct option is",
    "Best answer:",
    "Best option:",
)


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    questions = [_question(row, path, f"row {n}") for n, row in enumerate(read_rows(path), 1)]
    return Dataset("longvideobench", source.split, tuple(questions), (path,))


def _question(row: dict[str, Any], path: Path, where: str) -> Question:
    row = require(row, COLUMNS, path, where)
    choices = _options(row, path, where)
    groups = {
        "duration": (LENGTHS.get(row["duration_group"], row["duration_group"]),),
        "question_category": (row["question_category"],),
    }
    groups |= {
        name: (typed(row[name], Id, name, path, where),) for name in ("level", "topic_category") if row.get(name)
    }
    return Question(
        id=row["id"],
        video=row["video_path"],
        question=row["question"],
        options=choices,
        answer=_answer(row.get("correct_choice"), len(choices), path, where),
        spans=(),
        duration_s=row["duration"],
        groups=groups,
    )


def _options(row: dict[str, Any], path: Path, where: str) -> tuple[str, ...]:
    if "candidates" in row:
        listed = row["candidates"]
    else:
        require(row, ("option0",), path, where)
        listed = [row[f"option{i}"] for i in range(5) if row.get(f"option{i}") not in (None, NO_OPTION)]
    options: tuple[str, ...] = typed(listed, Options, "candidates", path, where)
    return options


def _answer(place: Any, n_options: int, path: Path, where: str) -> str:
    """Return the label of the right option; empty for the test split, which has no answers."""
    if place is None or place == -1:
        return ""
    if isinstance(place, bool) or not isinstance(place, int) or not 0 <= place < n_options:
        raise DataError(
            path, where, f"correct_choice {shown(place)} is none of the {n_options} options, counted from 0"
        )
    return option_labels(n_options)[place]


def official_letter(response: str, question: Question) -> str:
    """Return the first capital A to E in a response without the leads the evaluator knows; empty when none.

    The evaluator then draws an option at random; here such a response is wrong.
    """
    return first_capital(response, LEADS, "ABCDE")


def _measure(pairs: Pairs) -> list[Measure]:
    """Score accuracy, in all and for each length."""
    answered = np.array([bool(question.answer) for question in pairs.questions], dtype=bool)
    measures = [Measure("Overall", pairs.right, pairs.present, answered, also=("lvb_acc",))]
    for length in LENGTHS.values():
        domain = np.array([length in question.groups["duration"] for question in pairs.questions], dtype=bool)
        measures.append(Measure(length, pairs.right, pairs.present, domain & answered, in_tables=False))
    return measures


BENCHMARKS = (
    Benchmark(
        name="longvideobench",
        about="LongVideoBench: referring questions on videos of up to an hour",
        splits={
            "val": ("lvb_val.json", "validation-*.parquet"),
            "test": ("lvb_test_wo_gt.json", "test-*.parquet"),
        },
        default_split="val",
        read=_read,
        measure=_measure,
        groups=("duration", "question_category", "level", "topic_category"),
        headline=("Overall", *LENGTHS.values()),
        response_rule=official_letter,
        scores_spans=False,
    ),
)
