"""A policy that is nothing but `Policy`: strings and frames go in, strings and numbers come out, as through a wire."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoomzero.policy.base import Choice, Completion, Sampling, Turn, Usage, Written
from zoomzero.spans import Span
from zoomzero.video.types import Clip


class PlainPolicy:
    """Asks a local policy through JSON text and frame bytes; no tensor and no context comes back.

    With `tells` off it is a server of the poorest kind: texts without log-probabilities, and a chosen option without
    its probability.
    """

    def __init__(self, policy: Any, *, tells: bool = True) -> None:
        self._policy, self.tells = policy, tells
        self.name, self.geometry = policy.name, policy.geometry
        self.calls: list[tuple[str, int]] = []  # (verb, frames that crossed)

    def write(self, turns: Sequence[Turn], n: int, sampling: Sampling) -> Written:
        wire, frames = _send(turns)
        self.calls.append(("write", sum(map(len, frames))))
        written = self._policy.write(_receive(wire, frames), n, sampling)
        reply = json.loads(
            json.dumps([[c.text, c.logprobs, c.offsets, c.peaks, c.finished] for c in written.completions])
        )
        completions = [
            Completion(text, None, _pairs(offsets), tuple(logprobs), tuple(peaks), finished, len(logprobs))
            if self.tells
            else Completion(text, None, None, None, None, finished, len(logprobs))
            for text, logprobs, offsets, peaks, finished in reply
        ]
        return Written(tuple(completions), _usage(written.usage))

    def choose(self, turns: Sequence[Turn], options: Sequence[str], *, closed: bool = False) -> Choice:
        wire, frames = _send(turns)
        self.calls.append(("choose", sum(map(len, frames))))
        choice = self._policy.choose(_receive(wire, frames), options, closed=closed)
        logprobs = tuple(json.loads(json.dumps(choice.logprobs)))
        if self.tells:
            return Choice(logprobs, _usage(choice.usage))
        return Choice(None, _usage(choice.usage), chosen=logprobs.index(max(logprobs)))


def _usage(usage: Usage) -> Usage:
    return Usage(usage.prompt_tokens, usage.new_tokens, usage.visual_tokens, usage.seconds, reported=True)


def _pairs(offsets: list[list[int]]) -> tuple[tuple[int, int], ...]:
    return tuple((start, end) for start, end in offsets)


def _send(turns: Sequence[Turn]) -> tuple[str, list[list[bytes]]]:
    """Return a chat as JSON text and its frames' bytes."""
    frames: list[list[bytes]] = []
    wire = []
    for turn in turns:
        parts: list[Any] = []
        for part in turn.parts:
            if isinstance(part, str):
                parts.append(part)
            else:
                parts.append([list(part.times_s), part.fps, [list(s) for s in part.spans], part.frames.shape])
                frames.append([frame.tobytes() for frame in part.frames])
        wire.append([turn.role, parts])
    return json.dumps(wire), frames


def _receive(wire: str, frames: list[list[bytes]]) -> list[Turn]:
    left = iter(frames)
    return [
        Turn(role, tuple(p if isinstance(p, str) else _clip(p, next(left)) for p in parts))
        for role, parts in json.loads(wire)
    ]


def _clip(part: list[Any], frames: list[bytes]) -> Clip:
    times_s, fps, spans, shape = part
    pixels = np.frombuffer(b"".join(frames), dtype=np.uint8).reshape(shape)
    return Clip(pixels, tuple(times_s), fps, tuple(Span(*s) for s in spans), len(frames))
