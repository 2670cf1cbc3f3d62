"""What a run writes down while it goes on, besides checkpoints: one process's part.

log.jsonl               every logged step and validation (first process)
rollouts.jsonl          groups of rollouts; those of process R in rollouts.R.jsonl
unreadable.R.txt        videos of process R that could not be read, each once
failed-step-N.R.jsonl   the groups of an update that was not finite
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from zoomzero.train.rollouts.record import RolloutGroup
from zoomzero.train.run.directory import cut_lines


class RunLog:
    """Appends to the files of a run's directory.

    Args:
        out: the run's directory.
        rank: this process among all.
        most_groups: groups of a batch that are written down.
    """

    def __init__(self, out: Path, rank: int, most_groups: int) -> None:
        self.out, self.rank, self.most_groups = out, rank, most_groups
        self.log = out / "log.jsonl"
        self.rollouts = out / ("rollouts.jsonl" if rank == 0 else f"rollouts.{rank}.jsonl")
        self.unreadable = out / f"unreadable.{rank}.txt"

    def add_log(self, step: int, values: Mapping[str, float]) -> None:
        """Write a line of the log."""
        _append(self.log, [json.dumps({"step": step, **values})])

    def add_rollouts(self, groups: Iterable[RolloutGroup]) -> None:
        """Write the first groups of a batch, advantages rounded and log-probabilities left out."""
        _append(self.rollouts, [_short(group).to_json() for group in list(groups)[: self.most_groups]])

    def add_unreadable(self, messages: Iterable[str]) -> None:
        """Write what is wrong with videos, once for each."""
        known = self.unreadable.read_text(encoding="utf-8").splitlines() if self.unreadable.is_file() else []
        new = [message for message in dict.fromkeys(messages) if message not in known]
        if new:
            _append(self.unreadable, new)

    def save_failed(self, step: int, groups: Sequence[RolloutGroup]) -> Path:
        """Write the groups of an update that failed, whatever numbers they hold, and return the file."""
        path = self.out / f"failed-step-{step}.{self.rank}.jsonl"
        path.write_text("".join(group.to_json(finite=False) + "\n" for group in groups), encoding="utf-8")
        return path

    def cut(self, step: int) -> None:
        """Forget what was written after the checkpoint of a step (0: after the start), and the run's closing line."""
        cut_lines(self.rollouts, lambda row: row["step"] < step)
        if self.rank == 0:
            cut_lines(self.log, lambda row: row["step"] <= step and step > 0 and "train_runtime" not in row)


def _short(group: RolloutGroup) -> RolloutGroup:
    rollouts = tuple(
        replace(
            rollout,
            advantages=tuple(round(a, 4) for a in rollout.advantages),
            old_log_probs=None,
            ref_log_probs=None,
            teacher_log_probs=None,
            server_log_probs=None,
        )
        for rollout in group.rollouts
    )
    return replace(group, rollouts=rollouts)


def _append(path: Path, lines: Sequence[str]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in lines)
