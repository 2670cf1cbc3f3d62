"""Log-probabilities of given continuations: after a context that was read, or packed with the prompts they follow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.group_attention import CachedPass
from zoomzero.policy.local.context import QwenState
from zoomzero.policy.local.positions import continue_positions
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.vision import VisualFeatures


def closes(builder: PromptBuilder, continuations: Sequence[str]) -> bool:
    """Return whether a think block that the chat template opens is to be ended before continuations are scored.

    Args:
        builder: knows the template.
        continuations: answers, or whole replies that begin with `<think>`, for which it stays open.
    """
    return bool(builder.opening) and not all(text.startswith("<think>") for text in continuations)


def score_after(model: Any, state: QwenState, tokens: Sequence[Tensor]) -> list[tuple[float, ...]]:
    """Return the log-probability of every token of each continuation of one context, all from one packed row.

    Args:
        model: the transformers model.
        state: what reading the context left.
        tokens: of each continuation, (S_i,) int64.
    """
    device = packed.core(model).language_model.embed_tokens.weight.device
    lengths = [max(len(ids) - 1, 0) for ids in tokens]
    bodies = [ids[:-1] for ids in tokens if len(ids) > 1]
    states = state.last_hidden[None]  # (1 + sum of bodies, D)
    if bodies:
        start = state.prompt.next_position
        hidden = packed.text_forward(
            model,
            torch.cat(bodies).to(device),
            torch.cat([continue_positions(start, len(b)) for b in bodies], 1).to(device),
            torch.empty(0, dtype=torch.int64, device=device),
            None,
            CachedPass(state.segments, [len(b) for b in bodies], device, keep=False),
        )
        states = torch.cat([states, hidden])
    predictors, at = [], 1
    for ids, length in zip(tokens, lengths, strict=True):
        predictors += [0, *range(at, at + length)] if len(ids) else []
        at += length
    flat = packed.PackedStates(
        states[torch.tensor(predictors, dtype=torch.int64, device=device)],
        torch.cat([*tokens, torch.empty(0, dtype=torch.int64)]).to(device),
        (tuple(len(ids) for ids in tokens),),
    )
    scores = flat.split(packed.suffix_logprobs(model, flat))[0]
    return [tuple(piece.tolist()) for piece in scores]


def score_packed(
    model: Any,
    prompts: Sequence[packed.Prompt],
    tokens: Sequence[Sequence[Tensor]],
    features: VisualFeatures | None,
) -> list[list[tuple[float, ...]]]:
    """Return the log-probability of every token of each continuation of each prompt, read and scored as one packed row.

    Args:
        model: the transformers model.
        prompts: what is read.
        tokens: for each prompt, those of its continuations, (S_ij,) int64.
        features: of all the prompts' clips, in order; None without clips.
    """
    states = packed.packed_states(model, prompts, tokens, features)
    scores = states.split(packed.suffix_logprobs(model, states))
    return [[tuple(piece.tolist()) for piece in pieces] for pieces in scores]
