"""Options and letters, as the benchmarks with options write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from zoomzero.prompts import option_labels


def without_letters(options: Sequence[str]) -> tuple[str, ...]:
    """Return options without their own letters (`A. a cap`), if every one has it."""
    labels = option_labels(len(options))
    marked = [re.match(rf"\s*{label}[.)]\s*", option) for label, option in zip(labels, options, strict=True)]
    if not all(marked):
        return tuple(options)
    return tuple(option[m.end() :].strip() for m, option in zip(marked, options, strict=True) if m)


def first_capital(response: str, leads: Sequence[str], letters: str) -> str:
    """Return the first capital of `letters` in a response without its leads, be it in a word; empty when none.

    This is how several official evaluators read a free response.

    Args:
        response: what the model wrote.
        leads: texts taken out first, in this order.
        letters: the options' letters, such as `ABCD`.
    """
    text = response.strip()
    for lead in leads:
        text = text.replace(lead, "")
    found = re.search(f"[{letters}]", text)
    return found[0] if found else ""
