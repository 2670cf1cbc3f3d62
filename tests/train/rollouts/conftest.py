"""What the tests of rollouts ask about."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from zoomzero.data.example import Example, read_examples
from zoomzero.spans import Span


@pytest.fixture(scope="module")
def examples(small_world: Path) -> list[Example]:
    return read_examples(small_world)


@pytest.fixture(scope="module")
def symbol(examples: list[Example]) -> Example:
    """A question whose answer is C, its evidence on screen from 8 to 15 s."""
    (example,) = [one for one in examples if one.id == "1-symbol"]
    # the numbers of the tests were worked out for an answer C and these seconds, in which the object is on screen
    options, right = list(example.options), "ABCD".index(example.answer)
    options[right], options[2] = options[2], options[right]
    return replace(example, options=tuple(options), answer="C", spans=(Span(8.0, 15.0),))
