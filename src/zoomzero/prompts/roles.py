"""From character ranges to tokens: which tokens of a completion are the answer, the spans, the letter.

Roles come from character offsets, never from token ids: a tokenizer may merge a tag with its neighbour (`>B`,
`)</` in Qwen's), and such a token belongs to the part whose CONTENT it overlaps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress, count

from zoomzero.prompts.reading import Reading

Offsets = Sequence[tuple[int, int]]


def token_mask(range_: tuple[int, int] | None, offsets: Offsets) -> tuple[bool, ...]:
    """Return which tokens overlap a character range.

    Args:
        range_: half-open [start, end) in characters; None or empty: no token.
        offsets: half-open character range of each token; tokens of zero width (end of turn) belong to
            nothing. Where a byte-level tokenizer splits a character, its tokens share its range, and role.

    Returns:
        one flag per token, True where it overlaps.
    """
    if range_ is None:
        return (False,) * len(offsets)
    low, high = range_
    return tuple(max(low, start) < min(high, end) for start, end in offsets)


def answer_token_mask(reading: Reading, offsets: Offsets) -> tuple[bool, ...]:
    """Return which tokens are the answer (True) and which the rest (False); every token is one of the two.

    Source: METHOD "token-selective credit assignment" in docs/method.md.
    """
    return token_mask(reading.ranges.get("answer"), offsets)


def glue_token_mask(reading: Reading, offsets: Offsets) -> tuple[bool, ...]:
    """Return which tokens write the span list (True): how peaked they are is the confidence of the spans."""
    return token_mask(reading.ranges.get("glue"), offsets)


def letter_token_index(reading: Reading, offsets: Offsets) -> int | None:
    """Return the token that carries the option's label, whose probability is the answer's confidence.

    The first one when a label of several letters is split; None when no label was written (an open question,
    an option named by its text, no answer).
    """
    return next(compress(count(), token_mask(reading.ranges.get("label"), offsets)), None)
