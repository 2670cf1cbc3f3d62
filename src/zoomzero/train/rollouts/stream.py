"""The order in which a run meets its examples: endless, shuffled anew in every epoch, resumable from a number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from zoomzero.data.example import Example


class ExampleStream:
    """Examples in the run's order, split evenly over processes.

    Place p of the run holds example `order(p // n)[p % n]`; process r of w takes the places r, r + w, r + 2w, ... so
    that the processes together meet what one process alone would.

    Args:
        examples: at least one.
        seed: of the order.
        rank, world: this process among all.
    """

    def __init__(self, examples: Sequence[Example], seed: int, rank: int = 0, world: int = 1) -> None:
        self.examples, self.seed, self.rank, self.world = tuple(examples), seed, rank, world
        self.taken = 0  # by this process

    @property
    def epochs(self) -> float:
        """How often all processes together have met all examples."""
        return self.taken * self.world / len(self.examples)

    def take(self, count: int) -> list[tuple[int, Example]]:
        """Return the next examples of this process with their places in the run."""
        found = self.peek(count)
        self.taken += count
        return found

    def peek(self, count: int) -> list[tuple[int, Example]]:
        """Return what `take` will, and leave it to be taken."""
        places = [self.rank + (self.taken + i) * self.world for i in range(count)]
        return [(place, self._at(place)) for place in places]

    def _at(self, place: int) -> Example:
        epoch, turn = divmod(place, len(self.examples))
        return self.examples[self._order(epoch)[turn]]

    @lru_cache(maxsize=2)  # noqa: B019 - a run has one stream
    def _order(self, epoch: int) -> tuple[int, ...]:
        return tuple(np.random.default_rng((self.seed, epoch)).permutation(len(self.examples)).tolist())


def prompt_seed(seed: int, place: int) -> int:
    """Return the sampling seed of the prompt at a place of a run."""
    return int(np.random.SeedSequence((seed, place, 0x5EED)).generate_state(1)[0])
