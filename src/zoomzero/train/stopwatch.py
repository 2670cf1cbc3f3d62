"""Where the seconds of a training step go, by phase."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

PHASES = ("decode", "vision", "prefill", "generate", "zoom", "log_probs", "backward", "optimizer")


class Stopwatch:
    """Adds up the seconds of phases; what is nested inside a phase is counted for the inner one alone.

    Args:
        synchronize: called before every reading of the clock (a GPU works on while Python runs ahead); None: nothing.
    """

    def __init__(self, synchronize: Callable[[], None] | None = None) -> None:
        self.synchronize = synchronize or (lambda: None)
        self.seconds = dict.fromkeys(PHASES, 0.0)
        self.entered: Callable[[str], None] = lambda name: None  # told the name of every phase that begins
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the block for one phase."""
        self._turn()
        self._running.append(name)
        self.entered(name)
        try:
            yield
        finally:
            self._turn()
            self._running.pop()

    def take(self) -> dict[str, float]:
        """Return the seconds since the last call and start again from 0."""
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken

    def _turn(self) -> None:
        """Book the time since the last turn to the phase that was running."""
        self.synchronize()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now
