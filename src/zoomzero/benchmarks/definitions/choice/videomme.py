"""Video-MME: questions on short, medium and long videos. Its licence forbids copies: bring the annotation yourself.

The parquet file of the release (video_id, duration = short | medium | long, domain, sub_category, videoID,
question_id, task_type, question, options, answer), the same rows as .jsonl or .json, or the official evaluator's JSON
(one entry for each video, with `questions`).

Source: BradyFU/Video-MME, evaluation/eval_your_results.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, accuracy
from zoomzero.benchmarks.definitions.choice.letters import first_capital, without_letters
from zoomzero.benchmarks.metrics import BoolArray, Measure
from zoomzero.data.annotation import Dataset, Question, read_label, read_rows, require
from zoomzero.data.values import Id, Options, Table, Text, listed_as

COLUMNS = {
    "duration": Id,
    "domain": Id,
    "sub_category": Id,
    "videoID": Id,
    "question_id": Id,
    "task_type": Id,
    "question": Text,
    "options": Options,
    "answer": Text,
}
LENGTHS = {"short": 120.0, "medium": 900.0, "long": 3600.0}  # the longest of each, seconds
LEADS = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",  # two strings the official code runs together: kept for equal numbers
    "Best answer:Best option:",
)


def _read(source: Source, options: ReadOptions) -> Dataset:
    questions = []
    for path in source.files:
        for number, row in enumerate(read_rows(path), 1):
            rows = _of_one_video(row, path, f"row {number}") if "questions" in row else [row]
            questions += [_question(one, path, f"row {number}") for one in rows]
    return Dataset("videomme", source.split, tuple(questions), source.files)


def _of_one_video(video: dict[str, Any], path: Path, where: str) -> list[dict[str, Any]]:
    """Return the rows of an entry of the official evaluator's file, under the release's column names."""
    categories = ("video_id", "duration_category", "video_category", "video_subcategory")
    video = require(video, dict.fromkeys(categories, Id) | {"questions": listed_as(Table)}, path, where)
    common = {
        "duration": video["duration_category"],
        "domain": video["video_category"],
        "sub_category": video["video_subcategory"],
        "videoID": video.get("videoID", video["video_id"]),
    }
    return [{**common, **question, "options": question.get("choices", ())} for question in video["questions"]]


def _question(row: dict[str, Any], path: Path, where: str) -> Question:
    row = require(row, COLUMNS, path, where)
    choices = without_letters(row["options"])
    return Question(
        id=row["question_id"],
        video=f"{row['videoID']}.mp4",
        question=row["question"],
        options=choices,
        answer=read_label(row["answer"], len(choices), path, where),
        spans=(),
        estimate_s=LENGTHS.get(row["duration"], LENGTHS["long"]),
        groups={name: (row[name],) for name in ("duration", "domain", "sub_category", "task_type")},
    )


def official_letter(response: str, question: Question) -> str:
    """Return the letter the official evaluator reads in a response, empty when none.

    Without the leads it knows, the first capital A, B, C or D anywhere, be it in a word.
    """
    return first_capital(response, LEADS, "ABCD")


def _measure(pairs: Pairs) -> list[Measure]:
    """Score accuracy; the official evaluator drops what it cannot read."""
    counted = pairs.answered
    measures = [accuracy(pairs, "Overall", counted, also=("Acc@QA",))]
    for length in LENGTHS:
        domain = _in_group(pairs, "duration", length)
        measures.append(Measure(length, pairs.right, counted, domain, in_tables=False))
    return measures


def _in_group(pairs: Pairs, group: str, value: str) -> BoolArray:
    return np.array([value in question.groups[group] for question in pairs.questions], dtype=bool)


BENCHMARK = Benchmark(
    name="videomme",
    about="Video-MME: accuracy by length, domain and task (bring your own annotation)",
    splits={"test": ("test-*.parquet", "videomme/test-*.parquet", "*.parquet", "videomme*.json*", "*test*.json*")},
    default_split="test",
    read=_read,
    measure=_measure,
    groups=("duration", "task_type", "domain", "sub_category"),
    headline=("Overall", *LENGTHS),
    response_rule=official_letter,
    scores_spans=False,
)
BENCHMARKS = (BENCHMARK,)
