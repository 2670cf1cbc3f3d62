"""How hard an example is for a model, from several answers to it, and which examples are worth learning from. Pure.

An example teaches when its answers differ: one must be better than their average, and not all may be right already.
Source: METHOD section "optimisation" in docs/method.md (the offline difficulty filter).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from pydantic import Field

from zoomzero.config import Settings
from zoomzero.data.example import Example
from zoomzero.spans import Span, iou

# Why an example is not kept, in the order in which reasons are looked for.
REASONS = {
    "leaks": "its video or question is in an evaluation",
    "unreadable": "its video cannot be read",
    "not_answered": "there are no predictions for it",
    "always_right": "its answers are right too often",
    "overlap_alike": "none of its spans is better than the others",
    "never_right": "it has no true spans, and none of its answers is right",
}
KEPT = "kept"
MOST_EXACT_BINS = 16
BAR = 30  # characters of the longest bar in the text table


class DifficultySettings(Settings):
    """Which examples are kept: (max - mean IoU > min_spread or min IoU > min_iou) and mean hit < max_hit.

    Examples without spans: 0 < mean hit < max_hit, for their answers alone can teach.
    """

    min_spread: float = Field(0.1, ge=0, le=1, description="Best minus mean IoU of the answers must exceed this,")
    min_iou: float = Field(0.0, ge=0, le=1, description="or their worst IoU this;")
    max_hit: float = Field(1.0, ge=0, le=1, description="and the share of right answers must be below this.")


class Answered(Protocol):
    """One answer: `answer` is an option's label (words for an open question) or None, `spans` are seconds."""

    @property
    def answer(self) -> str | None: ...
    @property
    def spans(self) -> tuple[Span, ...]: ...


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What n answers to one example were like: shares in [0, 1]."""

    n: int
    mean_hit: float
    mean_iou: float
    max_iou: float
    min_iou: float


@dataclass(frozen=True, slots=True)
class Judged:
    """One example with the verdict: `kept`, or a key of `REASONS`. `detail` says more where there is more to say."""

    example: Example
    verdict: str
    difficulty: Difficulty | None = None
    detail: str = ""

    @property
    def kept(self) -> bool:
        """Whether it is worth learning from."""
        return self.verdict == KEPT


@dataclass(frozen=True, slots=True)
class Bin:
    """Examples whose value is in [low, high); in the last bin of a histogram `high` counts too."""

    low: float
    high: float
    label: str
    kept: int
    dropped: int


def measure(example: Example, answers: Sequence[Answered]) -> Difficulty:
    """Return what an example's answers were like; at least one is needed.

    Hit and IoU are the rewards of training: the right label (words up to letter case and spacing for an open question),
    and the overlap of the unions of predicted and true spans.
    """
    hits = [_right(one.answer, example.answer) for one in answers]
    ious = [iou(one.spans, example.spans) for one in answers]
    n = len(answers)
    return Difficulty(n, math.fsum(hits) / n, math.fsum(ious) / n, max(ious), min(ious))


def _right(answer: str | None, truth: str) -> bool:
    return answer is not None and " ".join(answer.casefold().split()) == " ".join(truth.casefold().split())


def verdict(example: Example, found: Difficulty, settings: DifficultySettings) -> str:
    """Return `kept`, or why an answered example teaches nothing."""
    if not found.mean_hit < settings.max_hit:
        return "always_right"
    if not example.spans:
        return KEPT if found.mean_hit > 0 else "never_right"
    if found.max_iou - found.mean_iou > settings.min_spread or found.min_iou > settings.min_iou:
        return KEPT
    return "overlap_alike"


def judge(example: Example, answers: Sequence[Answered], settings: DifficultySettings, error: str = "") -> Judged:
    """Return an example with its verdict.

    Args:
        example: the example.
        answers: what was predicted; empty when nothing was.
        settings: the thresholds.
        error: why nothing was.
    """
    if not answers:
        return Judged(example, "unreadable" if error else "not_answered", detail=error)
    found = measure(example, answers)
    return Judged(example, verdict(example, found, settings), found)


def counts(judged: Iterable[Judged]) -> dict[str, int]:
    """Return how many were kept and how many were dropped for each reason, zeros included."""
    found = dict.fromkeys([KEPT, *REASONS], 0)
    for one in judged:
        found[one.verdict] += 1
    return found


# --- histograms -----------------------------------------------------------------------------------------


def histogram(judged: Sequence[Judged], value: Callable[[Difficulty], float], bins: int = 10) -> tuple[Bin, ...]:
    """Count the answered examples by a share in [0, 1], in equal bins.

    Args:
        judged: the examples; those nobody answered are left out.
        value: which share.
        bins: how many.
    """
    edges = [i / bins for i in range(bins + 1)]
    labels = [f"{low:g}\N{EN DASH}{high:g}" for low, high in pairwise(edges)]
    tally = [[0, 0] for _ in labels]
    for one in judged:
        if one.difficulty is not None:
            place = min(int(value(one.difficulty) * bins + 1e-9), bins - 1)
            tally[place][not one.kept] += 1
    return tuple(
        Bin(low, high, label, *pair) for (low, high), label, pair in zip(pairwise(edges), labels, tally, strict=True)
    )


def hit_histogram(judged: Sequence[Judged]) -> tuple[Bin, ...]:
    """Count the answered examples by the share of right answers: one bin for each number of right ones.

    Where examples have different or many answers the bins are ten equal ones.
    """
    sizes = {one.difficulty.n for one in judged if one.difficulty is not None}
    n = max(sizes, default=0)
    if len(sizes) != 1 or n > MOST_EXACT_BINS:
        return histogram(judged, lambda found: found.mean_hit)
    tally = [[0, 0] for _ in range(n + 1)]
    for one in judged:
        if one.difficulty is not None:
            tally[round(one.difficulty.mean_hit * n)][not one.kept] += 1
    return tuple(Bin(k / n, k / n, f"{k}/{n}", *pair) for k, pair in enumerate(tally))


def table(judged: Sequence[Judged]) -> str:
    """Return the counts and both histograms as text."""
    found = counts(judged)
    dropped = len(judged) - found[KEPT]
    width = len(str(len(judged))) + 2
    lines = [f"kept            {found[KEPT]:>{width}} of {len(judged)}", f"dropped         {dropped:>{width}}"]
    lines += [
        f"  {reason.replace('_', ' '):<14}{found[reason]:>{width}}  {text}"
        for reason, text in REASONS.items()
        if found[reason]
    ]
    if any(one.difficulty for one in judged):
        lines += _bars("right answers", hit_histogram(judged))
        lines += _bars("mean IoU", histogram(judged, lambda one: one.mean_iou))
    return "\n".join(lines)


def _bars(title: str, bins: Sequence[Bin]) -> list[str]:
    most = max(one.kept + one.dropped for one in bins)
    lines = ["", f"{title:<14}{'kept':>7}{'dropped':>9}"]
    for one in bins:
        kept, every = (round(BAR * count / most) if most else 0 for count in (one.kept, one.kept + one.dropped))
        bar = "#" * kept + "." * (every - kept)
        lines.append(f"{one.label:<14}{one.kept:>7}{one.dropped:>9}  {bar}".rstrip())
    return lines
