"""The difficulty rule by hand: who is kept, why the others are not, and what the histograms count."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.data.difficulty import (
    KEPT,
    REASONS,
    Difficulty,
    DifficultySettings,
    Judged,
    counts,
    histogram,
    hit_histogram,
    judge,
    measure,
    table,
    verdict,
)
from zoomzero.data.example import Example
from zoomzero.spans import Span

RULE = DifficultySettings()
TRUE = (Span(10.0, 20.0),)


@dataclass(frozen=True)
class Answer:
    answer: str | None
    spans: tuple[Span, ...] = ()


def example(id_: str = "1", answer: str = "B", spans: tuple[Span, ...] = TRUE, options: tuple[str, ...] = ("x", "y")):
    return Example(id_, "v.mp4", "What?", options, answer, spans, 60.0, "made", "train")


def found(hit: float, mean: float, best: float, worst: float, n: int = 4) -> Difficulty:
    return Difficulty(n, hit, mean, best, worst)


def test_measures_by_hand() -> None:
    answers = [
        Answer("B", (Span(10.0, 20.0),)),  # right, IoU 1
        Answer("A", (Span(10.0, 15.0),)),  # wrong, 5 of 10
        Answer(None, ()),  # nothing said
        Answer("B", (Span(15.0, 25.0), Span(12.0, 16.0))),  # right; union 12-25, overlap 8 of 15
    ]
    measured = measure(example(), answers)
    assert (measured.n, measured.mean_hit, measured.max_iou, measured.min_iou) == (4, 0.5, 1.0, 0.0)
    assert measured.mean_iou == pytest.approx((1 + 0.5 + 0 + 8 / 15) / 4)


def test_open_answers_are_right_up_to_case_and_spacing() -> None:
    one = example(answer="A red Car", options=())
    assert measure(one, [Answer("a red  car"), Answer("a car"), Answer(None)]).mean_hit == pytest.approx(1 / 3)
    assert measure(example(answer="", options=()), [Answer(None), Answer("words")]).mean_hit == 0


@pytest.mark.parametrize(
    ("hit", "mean", "best", "worst", "reason"),
    [
        (0.5, 0.2, 0.35, 0.0, KEPT),  # 0.15 better than the mean
        (0.5, 0.2, 0.28, 0.0, "overlap_alike"),  # 0.08, and one misses
        (0.5, 0.2, 0.28, 0.01, KEPT),  # but none misses
        (0.0, 0.0, 0.0, 0.0, "overlap_alike"),  # hopeless
        (0.0, 0.3, 0.6, 0.0, KEPT),  # never right, but grounded at times
        (1.0, 0.3, 0.6, 0.0, "always_right"),
        (0.75, 0.9, 1.0, 0.7, KEPT),
    ],
)
def test_the_rule(hit: float, mean: float, best: float, worst: float, reason: str) -> None:
    assert verdict(example(), found(hit, mean, best, worst), RULE) == reason


def test_every_threshold_counts_strictly() -> None:
    at_the_edge = found(0.5, 0.25, 0.375, 0.0)  # exactly 0.125 better
    assert verdict(example(), at_the_edge, DifficultySettings(min_spread=0.125)) == "overlap_alike"
    assert verdict(example(), at_the_edge, DifficultySettings(min_spread=0.12)) == KEPT
    assert verdict(example(), found(0.5, 0.5, 0.5, 0.5), DifficultySettings(min_iou=0.5)) == "overlap_alike"
    assert verdict(example(), found(0.5, 0.5, 0.5, 0.5), DifficultySettings(min_iou=0.4)) == KEPT
    assert verdict(example(), found(0.5, 0.2, 0.9, 0.0), DifficultySettings(max_hit=0.5)) == "always_right"
    assert verdict(example(), found(0.5, 0.2, 0.9, 0.0), DifficultySettings(max_hit=0.51)) == KEPT


def test_what_cannot_be_measured_has_a_reason_of_its_own() -> None:
    assert judge(example(), [], RULE).verdict == "not_answered"
    lost = judge(example(), [], RULE, "v.mp4: cannot open")
    assert (lost.verdict, lost.detail) == ("unreadable", "v.mp4: cannot open")
    assert judge(example(spans=()), [Answer("A"), Answer("B")], RULE).verdict == "kept"
    assert judge(example(spans=()), [Answer("A"), Answer("C")], RULE).verdict == "never_right"
    assert judge(example(spans=()), [Answer("B"), Answer("B")], RULE).verdict == "always_right"
    kept = judge(example(), [Answer("A", TRUE), Answer("B")], RULE)
    assert kept.kept
    assert kept.difficulty == found(0.5, 0.5, 1.0, 0.0, n=2)


@given(
    st.lists(
        st.tuples(st.sampled_from(["A", "B", None]), st.tuples(st.floats(0, 60), st.floats(0, 60))),
        min_size=1,
        max_size=12,
    )
)
def test_the_verdict_is_the_published_rule(drawn: list[tuple[str | None, tuple[float, float]]]) -> None:
    answers = [Answer(answer, (Span(*span),)) for answer, span in drawn]
    judged = judge(example(), answers, RULE)
    one = judged.difficulty
    assert one is not None
    assert 0 <= one.min_iou <= one.mean_iou + 1e-12
    assert one.mean_iou <= one.max_iou + 1e-12
    wanted = (one.max_iou - one.mean_iou > 0.1 or one.min_iou > 0) and one.mean_hit < 1
    assert judged.kept == wanted


# --- counting -----------------------------------------------------------------------------------------------


def with_hits(*hits: float, n: int = 4, mean: float = 0.3) -> list[Judged]:
    return [
        Judged(example(str(i)), "always_right" if hit == 1 else KEPT, found(hit, mean, 0.9, 0.0, n))
        for i, hit in enumerate(hits)
    ]


def test_hits_are_counted_by_how_many_were_right() -> None:
    bins = hit_histogram([*with_hits(0.0, 0.25, 0.25, 1.0), Judged(example("x"), "unreadable")])
    assert [(one.label, one.kept, one.dropped) for one in bins] == [
        ("0/4", 1, 0),
        ("1/4", 2, 0),
        ("2/4", 0, 0),
        ("3/4", 0, 0),
        ("4/4", 0, 1),
    ]


def test_answers_of_different_number_go_into_ten_bins() -> None:
    bins = hit_histogram(with_hits(1 / 3, n=3) + with_hits(0.5, 1.0, n=2))
    assert [one.label for one in bins][:2] == ["0\N{EN DASH}0.1", "0.1\N{EN DASH}0.2"]
    assert [(place, one.kept, one.dropped) for place, one in enumerate(bins) if one.kept + one.dropped] == [
        (3, 1, 0),
        (5, 1, 0),
        (9, 0, 1),
    ]


@given(st.lists(st.floats(0, 1), max_size=40))
def test_histograms_count_everybody_once(values: list[float]) -> None:
    judged = [Judged(example(str(i)), KEPT, found(0.5, value, 1.0, 0.0)) for i, value in enumerate(values)]
    bins = histogram(judged, lambda one: one.mean_iou)
    assert sum(one.kept + one.dropped for one in bins) == len(values)
    assert len(bins) == 10
    for value in values:
        place = next(i for i, one in enumerate(bins) if one.low <= value + 1e-9 < one.high or i == 9)
        assert bins[place].kept > 0


def test_edges_belong_to_the_bin_above() -> None:
    judged = [Judged(example(), KEPT, found(0.5, value, 1.0, 0.0)) for value in (0.1, 0.3, 0.7, 1.0)]
    places = [i for i, one in enumerate(histogram(judged, lambda one: one.mean_iou)) if one.kept]
    assert places == [1, 3, 7, 9]


def test_the_table_line_by_line() -> None:
    judged = [
        *with_hits(0.0, 0.5, 0.5, 1.0, n=2, mean=0.95),
        Judged(example("x"), "leaks"),
        Judged(example("y"), "leaks"),
    ]
    assert counts(judged) == dict.fromkeys(REASONS, 0) | {KEPT: 3, "leaks": 2, "always_right": 1}
    lines = table(judged).splitlines()
    assert lines[:9] == [
        "kept              3 of 6",
        "dropped           3",
        "  leaks           2  its video or question is in an evaluation",
        "  always right    1  its answers are right too often",
        "",
        "right answers    kept  dropped",
        "0/2                 1        0  ###############",
        "1/2                 2        0  ##############################",
        "2/2                 0        1  ...............",
    ]
    assert lines[-1] == "0.9\N{EN DASH}1               3        1  ######################........"


def test_a_table_without_answers_has_no_histogram() -> None:
    assert table([Judged(example(), KEPT)]).splitlines() == ["kept              1 of 1", "dropped           0"]
    assert table([]).splitlines() == ["kept              0 of 0", "dropped           0"]
