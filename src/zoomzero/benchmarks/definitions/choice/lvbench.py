"""LVBench: hour-long videos. Bring `video_info.meta.jsonl` from its release.

One line for each video: key, qa: [{uid, question (options inside, `\\n(A) ...`), answer, question_type: [..],
time_reference: "01:02-01:30"}]. A question counts in each of its types.

Source: THUDM/LVBench, lvbench/metrics/compute_accuracy.py and scripts/test_acc.py.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, accuracy
from zoomzero.benchmarks.metrics import Measure
from zoomzero.data.annotation import LETTERS_WITHOUT_OPTIONS, Dataset, Question, read_label, read_rows, require
from zoomzero.data.values import Id, Labels, Rows, Seconds, Text, as_type
from zoomzero.prompts import option_labels
from zoomzero.prompts.times import read_spans as spans_in_text
from zoomzero.spans import Span

OPTION = re.compile(r"\n\s*\(([A-Z])\)")
USUAL_MINUTES = 60.0
SHORT_NAMES = {
    "key information retrieval": "KIR",
    "event understanding": "EU",
    "summarization": "Sum",
    "entity recognition": "ER",
    "reasoning": "Rea",
    "temporal grounding": "TG",
}


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    notes = Counter({"options_not_found": 0, "time_references_not_read": 0})
    questions = []
    for number, row in enumerate(read_rows(path), 1):
        row = require(row, {"key": Id, "qa": Rows}, path, f"line {number}")
        questions += [_question(row, qa, path, f"line {number}", notes) for qa in row["qa"]]
    return Dataset("lvbench", source.split, tuple(questions), (path,), notes)


def _question(row: dict[str, Any], qa: dict[str, Any], path: Path, where: str, notes: Counter[str]) -> Question:
    qa = require(qa, {"uid": Id, "question": Text, "answer": Text, "question_type": Labels}, path, where)
    text, choices = split_options(qa["question"])
    notes["options_not_found"] += not choices
    return Question(
        id=qa["uid"],
        video=f"{row['key']}.mp4",
        question=text,
        options=choices,
        answer=read_label(qa["answer"], len(choices) or LETTERS_WITHOUT_OPTIONS, path, f"{where}, uid {qa['uid']}"),
        spans=_evidence(qa, notes),
        estimate_s=_minutes(row) * 60,
        groups={"question_type": qa["question_type"]},
    )


def _minutes(row: dict[str, Any]) -> float:
    """Return the stated length in minutes, which is rounded, so that evidence must not be cut to it."""
    info = row.get("video_info")
    minutes = info.get("duration_minutes") if isinstance(info, dict) else None
    try:
        return as_type(Seconds, minutes) or USUAL_MINUTES
    except ValueError:
        return USUAL_MINUTES


def split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Return the question and its options, none when they are not lettered A, B, .. in order."""
    parts = OPTION.split(text)
    letters, options = parts[1::2], parts[2::2]
    if len(options) < 2 or tuple(letters) != option_labels(len(letters)):
        return text.strip(), ()
    return parts[0].strip(), tuple(option.strip() for option in options)


def _evidence(qa: dict[str, Any], notes: Counter[str]) -> tuple[Span, ...]:
    """Return the spans of a time reference such as `01:02-01:30`; a number without unit or colons tells no time."""
    written = qa.get("time_reference")
    if not written:
        return ()
    if not isinstance(written, str):
        notes["time_references_not_read"] += 1
        return ()
    spans, problems = spans_in_text(written, bare=False)
    notes["time_references_not_read"] += bool(problems) or not spans
    return spans


def _measure(pairs: Pairs) -> list[Measure]:
    """Score accuracy over all and for each type, in percent (the official code prints fractions)."""
    measures = [accuracy(pairs, "Overall", pairs.present, also=("acc",))]
    for name, short in SHORT_NAMES.items():
        domain = np.array([name in question.groups["question_type"] for question in pairs.questions], dtype=bool)
        measures.append(Measure(short, pairs.right, pairs.present, domain, also=(name,), in_tables=False))
    return measures


BENCHMARK = Benchmark(
    name="lvbench",
    about="LVBench: hour-long videos, six abilities (bring your own annotation)",
    splits={"test": ("video_info.meta.jsonl", "data/video_info.meta.jsonl")},
    default_split="test",
    read=_read,
    measure=_measure,
    groups=("question_type",),
    headline=("Overall",),
    scores_spans=False,
)
BENCHMARKS = (BENCHMARK,)
