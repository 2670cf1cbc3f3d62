"""How sure a model is: probabilities of answers and sharpness of spans, None where a policy does not tell them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoomzero.errors import ModelError
from zoomzero.policy.base import Completion
from zoomzero.prompts import Reading, glue_token_mask, letter_token_index, token_mask


def answer_confidence(reading: Reading, completion: Completion) -> float | None:
    """Return the probability of the emitted letter; of the whole answer's tokens on average when it is words.

    Args:
        reading: what the completion says.
        completion: as it was drawn.

    Returns:
        A probability; None where the policy tells no log-probabilities.

    Source: METHOD "inference on long videos" in docs/method.md.
    """
    if completion.logprobs is None or completion.offsets is None:
        return None
    letter = letter_token_index(reading, completion.offsets)
    if letter is not None:
        return math.exp(completion.logprobs[letter])
    mask = token_mask(reading.ranges.get("answer"), completion.offsets)
    chosen = [lp for lp, inside in zip(completion.logprobs, mask, strict=True) if inside]
    return math.exp(sum(chosen) / len(chosen)) if chosen else 0.0


def written_source(answer: str | None, confidence: float | None) -> str:
    """Return where the confidence of a written answer comes from, as traces say it."""
    if answer is None:
        return "nothing"
    return "unknown" if confidence is None else "answer tokens"


def span_source(reading: Reading, confidence: float | None) -> str:
    """Return where the confidence of written spans comes from, as traces say it."""
    if not reading.spans:
        return "nothing"
    return "unknown" if confidence is None else "span tokens"


def span_confidence(reading: Reading, completion: Completion) -> float | None:
    """Return how sharply the spans were written: mean over the glue's tokens of the mean -log p of the top 20.

    None where the policy tells no peaks.
    """
    if completion.peaks is None or completion.offsets is None:
        return None
    mask = glue_token_mask(reading, completion.offsets)
    chosen = [peak for peak, inside in zip(completion.peaks, mask, strict=True) if inside]
    return sum(chosen) / len(chosen) if chosen else 0.0


def softmax(scores: Sequence[float]) -> tuple[float, ...]:
    """Return the probabilities of log-scores, summing to 1."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = sum(weights)
    return tuple(weight / total for weight in weights)


def checked(values: tuple[float, ...], model: str) -> tuple[float, ...]:
    """Return a model's numbers if they are numbers at all: no answer is chosen among NaNs.

    Raises:
        ModelError: one of them is NaN.
    """
    if any(map(math.isnan, values)):
        fix = "use --dtype float32; if that does not help, its weights are damaged"
        raise ModelError(model, "its probabilities are not numbers (NaN)", fix)
    return values
