"""Replies of the OpenAI protocol as completions and option scores, with what they tell about their tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from zoomzero.policy.base import Completion, Usage

PEAK_TOKENS = 20  # a peak is the mean of -log p over the 20 likeliest tokens
TOKEN_ID = "token_id:"


def completion(choice: dict[str, Any]) -> Completion:
    """Return one choice of a reply.

    Args:
        choice: with a message, and perhaps `logprobs` and `token_ids`.

    Returns:
        The completion; what the server does not tell is None.
    """
    text = choice["message"].get("content") or ""
    told = (choice.get("logprobs") or {}).get("content") or []
    ids = choice.get("token_ids")
    logprobs = tuple(float(one["logprob"]) for one in told) if told else None
    offsets = token_offsets(text, told) if told else None
    tops = [sorted((float(t["logprob"]) for t in one.get("top_logprobs") or ()), reverse=True) for one in told]
    peaked = bool(tops) and all(len(top) >= PEAK_TOKENS for top in tops)
    return Completion(
        text=text,
        token_ids=tuple(ids) if ids and len(ids) == len(told) else None,
        offsets=offsets,
        logprobs=logprobs if offsets is not None else None,
        peaks=tuple(-math.fsum(top[:PEAK_TOKENS]) / PEAK_TOKENS for top in tops) if peaked else None,
        finished=choice["finish_reason"] == "stop",
        counted_tokens=len(told) or len(ids or ()),
    )


def token_offsets(text: str, told: Sequence[dict[str, Any]]) -> tuple[tuple[int, int], ...] | None:
    """Return each token's character range in the text; None when the tokens do not spell it.

    A token that is not in the text (the end of the turn) has an empty range; one that holds a part of a character has
    the whole character.
    """
    whole = text.encode()
    characters = [i for i, c in enumerate(text) for _ in c.encode()]
    at, offsets = 0, []
    for one in told:
        piece = bytes(one["bytes"]) if one.get("bytes") is not None else str(one.get("token", "")).encode()
        if piece and whole.startswith(piece, at):
            first, at = at, at + len(piece)
            offsets.append((characters[first], characters[at - 1] + 1))
        else:
            here = characters[at] if at < len(characters) else len(text)
            offsets.append((here, here))
    return tuple(offsets) if at == len(whole) else None


def usage(reply: dict[str, Any], visual_tokens: int, seconds: float) -> Usage:
    """Return what a reply says it cost; tokens a server read from its cache are not new.

    Args:
        reply: the whole reply.
        visual_tokens: of the frames that were sent, computed here.
        seconds: from sending to having all of it.
    """
    told = reply.get("usage") or {}
    prompt = int(told.get("prompt_tokens") or 0)
    cached = int((told.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
    new = max(prompt - cached, 0)
    return Usage(prompt, new, min(visual_tokens, new) if prompt else visual_tokens, seconds, reported=bool(prompt))


def scores_by_id(reply: dict[str, Any], ids: Sequence[int]) -> tuple[float, ...] | None:
    """Return the log-probabilities of token ids at the first generated token; None when one is not told."""
    first = _first(reply)
    by_id = {str(one.get("token")): float(one["logprob"]) for one in first}
    found = [by_id.get(f"{TOKEN_ID}{token}") for token in ids]
    return None if None in found else tuple(value for value in found if value is not None)


def scores_by_text(reply: dict[str, Any], options: Sequence[str]) -> tuple[float, ...] | None:
    """Return the log-probabilities of options among the likeliest first tokens; None when none is there.

    An option may be written with a space before it: both count. One that is not among them is given the least
    probability that is, which is the most it can have.
    """
    first = _first(reply)
    if not first:
        return None
    found: list[float | None] = []
    for option in options:
        values = [float(one["logprob"]) for one in first if str(one.get("token")).strip() == option]
        found.append(_log_sum(values) if values else None)
    if all(value is None for value in found):
        return None
    least = min(float(one["logprob"]) for one in first)
    return tuple(least if value is None else value for value in found)


def _first(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the likeliest candidates for the first generated token."""
    told = (reply["choices"][0].get("logprobs") or {}).get("content") or []
    return list(told[0].get("top_logprobs") or ()) if told else []


def _log_sum(values: Sequence[float]) -> float:
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))
