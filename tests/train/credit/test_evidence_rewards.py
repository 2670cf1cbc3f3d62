"""Rewards for evidence that does not overlap the truth, is too wide, or has no truth."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_example import EXAMPLE, GOOD, rewards_of

from zoomzero.prompts import read_response
from zoomzero.spans import Span, covered_s, merge, wasserstein_s
from zoomzero.train.credit.answers import (
    ZoomResult,
)
from zoomzero.train.credit.objective import RewardSettings, RewardWeights
from zoomzero.train.credit.rewards import (
    Reward,
    as_columns,
    consensus_spans,
    precision_iou_reward,
    register,
    registered,
    reward_values,
    scalar_shares,
    wasserstein_reward,
)

# --- evidence that does not overlap, or is too wide ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ([(10, 20)], 1.0),
        ([(20, 30)], math.exp(-1)),  # carried by 10 s, the truth's length
        ([(40, 50)], math.exp(-3)),  # further off earns less, where IoU is 0 for both
        ([(10, 15)], math.exp(-2.5 / 10)),  # its even spread over 5 s against 10 s: mean |t/5 - t/10| area 2.5 s
        ([(5, 10), (20, 25)], math.exp(-5 / 10)),  # either half is carried by 5 s
        ([(20, 15), (10, 20)], 1.0),  # a reversed span covers nothing
        ([], 0.0),
    ],
)
def test_wasserstein_by_hand(predicted: list[tuple[float, float]], expected: float) -> None:
    assert wasserstein_reward(predicted, [(10, 20)]) == pytest.approx(expected, abs=1e-12)


def test_wasserstein_merges_the_truth() -> None:
    """Touching true spans are one of 20 s: a shift by 10 s earns exp(-10 / 20)."""
    assert wasserstein_reward([(10, 30)], [(0, 10), (10, 20)]) == pytest.approx(math.exp(-0.5))


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 40), st.integers(1, 9)), min_size=1, max_size=4),
)
def test_wasserstein_is_what_carrying_small_pieces_costs(first: list, second: list) -> None:
    """Cut both sets into equally many equal pieces of time: in order, each goes to its partner."""

    def pieces(spans: list[tuple[int, int]], count: int = 500) -> list[float]:
        covered = merge((s, s + length) for s, length in spans)
        step, moments = covered_s(covered) / count, []
        for i in range(count):
            at = (i + 0.5) * step
            for start, end in covered:
                if at <= end - start:
                    moments.append(start + at)
                    break
                at -= end - start
        return moments

    a, b = ([(s, s + length) for s, length in spans] for spans in (first, second))
    pairs = zip(pieces(first), pieces(second), strict=True)
    assert wasserstein_s(a, b) == pytest.approx(sum(abs(x - y) for x, y in pairs) / 500, abs=0.2)
    assert wasserstein_s(a, b) == pytest.approx(wasserstein_s(b, a))


def test_precision_iou_by_hand() -> None:
    assert precision_iou_reward([(0, 20)], [(10, 20)]) == 0.25  # IoU 1/2, half of what is shown is true
    assert precision_iou_reward([(10, 15)], [(10, 20)]) == 0.5  # IoU 1/2, all of it is true
    assert precision_iou_reward([], [(10, 20)]) == 0.0


def test_rewards_with_a_weight_are_judged_and_others_are_not() -> None:
    weights = RewardWeights(iou=0.0, wasserstein=1.0)
    values = rewards_of(GOOD.replace("(30, 35)", "(30, 40)"), RewardSettings(weights=weights))
    assert (values.iou, values.more) == (1.0, {"wasserstein": 1.0})
    assert rewards_of(GOOD).more == {}
    assert scalar_shares(tuple(values.there()), weights.model_dump()) == pytest.approx(
        {"format": 1 / 3, "answer": 1 / 3, "wasserstein": 1 / 3}
    )


def test_two_rewards_about_the_evidence_share_its_place() -> None:
    weights = RewardWeights(wasserstein=1.0).model_dump()
    assert scalar_shares(("format", "iou", "answer", "wasserstein"), weights) == pytest.approx(
        {"format": 1 / 3, "iou": 1 / 6, "answer": 1 / 3, "wasserstein": 1 / 6}
    )


def test_an_example_without_spans_has_no_evidence_rewards() -> None:
    blind = replace(EXAMPLE, spans=())
    settings = RewardSettings(weights=RewardWeights(wasserstein=1.0, precision_iou=1.0))
    values = reward_values(GOOD, read_response(GOOD, 3), blind, settings, zoom=ZoomResult(True, (0.0, 1.0, -1.0)))
    assert values.there() == {"format": 1.0, "answer": 1.0, "zoom": 1.0}
    assert as_columns([values, values]) == {"format": [1.0, 1.0], "answer": [1.0, 1.0], "zoom": [1.0, 1.0]}


def test_consensus_is_what_more_than_half_cover() -> None:
    three = [[(10, 20)], [(12, 22)], [(0, 14), (30, 40)]]
    assert consensus_spans(three) == (Span(10, 20),)  # 10-12: first and third; 12-14: all; 14-20: first and second
    assert consensus_spans([[(0, 10)], [(5, 20)]]) == (Span(5, 10),), "of two both must agree"
    assert consensus_spans([[(0, 10)], [(20, 30)]]) == ()
    assert consensus_spans([[(0, 10)], []]) == (), "one alone agrees with nobody"


def test_every_reward_has_a_weight_and_a_name_of_its_own() -> None:
    assert set(registered()) == set(RewardWeights.model_fields)
    assert all(isinstance(one, Reward) and one.name == name for name, one in registered().items())
    with pytest.raises(ValueError, match="reward 'iou' is registered already"):
        register("iou", credits="rest")(lambda response: 0.0)
