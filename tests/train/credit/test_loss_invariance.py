"""The loss: what must not matter."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loss_inputs import gradient_of, random_inputs, row, with_ratios

from zoomzero.train.credit.loss import (
    LossDiagnostics,
    LossInputs,
    k3,
    loss_denominator,
    policy_loss,
    pool_diagnostics,
)
from zoomzero.train.credit.objective import LossSettings

NO_KL = LossSettings(beta=0.0)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "cispo", "sapo"])
def test_micro_batches_add_up_to_the_update(loss_type: str) -> None:
    chosen = LossSettings(loss_type=loss_type, completion_length=7)
    inputs = random_inputs(3)
    whole = policy_loss(inputs, chosen)
    parts = [slice(0, 2), slice(2, 3), slice(3, 5)]  # the first has a completion without tokens

    def part(rows: slice) -> LossInputs:
        return LossInputs(**{f.name: getattr(inputs, f.name)[rows] for f in fields(LossInputs)})

    denominator = sum(loss_denominator(inputs.mask[rows], chosen) for rows in parts)
    results = [policy_loss(part(rows), chosen, denominator) for rows in parts]
    total = sum(result.loss for result in results)
    torch.testing.assert_close(total, whole.loss)
    torch.testing.assert_close(gradient_of(total, inputs), gradient_of(whole.loss, inputs))
    pooled = pool_diagnostics([result.diagnostics for result in results])
    for field in fields(LossDiagnostics):
        torch.testing.assert_close(getattr(pooled, field.name), getattr(whole.diagnostics, field.name))


def test_denominators() -> None:
    mask = torch.tensor([[1, 1, 1], [1, 0, 0], [0, 0, 0]], dtype=torch.bool)
    wanted = {"dapo": 4.0, "grpo": 2.0, "dr_grpo": 30.0}
    for loss_type, expected in wanted.items():
        chosen = LossSettings(loss_type=loss_type, completion_length=10)
        assert loss_denominator(mask, chosen).item() == expected
    # below one is divided by as given: gradients that ranks average need sum / ranks
    assert policy_loss(with_ratios(row(1.0), row(3.0)), NO_KL, denominator=0.5).loss.item() == -6.0


@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo", "cispo", "sapo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_nothing_counts(loss_type: str, level: str) -> None:
    full = random_inputs(0)
    nothing = LossInputs(full.log_probs, full.advantages, torch.zeros_like(full.mask), ref_log_probs=full.ref_log_probs)
    result = policy_loss(nothing, LossSettings(loss_type=loss_type, importance_sampling_level=level))
    assert result.loss.item() == 0.0
    assert torch.equal(gradient_of(result.loss, nothing), torch.zeros(5, 6))
    watched = result.diagnostics
    assert [x.item() for x in (watched.tokens, watched.clip_share, watched.ratio)] == [0.0, 0.0, 0.0]


def test_diagnostics_leave_padding_and_gradient_out() -> None:
    inputs = random_inputs(1)
    watched = policy_loss(inputs, LossSettings()).diagnostics
    assert inputs.entropy is not None
    assert watched.entropy is not None
    assert watched.entropy.item() == pytest.approx(inputs.entropy[inputs.mask].mean().item())
    assert inputs.old_log_probs is not None
    ratios = (inputs.log_probs - inputs.old_log_probs)[inputs.mask].exp()
    assert watched.ratio.item() == pytest.approx(ratios.mean().item())
    assert not any(getattr(watched, field.name).requires_grad for field in fields(watched))


def test_gradient_goes_to_the_model_alone() -> None:
    inputs = random_inputs(2)
    for name in ("advantages", "old_log_probs", "ref_log_probs"):
        getattr(inputs, name).requires_grad_()
    policy_loss(inputs, LossSettings()).loss.backward()
    assert inputs.log_probs.grad is not None
    assert all(getattr(inputs, name).grad is None for name in ("advantages", "old_log_probs", "ref_log_probs"))


def test_bfloat16_is_computed_in_float32() -> None:
    inputs = LossInputs(row(-1.0, -2.0).bfloat16(), row(1.0, 1.0), torch.ones(1, 2, dtype=torch.bool))
    assert policy_loss(inputs, NO_KL).loss.dtype == torch.float32


pairs = st.floats(-8, 0)


@given(st.lists(st.tuples(pairs, pairs), min_size=1, max_size=8))
def test_k3_is_never_negative(values: list[tuple[float, float]]) -> None:
    own, ref = torch.tensor(values).T
    estimates = k3(own, ref)
    assert (estimates >= 0).all()
    expected = [math.exp(r - o) - (r - o) - 1 for o, r in values]
    torch.testing.assert_close(estimates, torch.tensor(expected), atol=1e-5, rtol=1e-4)


def test_k3_averages_to_the_divergence() -> None:
    own, ref = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    estimate = (own * k3(own.log(), ref.log())).sum()  # its expectation under the model
    torch.testing.assert_close(estimate, (own * (own / ref).log()).sum())


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 50),
    order=st.permutations(range(5)),
    loss_type=st.sampled_from(["dapo", "grpo", "dr_grpo", "cispo", "sapo"]),
    level=st.sampled_from(["token", "sequence"]),
)
def test_order_of_completions_does_not_matter(seed: int, order: list[int], loss_type: str, level: str) -> None:
    inputs = random_inputs(seed)
    moved = LossInputs(**{f.name: getattr(inputs, f.name)[order] for f in fields(LossInputs)})
    chosen = LossSettings(loss_type=loss_type, importance_sampling_level=level)
    torch.testing.assert_close(policy_loss(moved, chosen).loss, policy_loss(inputs, chosen).loss, atol=1e-5, rtol=1e-4)
