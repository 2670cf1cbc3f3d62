"""Divide and conquer: windows of the video one by one, then a close look at the best windows' spans."""

from __future__ import annotations

from zoomzero.answer import scoring
from zoomzero.answer.result import Outcome, PassResult, because, likelier
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.windows import write_windows
from zoomzero.answer.writing import coarse_pass
from zoomzero.spans import merge
from zoomzero.video.plan import plan_windows


def divide(session: QuestionSession) -> Outcome:
    """Look at windows one by one; agree, or zoom into the best windows' spans.

    Windows that agree count as an answer only when they are also sure: a handful of guesses at chance level agree
    now and then.
    """
    windows = _windows(session)
    coarse = coarse_pass(session)
    results = (*windows, coarse)
    best = _sharpest([w for w in windows if w.found and w.answered], session.settings.divide_top)
    if not best:
        reason = "no window shows evidence, so the pass over the whole video decides"
        return Outcome(results, coarse, coarse.found, reason)
    sure = [w for w in best if w.at_least(session.settings.certain)]
    if sure and len({w.trace.answer for w in sure}) == 1:
        spans = merge(s for w in sure for s in w.found)
        agree = "1 is certain" if len(sure) == 1 else f"{len(sure)} are certain, and they agree"
        return Outcome(results, likelier(*sure), spans, f"of {len(windows)} windows {agree}")
    spans = merge(s for w in best for s in w.found)
    fine = session.attempt("the close look", lambda: scoring.zoom(session, "zoom", session.widened(spans)))
    close = () if fine is None else (fine,)
    winner = likelier(*close, coarse, *best)
    shown = spans if winner is fine else winner.found
    return Outcome((*results, *close), winner, shown, because(winner, (*close, coarse, *best)))


def _windows(session: QuestionSession) -> list[PassResult]:
    """Let the model write after each window that decodes."""
    window = session.settings.window
    plans = plan_windows(session.info, window.budget(), session.policy.geometry, window.max_frames)
    names = [f"window {i} of {len(plans)}" for i in range(1, len(plans) + 1)]
    return [one for one in write_windows(session, names, plans) if one is not None]


def _sharpest(windows: list[PassResult], most: int) -> list[PassResult]:
    """Return the windows whose spans were written most sharply; unknown sharpness comes last, in the video's order."""

    def sharpness(one: PassResult) -> float:
        known = one.trace.span_confidence
        return float("-inf") if known is None else known

    return sorted(windows, key=sharpness, reverse=True)[:most]
