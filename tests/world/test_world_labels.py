"""Poorer labels: gone, or moved by at most half a span, the same for the same example."""

from __future__ import annotations

from dataclasses import replace

import pytest

from zoomzero.data.example import Example
from zoomzero.spans import Span
from zoomzero.world.labels import with_span_labels

ONE = Example("a", "a.mp4", "q", ("x", "y"), "A", (Span(10.0, 14.0), Span(50.0, 60.0)), 60.0, "world", "train")
MANY = [replace(ONE, id=str(i)) for i in range(200)]


def test_true_and_none() -> None:
    assert with_span_labels(MANY, "true") == MANY
    assert {example.spans for example in with_span_labels(MANY, "none")} == {()}
    assert [replace(e, spans=ONE.spans) for e in with_span_labels(MANY, "none")] == MANY


def test_shifted_spans_move_by_at_most_half_their_length_and_stay_inside() -> None:
    moved = with_span_labels(MANY, "shifted")
    starts = [example.spans[0].start_s - 10.0 for example in moved]
    ends = [example.spans[0].end_s - 14.0 for example in moved]
    assert all(-2.0 <= start <= 2.0 for start in starts)
    assert all(-2.0 <= end <= 3.0 for end in ends)  # a span keeps at least a second
    assert min(starts) < -1.5
    assert max(ends) > 1.5
    assert sum(starts) / 200 == pytest.approx(0.0, abs=0.3)  # standard error 0.08
    assert all(0.0 <= s < e <= 60.0 for example in moved for s, e in example.spans)
    assert with_span_labels(MANY[::-1], "shifted") == moved[::-1]


def test_late_spans_move_by_at_most_their_length_and_stay_inside() -> None:
    moved = with_span_labels(MANY, "late")
    late = [example.spans[0].start_s - 10.0 for example in moved]
    assert all(0.0 <= by <= 4.0 for by in late)
    assert sum(late) / 200 == pytest.approx(2.0, abs=0.3)  # standard error 0.08
    assert all(example.spans[0].length_s == pytest.approx(4.0) for example in moved)
    assert all(50.0 <= example.spans[1].start_s < example.spans[1].end_s <= 60.0 for example in moved)  # the end is cut
    assert with_span_labels(MANY[::-1], "late") == moved[::-1]
