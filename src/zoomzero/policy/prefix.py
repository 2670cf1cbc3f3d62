"""`Prefix`: a chat put to a policy, read once where the policy keeps what it read, sent again where it does not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zoomzero.policy.base import BatchPolicy, Choice, Context, Policy, PrefixPolicy, Sampling, Turn, Usage, Written


@dataclass(frozen=True, slots=True, eq=False)
class Prefix:
    """A chat that ends before the assistant's next words; modes write, choose and go on from it.

    The answers are the same whether or not the policy keeps prefixes; only the costs differ.

    Args:
        policy: who is asked.
        turns: the whole chat.
        context: what the policy keeps of it; None where it keeps nothing, or after `released`.
    """

    policy: Policy
    turns: tuple[Turn, ...]
    context: Context | None = None

    @classmethod
    def read(cls, policy: Policy, turns: Sequence[Turn]) -> Prefix:
        """Put a chat to a policy; one that keeps prefixes reads it now."""
        return cls(policy, tuple(turns), policy.read(turns) if isinstance(policy, PrefixPolicy) else None)

    @property
    def usage(self) -> Usage | None:
        """What reading cost; None when the first call will pay for it."""
        return None if self.context is None else self.context.usage

    def extend(self, turns: Sequence[Turn]) -> Prefix:
        """Return the chat with more turns; a policy that keeps prefixes reads only these."""
        whole = (*self.turns, *turns)
        if self.context is None or not isinstance(self.policy, PrefixPolicy):
            return Prefix.read(self.policy, whole)
        return Prefix(self.policy, whole, self.policy.extend(self.context, turns))

    def write(self, n: int, sampling: Sampling) -> Written:
        """Draw n continuations."""
        if self.context is None or not isinstance(self.policy, PrefixPolicy):
            return self.policy.write(self.turns, n, sampling)
        return Written(tuple(self.policy.generate(self.context, n, sampling)), self.context.kept)

    def choose(self, options: Sequence[str], *, closed: bool = False) -> Choice:
        """Return the log-probability of each option as the assistant's next words."""
        if self.context is None or not isinstance(self.policy, PrefixPolicy):
            return self.policy.choose(self.turns, options, closed=closed)
        scores = self.policy.score(self.context, options, closed=closed)
        return Choice(tuple(scores), self.context.kept)

    def released(self) -> Prefix:
        """Return the chat without what the policy keeps of it: many of them must not pile up."""
        return replace(self, context=None)


def write_many(policy: Policy, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]) -> list[Written]:
    """Draw n continuations of each chat, together where the policy takes several chats at once."""
    if isinstance(policy, BatchPolicy):
        return policy.write_many(chats, n, samplings)
    return [policy.write(chat, n, sampling) for chat, sampling in zip(chats, samplings, strict=True)]
