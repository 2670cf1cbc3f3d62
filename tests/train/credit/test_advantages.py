"""Estimators: expected tensors worked by hand (docs/training-credit.md), edge cases, and properties."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from advantage_rows import NAMES, REWARDS
from torch import Tensor

from zoomzero.errors import ConfigError
from zoomzero.prompts import answer_token_mask, read_response
from zoomzero.train.credit.advantages import (
    Group,
    distillation,
    estimate,
    estimate_batch,
    estimator_names,
    find_estimator,
    goes_over_batch,
    make_group,
    register,
    without_truncated,
)

COUNTED = torch.tensor([[1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 0]], dtype=torch.bool)
ANSWER = torch.tensor([[0, 1, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0]], dtype=torch.bool)


def tensors(rewards: dict[str, list[float]], without: str = "") -> dict[str, Tensor]:
    return {name: torch.tensor(values) for name, values in rewards.items() if name != without}


def close(actual: Tensor, expected: list[list[float]], atol: float = 2e-5) -> None:
    torch.testing.assert_close(actual, torch.tensor(expected), atol=atol, rtol=0)


def rows(rest: list[float], answer: list[float] | None = None) -> list[list[float]]:
    """Rest and answer values of the four rollouts, laid out on their tokens."""
    answer = rest if answer is None else answer
    full = [[r, a, r] for r, a in zip(rest[:3], answer[:3], strict=True)]
    return [*full, [rest[3], rest[3], 0.0]]


# --- by hand ---------------------------------------------------------------------------------------------------------

# Each reward, normalised: format .5 .5 .5 -1.5 | iou 1.41421 0 -.70711 -.70711 | answer +-.86603 | zoom 1.5 -.5 -.5 -.5
BY_HAND = [
    # scalar 26/30, 12/30, 15/30, 0: mean 13.25/30, deviation .35629
    ("grpo", True, True, rows([1.19284, -0.11694, 0.16372, -1.23961])),
    ("grpo", True, False, rows([0.425, -0.0416667, 0.0583333, -0.4416667])),
    # scalar 26/30, 12/30, 20/30, 0 without zoom: mean 14.5/30
    ("grpo", False, True, rows([1.02315, -0.22242, 0.48933, -1.29005])),
    ("grpo", False, False, rows([0.3833333, -0.0833333, 0.1833333, -0.4833333])),
    ("separate", True, True, rows([1.07006, -0.21651, 0.03973, -0.89328])),  # (.5 + 1.41421 + .86603 + 1.5) / 4, ...
    ("separate", True, False, rows([0.475, -0.125, 0.075, -0.425])),  # (.25 + .4 + .5 + .75) / 4, ...
    ("separate", False, True, rows([0.92674, -0.12201, 0.21964, -1.02438])),  # the same / 3, no zoom
    ("separate", False, False, rows([0.3833333, -0.0833333, 0.1833333, -0.4833333])),
    # (format + zoom + iou) / 3 on the rest, (format + zoom + answer) / 3 on the answer
    (
        "select",
        True,
        True,
        rows([1.13807, 0.0, -0.23570, -0.90237], [0.95534, -0.28868, 0.28868, 0.0]),
    ),
    (
        "select",
        True,
        False,
        rows([0.4666667, 0.0, -0.0666667, -0.4], [0.5, -0.1666667, 0.1666667, 0.0]),
    ),
    # (format + iou) / 2 and (format + answer) / 2
    ("select", False, True, rows([0.95710, 0.25, -0.10355, -1.10355], [0.68301, -0.18301, 0.68301, 0.0])),
    ("select", False, False, rows([0.325, 0.125, 0.025, -0.475], [0.375, -0.125, 0.375, 0.0])),
    # raw scores of the 11 tokens: .86667 1 .86667 | .4 .33333 .4 | .33333 .66667 .33333 | 0 0
    # their mean is 5.2 / 11 = .47273, their deviation .33791
    (
        "select_paper",
        True,
        True,
        rows([1.16581, -0.21523, -0.41252, -1.39898], [1.56040, -0.41252, 0.57394, 0.0]),
    ),
    (
        "select_paper",
        True,
        False,
        rows([0.3939394, -0.0727273, -0.1393939, -0.4727273], [0.5272727, -0.1393939, 0.1939394, 0.0]),
    ),
    # without zoom: .8 1 .8 | .6 .5 .6 | .5 1 .5 | 0 0, mean 6.3 / 11, deviation .33794
    (
        "select_paper",
        False,
        True,
        rows([0.67259, 0.08071, -0.21523, -1.69492], [1.26446, -0.21523, 1.26446, 0.0]),
    ),
    (
        "select_paper",
        False,
        False,
        rows([0.2272727, 0.0272727, -0.0727273, -0.5727273], [0.4272727, -0.0727273, 0.4272727, 0.0]),
    ),
    # sums of the normalised rewards, 4.28024 -.86603 .15892 -3.57313, deviation 3.25899: a batch of one group
    ("gdpo", True, True, rows([1.31337, -0.26573, 0.04876, -1.09639])),
    ("gdpo", True, False, rows([1.25831, -0.33113, 0.19868, -1.12585])),  # 1.9 -.5 .3 -1.7
    ("gdpo", False, True, rows([1.14325, -0.15051, 0.27095, -1.26369])),
    ("gdpo", False, False, rows([1.02315, -0.22242, 0.48933, -1.29006])),
    # the rest's sums and the answers' sums each over their own deviation; the last answer's -1.17239 is never written
    ("gdpo_select", True, True, rows([1.33967, 0.0, -0.27745, -1.06222], [1.17239, -0.35426, 0.35426, 0.0])),
    ("gdpo_select", True, False, rows([1.30740, 0.0, -0.18677, -1.12063], [1.16190, -0.38730, 0.38730, 0.0])),
    ("gdpo_select", False, True, rows([1.11586, 0.29147, -0.12073, -1.28660], [0.76909, -0.20608, 0.76909, 0.0])),
    ("gdpo_select", False, False, rows([0.95492, 0.36728, 0.07346, -1.39565], [0.78335, -0.26112, 0.78335, 0.0])),
]


@pytest.mark.parametrize(("name", "zoom", "normalize_std", "expected"), BY_HAND)
def test_by_hand(name: str, zoom: bool, normalize_std: bool, expected: list[list[float]]) -> None:
    rewards = tensors(REWARDS, without="" if zoom else "zoom")
    close(estimate(name, rewards, COUNTED, ANSWER, normalize_std=normalize_std), expected)


def test_every_estimator_has_numbers_by_hand() -> None:
    assert {case[0] for case in BY_HAND} == set(estimator_names()) == set(NAMES)


def test_deviation_is_the_samples_own() -> None:
    # two rollouts, 1 and 0: deviation sqrt(1/2), so +-1/sqrt(2); a deviation over n would give +-1
    rewards = {name: torch.tensor([1.0, 0.0]) for name in REWARDS}
    mask = torch.ones(2, 1, dtype=torch.bool)
    for name in NAMES:
        close(estimate(name, rewards, mask, ~mask), [[0.707106], [-0.707106]])


def test_long_completions_weigh_more_in_the_paper_variant_only() -> None:
    rewards = {name: torch.tensor([1.0, 0.0]) for name in REWARDS}
    counted = torch.tensor([[1, 1, 1], [1, 0, 0]], dtype=torch.bool)
    none = torch.zeros_like(counted)
    # tokens 1 1 1 0: mean 3/4, deviation 1/2
    close(estimate("select_paper", rewards, counted, none), [[0.5, 0.5, 0.5], [-1.5, 0, 0]])
    close(estimate("select", rewards, counted, none), [[0.707106] * 3, [-0.707106, 0, 0]])


# --- over a batch ----------------------------------------------------------------------------------------------------

ONE_TOKEN = torch.ones(2, 1, dtype=torch.bool)
# Two groups of two, every reward alike inside the group: (1, 0) in the first, (0, 0) in the second.
PAIRS = [{name: torch.tensor(values) for name in ("format", "answer")} for values in ([1.0, 0.0], [0.0, 0.0])]


def of_batch(name: str, rewards: list[dict[str, Tensor]], pool: Any = lambda values: values) -> list[Tensor]:
    return estimate_batch(name, [make_group(one, ONE_TOKEN, ~ONE_TOKEN) for one in rewards], pool)


def test_a_group_that_teaches_nothing_raises_the_others() -> None:
    """Sums 1.41421 -1.41421 | 0 0: mean 0, deviation sqrt(4 / 3) over the batch; alone the first has sqrt(4)."""
    first, second = of_batch("gdpo", PAIRS)
    close(first, [[1.22474], [-1.22474]])
    assert torch.equal(second, torch.zeros(2, 1))
    close(of_batch("gdpo", PAIRS[:1])[0], [[0.70711], [-0.70711]])


@pytest.mark.parametrize("name", ["gdpo", "gdpo_select"])
def test_processes_that_share_a_batch_see_its_statistics(name: str) -> None:
    """Two processes, one group each, their sums added up: what one process with both groups has."""
    together = of_batch(name, PAIRS)
    sent: list[list[Tensor]] = [[], []]
    for turn in range(2):
        of_batch(name, PAIRS[turn : turn + 1], lambda values, turn=turn: sent[turn].append(values) or values)
    sums = [a + b for a, b in zip(*sent, strict=True)]
    for turn in range(2):
        left = iter(sums)
        (alone,) = of_batch(name, PAIRS[turn : turn + 1], lambda values, left=left: next(left))
        torch.testing.assert_close(alone, together[turn])


def test_a_group_without_a_reward_is_normalised_beside_those_with_it() -> None:
    """Without spans the sum has fewer parts: iou 1 0 and answer 1 0 give +-1.41421, answer alone +-.70711."""
    full = {name: torch.tensor([1.0, 0.0]) for name in ("iou", "answer")}
    first, second = of_batch("gdpo", [full, {"answer": torch.tensor([1.0, 0.0])}])
    deviation = (2 * (1.414214**2 + 0.707107**2) / 3) ** 0.5  # 1.29099
    close(first, [[1.414214 / deviation], [-1.414214 / deviation]])
    close(second, [[0.707107 / deviation], [-0.707107 / deviation]])


def test_only_these_go_over_the_batch() -> None:
    assert [name for name in estimator_names() if goes_over_batch(name)] == ["gdpo", "gdpo_select"]
    for name in ("grpo", "separate", "select", "select_paper"):
        alone = [of_batch(name, [one])[0] for one in PAIRS]
        assert all(map(torch.equal, of_batch(name, PAIRS), alone))


def test_a_teacher_credits_tokens_it_finds_likelier() -> None:
    teacher, own = torch.tensor([[-1.0, -9.0, -2.0]]), torch.tensor([[-2.0, -1.0, -2.0]], requires_grad=True)
    credit = distillation(teacher, own, most=5.0)
    assert credit.tolist() == [[1.0, -5.0, 0.0]]  # -8 is cut to -5
    assert not credit.requires_grad


# --- edges -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("normalize_std", [True, False])
def test_equal_rewards_give_exactly_nothing(name: str, value: float, normalize_std: bool) -> None:
    rewards = {reward: torch.full((8,), value) for reward in REWARDS}
    counted = torch.ones(8, 5, dtype=torch.bool)
    advantages = estimate(name, rewards, counted, ~counted, normalize_std=normalize_std)
    assert torch.equal(advantages, torch.zeros(8, 5))  # 0.1 has no exact mean: rounding must not show


def test_a_reward_without_variance_leaves_the_others() -> None:
    rewards = tensors(REWARDS) | {"format": torch.ones(4), "zoom": torch.zeros(4)}
    # (0 + 0 + iou) / 3 and (0 + 0 + answer) / 3
    expected = rows([0.47140, 0.0, -0.23570, -0.23570], [0.28868, -0.28868, 0.28868, 0.0])
    close(estimate("select", rewards, COUNTED, ANSWER), expected)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("normalize_std", [True, False])
def test_group_of_one(name: str, normalize_std: bool) -> None:
    rewards = {reward: torch.tensor([value]) for reward, value in zip(REWARDS, (1.0, 0.5, 0.0, 1.0), strict=True)}
    counted, answer = COUNTED[:1], ANSWER[:1]
    assert torch.equal(estimate(name, rewards, counted, answer, normalize_std=normalize_std), torch.zeros(1, 3))


def test_completion_without_an_answer_is_credited_for_its_spans_everywhere() -> None:
    advantages = estimate("select", tensors(REWARDS), COUNTED, ANSWER)
    assert advantages[3, 0] == advantages[3, 1]
    close(advantages[3:, :2], [[-0.90237, -0.90237]])  # (-1.5 - .5 - .70711) / 3, the answer's -.86603 nowhere


@pytest.mark.parametrize("name", NAMES)
def test_answer_tokens_outside_the_completion_do_not_count(name: str) -> None:
    beyond = ANSWER.clone()
    beyond[3, 2] = True
    rewards = tensors(REWARDS)
    assert torch.equal(estimate(name, rewards, COUNTED, beyond), estimate(name, rewards, COUNTED, ANSWER))


def test_masked_truncated_completion_stays_in_the_statistics_over_rollouts() -> None:
    counted = without_truncated(COUNTED, [True, True, True, False])
    assert counted.tolist() == [[True] * 3, [True] * 3, [True] * 3, [False] * 3]
    rewards = tensors(REWARDS)
    for name in ("grpo", "separate", "select", "gdpo", "gdpo_select"):
        full = estimate(name, rewards, COUNTED, ANSWER)
        masked = estimate(name, rewards, counted, ANSWER)
        assert torch.equal(masked[:3], full[:3])
        assert not masked[3].any()
    # statistics over tokens lose its two zeros: mean 5.2 / 9 = .57778, deviation sqrt(.59556 / 8) = .27285
    expected = [[1.05880, 1.54747, 1.05880], [-0.65157, -0.89590, -0.65157], [-0.89590, 0.32578, -0.89590], [0, 0, 0]]
    close(estimate("select_paper", rewards, counted, ANSWER), expected)


@pytest.mark.parametrize("name", NAMES)
def test_nothing_counts(name: str) -> None:
    nothing = torch.zeros_like(COUNTED)
    assert torch.equal(estimate(name, tensors(REWARDS), nothing, ANSWER), torch.zeros(4, 3))
    empty = torch.zeros(4, 0, dtype=torch.bool)
    assert estimate(name, tensors(REWARDS), empty, empty).shape == (4, 0)


def test_roles_from_texts() -> None:
    """One character a token: a complete response, one without an answer, one cut off inside its answer."""
    texts = ["<answer>B</answer>\n<glue>[(1, 2)]</glue>", "<glue>[(1, 2)]</glue>", "<answer>B"]
    longest = max(map(len, texts))
    counted, answer = torch.zeros(3, longest, dtype=torch.bool), torch.zeros(3, longest, dtype=torch.bool)
    for i, text in enumerate(texts):
        roles = answer_token_mask(read_response(text, 4, "no_think"), [(k, k + 1) for k in range(len(text))])
        counted[i, : len(text)] = True
        answer[i, : len(text)] = torch.tensor(roles)
    rewards = {
        "format": torch.tensor([0.0, 0.0, 0.0]),
        "iou": torch.tensor([1.0, 0.0, -1.0]),
        "answer": torch.tensor([1.0, -1.0, 0.0]),
    }
    advantages = estimate("select", rewards, counted, answer, normalize_std=False)
    assert answer.sum(1).tolist() == [1, 0, 1]
    assert advantages[0, :8].eq(0.5).all()  # the tag: overlap
    assert advantages[0, 8] == 0.5  # the letter: right
    assert advantages[1, : len(texts[1])].eq(0.0).all()  # its wrong answer was never written
    assert advantages[2, :8].eq(-0.5).all()
    assert advantages[2, 8] == 0.0
    assert not advantages[~counted].any()


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_weight_zero_is_a_reward_that_is_not_there(name: str) -> None:
    weights = {"format": 1.0, "iou": 1.0, "answer": 1.0, "zoom": 0.0}
    weighted = estimate(name, tensors(REWARDS), COUNTED, ANSWER, weights=weights)
    assert torch.equal(weighted, estimate(name, tensors(REWARDS, without="zoom"), COUNTED, ANSWER))


def test_weights_by_hand() -> None:
    weights = {"format": 0.0, "iou": 2.0, "answer": 1.0, "zoom": 1.0}
    # rest (2 iou + zoom) / 3, answer (answer + zoom) / 2
    rest = [1.44281, -0.16667, -0.63807, -0.63807]
    answer = [1.18301, -0.68301, 0.18301, 0.0]
    close(estimate("select", tensors(REWARDS), COUNTED, ANSWER, weights=weights), rows(rest, answer))
    # scalar (2 iou + (answer + zoom) / 2) / 3 = .73333 .13333 .16667 0, mean .25833
    scalar = [0.475, -0.125, -0.0916667, -0.2583333]
    close(estimate("grpo", tensors(REWARDS), COUNTED, ANSWER, weights=weights, normalize_std=False), rows(scalar))


def test_tokens_that_no_reward_credits_get_nothing() -> None:
    weights = {"format": 0.0, "iou": 1.0, "answer": 0.0, "zoom": 0.0}
    advantages = estimate("select", tensors(REWARDS), COUNTED, ANSWER, weights=weights)
    close(advantages, rows([1.41421, 0.0, -0.70711, -0.70711], [0.0, 0.0, 0.0, 0.0]))


# --- refusals --------------------------------------------------------------------------------------------------------


def test_unknown_estimator_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="use one of gdpo, gdpo_select, grpo, select, select_paper, separate"):
        estimate("gae", tensors(REWARDS), COUNTED, ANSWER)
    with pytest.raises(ConfigError, match=r"credit\.estimator"):
        find_estimator("")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": "style"}, "rewards are some of format, iou, wasserstein, precision_iou, answer, zoom, got .*style"),
        ({"nan": True}, "reward answer is not finite"),
        ({"short": True}, r"reward answer has shape \(3,\) for 4 rollouts"),
    ],
)
def test_wrong_rewards(change: dict, message: str) -> None:
    rewards = tensors(REWARDS, without=change.get("without", ""))
    if "extra" in change:
        rewards["style"] = torch.zeros(4)
    if "nan" in change:
        rewards["answer"] = torch.tensor([1.0, float("nan"), 0.0, 0.0])
    if "short" in change:
        rewards["answer"] = torch.zeros(3)
    with pytest.raises(ValueError, match=message):
        estimate("select", rewards, COUNTED, ANSWER)


def test_wrong_masks() -> None:
    for counted, answer in [(COUNTED.float(), ANSWER), (COUNTED, ANSWER.int()), (COUNTED, ANSWER[:, :2])]:
        with pytest.raises(ValueError, match="masks must be bool and of one shape"):
            estimate("select", tensors(REWARDS), counted, answer)
    with pytest.raises(ValueError, match="3 flags for 4 completions"):
        without_truncated(COUNTED, [True] * 3)


def test_wrong_weights() -> None:
    with pytest.raises(ConfigError, match="weight above 0"):
        estimate("select", tensors(REWARDS), COUNTED, ANSWER, weights=dict.fromkeys(REWARDS, 0.0))
    for weights in ({"format": 1.0}, dict.fromkeys(REWARDS, -1.0), dict.fromkeys(REWARDS, float("nan"))):
        with pytest.raises(ValueError, match="weights must be 0 or more"):
            estimate("select", tensors(REWARDS), COUNTED, ANSWER, weights=weights)


def test_register_a_new_estimator_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zoomzero.train.credit.advantages._ESTIMATORS", {})

    @register("best")
    def best(group: Group) -> Tensor:
        assert not (group.answer_mask & ~group.completion_mask).any()  # what `Group` promises
        return (group.rewards["iou"] == group.rewards["iou"].max()).float()[:, None]

    close(estimate("best", tensors(REWARDS), COUNTED, torch.ones_like(ANSWER)), rows([1.0, 0.0, 0.0, 0.0]))
    with pytest.raises(ValueError, match="registered already"):
        register("best")(best)
