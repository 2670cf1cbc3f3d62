"""What a run says while it works: done, failed, time left, and the measures so far with their 95 % intervals."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from zoomzero.benchmarks.wilson import wilson
from zoomzero.data.annotation import Question
from zoomzero.spans import Span, iou

LOG_EVERY_S = 60.0  # a line, where stderr is no terminal


@dataclass(slots=True)
class ModeTally:
    """Sums over the rows of one mode; intervals take questions as independent (the summary's do not)."""

    total: int  # questions
    spans: bool = True  # the mode is asked for spans
    done: int = 0
    failed: int = 0
    answerable: int = 0
    right: int = 0
    grounded: int = 0  # questions with true spans
    iou_sum: float = 0.0
    iou_squares: float = 0.0
    timed: int = 0  # rows made since this process started
    seconds: float = 0.0  # they took

    def add(self, question: Question, row: Mapping[str, Any], *, now: bool) -> None:
        """Count a row; `now` says that it was made by this process, whose pace predicts the time left."""
        self.done += 1
        self.failed += row["failed"] is not None
        if question.right and not question.in_words:  # words are compared by the benchmark's rule, in the summary
            self.answerable += 1
            self.right += row["answer"] in question.right
        if question.spans and self.spans:
            overlap = iou([Span(*span) for span in row["spans"]], question.spans)
            self.grounded += 1
            self.iou_sum += overlap
            self.iou_squares += overlap * overlap
        if now:
            self.timed += 1
            self.seconds += row["seconds"]

    def measures(self) -> str:
        """Return accuracy and mean IoU so far, in percent."""
        texts = []
        if self.answerable:
            share = self.right / self.answerable
            texts.append(_percent("right", share, *wilson(share, self.answerable)))
        if self.grounded:
            mean = self.iou_sum / self.grounded
            spread = math.sqrt(max(0.0, self.iou_squares / self.grounded - mean * mean) / self.grounded)
            if spread:
                texts.append(_percent("IoU", mean, max(0.0, mean - 1.96 * spread), min(1.0, mean + 1.96 * spread)))
            else:  # one row, or all alike: nothing is known about how sure it is
                texts.append(f"IoU {100 * mean:.1f} %")
        return ", ".join(texts)


def _percent(name: str, value: float, low: float, high: float) -> str:
    return f"{name} {100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"


@dataclass(slots=True)
class Tally:
    """Where a run stands.

    Args:
        modes: mode -> what was counted.
        models: how many work side by side.
    """

    modes: dict[str, ModeTally]
    models: int = 1
    last: str = field(default="")

    @property
    def done(self) -> int:
        """Rows so far, failed ones included."""
        return sum(one.done for one in self.modes.values())

    @property
    def failed(self) -> int:
        """Rows that report an error."""
        return sum(one.failed for one in self.modes.values())

    @property
    def total(self) -> int:
        """Rows there will be."""
        return sum(one.total for one in self.modes.values())

    def add(self, mode: str, question: Question, row: Mapping[str, Any], *, now: bool = True) -> None:
        """Count a row."""
        self.modes[mode].add(question, row, now=now)
        self.last = mode

    def left_s(self) -> float | None:
        """Return the seconds the rest will take at each mode's own pace, None before the first row."""
        timed, seconds = sum(m.timed for m in self.modes.values()), sum(m.seconds for m in self.modes.values())
        if not timed:
            return None
        rest = sum(
            (one.total - one.done) * (one.seconds / one.timed if one.timed else seconds / timed)
            for one in self.modes.values()
        )
        return rest / self.models

    def line(self) -> str:
        """Return all of it as one line."""
        left = self.left_s()
        parts = [f"{self.done}/{self.total}", f"{self.failed} failed"]
        if left is not None:
            parts.append(f"{clock(left)} left")
        if self.last and (measured := self.modes[self.last].measures()):
            parts.append(f"{self.last}: {measured}" if len(self.modes) > 1 else measured)
        return ", ".join(parts)


def clock(seconds: float) -> str:
    """Return a duration as `45 s`, `12 min` or `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class Live:
    """Shows a tally on stderr: one line that changes on a terminal, a line a minute elsewhere. Make one with `live`."""

    def __init__(self, progress: Any, task: Any) -> None:
        self.progress, self.task = progress, task
        self.said = time.monotonic()

    def show(self, tally: Tally) -> None:
        """Show where the run stands."""
        if self.progress is not None:
            self.progress.update(self.task, completed=tally.done, total=tally.total, text=tally.line())
        elif time.monotonic() - self.said >= LOG_EVERY_S:
            self.said = time.monotonic()
            print(f"asking: {tally.line()}", file=sys.stderr, flush=True)


@contextmanager
def live(what: str) -> Iterator[Live]:
    """Show progress while the block runs."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        yield Live(None, None)
        return
    with Progress(SpinnerColumn(), TextColumn("{task.fields[text]}"), console=console) as progress:
        yield Live(progress, progress.add_task(what, total=None, text=what))
