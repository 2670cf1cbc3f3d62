"""Scenes: what every drawn scene promises, over many seeds and lengths."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomzero.world.scenes import (
    EVENT_LENGTHS_S,
    GRID_S,
    KINDS,
    LAST_ALONE_S,
    MIN_REPEAT_GAP_S,
    MIN_START_GAP_S,
    Event,
    Scene,
    kind_name,
    make_scene,
)

seeds = st.integers(0, 2**32 - 1)
seconds = st.integers(12, 100).map(lambda n: 2 * n)  # whole multiples of GRID_S


def draw(seed: int, duration_s: int) -> Scene:
    return make_scene(np.random.default_rng(seed), float(duration_s))


def gaps_between_repeats_s(scene: Scene) -> list[float]:
    by_kind: dict[int, list[Event]] = {}
    for event in scene.events:
        by_kind.setdefault(event.kind, []).append(event)
    return [b.start_s - a.end_s for events in by_kind.values() for a, b in pairwise(events)]


def check_times(scene: Scene) -> None:
    """What the module's constants promise."""
    starts = [event.start_s for event in scene.events]
    assert all(b - a >= MIN_START_GAP_S >= GRID_S for a, b in pairwise(starts)), "two start in one pair of frames"
    assert all(e.start_s >= 0 and e.end_s <= scene.duration_s for e in scene.events)
    low, high = EVENT_LENGTHS_S
    assert all(low <= e.end_s - e.start_s <= high for e in scene.events), "each is in two pairs of frames or more"
    assert all((t / GRID_S).is_integer() for e in scene.events for t in e.span), "a time off the grid"
    assert min(gaps_between_repeats_s(scene), default=4.0) >= MIN_REPEAT_GAP_S >= 2 * GRID_S
    *earlier, last = scene.events
    assert last.end_s == scene.duration_s
    assert last.end_s - last.start_s >= EVENT_LENGTHS_S[0] >= LAST_ALONE_S
    assert all(e.end_s <= scene.duration_s - LAST_ALONE_S for e in earlier), "the last object is not alone at the end"


@settings(max_examples=150, deadline=None)
@given(seeds, seconds)
def test_every_scene_keeps_its_times(seed: int, duration_s: int) -> None:
    scene = draw(seed, duration_s)
    check_times(scene)
    assert len(scene.events) >= 2


@settings(max_examples=100, deadline=None)
@given(seeds, st.integers(24, 48).map(lambda n: 2 * n))
def test_short_scene_repeats_at_most_one_kind(seed: int, duration_s: int) -> None:
    counts = Counter(event.kind for event in draw(seed, duration_s).events)
    repeated = [n for n in counts.values() if n > 1]
    assert len(repeated) <= 1
    assert all(n <= 4 for n in repeated)


@pytest.mark.parametrize("seed", range(6))
def test_long_scene_hides_ten_single_kinds_among_recurring_ones(seed: int) -> None:
    scene = make_scene(np.random.default_rng(seed), 1200.0)
    check_times(scene)
    counts = Counter(event.kind for event in scene.events)
    assert 130 <= len(scene.events) <= 225  # 1200 s / 6.5 s, give or take a fifth
    singles = [k for k, n in counts.items() if n == 1]
    # ten are meant to be single; the repeated kind may appear just once too
    assert 10 <= len(singles) <= 11
    assert len(counts) == KINDS


@given(seeds, seconds)
@settings(max_examples=25, deadline=None)
def test_scene_is_a_pure_function_of_its_seed(seed: int, duration_s: int) -> None:
    assert draw(seed, duration_s) == draw(seed, duration_s)


def test_other_seeds_give_other_scenes() -> None:
    scenes = [draw(seed, 50) for seed in range(20)]
    assert len({scene.events for scene in scenes}) == 20
    assert len({scene.base for scene in scenes}) == 20


def test_repeat_counts_are_drawn_evenly() -> None:
    """One kind appears one to four times, each equally often (where the scene has room for four)."""
    counts = Counter(max(Counter(e.kind for e in draw(seed, 96).events).values()) for seed in range(400))
    assert set(counts) == {1, 2, 3, 4}
    assert all(60 <= n <= 140 for n in counts.values()), counts


@given(seeds)
@settings(max_examples=60, deadline=None)
def test_every_eight_neighbours_carry_eight_symbols(seed: int) -> None:
    events = draw(seed, 200).events
    for first in range(0, len(events) - 7, 8):
        assert len({e.symbol for e in events[first : first + 8]}) == 8
    assert all(0 <= e.symbol < 8 and 0 <= e.kind < KINDS and 0 <= e.x <= 1 and 0 <= e.y <= 1 for e in events)


def test_kind_names_are_colour_then_shape() -> None:
    assert kind_name(0) == "red square"
    assert kind_name(5) == "orange square"
    assert kind_name(6) == "red triangle"
    assert kind_name(12) == "red cross"
    assert kind_name(23) == "orange ring"
    assert len({kind_name(k) for k in range(KINDS)}) == 24


def test_events_of_a_kind_come_in_time_order() -> None:
    scene = draw(3, 200)
    found = [scene.events_of(k) for k in range(KINDS)]
    assert sum(len(events) for events in found) == len(scene.events)
    assert all(a.start_s < b.start_s for events in found for a, b in pairwise(events))
