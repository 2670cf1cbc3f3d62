"""`KeptPrefixes`: what was read about some frames, kept so that further questions about them begin from it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from zoomzero.policy.base import Context, PrefixPolicy, ResumingPolicy, Turn
from zoomzero.video.types import Clip


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
