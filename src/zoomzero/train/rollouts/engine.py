"""Rollout engines: who draws completions. One in this process; a server would be another class of the same methods."""

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
    """Draws completions under the weights it was last given."""

    def update(self, weights: Weights) -> None:
        """Take new weights before the next rollouts: `weights()` yields (name in the checkpoint, tensor)."""
        ...

    def generate(
        self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]
    ) -> list[list[TokenCompletion]]:
        """Draw n completions of every chat; `samplings` holds each chat's own seed."""
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

    def __init__(
        self,
        policy: QwenPolicy,
        watch: Stopwatch,
        *,
        shares_weights: bool = True,
        computing: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.policy, self.watch, self.shares_weights, self.computing = policy, watch, shares_weights, computing

    def update(self, weights: Weights) -> None:
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


def see(policy: QwenPolicy, chats: Iterable[Sequence[Turn]], watch: Stopwatch) -> None:
    """Run the vision tower ahead of a forward pass: its features then lie in the policy's cache, and its time is seen.

    Without a cache (a tower that is being trained) the forward pass itself runs it.
    """
    if policy.features is None:
        return
    with watch.phase("vision"):
        for chat in chats:
            policy.encode([part for turn in chat for part in turn.parts if isinstance(part, Clip)])
