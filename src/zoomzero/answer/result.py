"""What a pass leaves: its trace, the frames it saw, and the chat to go on from; and how results are compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zoomzero.answer.trace import PassTrace, said_confidence
from zoomzero.policy.base import Usage
from zoomzero.policy.prefix import Prefix
from zoomzero.spans import Span
from zoomzero.video.types import Clip


@dataclass(frozen=True, slots=True, eq=False)
class PassResult:
    """One finished pass: its trace, the frames it saw, and what the model was asked (to go on from)."""

    trace: PassTrace
    clip: Clip
    prefix: Prefix

    @property
    def found(self) -> tuple[Span, ...]:
        """The evidence the pass named."""
        return self.trace.found

    @property
    def apart_s(self) -> float:
        """Seconds between neighbouring frames of a pass over one stretch; 0 for several stretches."""
        times_s = self.clip.times_s
        return (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(self.clip.spans) == 1 else 0.0

    @property
    def answered(self) -> bool:
        """Whether the pass named an answer."""
        return self.trace.answer is not None

    @property
    def rank(self) -> tuple[bool, float]:
        """What results are compared by: having an answer, then its probability; an unknown one is below every known."""
        return self.answered, -1.0 if self.trace.confidence is None else self.trace.confidence

    def at_least(self, confidence: float) -> bool:
        """Whether the pass is known to be this sure."""
        return self.trace.confidence is not None and self.trace.confidence >= confidence

    def below(self, confidence: float) -> bool:
        """Whether the pass is known to be less sure than this."""
        return self.trace.confidence is not None and self.trace.confidence < confidence


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a mode comes to.

    Args:
        results: every pass, in the order of the trace.
        chosen: the pass whose answer is given.
        spans: the evidence that is shown for it.
        reason: in words, why this pass.
    """

    results: tuple[PassResult, ...]
    chosen: PassResult
    spans: tuple[Span, ...]
    reason: str


def begin_trace(name: str, frames: Clip, usage: Usage, decode_s: float, seconds: float) -> PassTrace:
    """Return the trace of a pass as far as its frames and costs go; what the model said is filled in later."""
    height, width = frames.frames.shape[1:3]
    return PassTrace(
        name=name,
        spans=frames.spans,  # without what did not decode
        times_s=frames.times_s,
        height=height,
        width=width,
        decoded_frames=frames.decoded_frames,
        visual_tokens=usage.visual_tokens,
        prompt_tokens=usage.prompt_tokens,
        new_tokens=usage.new_tokens,
        generated_tokens=0,
        seconds=seconds,
        decode_seconds=decode_s,
        text="",
        answer=None,
        option=None,
        confidence=0.0,
        notes=frames.notes,
        tokens_from="server" if usage.reported else "model",
    )


def likelier(*results: PassResult) -> PassResult:
    """Return the result with the likeliest answer: the first of equals, and one with an answer if any has."""
    return max(results, key=lambda result: result.rank)


def because(winner: PassResult, others: Sequence[PassResult]) -> str:
    """Say why an answer won, with the numbers."""
    rivals = [one for one in others if one is not winner]
    if winner.trace.confidence is None:
        return f"{winner.trace.name} is believed; how sure the model is of its answers is not known"
    rest = ", ".join(f"{one.trace.name} {said_confidence(one.trace.confidence)}" for one in rivals)
    return f"{winner.trace.name} is the most confident ({winner.trace.confidence:.2f} against {rest})"
