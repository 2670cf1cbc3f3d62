"""A policy that tells what it is shown and what it writes while it works, and that can be stopped."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from zoomzero.answer.result import PassResult
from zoomzero.app.public import REEL_SIDE, pass_view, thumbs
from zoomzero.policy.base import (
    BatchPolicy,
    Choice,
    Completion,
    Context,
    Policy,
    PrefixPolicy,
    Sampling,
    ServedPolicy,
    Turn,
    Written,
)
from zoomzero.policy.listening import listening
from zoomzero.video.types import Clip

EVERY_S = 0.1  # between two messages of the same kind while something grows
Event = dict[str, Any]
Tell = Callable[[Event], None]


class Stopped(Exception):
    """The user stopped the question, or left."""


class TooLong(Exception):
    """The question took longer than the app allows."""


class Watcher:
    """Turns what happens to one question into events.

    Args:
        tell: takes the events; called from several threads.
        stop: set to end the question at its next step.
        limit_s: seconds it may take.
    """

    def __init__(self, tell: Tell, stop: threading.Event, limit_s: float) -> None:
        self._tell, self._stop = tell, stop
        self._end_s = time.monotonic() + limit_s
        self._name = ""
        self._told_s: dict[str, float] = {}  # when a kind of message was last sent

    def check(self) -> None:
        """End the question where it should not go on.

        Raises:
            Stopped, TooLong: why.
        """
        if self._stop.is_set():
            raise Stopped
        if time.monotonic() > self._end_s:
            raise TooLong

    def began(self, name: str) -> None:
        """A pass begins."""
        self.check()
        self._name = name
        self._tell({"event": "pass", "name": name})

    def decoding(self, done: int, total: int) -> None:
        """Frames are being decoded."""
        self.check()
        if self._due("decoding") or done == total:
            self._tell({"event": "decoding", "done": done, "total": total})

    def looked(self, clip: Clip) -> None:
        """The model is shown frames."""
        self.check()
        height, width = clip.frames.shape[1:3]
        spans = [list(span) for span in clip.spans]
        shown = thumbs(clip.times_s, clip.frames, REEL_SIDE)
        self._tell(
            {
                "event": "frames", "name": self._name, "count": len(clip.times_s), "spans": spans,
                "width": int(width), "height": int(height), "thumbs": shown,
            }
        )  # fmt: skip

    def read(self, prompt: int, new: int, visual: int) -> None:
        """A prompt was read."""
        self.check()
        self._tell({"event": "read", "name": self._name, "prompt": prompt, "new": new, "visual": visual})

    def wrote(self, text: str) -> None:
        """The model has written so far."""
        self.check()
        if text and self._due("words"):
            self._tell({"event": "words", "name": self._name, "text": text})

    def ended(self, result: PassResult) -> None:
        """A pass has ended."""
        self._tell({"event": "passed", "pass": pass_view(result.trace)})

    def _due(self, kind: str) -> bool:
        now = time.monotonic()
        if now - self._told_s.get(kind, -math.inf) < EVERY_S:
            return False
        self._told_s[kind] = now
        return True


class WatchedPolicy:
    """A model as `Policy` asks for it: `write` and `choose`.

    Args:
        policy: the model.
        watcher: is told.
    """

    def __init__(self, policy: Policy, watcher: Watcher) -> None:
        self.policy, self.watcher = policy, watcher
        self.name, self.geometry = policy.name, policy.geometry
        if isinstance(policy, ServedPolicy):
            self.facts = policy.facts

    def write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        self._show(turns)
        with listening(self.watcher.wrote):
            written = self.policy.write(turns, n, sampling)
        self._read(written.usage)
        return written

    def choose(self, turns: Sequence[Turn], options: Sequence[str], *, closed: bool = False) -> Choice:
        self._show(turns)
        choice = self.policy.choose(turns, options, closed=closed)
        self._read(choice.usage)
        return choice

    def _show(self, turns: Sequence[Turn]) -> None:
        for part in turns[-1].parts:  # what came before was shown before
            if isinstance(part, Clip):
                self.watcher.looked(part)

    def _read(self, usage: Any) -> None:
        self.watcher.read(usage.prompt_tokens, usage.new_tokens, usage.visual_tokens)


class WatchedBatchPolicy(WatchedPolicy):
    """A model that takes several chats at once."""

    policy: Any

    def write_many(self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]) -> list[Written]:
        self.watcher.check()
        with listening(self.watcher.wrote):
            written: list[Written] = self.policy.write_many(chats, n, samplings)
        return written


class WatchedPrefixPolicy(WatchedBatchPolicy):
    """A model that keeps what it read."""

    def read(self, turns: Sequence[Turn]) -> Context:
        self._show(turns)
        context: Context = self.policy.read(turns)
        self._read(context.usage)
        return context

    def extend(self, context: Context, turns: Sequence[Turn]) -> Context:
        self._show(turns)
        longer: Context = self.policy.extend(context, turns)
        self._read(longer.usage)
        return longer

    def generate(self, context: Context, n: int, sampling: Sampling) -> Sequence[Completion]:
        self.watcher.check()
        with listening(self.watcher.wrote):
            drawn: Sequence[Completion] = self.policy.generate(context, n, sampling)
        return drawn

    def score(self, context: Context, continuations: Sequence[str], *, closed: bool = False) -> list[float]:
        self.watcher.check()
        scores: list[float] = self.policy.score(context, continuations, closed=closed)
        return scores


def watched(policy: Policy, watcher: Watcher) -> Policy:
    """Return the policy with a watcher, with the capabilities the app makes use of."""
    if isinstance(policy, PrefixPolicy) and isinstance(policy, BatchPolicy):
        return WatchedPrefixPolicy(policy, watcher)
    return WatchedBatchPolicy(policy, watcher) if isinstance(policy, BatchPolicy) else WatchedPolicy(policy, watcher)
