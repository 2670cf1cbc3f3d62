"""What a context of a local model holds, and what of it a longer chat can keep."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from zoomzero.policy.local.attention.group_attention import Segment
from zoomzero.policy.local.attention.packed import Prompt
from zoomzero.policy.local.prompt import Message


@dataclass(frozen=True, slots=True, eq=False)
class QwenState:
    """What a `Context` of this policy holds.

    `segments` are the keys and values of everything read, one stretch for every call, shared between
    contexts; `last_hidden` (D,) predicts the next token; `prompt` keeps ids and positions (its patches are
    dropped).
    """

    messages: tuple[Message, ...]
    prompt: Prompt
    segments: tuple[Segment, ...]
    last_hidden: Tensor

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
        size = segment[0][0].shape[2]
        if length >= size:
            kept.append(segment)
        elif length > 0:
            kept.append(tuple((k[:, :, :length], v[:, :, :length]) for k, v in segment))
        length -= min(size, length)
    return tuple(kept)
