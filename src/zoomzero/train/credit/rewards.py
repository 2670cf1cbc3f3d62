"""Rewards of one response, each in [0, 1]: registered pure functions of what it says, the truth and the zoom pass.

format         the strict grammar holds
iou            union of the predicted spans against union of the true spans
wasserstein    exp(-W1 / seconds of truth): how far the predicted time lies from the true time
precision_iou  IoU x the share of the predicted time that is true
answer         the right option, or the right words when the question has no options
zoom           the zoom pass, which sees only the predicted spans, gives the right option (soft: its probability)

A reward that an example cannot be judged by (no true spans, no verifier) is None, and left out for its whole group.
A new one is a function with `@register` above it and a weight in `RewardWeights` (CONTRIBUTING.md, "Add a reward").

Loads neither torch nor transformers. Source: METHOD "rewards" in docs/method.md; docs/training-credit.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, TypeVar

from zoomzero import spans
from zoomzero.data.example import Example
from zoomzero.errors import ConfigError
from zoomzero.prompts import Mode, Reading, format_score
from zoomzero.prompts.grammar import AnswerAs
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult, answer_reward, zoom_reward
from zoomzero.train.credit.objective import RewardSettings, RewardWeights

REWARDS = ("format", "iou", "answer", "zoom")  # the paper's, judged whatever their weight
_LETTERS_A_TO_F = 6


@dataclass(frozen=True, slots=True)
class Response:
    """What a reward sees of one response.

    Args:
        text: the completion alone, without the prompt and without special tokens.
        reading: what `read_response` found in it.
        example: the question with its truth.
        settings: which variant of each reward.
        mode: which parts were asked for.
        answer_as: what was asked for as the answer.
        zoom: the verifier's result; None when no verifier runs. A response without a usable span still needs one
            (`on_span=False`), so that a group's responses all have a zoom reward or none has.
    """

    text: str
    reading: Reading
    example: Example
    settings: RewardSettings
    mode: Mode = "think"
    answer_as: AnswerAs = "letter"
    zoom: ZoomResult | None = None


RewardFunction = Callable[[Response], float | None]
FunctionT = TypeVar("FunctionT", bound=RewardFunction)


@dataclass(frozen=True, slots=True)
class Reward:
    """A registered reward.

    Args:
        name: also that of its weight.
        function: its value, None where the example cannot be judged by it.
        credits: which tokens it credits: those of the answer, the rest, or all.
        place: rewards of one place look at one thing and share its share of the scalar reward.
    """

    name: str
    function: RewardFunction
    credits: Literal["all", "rest", "answer"]
    place: str


_REGISTERED: dict[str, Reward] = {}


def register(
    name: str, *, credits: Literal["all", "rest", "answer"], place: str = ""
) -> Callable[[FunctionT], FunctionT]:
    """Register a reward.

    Args:
        name, credits: see `Reward`.
        place: by default one of its own.

    Raises:
        ValueError: the name is taken.
    """

    def add(function: FunctionT) -> FunctionT:
        if name in _REGISTERED:
            raise ValueError(f"reward {name!r} is registered already")
        _REGISTERED[name] = Reward(name, function, credits, place or name)
        return function

    return add


def registered() -> Mapping[str, Reward]:
    """Return all rewards by name, in the order they were registered."""
    return dict(_REGISTERED)


@dataclass(frozen=True, slots=True)
class RewardValues:
    """The rewards of one response, each in [0, 1], None where the example cannot be judged by it.

    `more` holds those beyond the paper's four that have a weight.
    """

    format: float
    iou: float | None
    answer: float
    zoom: float | None = None
    more: Mapping[str, float | None] = field(default_factory=dict)

    def there(self) -> dict[str, float]:
        """Return the values that are there, by name."""
        values = {"format": self.format, "iou": self.iou, "answer": self.answer, "zoom": self.zoom, **self.more}
        return {name: value for name, value in values.items() if value is not None}


def reward_values(
    text: str,
    reading: Reading,
    example: Example,
    settings: RewardSettings,
    *,
    mode: Mode = "think",
    answer_as: AnswerAs = "letter",
    zoom: ZoomResult | None = None,
) -> RewardValues:
    """Return every reward of one response: the paper's four, and the others that have a weight.

    Args: see `Response`.

    Raises:
        ConfigError, DataError: as `zoom_reward`.
    """
    response = Response(text, reading, example, settings, mode, answer_as, zoom)
    weights = settings.weights.model_dump()
    return RewardValues(
        format=_format(response),
        iou=_iou(response),
        answer=_answer(response),
        zoom=_zoom(response),
        more={
            name: one.function(response)
            for name, one in _REGISTERED.items()
            if name not in REWARDS and weights.get(name, 0.0) > 0
        },
    )


# --- the rewards -----------------------------------------------------------------------------------------------------


@register("format", credits="all")
def _format(response: Response) -> float:
    return format_reward(
        response.text,
        response.example.options,
        response.settings,
        mode=response.mode,
        answer_as=response.answer_as,
    )


@register("iou", credits="rest", place="evidence")
def _iou(response: Response) -> float | None:
    return spans.iou(response.reading.spans, response.example.spans) if response.example.spans else None


@register("wasserstein", credits="rest", place="evidence")
def _wasserstein(response: Response) -> float | None:
    return wasserstein_reward(response.reading.spans, response.example.spans) if response.example.spans else None


@register("precision_iou", credits="rest", place="evidence")
def _precision_iou(response: Response) -> float | None:
    return precision_iou_reward(response.reading.spans, response.example.spans) if response.example.spans else None


@register("answer", credits="answer", place="answer")
def _answer(response: Response) -> float:
    return answer_reward(response.reading, response.example.answer)


@register("zoom", credits="all", place="answer")
def _zoom(response: Response) -> float | None:
    return None if response.zoom is None else zoom_reward(response.zoom, response.example, response.settings)


def format_reward(
    text: str,
    options: Sequence[str],
    settings: RewardSettings,
    *,
    mode: Mode = "think",
    answer_as: AnswerAs = "letter",
) -> float:
    """Return 1 for the strict grammar, `unread_glue` when only the span list breaks it, else 0."""
    if settings.letters == "a_to_f" and options and answer_as == "letter":
        return format_score(text, _LETTERS_A_TO_F, mode, unread_glue=settings.unread_glue)
    return format_score(
        text, len(options), mode, options=options, answer_as=answer_as, unread_glue=settings.unread_glue
    )


def wasserstein_reward(predicted: Sequence[Sequence[float]], true: Sequence[Sequence[float]]) -> float:
    """Return exp(-W1 / seconds of the true set), 0 when nothing is predicted.

    W1 carries the predicted time, spread evenly over its set, to the true time. Unlike IoU it orders predictions that
    miss the truth, the nearer the better; a shift by the truth's whole length earns exp(-1) = 0.37.

    Args:
        predicted, true: spans in seconds; only their unions count. `true` covers some time.

    Source: TimeLens2 (arXiv 2607.17423), temporal Wasserstein reward.
    """
    if not spans.merge(predicted):
        return 0.0
    return math.exp(-spans.wasserstein_s(predicted, true) / spans.covered_s(true))


def precision_iou_reward(predicted: Sequence[Sequence[float]], true: Sequence[Sequence[float]]) -> float:
    """Return IoU x IoP (the share of the predicted time that is true): too wide loses twice, too narrow once."""
    return spans.iou(predicted, true) * spans.iop(predicted, true)


# --- groups ----------------------------------------------------------------------------------------------------------


def consensus_spans(candidates: Sequence[Sequence[Sequence[float]]]) -> tuple[Span, ...]:
    """Return the time that more than half of several span sets cover: what a group's verified responses agree on.

    Args:
        candidates: the spans of each verified response.

    Returns:
        the set, empty with fewer than two candidates or without a majority anywhere.
    """
    sets = [merged for one in candidates if (merged := spans.merge(one))]
    if len(sets) < 2:
        return ()
    edges = sorted({edge for one in sets for span in one for edge in span})
    pieces = [Span(low, high) for low, high in pairwise(edges)]
    middles = [(piece, (piece.start_s + piece.end_s) / 2) for piece in pieces]
    return spans.merge(
        piece for piece, middle in middles if 2 * sum(spans.contains(one, middle) for one in sets) > len(sets)
    )


def as_columns(group: Sequence[RewardValues]) -> dict[str, list[float]]:
    """Return a group's rewards by name, each in the order of the rollouts; those no response has are left out.

    Raises:
        ValueError: some of the group's responses have a reward and some have not.
    """
    found = [values.there() for values in group]
    columns: dict[str, list[float]] = {}
    for name in dict.fromkeys(name for values in found for name in values):
        column = [values[name] for values in found if name in values]
        if len(column) != len(group):
            raise ValueError(f"{len(column)} of {len(group)} responses have a {name} reward: give it to all or none")
        columns[name] = column
    return columns


def scalar_shares(names: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each reward in the scalar reward; the shares sum to 1.

    Rewards of one place (`answer` and `zoom`: two looks at one thing; the overlaps) share it. With equal weights:
    format 1/3, iou 1/3, answer 1/6 and zoom 1/6, or answer 1/3 without zoom.

    Args:
        names: the rewards there are.
        weights: weight by name; a reward with weight 0 counts as not there.

    Raises:
        ConfigError: no reward is left.
    """
    present = {name: weights[name] for name in names if weights[name] > 0}
    places = [_REGISTERED[name].place for name in present]
    parts = {name: weight / places.count(_REGISTERED[name].place) for name, weight in present.items()}
    if not parts:
        raise ConfigError("reward.weights", "every reward that is there has weight 0", "give one a weight above 0")
    total = math.fsum(parts.values())
    return {name: part / total for name, part in parts.items()}


def scalar_reward(values: RewardValues, weights: RewardWeights | None = None) -> float:
    """Return `((answer + zoom)/2 + format + iou)/3`, without zoom `(answer + format + iou)/3`, weighted if asked.

    Source: METHOD "rewards" in docs/method.md.
    """
    there = values.there()
    shares = scalar_shares(tuple(there), (weights or RewardWeights()).model_dump())
    return math.fsum(share * there[name] for name, share in shares.items())
