"""Group attention: one packed row `[prefix | c1 | c2 | ... | cG]` in which every suffix sees the prefix and
itself.

The text model runs as transformers wrote it; only the attention function is ours, registered under a name,
and told by one keyword argument what the row holds. No mask tensor exists.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol

import torch
from torch import Tensor

from zoomzero.policy.local.attention.recurrent import Mixer, State, Stretch, StretchPlan
from zoomzero.policy.local.attention.shared_attention import Ragged, causal_attention, suffix_attention

NAME = "zoomzero"
KV = tuple[Tensor, Tensor]  # keys and values of one layer, each (1, Hkv, P, d)
# one stretch of read tokens, every layer; of a recurrent layer its state at the stretch's end in place of a KV
Segment = tuple[KV, ...]


def segment_length(segment: Segment) -> int:
    """Return the tokens of a stretch."""
    return next(int(k.shape[2]) for k, _ in segment if k.ndim == 4)  # a recurrent state's inputs are (1, K - 1, C)


class AttentionPass(Protocol):
    """What the tokens of one forward pass see."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Return (B, H, L, d) for q (B, H, L, d), k and v (B, Hkv, L, d) after the rotary embedding."""
        ...

    def recur(self, layer: int, x: Tensor, decay: Tensor, beta: Tensor, mix: Mixer) -> Tensor:
        """Return (B, L, H, dv) of a recurrent layer; see `recurrent.StretchPlan.run`."""
        ...


@dataclass(frozen=True, slots=True)
class Group:
    """One prompt in a packed row: `prefix` tokens, then suffixes of these lengths (empty ones left out)."""

    prefix: int
    suffixes: tuple[int, ...] = ()

    @property
    def chained(self) -> bool:
        """Whether the group is an ordinary causal sequence: with one suffix there is nothing to share."""
        return len(self.suffixes) < 2

    @property
    def causal_length(self) -> int:
        """Tokens in the group's causal part: the prefix, and a single suffix with it."""
        return self.prefix + (sum(self.suffixes) if self.chained else 0)


class PackedRow:
    """The attention of one row that holds several groups: all causal parts first, then all the shared
    suffixes.

    Args:
        groups: the groups in order; neighbours of equal causal length are one attention call.
        device: where the row lives.
        keep: whether to keep the row's keys and values, as `kept` (reading), or not (scoring, training).
        marks: for each group, after how many of its tokens a recurrent state is kept too; 0 for none.
        watch: layers whose queries and keys are kept, as `watched` (attention guidance).
    """

    def __init__(
        self,
        groups: Sequence[Group],
        device: torch.device,
        keep: bool = False,
        marks: Sequence[int] = (),
        watch: Collection[int] = (),
    ) -> None:
        self.groups, self.keep, self.marks = tuple(groups), keep, tuple(marks)
        self.watch = frozenset(watch)
        self.watched: dict[int, tuple[Tensor, Tensor]] = {}
        self.states: dict[int, list[State]] = {}
        self._plans: dict[torch.device, StretchPlan] = {}  # a model's layers may lie on several GPUs
        self.kept: list[KV] = []
        self.causal = [group.causal_length for group in groups]
        self.ragged = [None if group.chained else Ragged(group.suffixes, device) for group in groups]

    def recur(self, layer: int, x: Tensor, decay: Tensor, beta: Tensor, mix: Mixer) -> Tensor:
        """Run causal parts from nothing, and each suffix from where its prefix ends."""
        if x.device not in self._plans:
            self._plans[x.device] = StretchPlan(self._stretches(), x.device)
        out, ends = self._plans[x.device].run(x, decay, beta, mix, None)
        if self.keep:
            self.kept.append(ends[-1])
            self.states[layer] = ends
        return out

    def _stretches(self) -> list[Stretch]:
        """Return the row's stretches: for every causal part one, or two with a mark in it, then the suffixes."""
        found: list[Stretch] = []
        ends, start = [], 0
        for length, mark in zip(self.causal, self.marks or [0] * len(self.causal), strict=True):
            if mark:
                found.append(Stretch(start, mark))
            found.append(Stretch(start + mark, length - mark, len(found) - 1 if mark else None))
            ends.append(len(found) - 1)
            start += length
        for group, end in zip(self.groups, ends, strict=True):
            for length in () if group.chained else group.suffixes:
                found.append(Stretch(start, length, end))
                start += length
        return found

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Attend causally within each causal part, and from each suffix to its prefix and itself."""
        if self.keep:
            self.kept.append((k, v))
        if layer in self.watch:
            self.watched[layer] = (q, k)
        runs = [(length, len(list(run))) for length, run in groupby(self.causal)]
        shared = [sum(group.suffixes) for group in self.groups if not group.chained]
        # cut at once: the gradient of each slice by itself would be a row of zeros as long as all, to be summed
        sizes = [length * count for length, count in runs] + shared
        pieces = list(zip(*(torch.split(x, sizes, 2) for x in (q, k, v)), strict=True))
        outs: list[Tensor] = []
        prefixes: list[KV] = []
        for (_, count), run in zip(runs, pieces[: len(runs)], strict=True):
            queries, keys, values = (_split_rows(x, count) for x in run)
            outs.append(_join_rows(causal_attention(queries, keys, values, scale)))
            prefixes += zip(torch.split(keys, 1), torch.split(values, 1), strict=True)
        suffixes = iter(pieces[len(runs) :])
        for ragged, prefix in zip(self.ragged, prefixes, strict=True):
            if ragged is not None:
                queries, keys, values = next(suffixes)
                outs.append(suffix_attention(queries, keys, values, ragged, scale, *prefix))
        return torch.cat(outs, 2)


def _split_rows(x: Tensor, count: int) -> Tensor:
    """(1, H, N*P, d) -> (N, H, P, d)."""
    return x[0].reshape(x.shape[1], count, -1, x.shape[3]).transpose(0, 1)


def _join_rows(x: Tensor) -> Tensor:
    """(N, H, P, d) -> (1, H, N*P, d)."""
    return x.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    attention_pass: AttentionPass | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function transformers calls in every text layer.

    With an `attention_pass` it decides who sees whom; without one this is transformers' SDPA attention, so
    that the model still works through its ordinary `forward` and `generate`.
    """
    if attention_pass is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **kwargs
        )
        return plain
    # under autocast the normalised queries and keys come in float32, the values in the compute type
    query, key = query.to(value.dtype), key.to(value.dtype)
    out = attention_pass.attend(module.layer_idx, query, key, value, scaling)
    return out.transpose(1, 2).contiguous(), None


def install(language_model: Any) -> None:
    """Make a text model use this attention (its vision tower keeps its own)."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    language_model.config._attn_implementation = NAME


class CachedPass:
    """A row of suffixes after tokens that were read before: reading on, and scoring continuations.

    Args:
        segments: what was read, in stretches; never copied.
        lengths: the suffixes laid end to end in the row.
        device: where the row lives.
        keep: whether to keep the row's own keys and values, as `kept` (reading), or not (scoring).
        mark: after how many tokens of a single suffix a recurrent state is kept too; 0 for none.
    """

    def __init__(
        self, segments: Sequence[Segment], lengths: Sequence[int], device: torch.device, keep: bool, mark: int = 0
    ) -> None:
        self.segments, self.ragged, self.keep = segments, Ragged(lengths, device), keep
        self.lengths, self.mark = tuple(lengths), mark
        self.kept: list[KV] = []
        self.states: dict[int, list[State]] = {}
        self._plans: dict[torch.device, StretchPlan] = {}  # a model's layers may lie on several GPUs

    def recur(self, layer: int, x: Tensor, decay: Tensor, beta: Tensor, mix: Mixer) -> Tensor:
        """Run every suffix from where what was read before ends."""
        if x.device not in self._plans:
            starts = [sum(self.lengths[:i]) for i in range(len(self.lengths))]
            stretches = [Stretch(start, length) for start, length in zip(starts, self.lengths, strict=True)]
            if self.mark:
                stretches = [Stretch(0, self.mark), Stretch(self.mark, self.lengths[0] - self.mark, 0)]
            self._plans[x.device] = StretchPlan(stretches, x.device)
        begin = self.segments[-1][layer] if self.segments else None
        out, ends = self._plans[x.device].run(x, decay, beta, mix, begin)
        if self.keep:
            self.kept.append(ends[-1])
            self.states[layer] = ends
        return out

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """Attend to everything read before and, causally, within each suffix."""
        if self.keep:
            self.kept.append((k.contiguous(), v.contiguous()))  # decoding reads them once a token
        past = [x for segment in self.segments for x in segment[layer]]
        if not past and self.ragged.count == 1:
            return causal_attention(q, k, v, scale)
        return suffix_attention(q, k, v, self.ragged, scale, *past)
