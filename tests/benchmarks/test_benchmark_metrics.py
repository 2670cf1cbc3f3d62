"""The measures: numbers by hand, and what must hold for any spans."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.benchmarks.metrics import (
    Measure,
    average,
    best_overlap,
    best_window_iou,
    bootstrap,
    clip_ap,
    compare,
    detection_ap,
    fit_length,
    hull_overlap,
    interval_iou,
    weights,
)
from zoomzero.spans import Span, iou

TRUE = Span(10.0, 20.0)

# --- one question -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "overlap"),
    [
        ((15, 25), (5 / 15, 5 / 10)),
        ((12, 14), (2 / 10, 1.0)),
        ((10, 20), (1.0, 1.0)),
        ((0, 40), (10 / 40, 10 / 40)),
        ((30, 40), (-10 / 30, -1.0)),  # the hull counts the gap, and the overlap is negative
        ((18, 12), (-6 / 10, 0.0)),  # reversed
        ((15, 15), (0.0, 1.0)),  # a point inside
        ((20, 20), (0.0, 1.0)),  # ends included
        ((21, 21), (0.0, 0.0)),
    ],
)
def test_hull_overlap(predicted: tuple[float, float], overlap: tuple[float, float]) -> None:
    assert hull_overlap(TRUE, Span(*predicted)) == pytest.approx(overlap)


def test_best_overlap_takes_iou_and_iop_from_different_segments() -> None:
    # (0, 100): IoU 10/100, IoP 1; (40, 46): IoU 6/10, IoP 6/10
    assert best_overlap([Span(0, 100), Span(40, 46)], Span(40, 50)) == pytest.approx((0.6, 1.0))


def test_best_overlap_is_never_negative() -> None:
    assert best_overlap([TRUE], Span(30, 40)) == (0.0, 0.0)
    assert best_overlap([TRUE], Span(18, 12)) == (0.0, 0.0)
    assert best_overlap([], TRUE) == (0.0, 0.0)


def test_true_segments_are_not_merged() -> None:
    # as a set they are (0, 20) and the prediction is all of it; one by one each is half
    assert best_overlap([Span(0, 10), Span(10, 20)], Span(0, 20)) == pytest.approx((0.5, 0.5))


def test_window_iou_takes_the_best_true_window() -> None:
    assert best_window_iou([Span(0, 4), Span(10, 20)], Span(12, 22)) == pytest.approx(8 / 12)
    assert best_window_iou([Span(0, 4)], Span(6, 8)) == 0.0
    assert best_window_iou([TRUE], Span(18, 12)) == 0.0
    assert best_window_iou([Span(1, 1)], Span(1, 1)) == 0.0
    assert best_window_iou([], TRUE) == 0.0


def test_interval_iou_keeps_the_negative_length_of_a_reversed_span() -> None:
    # 5 s of overlap; union 20 + (5 - 3) - 5
    assert interval_iou([Span(0, 20)], [Span(0, 5), Span(10, 7)]) == pytest.approx(5 / 17)


proper = st.tuples(st.integers(0, 50), st.integers(1, 20)).map(lambda t: Span(t[0], t[0] + t[1]))


@given(st.lists(proper, max_size=5), st.lists(proper, max_size=5))
def test_interval_iou_of_proper_spans_is_the_set_measure(a: list[Span], b: list[Span]) -> None:
    assert interval_iou(a, b) == pytest.approx(iou(a, b))


@given(st.lists(proper, min_size=1, max_size=4), st.tuples(st.integers(-5, 60), st.integers(-5, 60)))
def test_best_overlap_stays_in_range(truths: list[Span], pair: tuple[int, int]) -> None:
    overlap = best_overlap(truths, Span(*pair))
    assert 0 <= overlap.iou <= 1
    assert overlap.iou <= overlap.iop <= 1 or pair[1] <= pair[0]


def test_detection_ap_by_hand() -> None:
    truths = [Span(0, 10), Span(20, 30)]
    # hit, miss, hit: precision 1, 1/2, 2/3; the second hit sees 2/3
    ranked = [Span(0, 10), Span(0, 9), Span(20, 30)]
    assert detection_ap(truths, ranked, (0.5, 0.95)) == pytest.approx([(1 + 2 / 3) / 2] * 2)
    # precision is interpolated: the miss before the hit costs the hit, not more
    assert detection_ap(truths, [Span(50, 60), Span(0, 10)], (0.5,)) == pytest.approx([0.5 / 2])


def test_detection_ap_matches_a_true_window_once() -> None:
    assert detection_ap([Span(0, 10)], [Span(0, 9), Span(0, 10)], (0.5, 0.95)) == pytest.approx([1.0, 0.5])


def test_detection_ap_takes_a_free_window_when_the_best_is_taken() -> None:
    truths = [Span(0, 10), Span(0, 8)]
    # both predictions overlap the first truth most; the second one still finds (0, 8): IoU 8/10
    assert detection_ap(truths, [Span(0, 10), Span(0, 10)], (0.7, 0.85)) == pytest.approx([1.0, 0.5])


def test_detection_ap_of_nothing() -> None:
    assert detection_ap([], [TRUE], (0.5,)) == pytest.approx([0.0])
    assert detection_ap([TRUE], [], (0.5,)) == pytest.approx([0.0])


def test_clip_ap_by_hand() -> None:
    # precision 1, 1/2, 2/3, 1/2; recall grows at ranks 1 and 3
    assert clip_ap(np.array([1, 0, 1, 0], bool), np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((1 + 2 / 3) / 2)
    # equal scores are one rank: 1 of 2, then 2 of 4
    assert clip_ap(np.array([1, 0, 0, 1], bool), np.array([1.0, 1.0, 0.0, 0.0])) == pytest.approx(0.5)
    assert clip_ap(np.zeros(3, bool), np.arange(3.0)) == 0.0
    assert clip_ap(np.ones(3, bool), np.arange(3.0)) == 1.0


def test_saliency_is_cut_or_filled() -> None:
    assert fit_length([1.0, 2.0, 3.0], 2).tolist() == [1.0, 2.0]
    assert fit_length([1.0], 3).tolist() == [1.0, 0.0, 0.0]


# --- averages ---------------------------------------------------------------------------------------------


def measure(values: list[float], counted: list[int] | None = None, **kwargs: object) -> Measure:
    mask = np.array(counted if counted is not None else [1] * len(values), dtype=bool)
    return Measure("m", np.array(values, dtype=float), mask, **kwargs)  # type: ignore[arg-type]


def test_official_skips_what_it_does_not_count_and_strict_does_not() -> None:
    one = measure([1.0, 0.5, 0.0, 0.0], [1, 1, 0, 0])
    assert average(one, "official") == pytest.approx(75.0)
    assert average(one, "strict") == pytest.approx(37.5)


def test_the_domain_binds_both() -> None:
    one = measure([1.0, 0.0, 1.0], [1, 1, 0], domain=np.array([1, 0, 1], dtype=bool))
    assert average(one, "official") == pytest.approx(100.0)
    assert average(one, "strict") == pytest.approx(100.0)
    assert average(one, "strict", within=np.array([0, 1, 0], dtype=bool)) is None


def test_macro_average_is_over_classes() -> None:
    one = measure([1.0, 0.0, 1.0], classes=np.array([0, 0, 1]))
    assert average(one, "strict") == pytest.approx(75.0)
    assert average(measure([1.0, 0.0, 1.0]), "strict") == pytest.approx(200 / 3)


def test_nothing_counted_is_no_number() -> None:
    assert average(measure([0.0], [0]), "official") is None
    assert average(measure([], []), "strict") is None


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), st.booleans()), min_size=1, max_size=20))
def test_weights_give_the_average(rows: list[tuple[float, int, bool]]) -> None:
    values, classes, counted = map(list, zip(*rows, strict=True))
    for one in (measure(values, counted), measure(values, counted, classes=np.array(classes))):
        expected = average(one, "official")
        got = float((weights(one, "official") * one.values).sum())
        assert got == pytest.approx(0.0 if expected is None else expected)


# --- intervals --------------------------------------------------------------------------------------------

HALF = [float(i % 2) for i in range(400)]


def width(clusters: np.ndarray, values: list[float]) -> float:
    interval = bootstrap([measure(values)], "strict", clusters, 2000, 0)[0]
    assert interval is not None
    return interval.high - interval.low


def test_interval_has_the_width_of_a_binomial() -> None:
    expected = 2 * 1.96 * 100 * math.sqrt(0.25 / 400)
    assert width(np.arange(400), HALF) == pytest.approx(expected, rel=0.1)


def test_questions_that_agree_within_a_video_widen_the_interval() -> None:
    alike = [float(i // 4 % 2) for i in range(400)]  # blocks of four equal ones: 100 free values
    expected = 2 * 1.96 * 100 * math.sqrt(0.25 / 100)
    assert width(np.arange(400) // 4, alike) == pytest.approx(expected, rel=0.1)


def test_intervals_hold_the_value_and_repeat() -> None:
    measures = [measure(HALF), measure([1.0] * 400), measure(HALF, [0] * 400)]
    first, second = (bootstrap(measures, "official", np.arange(400), 200, 3) for _ in range(2))
    assert first == second
    assert first[0] is not None
    assert first[0].low < 50 < first[0].high
    assert first[1] == pytest.approx((100 / (1 + 1.96**2 / 400), 100.0))  # Wilson's: all right is no certainty
    assert first[2] is None


def test_macro_interval_is_around_the_macro_average() -> None:
    classes = np.array([0] * 300 + [1] * 100)
    one = measure([1.0] * 300 + [0.0] * 100, classes=classes)
    interval = bootstrap([one], "strict", np.arange(400), 500, 0)[0]
    assert interval is None  # each class is constant, only their sizes vary: no draw differs
    mixed = measure([1.0] * 200 + [0.0] * 200, classes=classes)
    low, high = bootstrap([mixed], "strict", np.arange(400), 500, 0)[0] or (0, 0)
    assert low < 100 / 3 < high  # 2/3 of the first class, none of the second


# --- comparison -------------------------------------------------------------------------------------------


def test_a_clear_difference() -> None:
    difference = compare(measure([1.0] * 12), measure([0.0] * 12), np.arange(12), 2000, 0)
    assert difference is not None
    assert difference.value == pytest.approx(100.0)
    # alike in every draw: Wilson's low end of 12 in 12 is 12 / (12 + 1.96^2) = 0.7575, and the rest may differ by -1
    assert difference.interval == pytest.approx((100 * (2 * 0.7575 - 1), 100.0), abs=0.01)
    assert 0 < difference.p < 0.005  # 2 of 4096 swaps are as extreme


def test_no_difference() -> None:
    difference = compare(measure(HALF), measure(HALF), np.arange(400), 200, 0)
    assert difference is not None
    assert (difference.value, difference.p) == (0.0, 1.0)
    assert difference.interval == pytest.approx((-0.951, 0.951), abs=1e-3)  # 1 - 400 / (400 + 1.96^2)


def test_swaps_are_made_by_video() -> None:
    # one video holds all the gain: there are only two swaps, and both are as extreme
    difference = compare(measure([1.0] * 12), measure([0.0] * 12), np.zeros(12, dtype=np.int64), 200, 0)
    assert difference is not None
    assert difference.p == 1.0


def test_only_the_same_measure_is_compared() -> None:
    with pytest.raises(ValueError, match="same questions"):
        compare(measure([1.0]), measure([1.0, 0.0]), np.arange(1), 10, 0)
