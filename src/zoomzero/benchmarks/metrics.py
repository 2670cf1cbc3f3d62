"""Definitions of the measures: what one question scores, how questions are averaged, how sure the average is.

Set arithmetic on spans lives in `zoomzero.spans`. The functions here that look alike are the official evaluators'
own: each differs from the set measure in a way its docstring names, and reproducing published numbers needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from zoomzero.benchmarks.wilson import wilson
from zoomzero.spans import Span

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Definition = Literal["official", "strict"]

DETECTION_THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(10))
CHUNK_CELLS = 2_000_000

# --- one question: spans --------------------------------------------------------------------------------


class Overlap(NamedTuple):
    """Intersection over union and over prediction."""

    iou: float
    iop: float


def hull_overlap(true: Span, predicted: Span) -> Overlap:
    """Return IoU and IoP of one true segment and one predicted span, as NExT-GQA's evaluator has them.

    It differs from the set measure: the union is the hull (the gap between two spans counts), a point prediction has
    IoU 0 and IoP 1 if it lies in the segment (ends included), disjoint spans come out negative (see `best_overlap`).

    Source: doc-doc/NExT-GQA, code/TempGQA/eval_ground.py.
    """
    if predicted.start_s == predicted.end_s:
        return Overlap(0.0, float(true.start_s <= predicted.start_s <= true.end_s))
    inter = min(true.end_s, predicted.end_s) - max(true.start_s, predicted.start_s)
    hull = max(true.end_s, predicted.end_s) - min(true.start_s, predicted.start_s)
    length = predicted.length_s
    return Overlap(inter / hull if hull > 0 else 0.0, inter / length if length > 0 else 0.0)


def best_overlap(truths: Sequence[Span], predicted: Span) -> Overlap:
    """Return the best IoU and, independently, the best IoP over the true segments (not merged), both at least 0.

    Source: doc-doc/NExT-GQA, code/TempGQA/eval_ground.py.
    """
    overlaps = [hull_overlap(true, predicted) for true in truths]
    return Overlap(max([0.0, *(o.iou for o in overlaps)]), max([0.0, *(o.iop for o in overlaps)]))


def best_window_iou(truths: Sequence[Span], predicted: Span) -> float:
    """Return the IoU of one predicted window with the best of the true windows.

    It differs from the set measure in taking one true window, not their union. (The official code divides by the hull;
    for windows that overlap hull and union are the same, and for all others the intersection is 0.)

    Source: jayleicn/moment_detr, standalone_eval/eval.py; ReXTime/ReXTime, evaluation/rextime_eval.py.
    """
    best = 0.0
    for true in truths:
        inter = min(true.end_s, predicted.end_s) - max(true.start_s, predicted.start_s)
        hull = max(true.end_s, predicted.end_s) - min(true.start_s, predicted.start_s)
        if inter > 0 and hull > 0:
            best = max(best, inter / hull)
    return best


def interval_iou(truths: Sequence[Span], predicted: Sequence[Span]) -> float:
    """Return the IoU of two interval lists, as CG-Bench's evaluator has it.

    For proper spans it equals `spans.iou`. It differs for reversed ones, which are merged like any other and keep their
    negative length, so the union shrinks.

    Source: CG-Bench/CG-Bench, run/utils.py.
    """
    a, b = _merged_as_written(truths), _merged_as_written(predicted)
    inter = sum(max(0.0, min(x.end_s, y.end_s) - max(x.start_s, y.start_s)) for x in a for y in b)
    union = sum(x.length_s for x in a) + sum(y.length_s for y in b) - inter
    return inter / union if union > 0 else 0.0


def _merged_as_written(spans: Sequence[Span]) -> list[Span]:
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start_s):
        if merged and span.start_s <= merged[-1].end_s:
            merged[-1] = Span(merged[-1].start_s, max(merged[-1].end_s, span.end_s))
        else:
            merged.append(span)
    return merged


def detection_ap(
    truths: Sequence[Span], predicted: Sequence[Span], thresholds: Sequence[float] = DETECTION_THRESHOLDS
) -> FloatArray:
    """Return the interpolated average precision of ranked windows at each IoU threshold.

    Greedy matching: windows in order of rank, each takes the free true window it overlaps most, if by the threshold.

    Args:
        truths: true windows.
        predicted: windows, best first.
        thresholds: (T,) IoU thresholds, inclusive.

    Returns:
        (T,) average precision, 0 without predictions or truths.

    Source: jayleicn/moment_detr, standalone_eval/utils.py (Pascal VOC's measure on time).
    """
    hits = np.zeros((len(thresholds), len(predicted)))  # (T, P) 1 where the window matched
    if not truths or not predicted:
        return np.zeros(len(thresholds))
    ious = np.array([[_union_iou(true, window) for true in truths] for window in predicted])  # (P, G)
    order = np.argsort(ious, axis=1)[:, ::-1]
    for t, threshold in enumerate(thresholds):
        free = np.ones(len(truths), dtype=bool)
        for p in range(len(predicted)):
            for g in order[p]:
                if ious[p, g] < threshold:
                    break
                if free[g]:
                    free[g] = False
                    hits[t, p] = 1.0
                    break
    found = np.cumsum(hits, axis=1)
    precision = found / np.arange(1, len(predicted) + 1)
    ceiling = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]  # what is reached at this recall or beyond it
    area: FloatArray = (hits * ceiling).sum(axis=1) / len(truths)
    return area


def _union_iou(a: Span, b: Span) -> float:
    inter = max(0.0, min(a.end_s, b.end_s) - max(a.start_s, b.start_s))
    union = a.length_s + b.length_s - inter
    return inter / union if union > 0 else 0.0


# --- one question: saliency of clips --------------------------------------------------------------------


def clip_ap(relevant: BoolArray, scores: FloatArray) -> float:
    """Return the average precision of clips ranked by score, QVHighlights' way.

    0 when no clip is relevant, 1 when all are; precision is interpolated towards higher recall and averaged over the
    ranks at which recall grows.

    Args:
        relevant: (C,) True where the clip is relevant.
        scores: (C,) predicted saliency.

    Source: jayleicn/moment_detr, standalone_eval/utils.py.
    """
    if not relevant.any():
        return 0.0
    if relevant.all():
        return 1.0
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)  # ends of runs of equal scores
    found = np.cumsum(relevant[order])[last]
    precision = np.maximum.accumulate((found / (last + 1))[::-1])[::-1]
    return float(precision[np.diff(found, prepend=0) > 0].mean())


def fit_length(scores: Sequence[float], length: int) -> FloatArray:
    """Return the scores cut or filled with 0 to `length` clips, as the official evaluator does."""
    fitted = np.zeros(length)
    fitted[: min(length, len(scores))] = scores[:length]
    return fitted


# --- all questions --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Measure:
    """A measure of all questions, before averaging.

    Args:
        name: its official name.
        values: (n,) what each question scores; 0 where there is no usable prediction.
        counted: (n,) True where the official evaluator counts the question (it may skip missing ones).
        domain: (n,) True where the measure is about the question at all; None: everywhere.
        scale: 100 for percent, 1 for a fraction.
        classes: (n,) class of each question when the average is over classes (macro), else None.
        also: other names it is published under.
        in_tables: whether per-type tables show it.
        detail: one of many thresholds, shown in JSON only.
    """

    name: str
    values: FloatArray
    counted: BoolArray
    domain: BoolArray | None = None
    scale: float = 100.0
    classes: IntArray | None = None
    also: tuple[str, ...] = ()
    in_tables: bool = True
    detail: bool = False

    def mask(self, definition: Definition) -> BoolArray:
        """Return the questions that are averaged: the official evaluator's, or (`strict`) all of the domain."""
        domain = np.ones(len(self.values), dtype=bool) if self.domain is None else self.domain
        return domain & self.counted if definition == "official" else domain


def weights(measure: Measure, definition: Definition) -> FloatArray:
    """Return the (n,) weights whose sum over values is the average, scale included; all 0 when nothing is counted."""
    mask = measure.mask(definition)
    if measure.classes is None:
        return mask.astype(np.float64) * (measure.scale / max(1, int(mask.sum())))
    sizes = np.bincount(measure.classes[mask], minlength=int(measure.classes.max(initial=0)) + 1)
    share = np.divide(1.0, sizes, out=np.zeros(len(sizes)), where=sizes > 0)
    return np.where(mask, share[measure.classes], 0.0) * (measure.scale / max(1, int((sizes > 0).sum())))


def average(measure: Measure, definition: Definition, within: BoolArray | None = None) -> float | None:
    """Return the measure's average, None when no question is counted.

    Args:
        measure: the measure.
        definition: whose rule says which questions count.
        within: (n,) average over these questions only.
    """
    mask = measure.mask(definition) if within is None else measure.mask(definition) & within
    if not mask.any():
        return None
    if measure.classes is None or within is not None:
        return float(measure.values[mask].mean() * measure.scale)
    return float((measure.values * weights(measure, definition)).sum())


# --- how sure -------------------------------------------------------------------------------------------


class Interval(NamedTuple):
    """A 95 % interval."""

    low: float
    high: float


def bootstrap(
    measures: Sequence[Measure], definition: Definition, clusters: IntArray, resamples: int, seed: int
) -> list[Interval | None]:
    """Return the 95 % percentile bootstrap interval of every measure's average.

    Whole clusters (videos) are drawn with replacement, since questions about one video are alike; the same draws serve
    every measure.

    Args:
        measures: measures of the same n questions.
        definition: whose rule says which questions count.
        clusters: (n,) cluster of each question, numbered from 0.
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        One interval for each measure, None where no question is counted. Values that are all 0 or all 1 are alike in
        every draw, which is no certainty: their interval is Wilson's over the clusters. Other values that are all
        alike have none.
    """
    draws = _resampled(measures, definition, clusters, resamples, seed)
    return [
        _interval_of(measure, definition, clusters, column) for measure, column in zip(measures, draws.T, strict=True)
    ]


def _interval_of(measure: Measure, definition: Definition, clusters: IntArray, draws: FloatArray) -> Interval | None:
    mask = measure.mask(definition)
    seen = measure.values[mask]
    if len(seen) and seen[0] in (0.0, 1.0) and (seen == seen[0]).all():
        low, high = wilson(float(seen[0]), len(np.unique(clusters[mask])))
        return Interval(measure.scale * low, measure.scale * high)
    return _interval(draws)


def _resampled(
    measures: Sequence[Measure], definition: Definition, clusters: IntArray, resamples: int, seed: int
) -> FloatArray:
    """Return (resamples, measures) averages, NaN where a draw counts no question."""
    tables = [_cluster_sums(measure, definition, clusters) for measure in measures]
    out = np.full((resamples, len(measures)), np.nan)
    done = 0
    for counts in _draws(int(clusters.max(initial=-1)) + 1, resamples, seed):
        rows = slice(done, done + len(counts))
        for column, (measure, (sums, sizes)) in enumerate(zip(measures, tables, strict=True)):
            out[rows, column] = measure.scale * _mean_of_ratios(counts @ sums, counts @ sizes)
        done += len(counts)
    return out


def _cluster_sums(measure: Measure, definition: Definition, clusters: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return (clusters, classes) sums of values and numbers of questions."""
    mask = measure.mask(definition)
    classes = np.zeros(len(mask), dtype=np.int64) if measure.classes is None else measure.classes
    n_classes, n_clusters = int(classes.max(initial=0)) + 1, int(clusters.max(initial=-1)) + 1
    cell = clusters * n_classes + classes
    sums, sizes = np.zeros(n_clusters * n_classes), np.zeros(n_clusters * n_classes)
    np.add.at(sums, cell, measure.values * mask)
    np.add.at(sizes, cell, mask)
    return sums.reshape(n_clusters, n_classes), sizes.reshape(n_clusters, n_classes)


def _draws(n_clusters: int, resamples: int, seed: int) -> Iterator[FloatArray]:
    """Yield (rows, clusters) how often each cluster was drawn, in chunks that fit in little memory."""
    rng = np.random.default_rng(seed)
    left = resamples if n_clusters else 0
    while left:
        rows = min(left, max(1, CHUNK_CELLS // n_clusters))
        drawn = rng.integers(0, n_clusters, (rows, n_clusters)) + n_clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * n_clusters).reshape(rows, n_clusters).astype(float)
        left -= rows


def _mean_of_ratios(sums: FloatArray, sizes: FloatArray) -> FloatArray:
    """Return the (rows,) means over classes of sums / sizes, leaving empty classes out."""
    ratios = np.divide(sums, sizes, out=np.zeros_like(sums), where=sizes > 0)
    classes = (sizes > 0).sum(axis=1)
    means: FloatArray = np.divide(ratios.sum(axis=1), classes, out=np.full(len(sums), np.nan), where=classes > 0)
    return means


def _interval(draws: FloatArray) -> Interval | None:
    draws = draws[np.isfinite(draws)]
    if not len(draws) or draws.min() == draws.max():
        return None
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(low), float(high))


class Difference(NamedTuple):
    """How two runs differ on the same questions: first minus second, its 95 % interval, and a two-sided p-value."""

    value: float
    interval: Interval
    p: float


def compare(a: Measure, b: Measure, clusters: IntArray, resamples: int, seed: int) -> Difference | None:
    """Compare two runs on the same questions, with missing predictions as 0.

    The interval is a paired bootstrap over clusters; the p-value a randomisation test that swaps the two runs' scores,
    cluster by cluster. Differences that are alike in every draw are no certainty: the share of clusters that differ so
    is at least the low end of Wilson's interval, and the others may differ by anything.

    Args:
        a: a measure of the first run.
        b: the same measure of the second run.
        clusters: (n,) cluster of each question, numbered from 0.
        resamples: number of draws.
        seed: seed of the draws.

    Returns:
        None when the measure counts no question.

    Raises:
        ValueError: the measures are not of the same questions.
    """
    if a.name != b.name or len(a.values) != len(b.values) or (a.mask("strict") != b.mask("strict")).any():
        raise ValueError(f"only one measure of the same questions can be compared, not {a.name} and {b.name}")
    weight = weights(a, "strict")
    if not weight.any():
        return None
    gains = weight * (a.values - b.values)
    per_cluster = np.bincount(clusters, weights=gains)
    value = float(gains.sum())
    drawn = _resampled([a, b], "strict", clusters, resamples, seed)
    interval = _interval(drawn[:, 0] - drawn[:, 1]) or _interval_of_alike(value, a.scale, len(np.unique(clusters)))
    rng = np.random.default_rng(seed)
    extreme = 0
    left = resamples
    while left:
        rows = min(left, max(1, CHUNK_CELLS // len(per_cluster)))
        signs = rng.integers(0, 2, (rows, len(per_cluster))) * 2.0 - 1.0
        extreme += int((np.abs(signs @ per_cluster) >= abs(value) - 1e-9).sum())
        left -= rows
    p = (extreme + 1) / (resamples + 1)
    return Difference(value, interval, p)


def _interval_of_alike(value: float, scale: float, clusters: int) -> Interval:
    alike, _ = wilson(1.0, clusters)
    low, high = alike * value - (1 - alike) * scale, alike * value + (1 - alike) * scale
    return Interval(max(low, -scale), min(high, scale))
