from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.benchmarks.scoring.metrics import wilson
from zoomzero.pages.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, ModePoint, place_y, plot


def test_wilson_worked_by_hand() -> None:
    # 8 of 10, z = 2: centre (0.8 + 4/20) / 1.4 = 0.7143, half 2/1.4 * sqrt(0.016 + 0.01) = 0.2303
    low, high = wilson(0.8, 10, z=2)
    assert (round(low, 4), round(high, 4)) == (0.4839, 0.9446)
    assert wilson(0.5, 0) == (0.0, 1.0)
    assert wilson(0.0, 5)[0] == 0.0
    assert wilson(1.0, 5)[1] == 1.0


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(counts: tuple[int, int]) -> None:
    right, n = counts
    low, high = wilson(right / n, n)
    assert 0 <= low <= right / n + 1e-9
    assert right / n - 1e-9 <= high <= 1


def test_heights() -> None:
    assert place_y(1.0) == TOP
    assert place_y(0.0) == HEIGHT - BOTTOM
    assert place_y(0.5) == (TOP + HEIGHT - BOTTOM) / 2


def test_near_costs_give_an_axis_from_zero() -> None:
    drawn = plot([ModePoint("coarse", 0.5, 1000, 24), ModePoint("zoom", 0.75, 2000, 24)], chance=0.25)
    assert drawn is not None
    assert not drawn.logarithmic
    assert [line.label for line in drawn.x_lines] == ["0", "500", "1k", "1.5k", "2k"]
    coarse, zoom = drawn.marks
    assert drawn.x_lines[0].at == LEFT
    assert (coarse.x, coarse.y) == (drawn.x_lines[2].at, place_y(0.5))
    assert zoom.x == drawn.x_lines[4].at
    assert drawn.chance_y == place_y(0.25)
    assert zoom.high_y < zoom.y < zoom.low_y


def test_far_costs_give_a_logarithmic_axis() -> None:
    drawn = plot([ModePoint("coarse", 0.5, 1000, 24), ModePoint("divide", 0.75, 20000, 2)])
    assert drawn is not None
    assert drawn.logarithmic
    assert [line.label for line in drawn.x_lines] == ["1k", "2k", "5k", "10k", "20k"]
    gaps = [b.at - a.at for a, b in zip(drawn.x_lines, drawn.x_lines[1:], strict=False)]
    assert gaps[0] == pytest.approx(gaps[3], abs=0.2)  # a doubling is as wide anywhere
    assert drawn.chance_y is None


def test_labels_of_equal_points_do_not_cover_each_other() -> None:
    drawn = plot([ModePoint(name, 0.5, 1000, 24) for name in ("direct", "coarse", "zoom", "search")])
    assert drawn is not None
    assert len({(mark.label_x, mark.label_y) for mark in drawn.marks[:3]}) == 3


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e6)), min_size=1, max_size=6))
def test_everything_is_inside(values: list[tuple[float, float]]) -> None:
    drawn = plot([ModePoint(f"m{i}", acc, cost, 10) for i, (acc, cost) in enumerate(values)])
    assert drawn is not None
    for mark in drawn.marks:
        assert LEFT <= mark.x <= WIDTH - RIGHT
        assert TOP <= mark.high_y <= mark.low_y <= HEIGHT - BOTTOM
    assert all(LEFT <= line.at <= WIDTH - RIGHT for line in drawn.x_lines)


def test_no_modes_no_plot() -> None:
    assert plot([]) is None
