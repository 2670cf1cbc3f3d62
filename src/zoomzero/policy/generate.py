"""Drawing n continuations of one context together: the prefix is read once a step for all rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from zoomzero.policy.base import Sampling
from zoomzero.policy.group_attention import DecodePass, Segment
from zoomzero.policy.packed import core, head

PEAK_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Row:
    """One drawn row: token ids, their log-probabilities at temperature 1, and how peaked each step was."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    peaks: tuple[float, ...]
    finished: bool


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Which ids may be drawn and which end a row.

    Args:
        forbidden: (F,) int64, ids that are never drawn: visual placeholders and embedding rows without a
            token. stops: (S,) int64, ids that end a row.
    """

    forbidden: Tensor
    stops: Tensor


class Sampler:
    """Draws next tokens. Every row has its own random numbers, whatever becomes of the others."""

    def __init__(self, sampling: Sampling, rows: int, device: torch.device) -> None:
        self.sampling, self.rows, self.device = sampling, rows, device
        self.generator = torch.Generator("cpu").manual_seed(sampling.seed)

    def draw(self, logits: Tensor, rows: Tensor) -> Tensor:
        """Return the next token of each active row, (m,) int64.

        Args:
            logits: (m, V) float32.
            rows: (m,) the rows' numbers.
        """
        if self.sampling.temperature == 0:
            return logits.argmax(-1)
        uniform = torch.rand(self.rows, generator=self.generator, dtype=torch.float64).to(self.device)[rows]
        order = None
        if self.sampling.top_p < 1:
            logits, order = logits.sort(-1, descending=True)
        # float64: the running sum of 150,000 probabilities must not drift
        probs = (logits.double() / self.sampling.temperature).softmax(-1)
        total = probs.cumsum(-1)
        if order is not None:  # the likeliest tokens that reach top_p together
            total = probs.masked_fill(total - probs >= self.sampling.top_p, 0.0).cumsum(-1)
        place = torch.searchsorted(total, uniform[:, None] * total[:, -1:], right=True)
        place = place.clamp(max=total.shape[-1] - 1)
        return (place if order is None else order.gather(-1, place))[:, 0]


def peakedness(logprobs: Tensor) -> Tensor:
    """Return the mean of -log p over the likeliest tokens: (m, V) -> (m,). Higher = more peaked.

    Source: METHOD section "span confidence" in docs/method.md.
    """
    return -logprobs.topk(min(PEAK_TOKENS, logprobs.shape[-1]), -1).values.mean(-1)


class _Record:
    """What was drawn so far, for all rows."""

    def __init__(self, n: int) -> None:
        self.ids: list[list[int]] = [[] for _ in range(n)]
        self.logprobs: list[list[float]] = [[] for _ in range(n)]
        self.peaks: list[list[float]] = [[] for _ in range(n)]
        self.finished = [False] * n

    def add(self, rows: Tensor, tokens: Tensor, logprobs: Tensor, peaks: Tensor, ended: Tensor) -> None:
        columns = (x.tolist() for x in (rows, tokens, logprobs, peaks, ended))
        for row, token, logprob, peak, end in zip(*columns, strict=True):
            self.ids[row].append(token)
            self.logprobs[row].append(logprob)
            self.peaks[row].append(peak)
            self.finished[row] = end

    def rows(self) -> list[Row]:
        return [
            Row(tuple(i), tuple(p), tuple(k), f)
            for i, p, k, f in zip(self.ids, self.logprobs, self.peaks, self.finished, strict=True)
        ]


def decode(
    model: Any,
    segments: tuple[Segment, ...],
    last_hidden: Tensor,
    next_position: int,
    n: int,
    sampling: Sampling,
    vocabulary: Vocabulary,
) -> list[Row]:
    """Draw n rows after a prefix that was read once.

    Args:
        model: the prepared model.
        segments: the prefix's keys and values.
        last_hidden: (D,) the prefix's last state, which predicts the first token.
        next_position: the position of the first token.
        n: rows.
        sampling: how to draw.
        vocabulary: what may be drawn and what ends a row.
    """
    device = last_hidden.device
    text, lm_head = core(model).language_model, head(model)
    attention, sampler, record = (
        DecodePass(segments, sampling.max_tokens),
        Sampler(sampling, n, device),
        _Record(n),
    )
    active = torch.arange(n, device=device)
    hidden = last_hidden.expand(n, -1)
    for step in range(sampling.max_tokens):
        logits = lm_head(hidden).float()
        logprobs = logits.log_softmax(-1)
        tokens = sampler.draw(logits.index_fill(-1, vocabulary.forbidden, float("-inf")), active)
        ended = torch.isin(tokens, vocabulary.stops)
        record.add(active, tokens, logprobs.gather(-1, tokens[:, None])[:, 0], peakedness(logprobs), ended)
        if bool(ended.any()):
            going = (~ended).nonzero()[:, 0]
            active, tokens = active[going], tokens[going]
            attention.keep_rows(going)
        if len(active) == 0 or step + 1 == sampling.max_tokens:
            break
        position = torch.full((3, len(active), 1), next_position + step, device=device)
        hidden = text(
            inputs_embeds=text.embed_tokens(tokens)[:, None],
            position_ids=position,
            use_cache=False,
            attention_pass=attention,
        ).last_hidden_state[:, 0]
        attention.advance()
    return record.rows()
