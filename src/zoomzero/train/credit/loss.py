"""The loss: importance-weighted surrogate plus KL, in the variants of GRPO, DAPO, Dr. GRPO, GSPO, CISPO and SAPO.

    ratio_t = exp(log p_t - log p_old_t)                                  token level
    ratio_t = exp(mean over the completion of log p - log p_old)          sequence level, see `importance_ratio`
    loss_t  = weight_t surrogate_t + beta k3_t                            weight 1, or `server_weights`
    clipped   -min(ratio_t A_t, clip(ratio_t, 1 - low, 1 + high) A_t)     dapo, grpo, dr_grpo
    cispo     -stop_gradient(min(ratio_t, 1 + high)) A_t log p_t
    sapo      -4/tau sigmoid(tau (ratio_t - 1)) A_t                       tau by the sign of A_t
    k3_t    = exp(log p_ref_t - log p_t) - (log p_ref_t - log p_t) - 1    >= 0, its mean estimates KL(p || p_ref)

Source: METHOD "optimisation" in docs/method.md; docs/training-credit.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoomzero.errors import ConfigError
from zoomzero.train.credit.objective import LossSettings

_MEANS = ("clip_share", "clip_low_share", "clip_high_share", "ratio", "kl", "entropy")


@dataclass(frozen=True, slots=True, eq=False)
class LossInputs:
    """Completions of one micro-batch, N rows of T token positions. What lies outside `mask` is never read.

    Args:
        log_probs: (N, T) log-probabilities of the tokens under the model being trained; carries the gradient.
        advantages: (N, T) from `advantages.estimate`.
        mask: (N, T) bool, True where a token counts.
        old_log_probs: (N, T) under the model that wrote the completions; None: it is this very model (the first
            update of a rollout batch), so that every ratio is 1.
        ref_log_probs: (N, T) under the reference model; None: there is none.
        entropy: (N, T) entropy of the model's next-token distribution in nats, to be reported; None: not measured.
    """

    log_probs: Tensor
    advantages: Tensor
    mask: Tensor
    old_log_probs: Tensor | None = None
    ref_log_probs: Tensor | None = None
    entropy: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LossDiagnostics:
    """What to watch, as 0-d tensors without gradient; means are over the counted tokens, 0 when none counts.

    `clip_low_share` is the share of tokens whose ratio fell too far under a negative advantage, `clip_high_share` of
    those whose ratio rose too far under a positive one: both no longer push the model (under `cispo`: push it less).
    `clip_share` is their sum.
    """

    tokens: Tensor
    clip_share: Tensor
    clip_low_share: Tensor
    clip_high_share: Tensor
    ratio: Tensor
    kl: Tensor | None
    entropy: Tensor | None


@dataclass(frozen=True, slots=True, eq=False)
class PolicyLoss:
    """A 0-d loss to call `backward` on, and its diagnostics."""

    loss: Tensor
    diagnostics: LossDiagnostics


def policy_loss(
    inputs: LossInputs,
    settings: LossSettings,
    denominator: Tensor | float | None = None,
    *,
    weights: Tensor | None = None,
) -> PolicyLoss:
    """Return the loss of one micro-batch, computed in float32.

    Args:
        inputs: the completions.
        settings: clip range, KL weight, loss type and level of the importance ratio.
        denominator: what the sum is divided by. None: `loss_denominator` of this micro-batch alone. When an update has
            several micro-batches, give each the SUM of their denominators: their losses, added up, are then the loss of
            the whole update, however its completions were split. 0 (no token counts) is taken as 1: the loss is 0.
        weights: (N, T) what each token's surrogate is multiplied by (`server_weights`); None: all count alike.

    Raises:
        ConfigError: a KL weight without a reference.
        ValueError: inputs whose shapes or kinds do not fit together.
    """
    _check(inputs, settings)
    mask = inputs.mask
    log_probs = _counted(inputs.log_probs, mask, grad=True)
    advantages = _counted(inputs.advantages, mask)
    ratio = importance_ratio(inputs.log_probs, inputs.old_log_probs, mask, settings)  # (N, T)
    surrogate, _ = LOSS_TYPES[settings.loss_type]
    per_token = surrogate(ratio, log_probs, advantages, settings)
    if weights is not None:
        per_token = per_token * _counted(weights, mask)
    kl = None
    if inputs.ref_log_probs is not None:
        kl = k3(log_probs, _counted(inputs.ref_log_probs, mask))  # (N, T), 0 outside the mask
        if settings.beta:
            per_token = per_token + settings.beta * kl
    return PolicyLoss(
        loss=_aggregate(per_token, mask, settings, denominator),
        diagnostics=_diagnose(ratio.detach(), advantages, kl, inputs, settings),
    )


def clipped_surrogate(ratio: Tensor, log_probs: Tensor, advantages: Tensor, settings: LossSettings) -> Tensor:
    """Return PPO's clipped surrogate of every token, (N, T). Source: arXiv 1707.06347; two clips: DAPO, 2503.14476."""
    clipped = ratio.clamp(1 - settings.epsilon, 1 + settings.epsilon_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def cispo_surrogate(ratio: Tensor, log_probs: Tensor, advantages: Tensor, settings: LossSettings) -> Tensor:
    """Return CISPO's: the importance weight is bounded from above and has no gradient, so no token stops learning.

    Source: MiniMax-M1 (arXiv 2506.13585), without its lower bound, as its authors run it.
    """
    return -ratio.detach().clamp(max=1 + settings.epsilon_high) * advantages * log_probs


def sapo_surrogate(ratio: Tensor, log_probs: Tensor, advantages: Tensor, settings: LossSettings) -> Tensor:
    """Return SAPO's: a sigmoid gate whose slope is 1 at ratio 1 and falls smoothly where a clip would cut.

    Source: SAPO (arXiv 2511.20347).
    """
    tau = torch.where(advantages > 0, settings.sapo_temperature_pos, settings.sapo_temperature_neg)
    return -4 / tau * torch.sigmoid(tau * (ratio - 1)) * advantages


Surrogate = Callable[[Tensor, Tensor, Tensor, LossSettings], Tensor]
# loss type -> its surrogate, and what the sum over tokens is divided by (`loss_denominator`)
LOSS_TYPES: Mapping[str, tuple[Surrogate, Literal["tokens", "completions", "constant"]]] = {
    "dapo": (clipped_surrogate, "tokens"),
    "grpo": (clipped_surrogate, "completions"),
    "dr_grpo": (clipped_surrogate, "constant"),
    "cispo": (cispo_surrogate, "tokens"),
    "sapo": (sapo_surrogate, "completions"),
}


def importance_ratio(log_probs: Tensor, old_log_probs: Tensor | None, mask: Tensor, settings: LossSettings) -> Tensor:
    """Return the importance ratio at every token, 1 outside the mask.

    At sequence level every token of a completion has the value of the completion's ratio, while the gradient at a token
    flows through that token's own log-probability alone (GSPO-token). With one advantage for the whole completion this
    is GSPO exactly; a ratio that carried the whole completion's gradient at every token would average advantages that
    differ between tokens, and so undo token-selective credit.

    Args:
        log_probs: (N, T), carries the gradient.
        old_log_probs: (N, T); None for ratios of 1 with the gradient of `log_probs`.
        mask: (N, T) bool, True where a token counts.
        settings: the level of the importance ratio.
    """
    new = _counted(log_probs, mask, grad=True)
    old = new.detach() if old_log_probs is None else _counted(old_log_probs, mask)
    change = new - old  # (N, T)
    if settings.importance_sampling_level == "token":
        return change.exp()
    mean = change.detach().sum(1) / mask.sum(1).clamp(min=1)  # (N,)
    own = (new - new.detach()).exp()  # value 1, gradient of the token's own log-probability
    return torch.where(mask, mean.exp()[:, None] * own, 1.0)


def server_weights(old_log_probs: Tensor, server_log_probs: Tensor, most: float) -> Tensor:
    """Return min(p_old / p_server, most) of every token: what makes up for another sampler than the model itself.

    Args:
        old_log_probs: (N, T) under the model whose ratios are taken.
        server_log_probs: (N, T) under the sampler that drew the tokens.
        most: largest weight.

    Source: truncated importance sampling, Yao et al., "Your efficient RL framework secretly brings you off-policy RL
    training" (2025); docs/training-server.md.
    """
    return (old_log_probs - server_log_probs).exp().clamp(max=most)


def k3(log_probs: Tensor, ref_log_probs: Tensor) -> Tensor:
    """Return `exp(d) - d - 1` with d = ref - own, never negative; averaged over own samples it is KL(own || ref)."""
    difference = ref_log_probs - log_probs
    return torch.expm1(difference) - difference


def loss_denominator(mask: Tensor, settings: LossSettings) -> Tensor:
    """Return what a sum over these completions is divided by (0-d float32); it adds up over micro-batches.

    dapo, cispo  counted tokens
    grpo, sapo   completions with at least one counted token
    dr_grpo      completions x `completion_length`, counted or not, so that it does not depend on what was written

    Args:
        mask: (N, T) bool, True where a token counts.
    """
    _, unit = LOSS_TYPES[settings.loss_type]
    if unit == "tokens":
        return mask.sum().float()
    if unit == "completions":
        return mask.any(1).sum().float()
    return torch.tensor(float(mask.shape[0] * settings.completion_length), device=mask.device)


def pool_diagnostics(parts: Sequence[LossDiagnostics]) -> LossDiagnostics:
    """Return the diagnostics of several micro-batches as if they had been one: means weighted by counted tokens.

    Raises:
        ValueError: no parts, or only some of them have a KL or an entropy.
    """
    if not parts:
        raise ValueError("there are no diagnostics to pool")
    tokens = torch.stack([part.tokens for part in parts])  # (parts,)
    means: dict[str, Tensor | None] = {}
    for name in _MEANS:
        values = [value for part in parts if (value := getattr(part, name)) is not None]
        if values and len(values) != len(parts):
            raise ValueError(f"{len(values)} of {len(parts)} micro-batches have {name}: measure it in all or in none")
        means[name] = (torch.stack(values) * tokens).sum() / tokens.sum().clamp(min=1) if values else None
    return LossDiagnostics(tokens=tokens.sum(), **means)  # type: ignore[arg-type]


def _counted(values: Tensor, mask: Tensor, *, grad: bool = False) -> Tensor:
    """Return float32 values with 0 outside the mask: padding may hold anything, and inf or NaN times 0 is NaN."""
    return (values if grad else values.detach()).float().masked_fill(~mask, 0.0)


def _aggregate(per_token: Tensor, mask: Tensor, settings: LossSettings, denominator: Tensor | float | None) -> Tensor:
    """Return the sum over tokens (of each completion's mean, where completions count) over the denominator, 0-d."""
    total = per_token.masked_fill(~mask, 0.0).sum(1)  # (N,)
    if LOSS_TYPES[settings.loss_type][1] == "completions":
        total = total / mask.sum(1).clamp(min=1)
    if denominator is None:
        denominator = loss_denominator(mask, settings)
    parts = torch.as_tensor(denominator, dtype=torch.float32, device=total.device)
    return total.sum() / torch.where(parts == 0, 1.0, parts)


def _diagnose(
    ratio: Tensor, advantages: Tensor, kl: Tensor | None, inputs: LossInputs, settings: LossSettings
) -> LossDiagnostics:
    mask = inputs.mask
    tokens = mask.sum().float()

    def mean(values: Tensor) -> Tensor:
        return _counted(values, mask).sum() / tokens.clamp(min=1)

    low, high = (mean(cut) for cut in _clipped(ratio, advantages, settings))
    return LossDiagnostics(
        tokens=tokens,
        clip_share=low + high,
        clip_low_share=low,
        clip_high_share=high,
        ratio=mean(ratio),
        kl=None if kl is None else mean(kl),
        entropy=None if inputs.entropy is None else mean(inputs.entropy),
    )


def _clipped(ratio: Tensor, advantages: Tensor, settings: LossSettings) -> tuple[Tensor, Tensor]:
    """Return which tokens are clipped below and above, (N, T) bool: CISPO bounds weights of any sign, SAPO none."""
    low, high = ratio < 1 - settings.epsilon, ratio > 1 + settings.epsilon_high
    if settings.loss_type == "cispo":
        return torch.zeros_like(low), high
    if settings.loss_type == "sapo":
        return torch.zeros_like(low), torch.zeros_like(high)
    return low & (advantages < 0), high & (advantages > 0)


def _check(inputs: LossInputs, settings: LossSettings) -> None:
    if settings.beta and inputs.ref_log_probs is None:
        fix = "give the log-probabilities of a reference model, or set beta = 0"
        raise ConfigError("loss.beta", f"is {settings.beta} but there is no reference", fix)
    if inputs.mask.dtype != torch.bool or inputs.mask.ndim != 2:
        raise ValueError(f"mask must be bool of shape (N, T), got {inputs.mask.dtype} {tuple(inputs.mask.shape)}")
    for name in ("log_probs", "advantages", "old_log_probs", "ref_log_probs", "entropy"):
        values = getattr(inputs, name)
        if values is not None and values.shape != inputs.mask.shape:
            raise ValueError(f"{name} has shape {tuple(values.shape)}, the mask {tuple(inputs.mask.shape)}")
