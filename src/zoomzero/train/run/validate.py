"""Validation while a run goes on: greedy answers on held-out examples, and what a close look makes of their spans."""

from __future__ import annotations

from collections.abc import Sequence

from zoomzero.data.example import Example
from zoomzero.errors import VideoError
from zoomzero.policy.base import Sampling
from zoomzero.train.credit.rewards import reward_values
from zoomzero.train.rollouts.collector import RolloutCollector
from zoomzero.train.rollouts.prompted import Prompted, read_completion
from zoomzero.train.run.monitor import Monitor, Sums
from zoomzero.train.settings import GrpoSettings


class Validation:
    """Held-out examples and how they are asked.

    Args:
        examples: asked one by one in this order.
        settings: of the run.
    """

    def __init__(self, examples: Sequence[Example], settings: GrpoSettings) -> None:
        self.examples, self.settings = tuple(examples[: settings.validation.limit]), settings

    def run(self, collector: RolloutCollector, rank: int = 0, world: int = 1) -> Sums:
        """Ask this process's share of the examples and return sums of their rewards.

        A video that cannot be read counts with 0 in everything and in `validation/unreadable`.
        """
        monitor = Monitor()
        mine = self.examples[rank::world]
        at_once = self.settings.rollout.prompts_at_once
        for first in range(0, len(mine), at_once):
            prompted = []
            for example in mine[first : first + at_once]:
                try:
                    prompted.append(collector.ask(-1, example))
                except VideoError:
                    names = ("format", "iou", "answer", *(("zoom",) if collector.verifier is not None else ()))
                    _add(monitor, dict.fromkeys(names, 0.0), unreadable=1.0)
            self._ask(collector, prompted, monitor)
        taken = monitor.take()
        taken.pop("tokens_per_second")
        return taken

    def _ask(self, collector: RolloutCollector, prompted: Sequence[Prompted], monitor: Monitor) -> None:
        if not prompted:
            return
        sampling = Sampling(max_tokens=self.settings.rollout.max_new_tokens)
        drawn = collector.engine.generate([one.chat for one in prompted], 1, [sampling] * len(prompted))
        readings = [read_completion(one, found[0].text) for one, found in zip(prompted, drawn, strict=True)]
        looks = collector.look(prompted, [[reading] for reading in readings])
        for one, found, reading, look in zip(prompted, drawn, readings, looks, strict=True):
            values = reward_values(
                found[0].text,
                reading,
                one.example,
                self.settings.objective.reward,
                mode=one.asked.mode,
                zoom=look[0],
            )
            _add(monitor, values.there(), unreadable=0.0)


def _add(monitor: Monitor, values: dict[str, float], unreadable: float) -> None:
    for name, value in values.items():
        monitor.add(f"validation/{name}", value)
    monitor.add("validation/unreadable", unreadable)
