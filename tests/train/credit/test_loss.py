"""The loss: values by hand, gradients against autograd of a naive loop, and what must not change it."""

from __future__ import annotations

import math

import pytest
import torch
from loss_inputs import gradient_of, random_inputs, row, with_ratios
from torch import Tensor

from zoomzero.errors import ConfigError
from zoomzero.train.credit.loss import (
    LossInputs,
    importance_ratio,
    policy_loss,
    pool_diagnostics,
    server_weights,
)
from zoomzero.train.credit.objective import LossSettings

NO_KL = LossSettings(beta=0.0)


# --- by hand ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.5, 1.0, -1.28),  # risen too far under a reward: clipped
        (1.5, -1.0, 1.5),  # risen under a punishment: the full ratio
        (0.5, 1.0, -0.5),  # fallen under a reward: the full ratio
        (0.5, -1.0, 0.8),  # fallen too far under a punishment: clipped
        (1.1, 2.0, -2.2),
        (1.27, 1.0, -1.27),  # between 1.2 and 1.28: the upper clip is its own
        (1.5, 0.0, 0.0),
    ],
)
def test_one_token(ratio: float, advantage: float, expected: float) -> None:
    assert policy_loss(with_ratios(row(ratio), row(advantage)), NO_KL).loss.item() == pytest.approx(expected, abs=1e-6)


def test_row_with_diagnostics() -> None:
    result = policy_loss(with_ratios(row(1.5, 0.5, 1.1, 1.5), row(1.0, -1.0, 2.0, -1.0)), NO_KL)
    assert result.loss.item() == pytest.approx((-1.28 + 0.8 - 2.2 + 1.5) / 4, abs=1e-6)
    watched = result.diagnostics
    assert (watched.tokens.item(), watched.clip_share.item()) == (4.0, 0.5)
    assert (watched.clip_low_share.item(), watched.clip_high_share.item()) == (0.25, 0.25)
    assert watched.ratio.item() == pytest.approx(4.6 / 4)
    assert watched.kl is None
    assert watched.entropy is None


def test_tokens_that_another_sampler_drew_are_weighted() -> None:
    """p / p_server is 2 at the first token, 1/2 at the second and cut from 8 to 3 at the third; KL is not weighted."""
    server = torch.tensor([[-1.0, -1.0, -1.0]])
    old = server + torch.tensor([[2.0, 0.5, 8.0]]).log()
    weights = server_weights(old, server, 3.0)
    assert weights.tolist()[0] == pytest.approx([2.0, 0.5, 3.0])
    ones = torch.ones_like(old, dtype=torch.bool)
    inputs = LossInputs(old, row(1.0, 2.0, 4.0), ones, old_log_probs=old)
    assert policy_loss(inputs, NO_KL, weights=weights).loss.item() == pytest.approx(-(2.0 * 1 + 0.5 * 2 + 3.0 * 4) / 3)
    with_kl = LossInputs(old, row(0.0, 0.0, 0.0), ones, old_log_probs=old, ref_log_probs=old - 1)
    assert policy_loss(with_kl, LossSettings(beta=1.0), weights=weights).loss.item() == pytest.approx(math.exp(-1.0))


@pytest.mark.parametrize(
    ("loss_type", "expected"),
    [
        ("dapo", -(1 + 2 + 3 + 4) / 4),
        ("grpo", -(2 + 4) / 2),
        ("dr_grpo", -(1 + 2 + 3 + 4) / (3 * 5)),  # three completions, the empty one too
        ("cispo", (1 + 2 + 3 + 4) / 4),  # -1 x advantage x log p, and log p is -1 everywhere
        ("sapo", -2 * (2 + 4) / 2),  # twice `grpo` at ratio 1
    ],
)
def test_aggregations(loss_type: str, expected: float) -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    advantages = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    chosen = LossSettings(beta=0.0, loss_type=loss_type, completion_length=5)
    loss = policy_loss(with_ratios(torch.ones(3, 3), advantages, mask), chosen).loss
    assert loss.item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("ratio", "advantage", "weight"),
    [(1.5, 1.0, 1.28), (1.5, -1.0, 1.28), (0.5, 1.0, 0.5), (0.5, -1.0, 0.5), (1.0, 2.0, 1.0)],
)
def test_cispo_bounds_the_weight_and_keeps_every_gradient(ratio: float, advantage: float, weight: float) -> None:
    old = row(-1.0)
    log_probs = (old + math.log(ratio)).requires_grad_()
    inputs = LossInputs(log_probs, row(advantage), torch.tensor([[True]]), old_log_probs=old)
    result = policy_loss(inputs, LossSettings(beta=0.0, loss_type="cispo"))
    (gradient,) = torch.autograd.grad(result.loss, log_probs)
    assert gradient.item() == pytest.approx(-weight * advantage)
    assert result.loss.item() == pytest.approx(-weight * advantage * (-1.0 + math.log(ratio)))
    assert result.diagnostics.clip_high_share.item() == float(ratio > 1.28)
    assert result.diagnostics.clip_low_share.item() == 0.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected", "slope"),
    [
        (1.0, 1.0, -2.0, -1.0),  # -4 sigmoid(0) A = -2 A; the gradient is GRPO's, -A
        (1.0, -1.0, 2 / 1.05, 1.0),
        (2.0, 1.0, -4 * 0.7310586, -2 * 4 * 0.7310586 * 0.2689414),  # sigmoid(1), times d ratio / d log p = 2
        (2.0, -2.0, 8 / 1.05 * 0.7407749, 2 * 8 * 0.7407749 * 0.2592251),  # sigmoid(1.05)
    ],
)
def test_sapo_by_hand(ratio: float, advantage: float, expected: float, slope: float) -> None:
    old = row(-1.0)
    log_probs = (old + math.log(ratio)).requires_grad_()
    inputs = LossInputs(log_probs, row(advantage), torch.tensor([[True]]), old_log_probs=old)
    result = policy_loss(inputs, LossSettings(beta=0.0, loss_type="sapo"))
    (gradient,) = torch.autograd.grad(result.loss, log_probs)
    assert result.loss.item() == pytest.approx(expected, rel=1e-5)
    assert gradient.item() == pytest.approx(slope, rel=1e-5)
    assert result.diagnostics.clip_share.item() == 0.0


def test_kl_by_hand() -> None:
    # reference twice, half and just as likely: 2 - ln 2 - 1, 1/2 + ln 2 - 1, 0
    log_probs, ref = row(-2.0, -2.0, -2.0), row(-2.0 + math.log(2), -2.0 - math.log(2), -2.0)
    expected = (2 - math.log(2) - 1 + 0.5 + math.log(2) - 1) / 3
    inputs = LossInputs(log_probs, torch.zeros(1, 3), torch.ones(1, 3, dtype=torch.bool), ref_log_probs=ref)
    result = policy_loss(inputs, LossSettings(beta=0.1))
    assert result.loss.item() == pytest.approx(0.1 * expected, abs=1e-6)
    assert result.diagnostics.kl is not None
    assert result.diagnostics.kl.item() == pytest.approx(expected, abs=1e-6)
    free = policy_loss(inputs, NO_KL)  # measured, not optimised
    assert free.loss.item() == 0.0
    assert free.diagnostics.kl is not None
    assert free.diagnostics.kl.item() == pytest.approx(expected, abs=1e-6)


def test_sequence_ratio_by_hand() -> None:
    mask = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    change = torch.tensor([[0.3, -0.1, 5.0], [-0.2, 5.0, 5.0], [5.0, 5.0, 5.0]])
    ratio = importance_ratio(
        change - 1, torch.full((3, 3), -1.0), mask, LossSettings(importance_sampling_level="sequence")
    )
    first, second = math.exp(0.1), math.exp(-0.2)
    expected = torch.tensor([[first, first, 1.0], [second, 1.0, 1.0], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(ratio, expected)


def test_first_update_pushes_every_token_by_its_own_advantage() -> None:
    log_probs = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]], requires_grad=True)
    advantages = torch.tensor([[1.0, -2.0], [0.5, 7.0]])
    mask = torch.tensor([[True, True], [True, False]])
    for level in ("token", "sequence"):
        result = policy_loss(
            LossInputs(log_probs, advantages, mask), LossSettings(beta=0.0, importance_sampling_level=level)
        )
        (gradient,) = torch.autograd.grad(result.loss, log_probs)
        torch.testing.assert_close(gradient, torch.tensor([[-1.0, 2.0], [-0.5, 0.0]]) / 3)
        assert result.diagnostics.ratio.item() == 1.0


# --- against a naive loop --------------------------------------------------------------------------------------------


def naive_loss(inputs: LossInputs, chosen: LossSettings, *, plain_gspo: bool = False) -> Tensor:
    """The same loss one token at a time, by the formulas as published, on Python numbers and 0-d tensors."""
    completions = []
    for i in range(inputs.mask.shape[0]):
        places = [t for t in range(inputs.mask.shape[1]) if inputs.mask[i, t]]
        new = [inputs.log_probs[i, t] for t in places]
        old = (
            [x.item() for x in new]
            if inputs.old_log_probs is None
            else [inputs.old_log_probs[i, t].item() for t in places]
        )
        losses = []
        for k, t in enumerate(places):
            if chosen.importance_sampling_level == "token":
                ratio = torch.exp(new[k] - old[k])
            else:
                whole = torch.exp(sum(n - o for n, o in zip(new, old, strict=True)) / len(places))
                ratio = whole if plain_gspo else whole.detach() * torch.exp(new[k]) / torch.exp(new[k]).detach()
            advantage = inputs.advantages[i, t].item()
            clipped = torch.clamp(ratio, 1 - chosen.epsilon, 1 + chosen.epsilon_high)
            loss = -torch.min(ratio * advantage, clipped * advantage)
            if chosen.beta and inputs.ref_log_probs is not None:
                difference = inputs.ref_log_probs[i, t].item() - new[k]
                loss = loss + chosen.beta * (torch.exp(difference) - difference - 1)
            losses.append(loss)
        completions.append(losses)
    every = [loss for losses in completions for loss in losses]
    if chosen.loss_type == "dapo":
        return sum(every) / len(every)
    if chosen.loss_type == "grpo":
        means = [sum(losses) / len(losses) for losses in completions if losses]
        return sum(means) / len(means)
    return sum(every) / (len(completions) * chosen.completion_length)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("beta", [0.0, 0.3])
@pytest.mark.parametrize("old", [True, False])
def test_value_and_gradient_of_the_naive_loop(loss_type: str, level: str, beta: float, old: bool) -> None:
    chosen = LossSettings(
        beta=beta, loss_type=loss_type, importance_sampling_level=level, completion_length=7, epsilon=0.1
    )
    clipped = 0.0
    for seed in range(4):
        inputs = random_inputs(seed, old=old)
        result, naive = policy_loss(inputs, chosen), naive_loss(inputs, chosen)
        torch.testing.assert_close(result.loss, naive, atol=1e-6, rtol=1e-5)
        gradient = gradient_of(result.loss, inputs)
        torch.testing.assert_close(gradient, gradient_of(naive, inputs), atol=1e-6, rtol=1e-5)
        assert not gradient[~inputs.mask].any()
        assert gradient[inputs.mask].any()
        clipped += result.diagnostics.clip_share.item()
    assert (clipped > 0) == old  # the clip is part of what was compared


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
def test_one_advantage_for_all_tokens_is_gspo_exactly(loss_type: str) -> None:
    chosen = LossSettings(
        beta=0.0, loss_type=loss_type, importance_sampling_level="sequence", epsilon=0.05, epsilon_high=0.05
    )
    clipped = 0.0
    for seed in range(6):
        inputs = random_inputs(seed, constant_advantage=True)
        result, naive = policy_loss(inputs, chosen), naive_loss(inputs, chosen, plain_gspo=True)
        torch.testing.assert_close(result.loss, naive, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(gradient_of(result.loss, inputs), gradient_of(naive, inputs), atol=1e-6, rtol=1e-5)
        clipped += result.diagnostics.clip_share.item()
    assert clipped > 0


def test_sequence_ratio_keeps_credit_on_its_tokens() -> None:
    inputs = LossInputs(
        log_probs=torch.tensor([[-1.0, -2.0]], requires_grad=True),
        advantages=row(1.0, -1.0),
        mask=torch.ones(1, 2, dtype=torch.bool),
        old_log_probs=row(-1.1, -2.1),
    )
    chosen = LossSettings(beta=0.0, importance_sampling_level="sequence")
    ratio = math.exp(0.1)
    gradient = gradient_of(policy_loss(inputs, chosen).loss, inputs)
    torch.testing.assert_close(gradient, row(-ratio / 2, ratio / 2))
    plain = gradient_of(naive_loss(inputs, chosen, plain_gspo=True), inputs)
    torch.testing.assert_close(plain, row(0.0, 0.0))  # what the published ratio would have made of it


# --- refusals --------------------------------------------------------------------------------------------------------


def test_kl_needs_a_reference() -> None:
    inputs = LossInputs(row(-1.0), row(1.0), torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(ConfigError, match=r"loss\.beta: is 0\.01 but there is no reference.*set beta = 0"):
        policy_loss(inputs, LossSettings())


def test_shapes_must_fit() -> None:
    good = random_inputs(0)
    with pytest.raises(ValueError, match=r"old_log_probs has shape \(5, 5\), the mask \(5, 6\)"):
        policy_loss(LossInputs(good.log_probs, good.advantages, good.mask, good.log_probs[:, :5]), NO_KL)
    with pytest.raises(ValueError, match="mask must be bool"):
        policy_loss(LossInputs(good.log_probs, good.advantages, good.mask.float()), NO_KL)


def test_pooling_needs_the_same_measurements() -> None:
    inputs = random_inputs(0)
    with_kl = policy_loss(inputs, NO_KL).diagnostics
    without = policy_loss(LossInputs(inputs.log_probs, inputs.advantages, inputs.mask), NO_KL).diagnostics
    with pytest.raises(ValueError, match="1 of 2 micro-batches have kl"):
        pool_diagnostics([with_kl, without])
    with pytest.raises(ValueError, match="no diagnostics"):
        pool_diagnostics([])
