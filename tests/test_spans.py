"""Span arithmetic: numbers by hand, and properties against a count of tenths of a second."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.spans import (
    Span,
    clip,
    complement,
    contains,
    covered_s,
    intersection_s,
    iop,
    iou,
    merge,
    shift,
    widen,
)

INF, NAN = math.inf, math.nan

# --- by hand --------------------------------------------------------------------------------------------


def test_length() -> None:
    assert Span(2.0, 5.5).length_s == 3.5
    assert Span(5.0, 2.0).length_s == -3.0


@pytest.mark.parametrize(
    ("spans", "merged"),
    [
        ([], ()),
        ([(1, 2)], ((1, 2),)),
        ([(3, 4), (1, 2)], ((1, 2), (3, 4))),
        ([(1, 2), (2, 3)], ((1, 3),)),  # touching
        ([(1, 3), (2, 5)], ((1, 5),)),
        ([(1, 9), (2, 3), (4, 5)], ((1, 9),)),  # inside
        ([(1, 4), (1, 2), (1, 3)], ((1, 4),)),
        ([(2, 2), (5, 4)], ()),  # empty, reversed
        ([(NAN, 4), (1, NAN), (-INF, 3), (1, INF)], ()),
        ([(0, 1), (NAN, 4), (1, 2)], ((0, 2),)),
    ],
)
def test_merge(spans: list, merged: tuple) -> None:
    assert merge(spans) == merged


def test_merge_over_gaps() -> None:
    assert merge([(0, 1), (2, 3), (4.5, 5)], gap_s=1.0) == ((0, 3), (4.5, 5))
    assert merge([(0, 1), (2, 3), (4.5, 5)], gap_s=1.5) == ((0, 5),)


def test_merge_takes_any_pairs_and_an_iterator() -> None:
    assert merge(pair for pair in ([1, 2], (2, 3), Span(5.0, 6.0))) == (Span(1, 3), Span(5, 6))


def test_clip() -> None:
    assert clip([(-3, 2), (8, 12), (20, 30)], 0, 10) == ((0, 2), (8, 10))
    assert clip([(0, 5)], 5, 10) == ()
    assert clip([(0, 5)], 10, 0) == ()
    assert clip([(0, INF), (-INF, 3), (NAN, 5), (5, NAN)], 0, 10) == ()  # covers no time, as in merge


def test_shift() -> None:
    assert shift([(1, 2), (1, 2), (5, 4)], -1.5) == ((-0.5, 0.5), (-0.5, 0.5), (3.5, 2.5))


def test_widen() -> None:
    assert widen([(12, 15), (40, 42)], 10, 0, 60) == ((2, 25), (30, 52))
    assert widen([(12, 15), (34, 36)], 10, 0, 60) == ((2, 46),)  # grown together
    assert widen([(1, 2), (58, 59)], 10, 0, 60) == ((0, 12), (48, 60))
    assert widen([(5, 5)], 1, 0, 60) == ((4, 6),)  # a moment becomes a span
    assert widen([(5, 4), (NAN, 3), (1, INF)], 10, 0, 60) == ()


def test_complement() -> None:
    assert complement([(2, 3), (5, 8)], 0, 10) == ((0, 2), (3, 5), (8, 10))
    assert complement([(-1, 3), (8, 12)], 0, 10) == ((3, 8),)
    assert complement([], 0, 10) == ((0, 10),)
    assert complement([(0, 10)], 0, 10) == ()


def test_measures() -> None:
    assert covered_s([(0, 2), (1, 3), (5, 6)]) == 4
    assert intersection_s([(0, 4), (6, 10)], [(2, 7)]) == 3
    assert iou([(0, 4)], [(2, 6)]) == pytest.approx(2 / 6)
    assert iou([(0, 2), (1, 4)], [(2, 6)]) == pytest.approx(2 / 6)  # overlaps count once
    assert iou([(0, 1), (2, 3)], [(0, 3)]) == pytest.approx(2 / 3)
    assert iop([(0, 4)], [(2, 6)]) == pytest.approx(2 / 4)
    assert iop([(2, 4)], [(0, 10)]) == 1.0
    assert iop([(0, 10)], [(2, 4)]) == pytest.approx(0.2)


def test_measures_of_nothing() -> None:
    for nothing in ([], [(3, 3)], [(4, 3)], [(NAN, 3)]):
        assert covered_s(nothing) == 0
        assert iou(nothing, nothing) == 0.0
        assert iou(nothing, [(0, 1)]) == 0.0
        assert iop(nothing, [(0, 1)]) == 0.0
        assert iop([(0, 1)], nothing) == 0.0


def test_contains_both_ends() -> None:
    assert [contains([(1, 2), (4, 5)], t) for t in (0.9, 1, 2, 2.1, 4.5, NAN)] == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]


# --- properties, on whole seconds so that a set of seconds is the exact truth ---------------------------

second = st.integers(-5, 25)
pairs = st.lists(st.tuples(second, second), max_size=6)


def seconds_of(spans: object) -> set[int]:
    """Return the whole seconds [i, i + 1) that spans cover."""
    return {i for start, end in spans for i in range(int(start), int(end))}  # type: ignore[attr-defined]


@given(pairs)
def test_merge_is_the_union_sorted_and_apart(spans: list) -> None:
    merged = merge(spans)
    assert seconds_of(merged) == seconds_of(spans)
    assert all(span.length_s > 0 for span in merged)
    assert all(a.end_s < b.start_s for a, b in pairwise(merged))
    assert merge(merged) == merged
    assert merge(reversed(spans)) == merged


@given(pairs, st.integers(0, 5))
def test_merging_over_gaps_closes_exactly_the_small_ones(spans: list, gap: int) -> None:
    merged = merge(spans, gap)
    assert all(b.start_s - a.end_s > gap for a, b in pairwise(merged))
    assert seconds_of(spans) <= seconds_of(merged)
    assert covered_s(merged) <= covered_s(spans) + gap * max(0, len(merge(spans)) - 1)


@given(pairs, pairs)
def test_measures_are_counts_of_seconds(a: list, b: list) -> None:
    in_a, in_b = seconds_of(a), seconds_of(b)
    assert covered_s(a) == len(in_a)
    assert intersection_s(a, b) == intersection_s(b, a) == len(in_a & in_b)
    assert iou(a, b) == (len(in_a & in_b) / len(in_a | in_b) if in_a | in_b else 0.0)
    assert iop(a, b) == (len(in_a & in_b) / len(in_a) if in_a else 0.0)


@given(pairs, second, second)
def test_clip_and_complement_divide_the_range(spans: list, low: int, high: int) -> None:
    inside, outside = clip(spans, low, high), complement(spans, low, high)
    assert seconds_of(inside) == seconds_of(spans) & set(range(low, high))
    assert seconds_of(outside) == set(range(low, high)) - seconds_of(spans)


@given(pairs, st.integers(0, 10))
def test_widen_reaches_exactly_as_far(spans: list, by: int) -> None:
    wanted = {i for s, e in spans if e >= s for i in range(s - by, e + by)} & set(range(20))
    assert seconds_of(widen(spans, by, 0, 20)) == wanted


@given(pairs, second)
def test_shift_there_and_back(spans: list, by: int) -> None:
    assert shift(shift(spans, by), -by) == tuple(spans)
    assert covered_s(shift(spans, by)) == covered_s(spans)


@given(pairs, st.integers(-10, 60))
def test_contains_agrees_with_the_spans(spans: list, half_seconds: int) -> None:
    time_s = half_seconds / 2
    assert contains(spans, time_s) == any(min(max(time_s, s), e) == time_s for s, e in spans if s <= e)


# --- properties on any numbers --------------------------------------------------------------------------

any_float = st.floats()
time_s = st.floats(-1e6, 1e6)


@given(st.lists(st.tuples(any_float, any_float), max_size=5), any_float, any_float)
def test_no_number_breaks_the_arithmetic(spans: list, low: float, high: float) -> None:
    for result in (merge(spans), clip(spans, low, high)):
        assert all(math.isfinite(s) and math.isfinite(e) and s < e for s, e in result)


@given(st.lists(st.tuples(time_s, time_s), max_size=5), st.lists(st.tuples(time_s, time_s), max_size=5))
def test_shares_are_shares(a: list, b: list) -> None:
    for share in (iou(a, b), iop(a, b)):
        assert 0.0 <= share <= 1.0 + 1e-9
    assert iou(a, b) == pytest.approx(iou(b, a))
    if merge(a):
        assert iou(a, a) == 1.0
        assert iop(a, a) == 1.0
