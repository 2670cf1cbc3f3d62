"""Tolerant reading of the small pieces: numbers written as spans, an option named in words.

Every pattern has bounded repetition, so reading stays linear in the length of any text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from zoomzero.prompts.grammar import AnswerAs, option_labels
from zoomzero.spans import Span

_PLAIN = r"(?:[0-9]{1,12}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})"
_CLOCK = r"(?:[0-9]{1,4}:)?[0-9]{1,4}:[0-9]{1,2}(?:\.[0-9]{1,30})?"
_VALUE = rf"[+-]?(?:{_CLOCK}|{_PLAIN}|nan|inf(?:inity)?)(?![0-9]|[.:][0-9])"
_UNIT = r"(?:\s?(?:seconds?|secs?|s)(?![a-z]))?"
_PAIR_RE = re.compile(
    rf"(?<![\w.:])({_VALUE}){_UNIT}\s{{0,4}}(?:,|;|-|–|—|~|to\b|until\b)\s{{0,4}}({_VALUE}){_UNIT}",
    re.IGNORECASE | re.ASCII,  # letters that only fold to ours would not convert to numbers
)

_LEAD = r"""(?:(?:(?:my|the)\s{1,3})?(?:(?:correct|right|best|final)\s{1,3})?(?:answer|option|choice)\b
            (?:\s{1,3}is)?\s{0,3}[:=]?\s{0,3})"""
_OPEN, _CLOSE = r"""[("'*`\[]{0,4}""", r"""[)"'*`\].:,;!]"""
_LABEL_RE = re.compile(
    rf"""{_OPEN}{_LEAD}{{0,2}}{_OPEN}([a-z]{{1,3}})(?:{_CLOSE}{{0,5}}\Z|[)\].:]["'*`]{{0,4}}(?=\s)|\s?(?=\n))""",
    re.IGNORECASE | re.VERBOSE | re.ASCII,
)
_CONCLUSION_RE = re.compile(
    rf"""\b(?i:answer\s{{1,3}}is|answer\s?[:=]|(?:correct|right|best|final)\s{{1,3}}(?:answer|option|choice)
         (?:\s{{1,3}}is)?)\s{{0,3}}[:=]?\s{{0,3}}(?i:option\s{{1,3}})?{_OPEN}([A-Z]{{1,3}})(?={_CLOSE}|\Z)""",
    re.VERBOSE | re.ASCII,
)


class Option(NamedTuple):
    """An option that was named: its place in the list, and the characters of its label if one was written."""

    place: int
    label_at: tuple[int, int] | None = None


def read_spans(text: str, cut: bool = False) -> tuple[tuple[Span, ...], set[str]]:
    """Return the proper spans of a text in the order written, and what was wrong with the others.

    Reads `(a, b)`, `[a - b]`, `a to b`, with or without `s` or `seconds`, decimals or mm:ss or hh:mm:ss.

    Args:
        text: the content of a glue or time part.
        cut: the text was cut off at its end, so a number that touches the end may be incomplete: its span is
            left out.
    """
    spans: list[Span] = []
    problems: set[str] = set()
    for m in _PAIR_RE.finditer(text):
        if cut and m.end(2) == len(text):
            continue
        start_s, end_s = _seconds(m[1]), _seconds(m[2])
        if not (math.isfinite(start_s) and math.isfinite(end_s)):
            problems.add("nan_span")
        elif end_s < start_s:
            problems.add("reversed_span")
        elif end_s == start_s:
            problems.add("empty_span")
        elif start_s < 0:
            problems.add("negative_span")
        else:
            spans.append(Span(start_s, end_s))
    return tuple(spans), problems


def _seconds(text: str) -> float:
    """Return the seconds of `12`, `12.5`, `1:05`, `1:02:03.5`, `nan` or `inf`."""
    seconds = 0.0
    for field in text.lstrip("+-").split(":"):
        seconds = seconds * 60 + float(field)
    return -seconds if text.startswith("-") else seconds


def read_option(
    text: str, n_options: int, options: Sequence[str], answer_as: AnswerAs
) -> tuple[Option | None, str | None]:
    """Return the option a text names, and why none when it names none.

    Args:
        text: what was written as the answer, stripped.
        n_options: how many options there are; labels beyond them name nothing.
        options: the option texts, to recognise an answer that repeats one; may be empty.
        answer_as: which of label and text is tried first (an option's text may look like a label).
    """
    by_label = _option_by_label(text, option_labels(n_options))
    same = [i for i, option in enumerate(options) if option.strip() == text]
    if not same and (plain := _plain(text)):
        same = [i for i, option in enumerate(_plain_all(tuple(options))) if option == plain]
    by_text = Option(same[0]) if len(same) == 1 else None
    first, second = (by_label, by_text) if answer_as == "letter" else (by_text, by_label)
    found = first or second
    if found is not None:
        return found, None
    return None, "ambiguous_option" if len(same) > 1 else "unknown_option"


def _option_by_label(text: str, labels: tuple[str, ...]) -> Option | None:
    """Find a label at the start (`B`, `(b)`, `Option B.`, `B. red`) or at the end (`... answer is B.`)."""
    if text in labels:
        return Option(labels.index(text), (0, len(text)))
    m = _LABEL_RE.match(text)
    # Longer labels look like words, so they must be written in capitals.
    if m and (len(m[1]) == 1 or m[1].isupper()):
        label = m[1].upper()
        return Option(labels.index(label), m.span(1)) if label in labels else None
    found = [c for c in _CONCLUSION_RE.finditer(text) if c[1] in labels]
    if len({c[1] for c in found}) != 1:
        return None
    return Option(labels.index(found[-1][1]), found[-1].span(1))


def _plain(text: str) -> str:
    """Return a text without the differences of case, spacing and end punctuation."""
    return " ".join(text.casefold().split()).strip(" .,;:!\"'`*")


@lru_cache(maxsize=64)
def _plain_all(options: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_plain(option) for option in options)
