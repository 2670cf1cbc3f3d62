"""Answers to held-out questions while a supervised run goes on: the curve that says whether it learns to find."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import PartialState
from transformers import TrainerCallback

from zoomzero.answer.ask import answer
from zoomzero.answer.trace import Trace
from zoomzero.config import ModelSettings
from zoomzero.data.example import Example, read_examples
from zoomzero.files import read_rows, write_whole
from zoomzero.policy.base import Policy
from zoomzero.spans import iou
from zoomzero.train.run.clock import MINUTES, RunClock
from zoomzero.train.run.processes import gather, is_first, place_among
from zoomzero.train.run.worlds import written_world
from zoomzero.train.settings import ValidationSettings

LOG_FILE = "validation.jsonl"
MEASURES = ("accuracy", "coarse_accuracy", "miou", "format")


class HeldOut(TrainerCallback):  # type: ignore[misc]
    """Asks held-out examples in zoom mode every so many steps and appends what came out to `validation.jsonl`.

    Several processes share the examples. With `settings.patience` the run ends when the mean of accuracy and mIoU has
    not become better for so many times.

    Args:
        policy: the model that learns, or a copy of one in shards.
        model_settings: how it is asked.
        settings: what it is asked, and how often.
        out: the run's directory.
        refresh: told the model that learns before a copy of it is asked.
        computing: how the model computes, for example autocast.
        clock: of the run.
    """

    def __init__(
        self,
        policy: Policy,
        model_settings: ModelSettings,
        settings: ValidationSettings,
        out: Path,
        *,
        refresh: Callable[[Any], None] = lambda model: None,
        computing: Callable[[], AbstractContextManager[Any]] = nullcontext,
        clock: RunClock | None = None,
    ) -> None:
        self.clock = RunClock() if clock is None else clock
        self.policy, self.model_settings, self.settings, self.out = policy, model_settings, settings, out
        self.refresh, self.computing = refresh, computing
        self.examples = self._examples()

    def _examples(self) -> list[Example]:
        if self.settings.examples is not None:
            return read_examples(self.settings.examples)[: self.settings.limit]
        if (world := self.settings.world) is None:
            return []
        with PartialState().main_process_first():
            return read_examples(written_world(world))[: self.settings.limit]

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Ask the start model: what a run adds is known only beside it."""
        if state.global_step == 0:
            self.on_step_end(args, state, control, **kwargs)

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
        """Ask, at the steps that are due."""
        if state.global_step % self.settings.every and state.global_step != state.max_steps:
            return
        model.eval()
        self.refresh(model)
        with self.computing():
            values = score(self.policy, self.model_settings, self.examples)
        model.train()
        row = {"step": state.global_step, MINUTES: round(self.clock.minutes, 1), **values}
        path = self.out / LOG_FILE
        rows = [*(one for one in read_rows(path) if one["step"] < state.global_step), row]
        if is_first():
            write_whole(path, "".join(json.dumps(one) + "\n" for one in rows))
        if self.settings.patience is not None and _stale(gather(rows)[0]) >= self.settings.patience:
            control.should_training_stop = True


def _stale(rows: Sequence[Mapping[str, float]]) -> int:
    """Return how many validations in a row have not been better than all before them."""
    means = [(row["accuracy"] + row["miou"]) / 2 for row in rows]
    return len(means) - 1 - means.index(max(means))


def score(policy: Policy, settings: ModelSettings, examples: Sequence[Example]) -> dict[str, float]:
    """Return accuracy (coarse, zoom), mIoU and the share of replies in the right format; by kind for world examples.

    Several processes ask a share of the examples each and return the same.
    """
    rank, processes = place_among()
    mine = examples[rank::processes]
    own = [_Judged.of(e, answer(policy, settings, e.video, e.question, e.options, as_annotated=True)[0]) for e in mine]
    rows = [row for share in gather(own) for row in share]
    found = _shares(rows)
    kinds = dict.fromkeys(_kind(e) for e in examples)
    if len(kinds) < len(examples):
        for kind in kinds:
            of = _shares([row for row in rows if row.kind == kind])
            found |= {f"{kind}_{name}": of[name] for name in ("accuracy", "miou")}
    return found


def _kind(example: Example) -> str:
    return example.id.rsplit("-", 1)[-1]


@dataclass(frozen=True, slots=True)
class _Judged:
    """What became of one question; `written` passes wrote a reply, `sound` of them in the right format."""

    kind: str
    right: bool
    coarse_right: bool
    iou: float
    written: int
    sound: int

    @classmethod
    def of(cls, example: Example, trace: Trace) -> _Judged:
        written = [one for one in trace.passes if one.text]
        return cls(
            _kind(example),
            trace.option == example.answer,
            trace.passes[0].option == example.answer,
            iou(trace.spans, example.spans),
            len(written),
            sum(not one.problems for one in written),
        )


def _shares(rows: Sequence[_Judged]) -> dict[str, float]:
    n = len(rows)
    sums = {
        "accuracy": math.fsum(row.right for row in rows) / n,
        "coarse_accuracy": math.fsum(row.coarse_right for row in rows) / n,
        "miou": math.fsum(row.iou for row in rows) / n,
        "format": math.fsum(row.sound for row in rows) / max(1, sum(row.written for row in rows)),
    }
    return {name: round(value, 4) for name, value in sums.items()}


def summary(out: Path) -> dict[str, dict[str, float]]:
    """Return the rows of the start model, the last one, and the best by the mean of accuracy and IoU; {} without any.

    Args:
        out: the run's directory.
    """
    rows = read_rows(out / LOG_FILE)
    if not rows:
        return {}
    named = {"start": rows[0], "last": rows[-1], "best": max(rows, key=lambda row: row["accuracy"] + row["miou"])}
    return {which: row for which, row in named.items() if which != "start" or row["step"] == 0}
