"""Judged examples and filter reports written by hand."""

from __future__ import annotations

from zoomzero.data.difficulty import Difficulty, Judged
from zoomzero.data.example import Example
from zoomzero.data.manifest import LeakReport
from zoomzero.spans import Span
from zoomzero.train.filter import FilterReport, OfflineFilterSettings


def judged(id_: str, verdict: str, hit: float | None, iou: float = 0.3, question: str = "What?", detail: str = ""):
    one = Example(id_, f"{id_}.mp4", question, ("x", "y"), "A", (Span(1, 2),), 9.0, "made", "train")
    return Judged(one, verdict, None if hit is None else Difficulty(4, hit, iou, 0.9, 0.1), detail)


def report(*rows: Judged, leaks: LeakReport | None = None, answered_by: tuple[str, ...] = ("tiny",)) -> FilterReport:
    faults = {"bad_spans": 2, "unknown_ids": 0}
    return FilterReport("in.jsonl", "out.jsonl", answered_by, OfflineFilterSettings(), rows, leaks, faults)
