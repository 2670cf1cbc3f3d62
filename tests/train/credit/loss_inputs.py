"""Inputs of the loss that its tests share."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from zoomzero.train.credit.loss import (
    LossInputs,
)


def row(*values: float) -> Tensor:
    return torch.tensor([values])


def with_ratios(ratios: Tensor, advantages: Tensor, mask: Tensor | None = None) -> LossInputs:
    """Inputs whose token-level ratios are given."""
    old = torch.full_like(ratios, -1.0)
    counted = torch.ones_like(ratios, dtype=torch.bool) if mask is None else mask
    return LossInputs(old + ratios.log(), advantages, counted, old_log_probs=old)


def random_inputs(seed: int, *, old: bool = True, constant_advantage: bool = False) -> LossInputs:
    """Five ragged completions of up to six tokens, one of them without any; garbage in the padding."""
    generator = torch.Generator().manual_seed(seed)

    def noise(scale: float) -> Tensor:
        return torch.randn(5, 6, generator=generator) * scale

    lengths = torch.tensor([6, 0, 1, 4, 3])
    mask = torch.arange(6) < lengths[:, None]
    base = -noise(1.0).abs() - 0.1
    advantages = noise(1.0)[:, :1].expand(5, 6).clone() if constant_advantage else noise(1.0)
    log_probs = (base + noise(0.4)).where(mask, torch.tensor(float("nan")))
    return LossInputs(
        log_probs=log_probs.requires_grad_(),
        advantages=advantages.where(mask, torch.tensor(float("inf"))),
        mask=mask,
        old_log_probs=base.where(mask, torch.tensor(-math.inf)) if old else None,
        ref_log_probs=(base + noise(0.5)).where(mask, torch.tensor(float("nan"))),
        entropy=noise(1.0).abs().where(mask, torch.tensor(float("nan"))),
    )


def gradient_of(loss: Tensor, inputs: LossInputs) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, inputs.log_probs, retain_graph=True)
    return gradient
