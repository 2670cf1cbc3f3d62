"""The order in which a run meets its examples: endless, shuffled anew in every epoch, resumable from a number."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from zoomzero.data.example import Example
from zoomzero.errors import DataError

Item = TypeVar("Item")


class ExampleStream(Generic[Item]):
    """Examples (or videos with theirs) in the run's order, split evenly over processes.

    Place p of the run holds example `order(p // n)[p % n]`; process r of w takes the places r, r + w, r + 2w, ... so
    that the processes together meet what one process alone would.

    Args:
        examples: at least one.
        seed: of the order.
        rank, world: this process among all.
        weights: (n,) how often each is to be met, relative to the others: an epoch then draws n times with
            replacement. None: each once.
    """

    def __init__(
        self,
        examples: Sequence[Item],
        seed: int,
        rank: int = 0,
        world: int = 1,
        weights: Sequence[float] | None = None,
    ) -> None:
        self.examples, self.seed, self.rank, self.world = tuple(examples), seed, rank, world
        self.shares = None if weights is None else np.array(weights, dtype=float) / math.fsum(weights)
        self.taken = 0  # by this process

    @property
    def epochs(self) -> float:
        """How often all processes together have met all examples."""
        return self.taken * self.world / len(self.examples)

    def take(self, count: int) -> list[tuple[int, Item]]:
        """Return the next examples of this process with their places in the run."""
        found = self.peek(count)
        self.taken += count
        return found

    def peek(self, count: int) -> list[tuple[int, Item]]:
        """Return what `take` will, and leave it to be taken."""
        places = [self.rank + (self.taken + i) * self.world for i in range(count)]
        return [(place, self.at(place)) for place in places]

    def at(self, place: int) -> Item:
        """Return what lies at a place of the run."""
        epoch, turn = divmod(place, len(self.examples))
        return self.examples[self._order(epoch)[turn]]

    @lru_cache(maxsize=2)  # noqa: B019 - a run has one stream
    def _order(self, epoch: int) -> tuple[int, ...]:
        rng, count = np.random.default_rng((self.seed, epoch)), len(self.examples)
        order = rng.permutation(count) if self.shares is None else rng.choice(count, size=count, p=self.shares)
        return tuple(order.tolist())


def difficulty_weights(examples: Sequence[Example], files: Sequence[str | Path]) -> list[float]:
    """Return (1 - mean IoU of the stored answers)^2 of each example, (1 - share of right answers)^2 without spans.

    Args:
        examples: what is learned from.
        files: records that `zoomzero filter` wrote (`FILE.filter.json`).

    Raises:
        DataError: a record cannot be read, does not know an example, or finds nothing left to learn.

    Source: TimeLens2 (arXiv 2607.17423), sampling by difficulty.
    """
    known: dict[str, dict[str, float]] = {}
    for path in map(Path, files):
        try:
            items = json.loads(path.read_text(encoding="utf-8"))["items"]
            known |= {one["id"]: one for one in items if "mean_iou" in one}
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = f"is no record of `zoomzero filter` ({error}); give the FILE.filter.json it wrote"
            raise DataError(path, "file", reason) from error
    strangers = [example.id for example in examples if example.id not in known]
    if strangers:
        reason = f"knows no answers to {len(strangers)} examples, first {strangers[0]}"
        raise DataError(files[0], "items", f"{reason}; run `zoomzero filter` on the files that are learned from")
    weights = [(1 - known[one.id]["mean_iou" if one.spans else "mean_hit"]) ** 2 for one in examples]
    if not any(weights):
        raise DataError(files[0], "items", "all answers are right already; give harder examples")
    return weights


def prompt_seed(seed: int, place: int) -> int:
    """Return the sampling seed of the prompt at a place of a run."""
    return int(np.random.SeedSequence((seed, place, 0x5EED)).generate_state(1)[0])
