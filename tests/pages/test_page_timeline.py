from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.pages.timeline import (
    MAX_TICKS,
    blocks,
    clock,
    extent_s,
    kind_of,
    lanes,
    legend,
    length_label,
    pack_rows,
    seek_s,
    span_label,
    ticks,
)
from zoomzero.spans import Span


@pytest.mark.parametrize(
    ("time_s", "tenths", "label"),
    [
        (0, False, "00:00"),
        (59.4, False, "00:59"),
        (59.6, False, "01:00"),
        (754, False, "12:34"),
        (3599.96, True, "1:00:00.0"),
        (3661, False, "1:01:01"),
        (36000, False, "10:00:00"),
        (41.25, True, "00:41.2"),
        (59.96, True, "01:00.0"),
        (-3, False, "00:00"),
    ],
)
def test_clock_is_minutes_and_from_an_hour_on_hours(time_s: float, tenths: bool, label: str) -> None:
    assert clock(time_s, tenths) == label


def test_span_labels_show_tenths_or_hours_only_where_needed() -> None:
    assert span_label((0, 72)) == "00:00 – 01:12"
    assert span_label((27.4, 35)) == "00:27.4 – 00:35.0"
    assert span_label((1800.5, 5025.3)) == "0:30:00 – 1:23:45"


def test_length_label() -> None:
    assert [length_label(x) for x in (60, 49.5, 5025.3)] == ["01:00", "00:49.5", "1:23:45"]


@pytest.mark.parametrize(
    ("time_s", "position"),
    [
        (0, "0"),
        (12.5, "12.5"),
        (1 / 3, "0.334"),
        (0.1 * 3, "0.3"),
        (100, "100"),
        (36000.0001, "36000.001"),
        (-1, "0"),
    ],
)
def test_seek_never_lands_before_the_frame(time_s: float, position: str) -> None:
    assert seek_s(time_s) == position


@given(st.floats(0, 1e6))
def test_seek_is_at_most_a_millisecond_late(time_s: float) -> None:
    assert -1e-6 <= float(seek_s(time_s)) - time_s <= 0.001 + 1e-6


@pytest.mark.parametrize("name", ["zoom", "Zoom 2", "zoom again"])
def test_kind_is_the_first_word(name: str) -> None:
    assert kind_of(name) == "zoom"


def test_kind_of_modes_and_strangers() -> None:
    assert [kind_of(x) for x in ("divide", "search", "window 12", "mystery", "")] == [
        "window",
        "candidate",
        "window",
        "other",
        "other",
    ]


def test_ticks_are_round_moments() -> None:
    assert [(t.left, t.label) for t in ticks(100)] == [
        (0.0, "00:00"),
        (15.0, "00:15"),
        (30.0, "00:30"),
        (45.0, "00:45"),
        (60.0, "01:00"),
        (75.0, "01:15"),
        (90.0, "01:30"),
    ]
    assert [t.label for t in ticks(36000)][:3] == ["00:00", "2:00:00", "4:00:00"]
    assert [t.label for t in ticks(0.5)][:3] == ["00:00.0", "00:00.1", "00:00.2"]


@given(st.floats(0.5, 1e8))
def test_ticks_are_few_and_on_the_axis(axis_s: float) -> None:
    marks = ticks(axis_s)
    assert 1 <= len(marks) <= MAX_TICKS + 1
    assert all(0 <= tick.left <= 100 for tick in marks)
    assert len({tick.label for tick in marks}) == len(marks)


def test_blocks_are_cut_to_the_axis() -> None:
    cut = blocks([(-5, 10), (90, 120), (150, 160)], 100, "seen", "seen")
    assert [(b.left, b.width) for b in cut] == [(0.0, 10.0), (90.0, 10.0)]
    assert cut[1].title == "seen, 01:30 – 01:40"


def test_axis_without_duration_reaches_the_last_known_moment(make_trace, make_pass) -> None:
    trace = make_trace(duration_s=0.0, spans=[(2, 8)], passes=(make_pass(spans=[(0, 7)], times_s=(9.5,)),))
    assert extent_s(trace) == 9.5
    assert extent_s(trace, [(11, 12)]) == 12
    assert extent_s(make_trace(duration_s=float("nan"), spans=[], passes=())) == 1.0


@pytest.mark.parametrize(
    ("ranges", "rows"),
    [
        ([], []),
        ([(0, 10), (10, 20), (20, 30)], [0, 0, 0]),
        ([(0, 10), (5, 15), (9, 12), (12, 13)], [0, 1, 2, 0]),
        ([(5, 6), (0, 10)], [1, 0]),
    ],
)
def test_rows_do_not_overlap(ranges: list[tuple[float, float]], rows: list[int]) -> None:
    assert pack_rows(ranges) == rows


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)).map(lambda x: (x[0], x[0] + x[1])), max_size=20))
def test_no_two_on_a_row_overlap(ranges: list[tuple[int, int]]) -> None:
    rows = pack_rows(ranges)
    for i, (a, b) in enumerate(ranges):
        for j, (c, d) in enumerate(ranges[:i]):
            assert rows[i] != rows[j] or b <= c or d <= a


def test_each_pass_has_its_lane_with_what_it_saw_and_found(make_trace) -> None:
    drawn = lanes(make_trace(), [(18, 32)])
    assert [lane.label for lane in drawn] == ["true", "evidence", "coarse", "zoom"]
    truth, evidence, coarse, zoom = drawn
    assert [(b.role, b.left, b.width) for b in truth.blocks] == [("true", 18.0, 14.0)]
    assert [(b.role, b.left, b.width) for b in evidence.blocks] == [("final", 20.0, 10.0)]
    assert [(b.role, b.left, b.width) for b in coarse.blocks] == [("seen", 0.0, 100.0), ("found", 20.0, 10.0)]
    assert [(b.role, b.left, b.width) for b in zoom.blocks] == [("seen", 10.0, 30.0)]
    assert zoom.marks == (10.0, 25.0, 40.0, 12.3)
    assert zoom.blocks[0].title == "zoom looked here (4 frames), 00:10 – 00:40"


def test_forty_windows_share_one_lane(make_trace, make_pass) -> None:
    windows = tuple(make_pass(f"window {i + 1}", [(i * 30.0, i * 30.0 + 30)], times_s=()) for i in range(40))
    drawn = lanes(make_trace(duration_s=1200.0, passes=windows))
    assert [(lane.label, lane.rows, len(lane.blocks)) for lane in drawn] == [
        ("evidence", 1, 1),
        ("40 windows", 1, 40),
    ]
    assert (drawn[1].blocks[39].left, drawn[1].blocks[39].width) == (97.5, 2.5)


def test_many_overlapping_candidates_get_rows(make_trace, make_pass) -> None:
    spans = [(0, 10), (5, 15), (20, 30), (25, 28), (26, 40)]
    drawn = lanes(make_trace(passes=tuple(make_pass(f"candidate {i}", [s]) for i, s in enumerate(spans))))
    assert drawn[1].label == "5 candidates"
    assert [block.row for block in drawn[1].blocks] == [0, 1, 0, 1, 2]
    assert drawn[1].rows == 3


def test_what_cannot_be_drawn_is_said(make_trace, make_pass) -> None:
    drawn = lanes(make_trace(spans=[], passes=(make_pass(found=[(150, 160), (5, 6), (101, 109)]),)))
    assert drawn[0].note == "none found"
    assert drawn[1].note == "2 spans outside the video"


def test_legend_names_what_is_drawn_and_nothing_else(make_trace) -> None:
    entries = legend(lanes(make_trace(), [Span(1, 2)]))
    assert [(kind, role) for kind, role, _ in entries] == [
        ("true", "true"),
        ("final", "final"),
        ("coarse", "seen"),
        ("other", "found"),
        ("zoom", "seen"),
        ("other", "mark"),
    ]
    assert legend(lanes(make_trace(spans=[], passes=()))) == ()
