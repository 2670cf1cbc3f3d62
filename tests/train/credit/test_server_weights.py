"""Importance weights of tokens that a server drew, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from zoomzero.train.credit.loss import LossInputs, policy_loss, server_weights
from zoomzero.train.credit.objective import LossSettings


def test_tokens_that_another_sampler_drew_are_weighted() -> None:
    """p / p_server is 2 at the first token, 1/2 at the second and cut from 8 to 3 at the third; KL is not weighted."""
    server = torch.tensor([[-1.0, -1.0, -1.0]])
    old = server + torch.tensor([[2.0, 0.5, 8.0]]).log()
    weights = server_weights(old, server, 3.0)
    assert weights.tolist()[0] == pytest.approx([2.0, 0.5, 3.0])
    ones = torch.ones_like(old, dtype=torch.bool)
    inputs = LossInputs(old, torch.tensor([[1.0, 2.0, 4.0]]), ones, old_log_probs=old, weights=weights)
    assert policy_loss(inputs, LossSettings(beta=0.0)).loss.item() == pytest.approx(-(2.0 * 1 + 0.5 * 2 + 3.0 * 4) / 3)
    with_kl = LossInputs(old, torch.zeros(1, 3), ones, old_log_probs=old, ref_log_probs=old - 1, weights=weights)
    assert policy_loss(with_kl, LossSettings(beta=1.0)).loss.item() == pytest.approx(math.exp(-1.0))
