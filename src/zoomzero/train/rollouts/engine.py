"""Rollout engines: who draws completions. This one does in this process; `served` has one that asks a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from torch import Tensor

from zoomzero.policy.base import Sampling, TokenCompletion, Turn
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.train.stopwatch import Stopwatch
from zoomzero.video.types import Clip

Weights = Callable[[], Iterable[tuple[str, Tensor]]]


class RolloutEngine(Protocol):
    """Draws completions under the weights it was last given.

    `draws_ahead` says that it may be asked from other threads, and draw while the model learns.
    """

    draws_ahead: bool

    def update(self, weights: Weights, update: int) -> None:
        """Take the weights as an update left them: `weights()` yields (name in the checkpoint, tensor)."""
        ...

    def generate(
        self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]
    ) -> list[list[TokenCompletion]]:
        """Draw n completions of every chat; `samplings` holds each chat's own seed."""
        ...

    def close(self) -> None:
        """Let go of what works in the background."""
        ...


class LocalEngine:
    """Draws with a policy in this process, several prompts at once.

    Args:
        policy: the model that writes.
        watch: gets the seconds of vision, prefill and generate.
        shares_weights: the policy IS the model being trained, so there is nothing to update. Otherwise (sharded
            training) it is a whole copy that takes the new weights.
        computing: how the model computes, for example autocast.
    """

    draws_ahead = False

    def __init__(
        self,
        policy: QwenPolicy,
        watch: Stopwatch,
        *,
        shares_weights: bool = True,
        computing: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.policy, self.watch, self.shares_weights, self.computing = policy, watch, shares_weights, computing

    def update(self, weights: Weights, update: int) -> None:
        """Copy the new weights into the policy's model when that is a copy."""
        if self.shares_weights:
            return
        own = dict(self.policy.model.named_parameters())
        for name, value in weights():
            own[name].data.copy_(value)

    def generate(
        self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]
    ) -> list[list[TokenCompletion]]:
        """Prefill every chat once and draw n completions of each against its prefix."""
        with self.computing():
            see(self.policy, chats, self.watch)
            with self.watch.phase("prefill"):
                contexts = self.policy.read_many(chats)
            with self.watch.phase("generate"):
                return self.policy.generate_many(contexts, n, samplings)

    def close(self) -> None:
        """Nothing works in the background."""


def see(policy: QwenPolicy, chats: Iterable[Sequence[Turn]], watch: Stopwatch) -> None:
    """Run the vision tower ahead of a forward pass: its features then lie in the policy's cache, and its time is seen.

    Without a cache (a tower that is being trained) the forward pass itself runs it.
    """
    if policy.features is None:
        return
    with watch.phase("vision"):
        for chat in chats:
            policy.encode([part for turn in chat for part in turn.parts if isinstance(part, Clip)])
