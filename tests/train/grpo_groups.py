"""Rollout groups made by hand for the small random checkpoints, and the usual way to score them: one forward each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from sft_models import make_clip
from torch import Tensor

from zoomzero.data.example import Example
from zoomzero.policy.base import Turn
from zoomzero.policy.local.positions import continue_positions
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.credit.rewards import RewardValues
from zoomzero.train.rollouts.prompted import Prompted
from zoomzero.train.rollouts.record import Rollout, RolloutGroup

RAGGED = ((5, 3, 7, 1), (4, 4), (1, 1, 9))  # tokens of every completion of three prompts


def make_rollout(token_ids: Sequence[int], advantages: Sequence[float]) -> Rollout:
    """A completion of which only tokens and advantages matter."""
    return Rollout(
        text="",
        token_ids=tuple(token_ids),
        offsets=((0, 0),) * len(token_ids),
        finished=True,
        option=None,
        spans=(),
        problems=(),
        answer_mask=(False,) * len(token_ids),
        rewards=RewardValues(0.0, 0.0, 0.0),
        advantages=tuple(advantages),
    )


def make_group(
    index: int, lengths: Sequence[int], words: Sequence[int], example: Example | None = None, step: int = 0
) -> RolloutGroup:
    """Completions of these lengths, their tokens drawn from `words`, advantages at random.

    Of a prompt's advantages the sum is 0, as estimators make them.
    """
    generator = torch.Generator().manual_seed(index)
    rollouts = []
    for length in lengths:
        ids = [words[i] for i in torch.randint(len(words), (length,), generator=generator).tolist()]
        rollouts.append(make_rollout(ids, torch.randn(length, generator=generator).tolist()))
    nowhere = Example(str(index), "none.mp4", "?", ("x", "y"), "A", (Span(0.0, 1.0),), 8.0, "test", "train")
    return RolloutGroup(index, step, example or nowhere, "", tuple(rollouts))


def make_prompted(family: str, group: RolloutGroup, frames: int, question: str) -> Prompted:
    """What the model was asked, about a clip of random pixels."""
    chat = (Turn("user", (make_clip(family, frames, seed=group.index), question)),)
    return Prompted(group.index, group.example, None, chat)  # type: ignore[arg-type]


def plain_model(where: Path) -> Any:
    """The checkpoint as transformers runs it."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(where, dtype=torch.float32).eval()


def separate_log_probs(
    plain: Any, policy: Any, groups: Sequence[RolloutGroup], prompted: Sequence[Prompted], temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Log-probabilities and entropies (T,) the usual way: every completion a sequence of its own through transformers.

    Transformers computes its own visual features and masks, and Qwen3-VL's positions. Qwen2.5-VL's are given: its
    forward lets a completion begin where the question ends, which may lie below the video's last time, while its own
    `generate` lets it begin after both, as we do.
    """
    scores, entropies = [], []
    for group, one in zip(groups, prompted, strict=True):
        prompt = policy.builder.build(one.chat)
        for rollout in group.rollouts:
            target = torch.tensor(rollout.token_ids)
            ids = torch.cat([prompt.ids, target])
            kinds = torch.zeros_like(ids)
            kinds[prompt.visual_index] = 2
            inputs = {}
            if "qwen2_5" in plain.config.model_type:
                tail = continue_positions(prompt.next_position, len(target))
                inputs["position_ids"] = torch.cat([prompt.positions, tail], 1)[:, None]
            logits = plain(
                input_ids=ids[None],
                mm_token_type_ids=kinds[None],
                pixel_values_videos=prompt.patches,
                video_grid_thw=prompt.grids,
                use_cache=False,
                **inputs,
            ).logits[0, len(prompt) - 1 : -1]
            found = (logits / temperature).log_softmax(-1)  # (S, V)
            scores.append(found.gather(1, target[:, None])[:, 0])
            entropies.append(-(found.exp() * found).sum(-1))
    return torch.cat(scores), torch.cat(entropies)


def full_group(**changes: Any) -> RolloutGroup:
    """A group with one of everything."""
    example = Example("e", "v.mp4", "Which?", ("x", "y"), "B", (Span(1.0, 2.5),), 32.0, "test", "train")
    rollout = Rollout(
        text="<answer>B</answer>",
        token_ids=(5, 6),
        offsets=((0, 8), (8, 9)),
        finished=True,
        option="B",
        spans=(Span(1.0, 2.0),),
        problems=("no_think",),
        answer_mask=(False, True),
        rewards=RewardValues(0.0, 2 / 3, 1.0, 0.1),
        zoom=ZoomResult(True, (-0.1, -2.3)),
        advantages=(0.1, -1 / 3),
        old_log_probs=(-0.30000001192092896, -math.pi),
        ref_log_probs=(-1e-45, -5e-324),
        server_log_probs=(-0.25, -3.0),
        drawn_at=2,
    )
    return replace(RolloutGroup(7, 3, example, "Which?", (rollout,)), **changes)
