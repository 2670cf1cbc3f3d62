"""One example, one good response, and its rewards."""

from __future__ import annotations

from zoomzero.data.example import Example
from zoomzero.prompts import read_response
from zoomzero.spans import Span
from zoomzero.train.credit.answers import (
    ZoomResult,
)
from zoomzero.train.credit.objective import RewardSettings
from zoomzero.train.credit.rewards import (
    RewardValues,
    reward_values,
)

OURS = RewardSettings()
EXAMPLE = Example(
    id="q1",
    video="a.mp4",
    question="What is on the square?",
    options=("a key", "a star", "a moon"),
    answer="B",
    spans=(Span(10.0, 20.0), Span(30.0, 40.0)),
    duration_s=60.0,
    source="test",
    split="train",
)


GOOD = "<think>it shows <time>(10, 20)</time></think>\n<answer>B</answer>\n<glue>[(10, 20), (30, 35)]</glue>"


def rewards_of(text: str, settings: RewardSettings = OURS, zoom: ZoomResult | None = None) -> RewardValues:
    return reward_values(text, read_response(text, len(EXAMPLE.options)), EXAMPLE, settings, zoom=zoom)
