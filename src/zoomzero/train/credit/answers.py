"""Rewards about the answer: the coarse pass's own, and what the zoom pass makes of the response's spans.

Loads neither torch nor transformers. Source: METHOD "rewards" in docs/method.md; docs/training-credit.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from zoomzero.data.example import Example
from zoomzero.errors import ConfigError, DataError
from zoomzero.prompts import Reading, option_labels, read_response
from zoomzero.train.credit.objective import RewardSettings


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
