"""Arithmetic on time spans in seconds. The only span arithmetic of the project.

A span is `(start_s, end_s)`. A *set* of spans is what `merge` returns: sorted, disjoint, non-empty spans;
touching spans are one span. Every measure below works on sets: order and overlap of the input never matter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Span(NamedTuple):
    """A stretch of time in seconds."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Seconds covered; negative for a reversed span."""
        return self.end_s - self.start_s


def merge(spans: Iterable[Sequence[float]], gap_s: float = 0.0) -> tuple[Span, ...]:
    """Return the union as sorted, disjoint spans.

    Args:
        spans: any (start, end) pairs; empty, reversed and non-finite ones cover no time and are left out.
        gap_s: spans at most this far apart become one.
    """
    proper = sorted(Span(float(s), float(e)) for s, e in spans if math.isfinite(s) and math.isfinite(e) and e > s)
    merged: list[Span] = []
    for span in proper:
        if merged and span.start_s <= merged[-1].end_s + gap_s:
            merged[-1] = Span(merged[-1].start_s, max(merged[-1].end_s, span.end_s))
        else:
            merged.append(span)
    return tuple(merged)


def clip(spans: Iterable[Sequence[float]], low_s: float, high_s: float) -> tuple[Span, ...]:
    """Return the part of the union inside [low_s, high_s]."""
    return merge((max(s, low_s), min(e, high_s)) for s, e in merge(spans))


def shift(spans: Iterable[Sequence[float]], by_s: float) -> tuple[Span, ...]:
    """Return the spans moved by `by_s` seconds, one for one."""
    return tuple(Span(s + by_s, e + by_s) for s, e in spans)


def widen(spans: Iterable[Sequence[float]], by_s: float, low_s: float, high_s: float) -> tuple[Span, ...]:
    """Return the union of the spans grown by `by_s` seconds at both ends, within [low_s, high_s]."""
    return clip(((s - by_s, e + by_s) for s, e in spans if e >= s), low_s, high_s)


def complement(spans: Iterable[Sequence[float]], low_s: float, high_s: float) -> tuple[Span, ...]:
    """Return what [low_s, high_s] holds outside the union."""
    edges = [low_s]
    for s, e in clip(spans, low_s, high_s):
        edges += [s, e]
    edges.append(high_s)
    return merge(zip(edges[0::2], edges[1::2], strict=True))


def covered_s(spans: Iterable[Sequence[float]]) -> float:
    """Return the seconds the union covers."""
    return sum(span.length_s for span in merge(spans))


def intersection_s(a: Iterable[Sequence[float]], b: Iterable[Sequence[float]]) -> float:
    """Return the seconds both unions cover."""
    set_b = merge(b)
    return sum(max(0.0, min(x.end_s, y.end_s) - max(x.start_s, y.start_s)) for x in merge(a) for y in set_b)


def iou(a: Iterable[Sequence[float]], b: Iterable[Sequence[float]]) -> float:
    """Return intersection over union of the two unions, 0 when both are empty.

    Source: METHOD section "rewards" in docs/method.md.
    """
    set_a, set_b = merge(a), merge(b)
    inter = intersection_s(set_a, set_b)
    union = covered_s(set_a) + covered_s(set_b) - inter
    return inter / union if union > 0 else 0.0


def iop(predicted: Iterable[Sequence[float]], true: Iterable[Sequence[float]]) -> float:
    """Return the share of the predicted time that is true, 0 when nothing is predicted."""
    set_p = merge(predicted)
    length = covered_s(set_p)
    return intersection_s(set_p, true) / length if length > 0 else 0.0


def wasserstein_s(a: Iterable[Sequence[float]], b: Iterable[Sequence[float]]) -> float:
    """Return the earth mover's distance W1 in seconds between the time two sets cover, each spread evenly over its set.

    It is the area between the two distribution functions, which are straight lines between the sets' edges: exact.

    Raises:
        ValueError: one of the sets is empty.
    """
    set_a, set_b = merge(a), merge(b)
    if not (set_a and set_b):
        raise ValueError("the distance to an empty set of spans is not defined")
    edges = sorted({edge for one in (set_a, set_b) for span in one for edge in span})
    gaps = [_share_before(set_a, edge) - _share_before(set_b, edge) for edge in edges]
    return math.fsum(
        (high - low) * _mean_size(first, last)
        for low, high, first, last in zip(edges, edges[1:], gaps, gaps[1:], strict=False)
    )


def _share_before(spans: Sequence[Span], time_s: float) -> float:
    """Return the share of a set's time that lies before a moment."""
    before = math.fsum(max(0.0, min(e, time_s) - s) for s, e in spans)
    return before / math.fsum(e - s for s, e in spans)


def _mean_size(first: float, last: float) -> float:
    """Return the mean of |x| on a straight line from one value to another."""
    if first * last >= 0:
        return (abs(first) + abs(last)) / 2
    return (first * first + last * last) / (2 * abs(first - last))  # two triangles


def contains(spans: Iterable[Sequence[float]], time_s: float) -> bool:
    """Return whether a span holds the moment (ends included)."""
    return any(s <= time_s <= e for s, e in spans)
