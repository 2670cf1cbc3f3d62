"""Rollout groups as the rollouts page holds them: a compact JSON object a group, and the numbers curves are made of."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from zoomzero import spans as span_math
from zoomzero.answer.confidence import softmax
from zoomzero.pages import timeline
from zoomzero.prompts import option_labels
from zoomzero.train.credit.rewards import REWARDS, scalar_reward
from zoomzero.train.rollouts.record import Rollout, RolloutGroup

Place = tuple[int, int]  # (step, index): the order of a run
_DIGITS = 7  # float32 has no more


@dataclass(frozen=True, slots=True)
class GroupFacts:
    """One group in numbers.

    `means`, `stds` (sample standard deviations) and `flat` (all rollouts equal) are by reward; `zoom` is missing where
    no verifier ran. `spread` is the standard deviation of the scalar reward with equal weights. `strongest` is the
    largest absolute advantage of each rollout. Shares count rollouts.
    """

    place: Place
    means: dict[str, float]
    stds: dict[str, float]
    flat: dict[str, bool]
    spread: float
    rollouts: int
    mean_tokens: float
    misread_share: float
    cut_share: float
    strongest: tuple[float, ...]


def group_facts(group: RolloutGroup) -> GroupFacts:
    """Return a group in numbers.

    Raises:
        ValueError: it cannot be shown, and why.
    """
    _check(group)
    rollouts = group.rollouts
    columns = {
        name: [value for one in rollouts if (value := getattr(one.rewards, name)) is not None] for name in REWARDS
    }
    columns = {name: values for name, values in columns.items() if values}
    return GroupFacts(
        place=(group.step, group.index),
        means={name: statistics.fmean(values) for name, values in columns.items()},
        stds={name: _std(values) for name, values in columns.items()},
        flat={name: min(values) == max(values) for name, values in columns.items()},
        spread=_std([scalar_reward(one.rewards) for one in rollouts]),
        rollouts=len(rollouts),
        mean_tokens=statistics.fmean(len(one.token_ids) for one in rollouts),
        misread_share=statistics.fmean(bool(one.problems) for one in rollouts),
        cut_share=statistics.fmean(not one.finished for one in rollouts),
        strongest=tuple(max(map(abs, one.advantages), default=0.0) for one in rollouts),
    )


def pack_group(group: RolloutGroup, facts: GroupFacts) -> dict[str, Any]:
    """Return what the page shows of a group as plain JSON values.

    Places on the time axis are in percent of the video, made by the code that draws the other pages' timelines.
    """
    example, axis_s = group.example, _axis_s(group)
    return {
        "index": group.index,
        "step": group.step,
        "kept": group.kept,
        "id": example.id,
        "facts": [example.source, example.split, Path(example.video).name, timeline.length_label(example.duration_s)],
        "question": example.question,
        "options": list(example.options),
        "labels": list(option_labels(len(example.options))),
        "truth": example.answer,
        "prompt": group.prompt,
        "mean": [_short(facts.means.get(name)) for name in REWARDS],
        "std": [_short(facts.stds.get(name)) for name in REWARDS],
        "flat": [facts.flat.get(name) for name in REWARDS],
        "spread": _short(facts.spread),
        "ticks": [[tick.left, tick.label] for tick in timeline.ticks(axis_s)],
        "spans": _pack_spans(example.spans, axis_s),
        "rollouts": [_pack_rollout(one, group) for one in group.rollouts],
    }


def pieces(rollout: Rollout) -> Iterator[tuple[str, int | None]]:
    """Cut a completion's text into its tokens: (text, token), token None for characters no token covers.

    Tokens that share a character (parts of one) show it once, at the first of them; the others are empty.
    """
    at = 0
    for token, (start, end) in enumerate(rollout.offsets):
        if start > at:
            yield rollout.text[at:start], None
        yield rollout.text[max(start, at) : max(end, at)], token
        at = max(at, end)
    if at < len(rollout.text):
        yield rollout.text[at:], None


def _pack_rollout(one: Rollout, group: RolloutGroup) -> dict[str, Any]:
    cut = list(pieces(one))
    axis_s = _axis_s(group)
    return {
        "pieces": [text for text, _ in cut],
        "plain": [place for place, (_, token) in enumerate(cut) if token is None],
        "credit": _runs(one),
        "finished": one.finished,
        "option": one.option,
        "right": one.rewards.answer >= 1,
        "spans": _pack_spans(one.spans, axis_s),
        "outside": sum(not span_math.clip([span], 0.0, axis_s) for span in one.spans),
        "problems": list(one.problems),
        "rewards": [_short(getattr(one.rewards, name)) for name in REWARDS],
        "zoom": _pack_zoom(one),
    }


def _runs(one: Rollout) -> list[list[Any]]:
    """Return [tokens, advantage, is answer] of stretches of equal tokens; the advantage is None where there is none."""
    advantages: Sequence[float | None] = one.advantages or (None,) * len(one.token_ids)
    credited = zip(map(_short, advantages), one.answer_mask, strict=True)
    return [[len(list(run)), advantage, int(answer)] for (advantage, answer), run in groupby(credited)]


def _pack_zoom(one: Rollout) -> dict[str, Any] | None:
    if one.zoom is None:
        return None
    scores = one.zoom.option_log_probs
    chances = None if scores is None else [round(chance, 4) for chance in softmax(list(scores))]
    return {"on": one.zoom.on_span, "chances": chances, "text": one.zoom.text}


def _pack_spans(spans: Sequence[Sequence[float]], axis_s: float) -> list[list[Any]]:
    """Return [left, width, label] of the union of spans."""
    return [
        [block.left, block.width, timeline.span_label((block.start_s, block.end_s))]
        for block in timeline.blocks(spans, axis_s, "", "found")
    ]


def _axis_s(group: RolloutGroup) -> float:
    """Return the length of the time axis: the video's, or the last true moment of a video whose length is unknown."""
    duration_s = group.example.duration_s
    return duration_s if duration_s > 0 else max((end for _, end in group.example.spans), default=1.0)


def _check(group: RolloutGroup) -> None:
    """Raise ValueError when the parts of a group do not fit together."""
    if not (isinstance(group.step, int) and isinstance(group.index, int)):
        raise ValueError("step and index must be whole numbers")
    if not group.rollouts:
        raise ValueError("it has no rollouts")
    for place, one in enumerate(group.rollouts):
        counts = {len(one.token_ids), len(one.offsets), len(one.answer_mask)}
        if len(counts) > 1 or len(one.advantages) not in (0, len(one.token_ids)):
            raise ValueError(f"rollout {place} has token_ids, offsets, answer_mask or advantages of different lengths")
        numbers = [*one.advantages, *(x for x in (getattr(one.rewards, name) for name in REWARDS) if x is not None)]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"rollout {place} has advantages or rewards that are not finite")


def _std(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _short(value: float | None) -> float | None:
    """Return a number without the digits float32 does not have."""
    return None if value is None else float(f"{value:.{_DIGITS}g}")
