"""Close looks that check what another pass found: what `divide` and `search` rank their candidates by."""

from __future__ import annotations

from dataclasses import dataclass

from zoomzero.answer import scoring
from zoomzero.answer.result import PassResult, likelier
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.trace import said_confidence


@dataclass(frozen=True, slots=True, eq=False)
class Verified:
    """A pass that named spans (the candidate), and the close look at them.

    `score` is the mean probability that the two passes give the close look's answer: a pass that is sure of what its
    own evidence does not show is not believed, and neither is a close look at something else that looks alike. It is
    None where the model does not tell how sure it is.
    """

    candidate: PassResult
    close: PassResult
    score: float | None

    @property
    def likelier(self) -> PassResult:
        """The pass with the likelier answer."""
        return likelier(self.close, self.candidate)

    @property
    def rank(self) -> float:
        """What candidates are compared by; an unknown score is below every known one."""
        return -1.0 if self.score is None else self.score

    def said(self) -> str:
        """Return the close look's name and the score, in words."""
        return f"{self.close.trace.name} {said_confidence(self.score)}"


def verify(session: QuestionSession, name: str, candidate: PassResult) -> Verified | None:
    """Look closely at the spans a pass named; None when that part of the video does not decode."""
    spans = session.widened(candidate.found, candidate)
    close = session.attempt(name, lambda: scoring.zoom(session, name, spans))
    return None if close is None else Verified(candidate, close, mutual(candidate, close, len(session.options)))


def mutual(candidate: PassResult, close: PassResult, n_options: int) -> float | None:
    """Return the mean probability of the close look's answer under both passes.

    What a candidate leaves for the options it did not choose is shared evenly between them.
    """
    seen, said = close.trace.confidence, candidate.trace.confidence
    if seen is None or not close.answered:
        return None
    if said is None or not candidate.answered:
        return seen
    if candidate.trace.answer == close.trace.answer:
        return (seen + said) / 2
    return (seen + (1 - said) / max(1, n_options - 1)) / 2
