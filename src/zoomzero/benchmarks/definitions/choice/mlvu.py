"""MLVU: tasks on long videos, by kinds of understanding; the seven tasks with options.

dev: `1_plotQA.json` .. `7_topic_reasoning.json` (also under `json/`): lists of video, duration, question, candidates,
answer (TEXT), question_type; ids are `<question_type>_<place in its file, from 0>`. test: `test_mcq_gt.json`, with
question_id. The two generation tasks (`8_sub_scene`, `9_summary`) need a judge and are left out, counted.

Source: JUNJIE99/MLVU, data and video_chat/choice_bench.py.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, accuracy
from zoomzero.benchmarks.metrics import Measure
from zoomzero.data.annotation import Dataset, Question, label_of_text, read_rows, require
from zoomzero.data.values import Id, Options, Seconds, Text, as_id

COLUMNS = {
    "video": Id,
    "duration": Seconds,
    "question": Text,
    "candidates": Options,
    "answer": Id,
    "question_type": Id,
}


def _read(source: Source, options: ReadOptions) -> Dataset:
    notes = Counter({"generation_questions_left_out": 0})
    questions = []
    for path in source.files:
        for place, row in enumerate(read_rows(path)):
            where = f"row {place + 1}"
            if "candidates" not in row and "answer" in row and "question_type" in row:
                notes["generation_questions_left_out"] += 1
                continue
            questions.append(_question(row, place, path, where))
    return Dataset("mlvu", source.split, tuple(questions), source.files, notes)


def _question(row: dict[str, Any], place: int, path: Path, where: str) -> Question:
    row = require(row, COLUMNS, path, where)
    task, choices = row["question_type"], row["candidates"]
    folder = "" if "question_id" in row else f"{path.stem}/"  # as the videos lie in the release
    return Question(
        id=as_id(row.get("question_id", f"{task}_{place}"), path, where),
        video=f"{folder}{row['video']}",
        question=row["question"],
        options=choices,
        answer=label_of_text(choices, row["answer"]),
        spans=(),
        duration_s=row["duration"],
        groups={"task": (task,)},
    )


def _measure(pairs: Pairs) -> list[Measure]:
    """Score M-Avg, the mean of the tasks' accuracies, the plain accuracy (`micro`), and each task's."""
    tasks = sorted({question.groups["task"][0] for question in pairs.questions})
    task = np.array([tasks.index(question.groups["task"][0]) for question in pairs.questions], dtype=np.int64)
    hopeless = np.array([not question.right for question in pairs.questions], dtype=bool)
    counted = pairs.present | hopeless  # no answer is right, so officially it is wrong, asked or not
    return [
        Measure("M-Avg", pairs.right, counted, classes=task, in_tables=False),
        accuracy(pairs, "micro", counted, also=("Acc@QA",)),
        *(Measure(name, pairs.right, counted, task == i, in_tables=False) for i, name in enumerate(tasks)),
    ]


BENCHMARK = Benchmark(
    name="mlvu",
    about="MLVU: seven tasks with options, averaged over tasks",
    splits={
        "dev": ("[1-9]_*.json", "json/[1-9]_*.json"),
        "test": ("test_mcq_gt.json", "test-ground-truth/test_mcq_gt.json", "*/test_mcq_gt.json"),
    },
    default_split="dev",
    read=_read,
    measure=_measure,
    groups=("task",),
    headline=("M-Avg", "micro"),
    scores_spans=False,
)
BENCHMARKS = (BENCHMARK,)
