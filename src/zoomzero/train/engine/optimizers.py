"""Optimizers beside AdamW, and learning rates that no named schedule has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

_STEPS = 5  # of Newton-Schulz
_QUINTIC = (3.4445, -4.7750, 2.0315)


class Muon(torch.optim.Optimizer):
    """Momentum whose update is made orthogonal, for hidden matrices; AdamW for everything else.

    All in float32, matrices of one shape together: torch's own Muon works in bfloat16, which crawls on processors
    without it. The update of an (n, m) matrix is scaled by 0.2 sqrt(max(n, m)): one learning rate serves both kinds.

    Args:
        model: whose parameters that require gradients are trained; matrices inside layers up to `largest` on a side get
            orthogonal updates, embeddings, heads, norms and larger matrices AdamW's.
        lr: learning rate.
        weight_decay: of the matrices with orthogonal updates.
        betas: AdamW's; Muon's momentum is `momentum`.

    Source: Jordan et al. 2024 (Muon); Liu et al. 2025 (arXiv 2502.16982) for the scale.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float,
        *,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.95),
        momentum: float = 0.95,
        largest: int = 512,
    ) -> None:
        matrices, others = split_parameters(model, largest)
        groups: list[dict[str, Any]] = [{"params": matrices, "orthogonal": True, "weight_decay": weight_decay}]
        if others:
            groups.append({"params": others, "orthogonal": False, "weight_decay": 0.0})
        super().__init__([g for g in groups if g["params"]], {"lr": lr, "betas": betas, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one update from the gradients."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            (self._orthogonal if group["orthogonal"] else self._adamw)(group, parameters)

    def _orthogonal(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        alike: dict[tuple[int, ...], list[tuple[Tensor, Tensor]]] = {}
        for p in parameters:
            momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
            momentum.mul_(group["momentum"]).add_(p.grad)
            alike.setdefault(tuple(p.shape), []).append((p, p.grad + group["momentum"] * momentum))
        for shape, pairs in alike.items():
            updates = orthogonalise(torch.stack([update for _, update in pairs]))
            size = group["lr"] * 0.2 * max(shape) ** 0.5
            for (p, _), update in zip(pairs, updates, strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-size)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p].update(step=torch.zeros(()), mean=torch.zeros_like(p), square=torch.zeros_like(p))
        states = [self.state[p] for p in parameters]
        beta1, beta2 = group["betas"]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [s["mean"] for s in states],
            [s["square"] for s in states],
            [],
            [s["step"] for s in states],
            amsgrad=False,
            beta1=beta1,
            beta2=beta2,
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=1e-8,
            maximize=False,
        )


def split_parameters(model: nn.Module, largest: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return the parameters that require gradients: matrices inside layers, and the others."""
    matrices: list[Tensor] = []
    others: list[Tensor] = []
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for name, p in model.named_parameters():
        if p.requires_grad:
            inside = p.ndim == 2 and id(p) not in tables and "head" not in name and max(p.shape) <= largest
            (matrices if inside else others).append(p)
    return matrices, others


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return about the nearest matrices with orthonormal rows or columns, (N, n, m) float32, by Newton-Schulz."""
    a, b, c = _QUINTIC
    x: Tensor = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if matrices.shape[1] > matrices.shape[2] else x


def rate_factor(rates: Sequence[tuple[int, float]], step: int) -> float:
    """Return what the learning rate is multiplied with at a step: on straight lines between (step, factor) pairs."""
    steps, factors = zip(*rates, strict=True)
    return float(np.interp(step, steps, factors))
