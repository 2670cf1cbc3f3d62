"""A model that says what the test tells it to, and remembers everything it was shown. No weights, no randomness."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from zoomzero.policy.base import Choice, Completion, Context, Sampling, Turn, Written
from zoomzero.prompts import format_response
from zoomzero.video.types import Clip, Geometry

TOKEN = 32  # pixels on a side of one visual token of the default geometry


@dataclass(frozen=True, slots=True)
class Rates:
    """What the model thinks of the options: probabilities up to a factor."""

    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One call of `read` or `extend`: which, the turns, and the number of the call it goes on from."""

    verb: str
    turns: tuple[Turn, ...]
    after: int | None = None

    @property
    def clip(self) -> Clip:
        (clip,) = [part for turn in self.turns for part in turn.parts if isinstance(part, Clip)]
        return clip

    @property
    def text(self) -> str:
        """What the user's turns say."""
        return "".join(p for turn in self.turns if turn.role == "user" for p in turn.parts if isinstance(p, str))

    @property
    def times_s(self) -> tuple[float, ...]:
        return self.clip.times_s

    @property
    def size(self) -> tuple[int, int]:
        return self.clip.frames.shape[1:3]


def says(
    answer: str = "",
    spans: Sequence[tuple[float, float]] = (),
    *,
    p: float = 0.9,
    peak: float = 5.0,
    text: str | None = None,
) -> Completion:
    """Return a completion of one token a character: a canonical response, or any text.

    Args:
        answer: the option's label or an open answer.
        spans: the evidence.
        p: probability of every token of the answer.
        peak: how sharply the span list is written; everything else has 0.
        text: written word for word instead.
    """
    text = format_response("look", answer, spans) if text is None else text
    logprobs, peaks = [-0.01] * len(text), [0.0] * len(text)
    for tag, values, value in (("answer", logprobs, math.log(p)), ("glue", peaks, peak)):
        if f"<{tag}>" in text:
            low, high = text.index(f"<{tag}>") + len(tag) + 2, text.index(f"</{tag}>")
            values[low:high] = [value] * (high - low)
    if "<" not in text:
        logprobs = [math.log(p)] * len(text)
    end = (len(text), len(text))
    offsets = (*((i, i + 1) for i in range(len(text))), end)
    return Completion(text, tuple(range(len(text) + 1)), offsets, (*logprobs, 0.0), (*peaks, 0.0), True)


def rates(*shares: float) -> Rates:
    """Return what scoring the options gives."""
    return Rates(shares)


class ScriptedPolicy:
    """Gives the replies in order: a completion for every continuation drawn, `Rates` for every scoring.

    With `forever`, the last completion and the last rates are repeated without end, whichever is asked for.
    """

    name = "scripted"

    def __init__(self, *replies: Completion | Rates, free_times: bool = True, forever: bool = False) -> None:
        self.geometry = Geometry(patch=TOKEN // 2, free_times=free_times)
        self.replies = list(replies)
        self.forever = forever
        self.shown: list[Shown] = []
        self.drawn: list[tuple[int, int, Sampling]] = []  # (call it goes on from, continuations, how)
        self.scored: list[tuple[int, tuple[str, ...], bool]] = []  # (call, continuations, closed)

    def write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        context = self.read(turns)
        return Written(tuple(self.generate(context, n, sampling)), context.usage)

    def choose(self, turns: Sequence[Turn], options: Sequence[str], *, closed: bool = False) -> Choice:
        context = self.read(turns)
        return Choice(tuple(self.score(context, options, closed=closed)), context.usage)

    def read(self, turns: Sequence[Turn]) -> Context:
        return self._take(Shown("read", tuple(turns)), 0)

    def extend(self, context: Context, turns: Sequence[Turn]) -> Context:
        return self._take(Shown("extend", tuple(turns), context.state), context.prompt_tokens)

    def generate(self, context: Context, n: int, sampling: Sampling) -> list[Completion]:
        self.drawn.append((context.state, n, sampling))
        return [self._reply(Completion) for _ in range(n)]

    def score(self, context: Context, continuations: Sequence[str], *, closed: bool = False) -> list[float]:
        self.scored.append((context.state, tuple(continuations), closed))
        shares = self._reply(Rates).shares
        if self.forever:
            shares = (shares * len(continuations))[: len(continuations)]
        assert len(shares) == len(continuations), "the script rates another number of options"
        return [math.log(share) if share else -math.inf for share in shares]

    def _take(self, shown: Shown, before: int) -> Context:
        self.shown.append(shown)
        clips = [part for turn in shown.turns for part in turn.parts if isinstance(part, Clip)]
        visual = sum(clip.visual_tokens(self.geometry) for clip in clips)
        words = sum(len(p.split()) for turn in shown.turns for p in turn.parts if isinstance(p, str))
        return Context(len(self.shown) - 1, before + visual + words, visual + words, visual, 0.0)

    def _reply(self, kind: type) -> Any:
        if self.forever:
            return next(reply for reply in self.replies if isinstance(reply, kind))
        assert self.replies, "the script has no more replies"
        reply = self.replies.pop(0)
        assert isinstance(reply, kind), f"the script has {reply} where a {kind.__name__} is asked for"
        return reply


def broken(completion: Completion) -> Completion:
    """Return the completion of a model whose numbers are NaN."""
    return replace(completion, logprobs=(math.nan,) * completion.generated_tokens)
