"""`KeptPrefixes`: what was read about some frames, kept so that further questions about them begin from it.

`keeping(policy, kept)` is a policy that does so by itself.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from zoomzero.policy.base import (
    BatchPolicy,
    Choice,
    Completion,
    Context,
    Policy,
    PrefixPolicy,
    ResumingPolicy,
    Sampling,
    Turn,
    Written,
)
from zoomzero.video.types import Clip


@runtime_checkable
class _Resuming(ResumingPolicy, BatchPolicy, Protocol):
    """What `KeepingPolicy` stands for."""


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    turns: tuple[Turn, ...]
    context: Context


class KeptPrefixes:
    """The newest prefill of each of the clips that chats began with, the least recently used ones given up first.

    Args:
        most_tokens: prompt tokens that are kept in all; 0 keeps nothing.
    """

    def __init__(self, most_tokens: int) -> None:
        self.most_tokens = most_tokens
        self.tokens = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def read(self, policy: PrefixPolicy, turns: Sequence[Turn]) -> Context:
        """Read a chat as `policy.read` does, from what is kept of its first clip where the policy can.

        Raises:
            ModelError: more than the model or the memory takes.
        """
        first = next((part for turn in turns for part in turn.parts if isinstance(part, Clip)), None)
        if first is None or not first.key or not self.most_tokens or not isinstance(policy, ResumingPolicy):
            return policy.read(turns)
        with self._lock:
            held = self._kept.get(first.key)
        context = policy.read(turns) if held is None else policy.resume(held.turns, held.context, turns)
        self._keep(first.key, _Kept(tuple(turns), context))
        return context

    def forget(self) -> None:
        """Give up everything."""
        with self._lock:
            self._kept.clear()
            self.tokens = 0

    def _keep(self, key: str, new: _Kept) -> None:
        with self._lock:
            self._drop(key)
            if new.context.prompt_tokens > self.most_tokens:
                return
            while self.tokens + new.context.prompt_tokens > self.most_tokens:
                self._drop(next(iter(self._kept)))
            self._kept[key] = new
            self.tokens += new.context.prompt_tokens

    def _drop(self, key: str) -> None:
        old = self._kept.pop(key, None)
        self.tokens -= old.context.prompt_tokens if old else 0


class KeepingPolicy:
    """A policy whose chats begin from what was read of the same frames before; everything else is the policy's own.

    Args:
        policy: the model.
        kept: what earlier chats read.
    """

    def __init__(self, policy: _Resuming, kept: KeptPrefixes) -> None:
        self.policy, self.kept = policy, kept
        self.name, self.geometry = policy.name, policy.geometry

    def write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        context = self.read(turns)
        return Written(tuple(self.generate(context, n, sampling)), context.usage)

    def choose(self, turns: Sequence[Turn], options: Sequence[str], *, closed: bool = False) -> Choice:
        context = self.read(turns)
        return Choice(tuple(self.score(context, options, closed=closed)), context.usage)

    def write_many(self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]) -> list[Written]:
        return self.policy.write_many(chats, n, samplings)  # chats of different frames, packed: nothing to begin from

    def read(self, turns: Sequence[Turn]) -> Context:
        return self.kept.read(self.policy, turns)

    def extend(self, context: Context, turns: Sequence[Turn]) -> Context:
        return self.policy.extend(context, turns)

    def generate(self, context: Context, n: int, sampling: Sampling) -> Sequence[Completion]:
        return self.policy.generate(context, n, sampling)

    def score(self, context: Context, continuations: Sequence[str], *, closed: bool = False) -> list[float]:
        return self.policy.score(context, continuations, closed=closed)


def keeping(policy: Policy, kept: KeptPrefixes) -> Policy:
    """Return a policy that begins chats from what is kept; one that cannot begin in the middle is returned as it is."""
    return KeepingPolicy(policy, kept) if kept.most_tokens and isinstance(policy, _Resuming) else policy
