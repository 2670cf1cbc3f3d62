"""Credit: from a group's rewards to an advantage for every token, by estimators registered by name.

Notation: G rollouts of one prompt, T token positions (completions padded at the right). `answer` tokens lie inside
`<answer>..</answer>`, every other token is the rest. An estimator is one small pure function of a `Group`, or of all
groups of a batch where statistics go over the batch.

Source: METHOD "token-selective credit assignment" in docs/method.md; docs/training-credit.md has an example by hand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoomzero.errors import ConfigError
from zoomzero.train.credit.rewards import REWARDS, registered, scalar_shares

STD_EPSILON = 1e-6
EQUAL_WEIGHTS: Mapping[str, float] = dict.fromkeys(REWARDS, 1.0)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """What an estimator sees of one prompt's rollouts.

    Args:
        rewards: by name, each (G,) float32; rewards of weight 0 are not there.
        completion_mask: (G, T) bool, True where a token counts.
        answer_mask: (G, T) bool, True where a token is part of the answer; only counted tokens.
        weights: weight of each reward that is there.
        normalize_std: divide by the standard deviation, not only subtract the mean.
    """

    rewards: Mapping[str, Tensor]
    completion_mask: Tensor
    answer_mask: Tensor
    weights: Mapping[str, float]
    normalize_std: bool


Estimator = Callable[[Group], Tensor]
Pool = Callable[[Tensor], Tensor]  # sums a tensor over the processes that share a batch
BatchEstimator = Callable[[Sequence[Group], Pool], list[Tensor]]
_ESTIMATORS: dict[str, BatchEstimator] = {}
_OVER_BATCH: set[str] = set()


def register(name: str) -> Callable[[Estimator], Estimator]:
    """Register an estimator: a pure function from a `Group` to (G, T) or (G, 1) advantages.

    Raises:
        ValueError: the name is taken.
    """

    def add(estimator: Estimator) -> Estimator:
        _add(name, lambda groups, pool: [estimator(group) for group in groups])
        return estimator

    return add


def register_batch(name: str) -> Callable[[BatchEstimator], BatchEstimator]:
    """Register an estimator over a batch: from its groups and `Pool` to (G, T) or (G, 1) advantages of each group.

    Raises:
        ValueError: the name is taken.
    """

    def add(estimator: BatchEstimator) -> BatchEstimator:
        _add(name, estimator)
        _OVER_BATCH.add(name)
        return estimator

    return add


def _add(name: str, estimator: BatchEstimator) -> None:
    if name in _ESTIMATORS:
        raise ValueError(f"estimator {name!r} is registered already")
    _ESTIMATORS[name] = estimator


def goes_over_batch(name: str) -> bool:
    """Return whether an estimator's statistics go over all groups of a batch."""
    return name in _OVER_BATCH


def estimator_names() -> tuple[str, ...]:
    """Return the registered names."""
    return tuple(sorted(_ESTIMATORS))


def find_estimator(name: str) -> BatchEstimator:
    """Return an estimator.

    Raises:
        ConfigError: no such name.
    """
    if name not in _ESTIMATORS:
        raise ConfigError(
            "credit.estimator", f"unknown estimator {name!r}", f"use one of {', '.join(estimator_names())}"
        )
    return _ESTIMATORS[name]


def estimate(
    name: str,
    rewards: Mapping[str, Tensor],
    completion_mask: Tensor,
    answer_mask: Tensor,
    *,
    normalize_std: bool = True,
    weights: Mapping[str, float] = EQUAL_WEIGHTS,
) -> Tensor:
    """Return the advantage of every token of one prompt's rollouts, as if they were the whole batch.

    A rollout none of whose tokens count still takes part in statistics over rollouts.

    Args:
        name: a registered estimator.
        rewards: by registered name, those the prompt can be judged by; each (G,).
        completion_mask: (G, T) bool, True where a token counts (written by the model, not left out).
        answer_mask: (G, T) bool, True where a token is part of the answer; all False for a completion without one.
        normalize_std: divide by the sample standard deviation (n - 1) + 1e-6; False for Dr. GRPO's variant.
        weights: how much each reward counts; a reward with weight 0 is left out as if it were not given.

    Returns:
        (G, T) float32 on the masks' device, 0 outside `completion_mask`; all 0 for a group of one.

    Raises:
        ConfigError: an unknown estimator, or no reward with a weight above 0.
        ValueError: rewards or masks of the wrong names, shapes, kinds, or rewards that are not finite.
    """
    group = make_group(rewards, completion_mask, answer_mask, normalize_std=normalize_std, weights=weights)
    return estimate_batch(name, [group])[0]


def estimate_batch(name: str, groups: Sequence[Group], pool: Pool = lambda values: values) -> list[Tensor]:
    """Return the advantage of every token of a batch's groups, each (G, T) float32, 0 where no token counts.

    Args:
        name: a registered estimator.
        groups: those of this process.
        pool: sums statistics over the processes that share the batch; by default this one is alone.

    Raises:
        ConfigError: an unknown estimator.
    """
    found = find_estimator(name)(groups, pool)
    return [torch.where(group.completion_mask, one, 0.0) for group, one in zip(groups, found, strict=True)]


def make_group(
    rewards: Mapping[str, Tensor],
    completion_mask: Tensor,
    answer_mask: Tensor,
    *,
    normalize_std: bool = True,
    weights: Mapping[str, float] = EQUAL_WEIGHTS,
) -> Group:
    """Return what an estimator sees of one prompt's rollouts. Args and Raises: as `estimate`."""
    _check(rewards, completion_mask, answer_mask)
    _check_weights(rewards, weights)
    counted = {reward: weights[reward] for reward in registered() if reward in rewards and weights[reward] > 0}
    if not counted:
        raise ConfigError("reward.weights", "every reward that is there has weight 0", "give one a weight above 0")
    return Group(
        rewards={reward: rewards[reward].detach().to(completion_mask.device, torch.float32) for reward in counted},
        completion_mask=completion_mask,
        answer_mask=answer_mask & completion_mask,
        weights=counted,
        normalize_std=normalize_std,
    )


def without_truncated(completion_mask: Tensor, finished: Sequence[bool]) -> Tensor:
    """Return the mask with no token counted in completions that were cut off.

    Args:
        completion_mask: (G, T) bool, True where a token counts.
        finished: for each completion whether the model ended it itself.

    Raises:
        ValueError: `finished` does not fit the mask.
    """
    if len(finished) != completion_mask.shape[0]:
        raise ValueError(f"{len(finished)} flags for {completion_mask.shape[0]} completions")
    whole = torch.tensor(list(finished), dtype=torch.bool, device=completion_mask.device)  # (G,)
    return completion_mask & whole[:, None]


@register("grpo")
def grpo(group: Group) -> Tensor:
    """Plain GRPO: the scalar reward, normalised over the rollouts, on every token. Returns (G, 1)."""
    shares = scalar_shares(tuple(group.rewards), group.weights)
    scalar = torch.stack([share * group.rewards[name] for name, share in shares.items()]).sum(0)  # (G,)
    return normalised(scalar, group.normalize_std)[:, None]


@register("separate")
def separate(group: Group) -> Tensor:
    """Each reward normalised over the rollouts on its own, their mean on every token. Returns (G, 1)."""
    values = _each_normalised(group)
    return _mean(values, group.weights, tuple(values))[:, None]


@register("select")
def select(group: Group) -> Tensor:
    """Ours: each reward normalised over the ROLLOUTS on its own, then placed on the tokens it is about.

    advantage_t = (format + zoom + (answer if t is in the answer else iou)) / 3, without zoom the two others / 2.
    Statistics over rollouts do not depend on how long the completions are. Returns (G, T).
    """
    return _placed(_each_normalised(group), group)


@register("select_paper")
def select_paper(group: Group) -> Tensor:
    """The paper's: score_t from the raw rewards, normalised over all counted TOKENS of the group. Returns (G, T).

    Long completions weigh more in the statistics, and one reward's spread scales all others' advantages.
    """
    score = _placed(group.rewards, group)  # (G, T)
    advantages = torch.zeros_like(score)
    if score.shape[0] > 1:  # in a group of one there is nothing to compare with, whatever its tokens' scores
        advantages[group.completion_mask] = normalised(score[group.completion_mask], group.normalize_std)
    return advantages


@register_batch("gdpo")
def gdpo(groups: Sequence[Group], pool: Pool) -> list[Tensor]:
    """GDPO: each reward normalised in its group, their sum normalised over the batch, on every token.

    Returns (G, 1) each.

    Source: GDPO (arXiv 2601.05242); TRL's `normalize_then_sum`.
    """
    sums = [_sum(_each_normalised(group), group.weights, tuple(group.rewards)) for group in groups]
    return [values[:, None] for values in normalised_over_batch(sums, pool)]


@register_batch("gdpo_select")
def gdpo_select(groups: Sequence[Group], pool: Pool) -> list[Tensor]:
    """GDPO placed on tokens: sums for the answer and for the rest, each normalised over the batch's rollouts.

    Returns (G, T) each.
    """
    values = [_each_normalised(group) for group in groups]
    rest, answer = (
        normalised_over_batch([_sum(v, g.weights, _on(part)) for v, g in zip(values, groups, strict=True)], pool)
        for part in ("rest", "answer")
    )
    return [
        torch.where(group.answer_mask, on_answer[:, None], on_rest[:, None])
        for group, on_rest, on_answer in zip(groups, rest, answer, strict=True)
    ]


def normalised_over_batch(values: Sequence[Tensor], pool: Pool) -> list[Tensor]:
    """Return `(values - mean) / (sample std + 1e-6)` with statistics over all groups of all processes.

    Args:
        values: (G,) float for each group of this process.
        pool: sums over processes; every process calls it once.
    """
    device = values[0].device if values else torch.device("cpu")
    mine = torch.cat(list(values)).double() if values else torch.zeros(0, dtype=torch.float64)
    moments = torch.stack([torch.tensor(float(mine.numel()), dtype=torch.float64), mine.sum(), (mine * mine).sum()])
    count, total, squares = pool(moments.to(device)).tolist()
    if count < 2:
        return [torch.zeros_like(one) for one in values]
    mean = total / count
    deviation = math.sqrt(max(squares - count * mean * mean, 0.0) / (count - 1))
    return [(one - mean) / (deviation + STD_EPSILON) for one in values]


def distillation(teacher_log_probs: Tensor, log_probs: Tensor, most: float) -> Tensor:
    """Return what a teacher adds to the advantage of every token: log p_teacher - log p, kept within +-`most`.

    Its mean over the model's own samples is minus the KL divergence to the teacher: dense credit, without a reward.

    Args:
        teacher_log_probs, log_probs: (N, T) of the tokens that were written; no gradient flows through them.
        most: largest size of a token's credit; a token the teacher would never write must not outweigh all others.

    Source: on-policy distillation (arXiv 2306.13649), reverse KL.
    """
    return (teacher_log_probs.detach() - log_probs.detach()).clamp(-most, most)


def normalised(values: Tensor, normalize_std: bool = True) -> Tensor:
    """Return `(values - mean) / (sample std + 1e-6)`, without the division when `normalize_std` is off.

    Args:
        values: (n,) float; fewer than two have nothing to be compared with and give 0.
    """
    if values.numel() < 2:
        return torch.zeros_like(values)
    values = values - values[0]  # equal values become exactly 0, where a rounded mean would leave noise / 1e-6
    centred = values - values.mean()
    return centred / (values.std(correction=1) + STD_EPSILON) if normalize_std else centred


def _each_normalised(group: Group) -> dict[str, Tensor]:
    return {name: normalised(values, group.normalize_std) for name, values in group.rewards.items()}


def _placed(values: Mapping[str, Tensor], group: Group) -> Tensor:
    """Return for every token the weighted mean of the values that credit it, (G, T)."""
    on_rest = _mean(values, group.weights, _on("rest"))  # (G,)
    on_answer = _mean(values, group.weights, _on("answer"))  # (G,)
    return torch.where(group.answer_mask, on_answer[:, None], on_rest[:, None])


def _mean(values: Mapping[str, Tensor], weights: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Return the weighted mean of the named values that are there, (G,); 0 when none is: nothing credits the token."""
    there = [name for name in names if name in values]
    if not there:
        return torch.zeros_like(next(iter(values.values())))
    total = sum(weights[name] for name in there)
    return torch.stack([weights[name] / total * values[name] for name in there]).sum(0)


def _sum(values: Mapping[str, Tensor], weights: Mapping[str, float], names: Sequence[str]) -> Tensor:
    """Return the weighted sum of the named values that are there, (G,); 0 when none is."""
    zero = torch.zeros_like(next(iter(values.values())))
    return torch.stack([zero, *(weights[name] * values[name] for name in names if name in values)]).sum(0)


def _on(part: Literal["rest", "answer"]) -> tuple[str, ...]:
    """Return the rewards that credit the tokens of a part."""
    return tuple(name for name, reward in registered().items() if reward.credits in ("all", part))


def _check(rewards: Mapping[str, Tensor], completion_mask: Tensor, answer_mask: Tensor) -> None:
    unknown = set(rewards) - set(registered())
    if unknown or not rewards:
        raise ValueError(f"rewards are some of {', '.join(registered())}, got {', '.join(rewards) or 'none'}")
    for mask in (completion_mask, answer_mask):
        if mask.dtype != torch.bool or mask.ndim != 2 or mask.shape != completion_mask.shape:
            raise ValueError(f"masks must be bool and of one shape (G, T), got {mask.dtype} {tuple(mask.shape)}")
    for name, values in rewards.items():
        if values.shape != completion_mask.shape[:1]:
            raise ValueError(f"reward {name} has shape {tuple(values.shape)} for {completion_mask.shape[0]} rollouts")
        if not bool(values.isfinite().all()):
            raise ValueError(f"reward {name} is not finite: {values.tolist()}")


def _check_weights(rewards: Mapping[str, Tensor], weights: Mapping[str, float]) -> None:
    wrong = [name for name in rewards if not (name in weights and 0 <= weights[name] < math.inf)]
    if wrong:
        raise ValueError(
            f"weights must be 0 or more and finite for every reward; {', '.join(wrong)} has no such weight"
        )
