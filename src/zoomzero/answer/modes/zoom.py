"""Coarse to fine: `zoom` looks closely at what the coarse pass found, `context` does so in the same chat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from zoomzero.answer import scoring
from zoomzero.answer.result import Outcome, PassResult, because, likelier
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.writing import coarse_pass
from zoomzero.spans import Span


def zoom(session: QuestionSession) -> Outcome:
    """Look at the whole video, then closely at the spans found there, in a chat of its own."""
    return _fine(session, coarse_pass(session), partial(scoring.zoom, session, "zoom"))


def context(session: QuestionSession) -> Outcome:
    """Look at the whole video, then closely at the spans found there, in the same chat."""
    first = coarse_pass(session)
    return _fine(session, first, partial(scoring.zoom_in_context, session, "context", first))


def _fine(session: QuestionSession, first: PassResult, look: Callable[[Sequence[Span]], PassResult]) -> Outcome:
    """Zoom into what the coarse pass found and keep the likelier answer."""
    if not first.found:
        reason = "the coarse pass found no evidence, so there was nothing to zoom into"
        return Outcome((first,), first, (), reason)
    fine = session.attempt("the close look", lambda: look(session.widened(first.found)))
    if fine is None:
        reason = "what the coarse pass found does not decode, so its answer stands"
        return Outcome((first,), first, first.found, reason)
    best = likelier(fine, first)
    return Outcome((first, fine), best, first.found, because(best, (fine, first)))
