"""Hearing a model while it writes: its words as they come, and a way to stop it by raising an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Heard = Callable[[str], None]
_listener: ContextVar[Heard | None] = ContextVar("listener", default=None)


@contextmanager
def listening(heard: Heard) -> Iterator[None]:
    """Hear what a policy writes in this thread, while it writes.

    Args:
        heard: called again and again with all that was written so far: of one continuation its text, of several at once
            an empty one. What it raises ends the writing and comes out of the policy's call.
    """
    token = _listener.set(heard)
    try:
        yield
    finally:
        _listener.reset(token)


def listener() -> Heard | None:
    """Return who listens in this thread, None when nobody does."""
    return _listener.get()
