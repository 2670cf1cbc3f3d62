"""Rewards of one response, each in [0, 1]: pure functions of what it says, of the truth and of the zoom pass.

format  the strict grammar holds
iou     union of the predicted spans against union of the true spans
answer  the right option, or the right words when the question has no options
zoom    the zoom pass, which sees only the predicted spans, gives the right option (soft: how probable it finds it)

Loads neither torch nor transformers. Source: METHOD "rewards" in docs/method.md; docs/training-credit.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zoomzero import spans
from zoomzero.data.example import Example
from zoomzero.errors import ConfigError, DataError
from zoomzero.prompts import Mode, Reading, format_score, option_labels, read_response
from zoomzero.prompts.grammar import AnswerAs
from zoomzero.train.credit.objective import RewardSettings, RewardWeights

REWARDS = ("format", "iou", "answer", "zoom")
_LETTERS_A_TO_F = 6


@dataclass(frozen=True, slots=True)
class ZoomResult:
    """What the verifier said about one response's spans.

    Args:
        on_span: whether it looked at the response's own spans; False: there was no usable one, so it looked at the
            whole video or, by our default, at nothing.
        option_log_probs: log-probability of each option in order, on any common scale; None when it wrote instead.
        text: what it wrote; None when it scored the options instead.
    """

    on_span: bool
    option_log_probs: tuple[float, ...] | None = None
    text: str | None = None


@dataclass(frozen=True, slots=True)
class RewardValues:
    """The rewards of one response, each in [0, 1]; `zoom` is None when no verifier runs."""

    format: float
    iou: float
    answer: float
    zoom: float | None = None


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
    """Return every reward of one response.

    Args:
        text: the completion alone, without the prompt and without special tokens.
        reading: what `read_response` found in it.
        example: the question with its truth.
        settings: which variant of each reward.
        mode: which parts were asked for.
        answer_as: what was asked for as the answer.
        zoom: the verifier's look; None when no verifier runs. A response without a usable span still needs a look
            (`on_span=False`), so that a group's responses all have a zoom reward or none has.

    Raises:
        ConfigError, DataError: as `zoom_reward`.
    """
    return RewardValues(
        format=format_reward(text, example.options, settings, mode=mode, answer_as=answer_as),
        iou=iou_reward(reading, example.spans),
        answer=answer_reward(reading, example.answer),
        zoom=None if zoom is None else zoom_reward(zoom, example, settings),
    )


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


def iou_reward(reading: Reading, true_spans: Sequence[Sequence[float]]) -> float:
    """Return the overlap of the predicted and the true time, 0 when nothing is predicted or nothing is true."""
    return spans.iou(reading.spans, true_spans)


def answer_reward(reading: Reading, truth: str) -> float:
    """Return 1 when the answer is the truth: an option's label, or words up to letter case and spacing.

    Args:
        reading: what the response says; without a readable answer the reward is 0.
        truth: `Example.answer`.
    """
    return float(reading.answer is not None and _plain(reading.answer) == _plain(truth))


def zoom_reward(look: ZoomResult, example: Example, settings: RewardSettings) -> float:
    """Return the reward for what the verifier made of the response's spans.

    Raises:
        ConfigError: `settings.zoom` needs log-probabilities or a text that the look does not have.
        DataError: the example's answer is none of its options.
    """
    if not (look.on_span or settings.zoom_without_span):
        return 0.0
    if settings.zoom == "substring":
        return zoom_substring(_text_of(look), example.answer)
    if settings.zoom == "soft" or look.option_log_probs is not None:
        scores, right = _log_probs_of(look, example), right_option(example)
        return zoom_soft(scores, right) if settings.zoom == "soft" else zoom_hard(scores, right)
    return zoom_written(_text_of(look), example)


def zoom_hard(option_log_probs: Sequence[float], right: int) -> float:
    """Return 1 when the right option is likelier than every other one; a tie is no answer and earns 0.

    Args:
        option_log_probs: (options,) log-probabilities on any common scale.
        right: index of the right option.

    Raises:
        ValueError: a log-probability is NaN or +inf, or `right` is not an option.
    """
    _check_scores(option_log_probs, right)
    others = (score for i, score in enumerate(option_log_probs) if i != right)
    return float(all(option_log_probs[right] > score for score in others))


def zoom_soft(option_log_probs: Sequence[float], right: int) -> float:
    """Return the probability of the right option among the options (softmax of the log-probabilities).

    Args and Raises as `zoom_hard`; also ValueError when every option has probability 0.
    """
    _check_scores(option_log_probs, right)
    top = max(option_log_probs)
    if top == -math.inf:
        raise ValueError("every option has log-probability -inf: the verifier's scores are unusable")
    weights = [math.exp(score - top) for score in option_log_probs]
    return weights[right] / math.fsum(weights)


def zoom_written(text: str, example: Example) -> float:
    """Return 1 when the option that a written zoom answer names, exactly read, is the right one."""
    reading = read_response(text, len(example.options), "direct", options=example.options)
    return answer_reward(reading, example.answer)


def zoom_substring(text: str, truth: str) -> float:
    """Return 1 when the written answer is contained in the truth. An EMPTY answer is, and so earns the reward.

    Source: the paper's code, kept for comparison only.
    """
    return float(text.strip() in truth)


def right_option(example: Example) -> int:
    """Return the index of the right option.

    Raises:
        DataError: the answer is not the label of one of the options.
    """
    labels = option_labels(len(example.options))
    if example.answer not in labels:
        reason = f"answer {example.answer!r} is not one of its labels {', '.join(labels) or '(it has no options)'}"
        raise DataError(example.source, f"example {example.id}", f"{reason}; give the right option's label")
    return labels.index(example.answer)


def as_columns(group: Sequence[RewardValues]) -> dict[str, list[float]]:
    """Return a group's rewards by name, each in the order of the rollouts; `zoom` only when the verifier ran.

    Raises:
        ValueError: some of the group's responses have a zoom reward and some have none.
    """
    columns = {
        "format": [values.format for values in group],
        "iou": [values.iou for values in group],
        "answer": [values.answer for values in group],
    }
    zoom = [values.zoom for values in group if values.zoom is not None]
    if zoom and len(zoom) != len(group):
        raise ValueError(
            f"{len(zoom)} of {len(group)} responses have a zoom reward: give every one a ZoomResult or none"
        )
    return columns | ({"zoom": zoom} if zoom else {})


def scalar_shares(names: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each reward in the scalar reward; the shares sum to 1.

    `answer` and `zoom` are two looks at one thing and share one place. With equal weights: format 1/3, iou 1/3,
    answer 1/6 and zoom 1/6, or answer 1/3 without zoom.

    Args:
        names: the rewards there are.
        weights: weight by name; a reward with weight 0 counts as not there.

    Raises:
        ConfigError: no reward is left.
    """
    present = {name: weights[name] for name in names if weights[name] > 0}
    looks = sum(name in present for name in ("answer", "zoom"))
    parts = {name: weight / (looks if name in ("answer", "zoom") else 1) for name, weight in present.items()}
    if not parts:
        raise ConfigError("reward.weights", "every reward that is there has weight 0", "give one a weight above 0")
    total = math.fsum(parts.values())
    return {name: part / total for name, part in parts.items()}


def scalar_reward(values: RewardValues, weights: RewardWeights | None = None) -> float:
    """Return `((answer + zoom)/2 + format + iou)/3`, without zoom `(answer + format + iou)/3`, weighted if asked.

    Source: METHOD "rewards" in docs/method.md.
    """
    there = {name: value for name in REWARDS if (value := getattr(values, name)) is not None}
    shares = scalar_shares(tuple(there), (weights or RewardWeights()).model_dump())
    return math.fsum(share * there[name] for name, share in shares.items())


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _check_scores(option_log_probs: Sequence[float], right: int) -> None:
    if not 0 <= right < len(option_log_probs):
        raise ValueError(f"right option {right} is not among {len(option_log_probs)} scored options")
    if any(math.isnan(score) or score == math.inf for score in option_log_probs):
        raise ValueError(f"option log-probabilities must be numbers below +inf, got {list(option_log_probs)}")


def _text_of(look: ZoomResult) -> str:
    if look.text is None:
        raise ConfigError("reward.zoom", "the zoom pass wrote no text to match", "use hard or soft, which read scores")
    return look.text


def _log_probs_of(look: ZoomResult, example: Example) -> tuple[float, ...]:
    if look.option_log_probs is None:
        fix = "use hard, or a verifier that scores the options"
        raise ConfigError("reward.zoom", "soft needs the options' log-probabilities, the zoom pass wrote text", fix)
    if len(look.option_log_probs) != len(example.options):
        raise ValueError(f"{len(look.option_log_probs)} scores for {len(example.options)} options of {example.id}")
    return look.option_log_probs
