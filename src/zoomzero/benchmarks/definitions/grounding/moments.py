"""What data sets that ask for one moment are scored by: the first predicted window."""

from __future__ import annotations

import numpy as np

from zoomzero.benchmarks.definitions.base import Pairs, accuracy, share_at
from zoomzero.benchmarks.metrics import BoolArray, Measure, best_window_iou

THRESHOLDS = (0.3, 0.5, 0.7)


def asked_when(sentence: str) -> str:
    """Return the question for a sentence whose moment is wanted."""
    return f'When does this happen in the video: "{" ".join(sentence.split()).strip(".").strip()}"?'


def window_measures(pairs: Pairs, counted: BoolArray) -> list[Measure]:
    """Return recall at 1 and mean IoU of the first predicted window with the best true one, in percent.

    Args:
        pairs: questions and predictions; questions without true spans are left out.
        counted: (n,) the questions the official evaluator counts.
    """
    ious = pairs.span_values(lambda truths, predicted: best_window_iou(truths, predicted[0]))
    domain = np.array([bool(question.spans) for question in pairs.questions], dtype=bool)
    measures = [Measure(f"R1@{t}", share_at(ious, t), counted, domain) for t in THRESHOLDS]
    return [*measures, Measure("mIoU", ious, counted, domain)]


def row_measures(pairs: Pairs) -> list[Measure]:
    """Return the measures of the first window of every row: one without a readable time counts, as 0."""
    return window_measures(pairs, pairs.present)


def moment_measures(pairs: Pairs) -> list[Measure]:
    """Return the measures of the first window, and accuracy on questions made of captions (ours, nobody's official)."""
    return [*window_measures(pairs, pairs.grounded), accuracy(pairs, "Acc@QA", pairs.asked_to_answer())]
