"""From rewards to credit: what estimators see of a group, its tokens' advantages, and whether it teaches anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from zoomzero.train.credit.advantages import Group, Pool, estimate_batch, make_group, without_truncated
from zoomzero.train.credit.rewards import as_columns, registered
from zoomzero.train.rollouts.record import Rollout, RolloutGroup
from zoomzero.train.settings import GrpoSettings


def group_masks(rollouts: Sequence[Rollout], settings: GrpoSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Return which tokens count and which are the answer, both (G, T) bool padded at the right."""
    length = max(len(rollout.token_ids) for rollout in rollouts)
    mask = torch.zeros(len(rollouts), length, dtype=torch.bool)
    answer = torch.zeros_like(mask)
    for i, rollout in enumerate(rollouts):
        mask[i, : len(rollout.token_ids)] = True
        answer[i, : len(rollout.token_ids)] = torch.tensor(rollout.answer_mask, dtype=torch.bool)
    if settings.objective.credit.mask_truncated_completions:
        mask = without_truncated(mask, [rollout.finished for rollout in rollouts])
    return mask, answer & mask


def credited(
    groups: Sequence[RolloutGroup], settings: GrpoSettings, pool: Pool = lambda values: values
) -> list[RolloutGroup]:
    """Return groups with an advantage for every token.

    Args:
        groups: of one batch, with their rewards.
        settings: of the run.
        pool: sums statistics over the processes that share the batch.
    """
    seen = [_seen_group(group.rollouts, settings) for group in groups]
    advantages = estimate_batch(settings.objective.credit.estimator, seen, pool)
    return [
        replace(
            group,
            rollouts=tuple(
                replace(rollout, advantages=tuple(one[i, : len(rollout.token_ids)].tolist()))
                for i, rollout in enumerate(group.rollouts)
            ),
        )
        for group, one in zip(groups, advantages, strict=True)
    ]


def _seen_group(rollouts: Sequence[Rollout], settings: GrpoSettings) -> Group:
    """Return what estimators see of a group."""
    mask, answer = group_masks(rollouts, settings)
    columns = as_columns([rollout.rewards for rollout in rollouts])
    return make_group(
        {name: torch.tensor(values) for name, values in columns.items()},
        mask,
        answer,
        normalize_std=settings.objective.credit.scale_rewards == "group",
        weights=settings.objective.reward.weights.model_dump(),
    )


def teaches(rollouts: Sequence[Rollout], settings: GrpoSettings) -> bool:
    """Return whether the online filter keeps a group: low < mean(answer) < high, or max(iou) - mean(iou) > low.

    Other rewards about the evidence that have a weight count as the IoU does; without spans to compare with, the zoom
    reward stands in for them.

    Source: METHOD "optimisation" in docs/method.md.
    """
    rules = settings.rollout.filter
    if not rules.enabled:
        return True
    columns = as_columns([rollout.rewards for rollout in rollouts])
    weights = settings.objective.reward.weights.model_dump()
    evidence = [
        columns[name]
        for name, reward in registered().items()
        if reward.place == "evidence" and name in columns and (name == "iou" or weights[name] > 0)
    ]
    spreads = [max(values) - sum(values) / len(values) for values in evidence or [columns.get("zoom", [0.0])]]
    answers = columns["answer"]
    return rules.low < sum(answers) / len(answers) < rules.high or max(spreads) > rules.low
