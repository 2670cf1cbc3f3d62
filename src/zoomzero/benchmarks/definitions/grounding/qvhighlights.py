"""QVHighlights: moments and highlights of 150 s clips, found by a sentence.

`highlight_<split>_release.jsonl` (`highlight_test_with_gt.jsonl`): qid, query, duration, vid, relevant_windows,
relevant_clip_ids, saliency_scores. It asks no question: examples ask which of four descriptions is seen in the clip
(`data/captions.py`), and `Acc@QA` on them is ours, not official.

Source: jayleicn/moment_detr, data and standalone_eval.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, share_at
from zoomzero.benchmarks.metrics import (
    DETECTION_THRESHOLDS,
    Measure,
    best_window_iou,
    clip_ap,
    detection_ap,
    fit_length,
)
from zoomzero.benchmarks.predictions import Prediction
from zoomzero.data.annotation import Dataset, Question, read_rows, read_spans, require
from zoomzero.data.captions import Caption, shown_questions
from zoomzero.data.values import Id, Numbers, Rows, Seconds, Text, listed_as
from zoomzero.errors import DataError
from zoomzero.spans import Span

Places, Scores = listed_as(int), listed_as(Numbers)
COLUMNS = {
    "qid": Id,
    "query": Text,
    "duration": Seconds,
    "vid": Id,
    "relevant_windows": Rows,
    "relevant_clip_ids": Places,
    "saliency_scores": Scores,
}
CLIP_S = 2
LONGEST_S = 86_400.0
MOST_WINDOWS = 10
LENGTHS = {"short": (0.0, 10.0), "middle": (10.0, 30.0), "long": (30.0, 150.0)}  # low < length <= high
SALIENCY_LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    captions = [_caption(row, path, f"line {n}") for n, row in enumerate(read_rows(path), 1)]
    questions, notes = shown_questions(captions, options.seed)
    return Dataset("qvhighlights", source.split, tuple(questions), (path,), notes)


def _caption(row: dict[str, Any], path: Path, where: str) -> Caption:
    row = require(row, COLUMNS, path, where)
    vid, duration_s = row["vid"], row["duration"]
    if duration_s > LONGEST_S:
        raise DataError(
            path, where, f"a duration of {duration_s:g} s is no clip's; clips have {LENGTHS['long'][1]:g} s"
        )
    return Caption(
        id=row["qid"],
        video=f"{vid}.mp4",
        recording=vid.rsplit("_", 2)[0],
        text=" ".join(row["query"].split()),
        spans=read_spans(row["relevant_windows"], path, where),
        duration_s=duration_s,
        saliency=_saliency(row, int(duration_s / CLIP_S), path, where),
    )


def _saliency(row: dict[str, Any], n_clips: int, path: Path, where: str) -> tuple[tuple[float, ...], ...]:
    """Return the (clips, annotators) scores; clips that are not listed have 0."""
    ids, scores = row["relevant_clip_ids"], row["saliency_scores"]
    if len(ids) != len(scores) or any(not 0 <= i < n_clips for i in ids):
        raise DataError(path, where, f"relevant_clip_ids must be {len(scores)} of the {n_clips} clips, one per score")
    full: list[tuple[float, ...]] = [(0.0, 0.0, 0.0)] * n_clips
    for i, score in zip(ids, scores, strict=True):
        full[i] = tuple(score)
    return tuple(full)


def _measure(pairs: Pairs) -> list[Measure]:
    """Score moments of all lengths and of each range of lengths, and highlights where saliency is given; percent."""
    measures = _moments(pairs, "full", None)
    for name, lengths in LENGTHS.items():
        measures += _moments(pairs, name, lengths)
    measures.sort(key=lambda measure: measure.detail)
    if any(row is not None and row.saliency for row in pairs.rows):
        measures += _highlights(pairs)
    if pairs.answered.any():  # the options are ours: no official evaluator counts them
        measures.append(Measure("Acc@QA", pairs.right, np.zeros(len(pairs.questions), dtype=bool)))
    return measures


def _moments(pairs: Pairs, name: str, lengths: tuple[float, float] | None) -> list[Measure]:
    """Return R1 and mAP against the true windows of a range of lengths; queries without any are not in it."""
    truths = [question.spans for question in pairs.questions]
    if lengths is not None:
        low_s, high_s = lengths
        truths = [tuple(window for window in some if low_s < window.length_s <= high_s) for some in truths]
    domain = np.array([bool(some) for some in truths], dtype=bool)
    first = np.zeros(len(truths))
    precision = np.zeros((len(truths), len(DETECTION_THRESHOLDS)))
    for i, (some, row) in enumerate(zip(truths, pairs.rows, strict=True)):
        if row is not None and pairs.grounded[i] and some:
            first[i] = best_window_iou(some, row.spans[0])
            precision[i] = detection_ap(some, _ranked(row))
    full = lengths is None
    measures = []
    for i, t in enumerate(DETECTION_THRESHOLDS):
        also = ((f"R1@{t}",), (f"mAP@{t}",)) if full else ((), ())
        main = (full and t in (0.5, 0.7), full and t in (0.5, 0.75))
        recall = share_at(first, t)
        measures.append(Measure(f"MR-{name}-R1@{t}", recall, pairs.grounded, domain, also=also[0], detail=not main[0]))
        measures.append(
            Measure(f"MR-{name}-mAP@{t}", precision[:, i], pairs.grounded, domain, also=also[1], detail=not main[1])
        )
    mean = precision.mean(axis=1)
    return [*measures, Measure(f"MR-{name}-mAP", mean, pairs.grounded, domain, also=("mAP",) if full else ())]


def _ranked(row: Prediction) -> list[Span]:
    """Return the first ten windows, best score first; in the order written where they have no scores."""
    windows = row.spans[:MOST_WINDOWS]
    if not row.scores:
        return list(windows)
    order = sorted(range(len(windows)), key=lambda i: -row.scores[i])
    return [windows[i] for i in order]


def _highlights(pairs: Pairs) -> list[Measure]:
    """Return mAP and hit@1 of the clips' saliency, at three levels of what counts as salient."""
    given = np.array([row is not None and bool(row.saliency) for row in pairs.rows], dtype=bool) & pairs.present
    measures = []
    for name, level in SALIENCY_LEVELS.items():
        precision, hit = pairs.values(partial(_clip_precision, level)), pairs.values(partial(_hit, level))
        measures.append(Measure(f"HL-min-{name}-mAP", precision, given))
        measures.append(Measure(f"HL-min-{name}-Hit1", hit, given))
    return measures


def _clip_precision(level: int, question: Question, row: Prediction) -> float:
    """Return the average precision of the predicted saliency, mean over the annotators."""
    if not row.saliency or not question.saliency:
        return 0.0
    salient = np.array(question.saliency) >= level  # (clips, annotators)
    scores = fit_length(row.saliency, len(salient))
    return float(np.mean([clip_ap(one, scores) for one in salient.T]))


def _hit(level: int, question: Question, row: Prediction) -> float:
    """Return 1 when any annotator finds the clip with the highest predicted saliency salient."""
    if not row.saliency:
        return 0.0
    top = int(np.argmax(row.saliency))
    return float(top < len(question.saliency) and max(question.saliency[top]) >= level)


BENCHMARK = Benchmark(
    name="qvhighlights",
    about="QVHighlights: moments and highlights found by a sentence",
    splits={
        "val": ("highlight_val_release.jsonl",),
        "test": ("highlight_test_with_gt.jsonl",),
        "train": ("highlight_train_release.jsonl",),
    },
    default_split="val",
    read=_read,
    measure=_measure,
    headline=("MR-full-R1@0.5", "MR-full-R1@0.7", "MR-full-mAP"),
    scores_answers=False,
)
BENCHMARKS = (BENCHMARK,)
