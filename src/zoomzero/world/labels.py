"""Poorer labels than the world has: what people's annotation is like, or plain question-answer data without any."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from zoomzero.data.example import Example
from zoomzero.spans import clip

SpanLabels = Literal["true", "none", "shifted", "late"]
MOST = 0.5  # of a span's length by which each of its ends is moved
LATEST = 1.0  # of a span's length by which it is moved as a whole


def with_span_labels(examples: Sequence[Example], labels: SpanLabels) -> list[Example]:
    """Return examples with their true spans, with none, or with spans as people give them.

    Shifted: each end is moved by up to half the span's length, as annotators differ. Late: the span is moved by up to
    its length, as narrations speak of what was there before. How far depends on the example's id alone.
    """
    if labels == "true":
        return list(examples)
    if labels == "none":
        return [replace(example, spans=()) for example in examples]
    return [_late(example) if labels == "late" else _shifted(example) for example in examples]


def _late(example: Example) -> Example:
    by = np.random.default_rng(zlib.crc32(example.id.encode())).uniform(0.0, LATEST, len(example.spans))
    moved = [(s + float(x) * (e - s), e + float(x) * (e - s)) for (s, e), x in zip(example.spans, by, strict=True)]
    return replace(example, spans=clip(moved, 0.0, example.duration_s))


def _shifted(example: Example) -> Example:
    rng = np.random.default_rng(zlib.crc32(example.id.encode()))
    moved = []
    for start_s, end_s in example.spans:
        first, last = rng.uniform(-MOST, MOST, 2) * (end_s - start_s)
        moved.append((start_s + float(first), max(end_s + float(last), start_s + float(first) + 1.0)))
    return replace(example, spans=clip(moved, 0.0, example.duration_s))
