"""A rollout engine that writes what a test tells it, and a collector that runs on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from grpo_runs import grpo_settings, make_collector, spans_text

from zoomzero.data.example import Example
from zoomzero.policy.base import Completion, Sampling, Turn
from zoomzero.policy.local.drawing.generate import Row

OFF = {"rollout": {"verifier": "off"}}


class Script:
    """A rollout engine that writes what it is told, for each question one group after the other."""

    def __init__(self, policy: Any, texts: dict[str, list[list[str]]]) -> None:
        self.policy, self.texts = policy, texts
        self.samplings: list[Sampling] = []

    draws_ahead = False

    def update(self, weights: Any, update: int) -> None:
        """There are none."""

    def close(self) -> None:
        """Nothing works in the background."""

    def generate(
        self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]
    ) -> list[list[Completion]]:
        """Take the next texts of the question in each chat; a text that ends in ... was cut off."""
        self.samplings += samplings
        found = []
        for chat in chats:
            asked = "".join(part for turn in chat for part in turn.parts if isinstance(part, str))
            (question,) = [q for q in self.texts if q in asked]
            texts = self.texts[question].pop(0)
            assert len(texts) == n
            found.append([self._completion(text) for text in texts])
        return found

    def _completion(self, text: str) -> Completion:
        ids = self.policy.tokens(text.removesuffix("..."), end=not text.endswith("...")).tolist()
        zeros = (0.0,) * len(ids)
        completion: Completion = self.policy._completion(Row(tuple(ids), zeros, zeros, not text.endswith("...")), "")
        assert completion.text == text.removesuffix("..."), "the tokenizer knows these characters"
        return completion


def scripted(policy: Any, examples: list[Example], texts: dict[str, list[list[str]]], changes: dict[str, Any]) -> Any:
    settings = grpo_settings(changes)
    return make_collector(policy, examples, settings, engine=Script(policy, texts))


FOUR = [
    spans_text((8.0, 15.0), option="C"),  # all right
    spans_text((8.0, 11.5), option="A"),  # half of the evidence, wrong option
    "<answer>C</answer>",  # neither thoughts nor spans
    "<think>no idea</think>",  # no answer at all
]


def telling(example: Example) -> list[str]:
    """Two completions that differ in the answer."""
    return [
        spans_text((1.0, 2.0), option=option) for option in (example.answer, "ABCD"["ABCD".index(example.answer) - 1])
    ]
