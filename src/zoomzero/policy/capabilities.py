"""What some policies can do beyond `Policy`, by name, and the refusal of a policy that cannot do what is needed."""

from __future__ import annotations

from typing import Any

from zoomzero.errors import ModelError
from zoomzero.policy.base import BatchPolicy, Policy, PrefixPolicy, ResumingPolicy, TrainablePolicy

CAPABILITIES: dict[str, tuple[Any, str]] = {
    "prefix": (PrefixPolicy, "keeps what it has read"),
    "resume": (ResumingPolicy, "begins a chat from what it read for another one"),
    "batch": (BatchPolicy, "takes several chats at once"),
    "train": (TrainablePolicy, "has its weights in this process"),
}


def capabilities(policy: Policy) -> tuple[str, ...]:
    """Return the names of what a policy can do beyond answering one chat after the other."""
    return tuple(name for name, (protocol, _) in CAPABILITIES.items() if isinstance(policy, protocol))


def require(policy: Policy, needed: str, wanted_by: str) -> None:
    """Refuse a policy without a capability.

    Args:
        policy: the model.
        needed: a name in `CAPABILITIES`.
        wanted_by: what cannot be done without it (`training`).

    Raises:
        ModelError: the policy does not have it.
    """
    protocol, what = CAPABILITIES[needed]
    if not isinstance(policy, protocol):
        fix = "give a checkpoint directory or a hub id"
        raise ModelError(policy.name, f"{wanted_by} needs a model that {what}, and this one is not such a model", fix)
