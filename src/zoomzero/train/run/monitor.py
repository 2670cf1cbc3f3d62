"""What to watch while a run goes on: sums over rollouts and updates, pooled over processes when a step is logged."""

from __future__ import annotations

import math
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence

import torch

from zoomzero.policy.local.features import FeatureCounts
from zoomzero.train.credit.loss import LossDiagnostics
from zoomzero.train.credit.rewards import as_columns
from zoomzero.train.rollouts.collector import Tally
from zoomzero.train.rollouts.record import RolloutGroup
from zoomzero.train.settings_server import RolloutServerSettings

NO_ANSWER = {"no_answer", "unknown_option", "ambiguous_option"}  # the reader's names for it
Sums = dict[str, tuple[float, float]]  # name -> (weighted sum, weight)


class Monitor:
    """Collects means by name until they are taken for a log line."""

    def __init__(self) -> None:
        self._sums: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self._since = time.perf_counter()
        self._tokens = 0
        self.largest: dict[str, float] = {}

    def add(self, name: str, value: float, weight: float = 1.0) -> None:
        """Add a value to a mean."""
        entry = self._sums[name]
        entry[0] += value * weight
        entry[1] += weight

    def add_rollouts(self, groups: Sequence[RolloutGroup], tally: Tally) -> None:
        """Add a batch of rollouts, dropped groups included.

        `reward/X_std` is the mean over groups of the sample deviation inside a group; `zero_variance/X` the share of
        groups whose completions all earn the same X, `zero_variance/all` of
        groups none of whose tokens has an advantage: nothing to learn.
        """
        for group in groups:
            columns = as_columns([rollout.rewards for rollout in group.rollouts])
            for name, values in columns.items():
                self.add(f"reward/{name}", sum(values) / len(values))
                self.add(f"reward/{name}_std", _deviation(values))
                self.add(f"zero_variance/{name}", float(max(values) == min(values)))
            teaches = any(advantage for rollout in group.rollouts for advantage in rollout.advantages)
            self.add("zero_variance/all", float(not teaches))
            self.add("data/no_spans", float(not group.example.spans))
            if not group.example.spans:
                self.add("data/pseudo_truth", float(bool(group.pseudo_truth)))
            for rollout in group.rollouts:
                self.add("completion/tokens", len(rollout.token_ids))
                self.add("completion/truncated", float(not rollout.finished))
                self.add("completion/parse_failures", float(bool(rollout.problems)))
                self.add("completion/no_answer", float(not NO_ANSWER.isdisjoint(rollout.problems)))
                self.add("completion/no_span", float(not rollout.spans))
        if tally.drawn:
            self.add("filter/dropped", tally.dropped / tally.drawn, tally.drawn)
            self.add("filter/filled", tally.filled / tally.drawn, tally.drawn)
            self.add("data/unreadable", float(len(tally.unreadable)))
        if tally.controls:
            self.add("zoom/true_span", tally.true_right / tally.controls, tally.controls)
            self.add("zoom/random_span", tally.random_right / tally.controls, tally.controls)

    def add_served(self, groups: Sequence[RolloutGroup], rules: RolloutServerSettings | None) -> None:
        """Add how far a server's log-probabilities lie from the model's own, and the weights that make up for it.

        Means are over tokens; `server/gap_max` is the largest of a batch, `server/staleness` counts updates.
        """
        rollouts = [(group, rollout) for group in groups for rollout in group.rollouts]
        for group, rollout in rollouts:
            if rules is None or rollout.server_log_probs is None or rollout.old_log_probs is None:
                continue
            apart = [own - theirs for own, theirs in zip(rollout.old_log_probs, rollout.server_log_probs, strict=True)]
            for difference in apart:
                weight = math.exp(min(difference, 50.0))
                self.add("server/gap", abs(difference))
                self.add("server/weight", min(weight, rules.max_weight))
                self.add("server/truncated", float(weight > rules.max_weight))
            self.largest["server/gap_max"] = max(self.largest.get("server/gap_max", 0.0), *map(abs, apart))
            self.add("server/staleness", group.step - (rollout.drawn_at or 0))

    def add_update(self, diagnostics: LossDiagnostics, tokens: int) -> None:
        """Add one update: what the loss saw, and how many tokens of prompts and completions it learned from."""
        counted = float(diagnostics.tokens)
        for name in ("clip_share", "clip_low_share", "clip_high_share", "ratio", "kl", "entropy"):
            value = getattr(diagnostics, name)
            if value is not None:
                self.add(f"loss/{name}", float(value), counted)
        self._tokens += tokens

    def add_seconds(self, seconds: Mapping[str, float]) -> None:
        """Add where one update's seconds went; those of rollouts fall on the update that draws them."""
        for name, value in seconds.items():
            self.add(f"seconds/{name}", value)

    def add_features(self, counts: FeatureCounts) -> None:
        """Add how often one update found the vision tower's features kept."""
        if counts.lookups:
            self.add("features/hit_rate", counts.hit_rate, counts.lookups)

    def leave_out(self, seconds: float) -> None:
        """Take time that belongs to no update (validation) out of tokens per second."""
        self._since += seconds

    def take(self) -> Sums:
        """Return the sums since the last call and start again."""
        now = time.perf_counter()
        taken = {name: (total, weight) for name, (total, weight) in self._sums.items()}
        taken["tokens_per_second"] = (self._tokens / (now - self._since), 1.0)
        taken |= {name: (value, 1.0) for name, value in self.largest.items()}
        self._sums.clear()
        self.largest.clear()
        self._since, self._tokens = now, 0
        return taken


def pooled(parts: Sequence[Sums]) -> dict[str, float]:
    """Return the means over all processes; tokens per second and unreadable videos add up."""
    names = dict.fromkeys(name for part in parts for name in part)
    means = {}
    for name in names:
        total = math.fsum(part[name][0] for part in parts if name in part)
        weight = math.fsum(part[name][1] for part in parts if name in part)
        means[name] = total if name in ("tokens_per_second", "data/unreadable") else total / max(weight, 1e-12)
    return means


def peak_mb() -> float:
    """Return the most memory this process has held, in MiB: of the GPU, or of the machine where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    import resource  # not on every system

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _deviation(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1))
