from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from zoomzero.benchmarks.wilson import wilson


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
