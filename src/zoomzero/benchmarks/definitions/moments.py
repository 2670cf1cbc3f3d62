"""What data sets without a published GVQA measure are scored by: one window and the answer."""

from __future__ import annotations

import numpy as np

from zoomzero.benchmarks.definitions.base import Pairs, accuracy, share_at
from zoomzero.benchmarks.scoring.metrics import Measure, best_window_iou


def moment_measures(pairs: Pairs) -> list[Measure]:
    """Return recall at 1, mean IoU of the first predicted window, and accuracy on the made questions, in percent.

    Questions without true spans count for accuracy only.
    """
    ious = pairs.span_values(lambda truths, predicted: best_window_iou(truths, predicted[0]))
    domain = np.array([bool(question.spans) for question in pairs.questions], dtype=bool)
    measures = [Measure(f"R1@{t}", share_at(ious, t), pairs.grounded, domain) for t in (0.3, 0.5, 0.7)]
    measures.append(Measure("mIoU", ious, pairs.grounded, domain))
    return [*measures, accuracy(pairs, "Acc@QA", pairs.asked_to_answer())]
