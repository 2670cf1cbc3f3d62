"""Contexts of a local model: reading chats, what they leave, and what of it a longer chat can keep."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from zoomzero.errors import ModelError
from zoomzero.policy.base import Context, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.group_attention import (
    KV,
    CachedPass,
    Group,
    PackedRow,
    Segment,
    segment_length,
)
from zoomzero.policy.local.attention.packed import Prompt
from zoomzero.policy.local.prompt import Message
from zoomzero.video.types import Clip

if TYPE_CHECKING:
    from zoomzero.policy.local.qwen import QwenPolicy


@dataclass(frozen=True, slots=True, eq=False)
class QwenState:
    """What a `Context` of this policy holds.

    `segments` are the keys and values of everything read, one stretch for every call, shared between
    contexts; `last_hidden` (D,) predicts the next token; `prompt` keeps ids and positions (its patches are
    dropped). `closed` says that a think block the chat template opens was ended in it.
    """

    messages: tuple[Message, ...]
    prompt: Prompt
    segments: tuple[Segment, ...]
    last_hidden: Tensor
    closed: bool = False

    def __len__(self) -> int:
        return len(self.prompt)


def common_prefix(a: Tensor, b: Tensor) -> int:
    """Return how many tokens two prompts share from the start."""
    length = min(len(a), len(b))
    different = (a[:length] != b[:length]).nonzero()
    return int(different[0]) if len(different) else length


def cut(segments: tuple[Segment, ...], length: int) -> tuple[Segment, ...]:
    """Return the first `length` tokens of what was read, without copying."""
    kept: list[Segment] = []
    for segment in segments:
        size = segment_length(segment)
        if length >= size:
            kept.append(segment)
        elif length > 0:
            kept.append(tuple((k[:, :, :length], v[:, :, :length]) for k, v in segment))
        length -= min(size, length)
    return tuple(kept)


def last_end(segments: tuple[Segment, ...], length: int) -> int:
    """Return the last end of a stretch that is not behind `length`: there alone recurrent layers can go on."""
    ends = [0]
    for segment in segments:
        ends.append(ends[-1] + segment_length(segment))
    return max(end for end in ends if end <= length)


def split(segment: Segment, mark: int, states: Mapping[int, KV]) -> tuple[Segment, ...]:
    """Return what was read as two stretches, the first of `mark` tokens, at whose end `states` were (by layer)."""
    first = tuple(
        states[layer] if layer in states else (k[:, :, :mark], v[:, :, :mark]) for layer, (k, v) in enumerate(segment)
    )
    rest = tuple(
        (k, v) if layer in states else (k[:, :, mark:], v[:, :, mark:]) for layer, (k, v) in enumerate(segment)
    )
    return first, rest


def segments_read(attention: CachedPass) -> tuple[Segment, ...]:
    """Return what a pass over one sequence has kept: one stretch, or two with a mark in it."""
    whole = tuple(attention.kept)
    if not attention.mark:
        return (whole,)
    return split(whole, attention.mark, {layer: ends[0] for layer, ends in attention.states.items()})


def segments_of(attention: PackedRow, lengths: Sequence[int]) -> list[tuple[Segment, ...]]:
    """Return what a row of several prompts has kept, for each prompt, as copies: none keeps the others' memory.

    Args:
        attention: the row's pass, without suffixes.
        lengths: tokens of each prompt.
    """
    sizes, marks = list(lengths), attention.marks or [0] * len(lengths)
    ends = [i + sum(mark > 0 for mark in marks[: i + 1]) for i in range(len(sizes))]  # number of each last stretch
    wholes: list[list[KV]] = [[] for _ in sizes]
    for layer in range(len(attention.kept)):
        pair = attention.kept[layer]
        if pair[0].ndim == 4:
            parts = [[x.clone() for x in torch.split(one, sizes, 2)] for one in pair]
            held = list(zip(*parts, strict=True))
        else:
            held = [_copy(attention.states[layer][end]) for end in ends]
        # the row's own go layer by layer: never are all of them there twice
        attention.kept[layer] = (pair[0].new_empty(0), pair[1].new_empty(0))
        for whole, one in zip(wholes, held, strict=True):
            whole.append(one)
    found: list[tuple[Segment, ...]] = []
    for whole, mark, end in zip(wholes, marks, ends, strict=True):
        states = {layer: _copy(stretch[end - 1]) for layer, stretch in attention.states.items()} if mark else {}
        found.append(split(tuple(whole), mark, states) if mark else (tuple(whole),))
    return found


def _copy(state: KV) -> KV:
    return state[0].clone(), state[1].clone()


class Reader:
    """Reads chats for a policy: alone, several as one row, or going on from what was read before.

    Args:
        policy: whose model and prompts it uses.
    """

    def __init__(self, policy: QwenPolicy) -> None:
        self.policy = policy
        text_config = packed.core(policy.model).language_model.config
        self._recurrent = "recurrent" in policy.family.layer_kinds(text_config)

    def read_row(
        self, messages: Sequence[tuple[Message, ...]], prompts: Sequence[Prompt], chats: Sequence[Sequence[Turn]]
    ) -> list[QwenState]:
        """Prefill prompts, in order of length, as one row."""
        lengths = [len(prompt) for prompt in prompts]
        self.check_length(max(lengths))
        ends = torch.tensor(lengths).cumsum(0)
        with self.policy.memory_named(sum(lengths)):
            marks = [self._mark(prompt) for prompt in prompts]
            attention = PackedRow([Group(length) for length in lengths], self.policy.device, keep=True, marks=marks)
            hidden = packed.text_forward(
                self.policy.model,
                torch.cat([prompt.ids for prompt in prompts]).to(self.policy.device),
                torch.cat([prompt.positions for prompt in prompts], 1).to(self.policy.device),
                torch.cat([p.visual_index + end - len(p) for p, end in zip(prompts, ends, strict=True)]).to(
                    self.policy.device
                ),
                self.policy.encode([clip for turns in chats for clip in clips_of(turns)]),
                attention,
            )
            read = segments_of(attention, lengths)
            states = [
                QwenState(messages[i], prompts[i], read[i], hidden[end - 1].clone())
                for i, end in enumerate(ends.tolist())
            ]
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)
        return states

    def closed(self, context: Context) -> Context:
        """Return a context whose think block, opened by the chat template, is ended: the answer itself comes next."""
        state: QwenState = context.state
        if state.closed or not self.policy.builder.opening:
            return context
        return self.read(state.messages, [], state, closed=True)

    def read(
        self, messages: tuple[Message, ...], clips: list[Clip], past: QwenState | None, closed: bool = False
    ) -> Context:
        """Read a chat, the part of it that `past` does not hold.

        Args:
            messages: the whole chat.
            clips: those in what must be read.
            past: what was read before.
            closed: end a think block that the chat template opens.

        Raises:
            ModelError: more than the model or the memory takes, or its recurrent layers cannot go on from `past`.
        """
        began = time.perf_counter()
        prompt = self.policy.builder.layout(messages, closed=closed)
        self.check_length(len(prompt))
        shared = common_prefix(past.prompt.ids, prompt.ids) if past else 0
        shared = min(shared, len(prompt) - 1)  # the last state must be computed here
        if past and self._recurrent:
            shared = self._resumable(past, shared)
        return self._read(messages, prompt, clips, past, shared, closed, began)

    def resume(
        self, messages: tuple[Message, ...], clips: list[Clip], sizes: Sequence[int], same: int, past: QwenState
    ) -> Context:
        """Read a chat, the part of it that `past`, another chat with the same beginning, does not hold.

        Args:
            messages: the whole chat.
            clips: all its clips.
            sizes: visual tokens of each.
            same: how many of the clips, from the first on, show what `past` saw.
            past: what was read before.

        Raises:
            ModelError: more than the model or the memory takes.
        """
        began = time.perf_counter()
        prompt = self.policy.builder.layout(messages)
        self.check_length(len(prompt))
        shared = min(common_prefix(past.prompt.ids, prompt.ids), len(prompt) - 1)
        ends = list(accumulate(sizes))
        kept = len(clips)  # how many are not read again
        for number, (begin, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            if number == same or int(prompt.visual_index[end - 1]) >= shared:
                shared, kept = min(shared, int(prompt.visual_index[begin])), number
                break
        moved = (past.prompt.positions[:, :shared] != prompt.positions[:, :shared]).any(0).nonzero()
        if len(moved) or (self._recurrent and last_end(past.segments, shared) < shared):
            shared, kept = 0, 0  # the same words elsewhere, or layers that cannot go back: read it all
        return self._read(messages, prompt, clips[kept:], past if shared else None, shared, False, began)

    def _read(
        self,
        messages: tuple[Message, ...],
        prompt: Prompt,
        clips: list[Clip],
        past: QwenState | None,
        shared: int,
        closed: bool,
        began: float,
    ) -> Context:
        """Run a prompt through the model from token `shared` on; `clips` are those that come after it."""
        new = torch.arange(shared, len(prompt))
        where = prompt.visual_index[prompt.visual_index >= shared] - shared
        with self.policy.memory_named(len(prompt)):
            segments = cut(past.segments, shared) if past else ()
            mark = max(self._mark(prompt) - shared, 0)
            attention = CachedPass(segments, [len(new)], self.policy.device, keep=True, mark=mark)
            features = self.policy.encode(clips)
            hidden = packed.text_forward(
                self.policy.model,
                prompt.ids[new].to(self.policy.device),
                prompt.positions[:, new].to(self.policy.device),
                where.to(self.policy.device),
                features,
                attention,
            )
        state = QwenState(messages, prompt, (*segments, *segments_read(attention)), hidden[-1].clone(), closed)
        if self.policy.device.type == "cuda":
            torch.cuda.synchronize(self.policy.device)  # so that `seconds` is the time it took
        return Context(state, len(prompt), len(new), len(where), time.perf_counter() - began)

    def _mark(self, prompt: Prompt) -> int:
        """Return after how many tokens of a prompt recurrent layers keep their state, 0 where there are none.

        A longer chat shares at least its turns, not what opens the assistant's reply: the state there is kept.
        """
        if not self._recurrent:
            return 0
        ended = (prompt.ids[:-1] == self.policy.end_of_turn).nonzero()
        return int(ended[-1]) + 1 if len(ended) else 0

    def _resumable(self, past: QwenState, shared: int) -> int:
        """Return how many of the shared tokens recurrent layers can go on from.

        Raises:
            ModelError: they end before a video that would have to be read again.
        """
        found = last_end(past.segments, shared)
        if bool((past.prompt.visual_index >= found).any()):
            reason = "the longer chat does not begin with what was read, and its recurrent layers cannot go back"
            raise ModelError(self.policy.name, reason, "read the whole chat again")
        return found

    def check_length(self, tokens: int) -> None:
        """Refuse what the model has no positions for.

        Raises:
            ModelError: too many tokens.
        """
        if tokens > self.policy.max_tokens:
            raise ModelError(
                self.policy.name,
                f"{tokens} tokens are more than its {self.policy.max_tokens} positions",
                "lower --budget or the number of frames, or shorten the text",
            )


def clips_of(turns: Sequence[Turn]) -> list[Clip]:
    """Return the clips of a chat in order."""
    return [part for turn in turns for part in turn.parts if isinstance(part, Clip)]
