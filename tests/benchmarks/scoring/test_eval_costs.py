"""Evidence, faithfulness and costs by hand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.answer.trace import PassTrace
from zoomzero.benchmarks.scoring.costs import (
    COST_NAMES,
    evidence_hit,
    mean_costs,
    random_span,
    right_minus_right,
    rounded,
)
from zoomzero.spans import Span


def look(name: str, *times_s: float) -> PassTrace:
    return PassTrace(name, (), times_s, 32, 32, len(times_s), 4, 9, 9, 0, 0.1, 0.0, "", None, None, 0.5)


TRUE = (Span(10, 20), Span(30, 31))


def test_the_hit_is_the_share_of_the_close_looks_frames_inside_the_truth() -> None:
    passes = [look("coarse", 10.0, 11.0, 12.0), look("zoom", 9.0, 10.0, 20.0, 25.0, 30.5)]
    assert evidence_hit(passes, TRUE) == pytest.approx(3 / 5)  # 10 and 20 are ends, which count


@pytest.mark.parametrize("name", ["zoom", "context", "verify 2", "verify outside 1"])
def test_every_close_look_counts(name: str) -> None:
    assert evidence_hit([look(name, 15.0), look("window 1 of 3", 0.0), look(name, 0.0)], TRUE) == 0.5


@pytest.mark.parametrize("name", ["direct", "coarse", "window 2 of 3", "candidate 1", "outside 1"])
def test_looks_at_all_of_the_video_do_not(name: str) -> None:
    assert evidence_hit([look(name, 15.0)], TRUE) is None


def test_no_hit_is_known_without_truth() -> None:
    assert evidence_hit([look("zoom", 15.0)], ()) is None
    assert evidence_hit([look("zoom", 15.0)], (Span(15, 15),)) is None  # a point has no time


def test_overlapping_truth_counts_a_frame_once() -> None:
    assert evidence_hit([look("zoom", 15.0, 50.0)], (Span(10, 20), Span(14, 16))) == 0.5


@given(
    st.lists(st.tuples(st.floats(0, 90), st.floats(0.1, 9)), min_size=1, max_size=4), st.floats(100, 5000), st.text()
)
def test_a_random_span_is_as_long_as_the_union_and_inside_the_video(
    given_spans: list[tuple[float, float]], duration_s: float, key: str
) -> None:
    spans = [Span(start, start + length) for start, length in given_spans]
    drawn = random_span(spans, duration_s, key)
    assert drawn is not None
    points = sorted({x for span in spans for x in span})
    union = sum(b - a for a, b in pairwise(points) if any(s.start_s <= a and b <= s.end_s for s in spans))
    assert drawn.length_s == pytest.approx(union)
    assert drawn.start_s >= 0
    assert drawn.end_s <= duration_s + 1e-6
    assert random_span(spans, duration_s, key) == drawn


def test_random_spans_differ_by_question_and_spread_over_the_video() -> None:
    drawn = [random_span([Span(0, 10)], 100.0, f"question {i}") for i in range(400)]
    starts = sorted(span.start_s for span in drawn if span is not None)
    assert len(set(starts)) == 400
    assert sum(starts) / 400 == pytest.approx(45, abs=4)  # uniform on [0, 90]: 45, 26 / sqrt(400) = 1.3
    assert starts[0] < 3 < 87 < starts[-1]


@pytest.mark.parametrize("spans", [(), (Span(5, 5),), (Span(0, 100),), (Span(0.5, 100),)])
def test_there_is_no_other_place_for_nothing_and_for_everything(spans: tuple[Span, ...]) -> None:
    assert random_span(spans, 100.0, "q") is None


@pytest.mark.parametrize(
    ("at_spans", "at_random", "gap"), [("A", "B", 1), ("A", "A", 0), ("C", "B", 0), ("C", "A", -1), (None, "A", -1)]
)
def test_the_gap_of_a_question(at_spans: str | None, at_random: str | None, gap: int) -> None:
    assert right_minus_right(at_spans, at_random, frozenset("A")) == gap


def test_equal_options_are_both_right_and_without_truth_there_is_no_gap() -> None:
    assert right_minus_right("D", "E", frozenset("DE")) == 0
    assert right_minus_right("A", "B", frozenset()) is None


def test_mean_costs_are_those_of_the_answered() -> None:
    costs = dict.fromkeys(COST_NAMES, 1.0)
    rows = [
        {"failed": None, "costs": costs | {"visual_tokens": 10, "seconds": 2.0}},
        {"failed": None, "costs": costs | {"visual_tokens": 30, "seconds": 3.0}},
        {"failed": "no such file", "costs": {}},
    ]
    mean = mean_costs(rows)
    assert (mean["visual_tokens"], mean["seconds"], mean["frames"]) == (20, 2.5, 1)
    assert mean_costs(rows[2:]) == {}


def test_seconds_are_rounded_and_counts_stay_whole() -> None:
    assert rounded({"frames": 32, "seconds": 0.123456}) == {"frames": 32, "seconds": 0.1235}
