"""The order of examples: whole epochs, the same for one process or many, resumable from a number."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.data.example import Example
from zoomzero.errors import DataError
from zoomzero.spans import Span
from zoomzero.train.rollouts.stream import ExampleStream, difficulty_weights, prompt_seed

sizes, seeds = st.integers(1, 30), st.integers(0, 1000)


def named(count: int) -> list[Example]:
    """Examples told apart by their ids."""
    return [Example(str(i), "v.mp4", "?", (), "x", (), 1.0, "test", "train") for i in range(count)]


@given(size=sizes, seed=seeds, epochs=st.integers(1, 4))
def test_every_epoch_holds_every_example_once(size: int, seed: int, epochs: int) -> None:
    taken = ExampleStream(named(size), seed).take(size * epochs)
    assert [place for place, _ in taken] == list(range(size * epochs))
    for epoch in range(epochs):
        assert Counter(e.id for _, e in taken[epoch * size : (epoch + 1) * size]) == Counter(map(str, range(size)))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    examples = named(50)
    stream = ExampleStream(examples, 0)
    orders = [[e.id for _, e in stream.take(50)] for _ in range(3)]
    orders.append([e.id for _, e in ExampleStream(examples, 1).take(50)])
    assert len({tuple(order) for order in orders}) == 4
    assert [e.id for _, e in ExampleStream(examples, 0).take(50)] == orders[0]


@given(size=sizes, seed=seeds, world=st.integers(1, 5), each=st.integers(0, 20))
def test_processes_together_meet_what_one_meets(size: int, seed: int, world: int, each: int) -> None:
    examples = named(size)
    parts = [ExampleStream(examples, seed, rank, world).take(each) for rank in range(world)]
    assert sorted((place, e.id) for part in parts for place, e in part) == [
        (place, e.id) for place, e in ExampleStream(examples, seed).take(each * world)
    ]


@given(size=sizes, seed=seeds, before=st.integers(0, 40), after=st.integers(0, 10), rank=st.integers(0, 2))
def test_the_number_taken_is_all_a_resume_needs(size: int, seed: int, before: int, after: int, rank: int) -> None:
    straight = ExampleStream(named(size), seed, rank, 3)
    straight.take(before)
    resumed = ExampleStream(named(size), seed, rank, 3)
    resumed.taken = straight.taken
    assert resumed.take(after) == straight.take(after)


def test_peeking_takes_nothing() -> None:
    stream = ExampleStream(named(5), 0)
    ahead = stream.peek(7)
    assert stream.taken == 0
    assert stream.take(7) == ahead


def test_streams_side_by_side_do_not_mix() -> None:
    """Their orders are cached: several streams in one process must not see each other's."""
    small, large = ExampleStream(named(2), 0), ExampleStream(named(9), 0)
    assert {e.id for _, e in small.take(2)} == {"0", "1"}
    assert {e.id for _, e in large.take(9)} == set(map(str, range(9)))
    assert {e.id for _, e in small.take(2)} == {"0", "1"}


def test_prompts_have_seeds_of_their_own() -> None:
    found = [prompt_seed(seed, place) for seed in range(20) for place in range(200)]
    assert len(set(found)) == len(found)
    assert all(0 <= seed < 2**63 for seed in found)
    assert prompt_seed(3, 5) == prompt_seed(3, 5)


# --- by difficulty ---


def test_weights_say_how_often_an_example_is_met() -> None:
    stream = ExampleStream(named(4), 0, weights=[0.0, 1.0, 1.0, 2.0])
    met = Counter(example.id for _, example in stream.take(4000))
    assert met["0"] == 0
    assert met["3"] / met["1"] == pytest.approx(2.0, rel=0.15)
    one, other = (ExampleStream(named(4), 0, weights=weights).take(40) for weights in ([0, 1, 1, 2], [0, 2, 2, 4]))
    assert one == other, "only their proportions count"


def test_difficulty_by_hand(tmp_path: Path) -> None:
    examples = [replace(one, spans=(Span(0, 1),)) for one in named(2)] + [replace(named(1)[0], id="blind")]
    items = [
        {"id": "0", "verdict": "kept", "mean_iou": 0.5, "mean_hit": 1.0},
        {"id": "1", "verdict": "always_right", "mean_iou": 0.9, "mean_hit": 0.0},
        {"id": "blind", "verdict": "without_spans", "mean_iou": 0.0, "mean_hit": 0.75},
    ]
    path = tmp_path / "train.jsonl.filter.json"
    path.write_text(json.dumps({"items": items}))
    assert difficulty_weights(examples, [path]) == pytest.approx([0.25, 0.01, 0.0625])
    with pytest.raises(DataError, match=r"knows no answers to 1 examples, first 2; run `zoomzero filter`"):
        difficulty_weights(named(3), [path])
    path.write_text("[]")
    with pytest.raises(DataError, match="is no record of `zoomzero filter`"):
        difficulty_weights(examples, [path])
