"""ReXTime: reasoning across time on ActivityNet and QVHighlights videos.

`rextime_val.json` (a list: qid, vid, duration, question, options, ans, span, category) is the full annotation;
`rextime_val.jsonl` (qid, query, duration, vid, relevant_windows, ans) the evaluator's form, WITHOUT options: it is
enough for scoring, and converts to grounding examples only.

Source: ReXTime/ReXTime, data and evaluation/rextime_eval.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, accuracy, share_at
from zoomzero.benchmarks.metrics import Measure, best_window_iou
from zoomzero.data.annotation import (
    LETTERS_WITHOUT_OPTIONS,
    Dataset,
    Question,
    read_label,
    read_rows,
    read_spans,
    require,
)
from zoomzero.data.values import Id, Options, Rows, Seconds, Text

COLUMNS = {"qid": Id, "vid": Id, "duration": Seconds, "ans": Text}
FULL = {"question": Text, "span": Rows, "options": Options}
SHORT = {"query": Text, "relevant_windows": Rows}
OTHER_THRESHOLDS = (0.35, 0.4, 0.45, 0.55, 0.6, 0.65, 0.75, 0.8, 0.85, 0.9, 0.95)


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    questions = [_question(row, path, f"row {n}") for n, row in enumerate(read_rows(path), 1)]
    return Dataset("rextime", source.split, tuple(questions), (path,))


def _question(row: dict[str, Any], path: Path, where: str) -> Question:
    full = "options" in row
    row = require(row, COLUMNS | (FULL if full else SHORT), path, where)
    choices = row["options"] if full else ()
    groups = {"source": ("ActivityNet" if row["qid"].startswith("anet") else "QVHighlights",)}
    if row.get("category"):
        groups["category"] = (str(row["category"]),)
    return Question(
        id=row["qid"],
        video=f"{row['vid']}.mp4",
        question=row["question"] if full else row["query"],
        options=choices,
        answer=read_label(row["ans"], len(choices) or LETTERS_WITHOUT_OPTIONS, path, where),
        spans=read_spans([row["span"]] if full else row["relevant_windows"], path, where),
        duration_s=row["duration"],
        groups=groups,
    )


def _measure(pairs: Pairs) -> list[Measure]:
    """Score the first predicted window, in percent (the official code prints the answer's measures as fractions)."""
    ious = pairs.span_values(lambda truths, predicted: best_window_iou(truths, predicted[0]))
    counted = pairs.grounded
    asked = pairs.asked_to_answer()
    measures = [Measure("MR-mIoU", ious, counted, also=("MR-full-mIoU",))]
    measures += [
        Measure(f"R1@{t}", share_at(ious, t), counted, also=(f"MR-R1@{t}", f"MR-full-R1@{t}")) for t in (0.3, 0.5, 0.7)
    ]
    measures += [Measure(f"MR-R1@{t}", share_at(ious, t), counted, detail=True) for t in OTHER_THRESHOLDS]
    measures.append(accuracy(pairs, "VQA", asked))
    measures += [Measure(f"VQA,mIoU@{t}", pairs.right * share_at(ious, t), counted & asked) for t in (0.3, 0.5, 0.7)]
    return measures


BENCHMARK = Benchmark(
    name="rextime",
    about="ReXTime: reasoning across time, four options and evidence",
    splits={
        "val": ("rextime_val.json", "rextime_val.jsonl"),
        "train": ("rextime_train.json",),
        "test": ("rextime_test.json", "rextime_test.jsonl"),
    },
    default_split="val",
    read=_read,
    measure=_measure,
    groups=("source", "category"),
    headline=("MR-mIoU", "R1@0.3", "R1@0.5", "VQA", "VQA,mIoU@0.5"),
)
BENCHMARKS = (BENCHMARK,)
