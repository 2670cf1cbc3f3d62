"""Divide and conquer: windows of the video one by one, what each shows verified, then all that holds together."""

from __future__ import annotations

from collections.abc import Sequence

from zoomzero.answer import scoring
from zoomzero.answer.modes.verify import Verified, verify
from zoomzero.answer.modes.whole import answered
from zoomzero.answer.result import Outcome, PassResult, likelier
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.windows import write_windows
from zoomzero.answer.writing import coarse_pass, write
from zoomzero.spans import Span, merge, widen
from zoomzero.video.plan import plan_on_grid, plan_windows

AROUND_S = 4.0  # what is shown before and after each piece of the evidence, so that it is seen to begin and end
NEARLY = 0.7  # share of the best score from which a verified window counts as evidence beside the best


def divide(session: QuestionSession) -> Outcome:
    """Look at windows one by one, verify what they show, and answer from all evidence that holds.

    A window answers alone when it alone shows evidence and is certain. Otherwise each window's spans get a close look:
    a window that only believes to have seen something does not survive it. What survives in several windows is read
    and looked at together, for a question may need all of it.
    """
    windows = _windows(session)
    shown = _sharpest([w for w in windows if w.found and w.answered], session.settings.divide_top)
    if not shown:
        coarse = coarse_pass(session)
        outcome = answered(session, coarse, "no window shows evidence, so the pass over the whole video decides")
        return Outcome((*windows, *outcome.results), outcome.chosen, outcome.spans, outcome.reason)
    if len(shown) == 1 and shown[0].at_least(session.settings.certain):
        reason = f"of {len(windows)} windows one shows evidence, and it is certain"
        return Outcome(tuple(windows), shown[0], shown[0].found, reason)
    verified = [v for w in shown if (v := verify(session, f"verify {w.trace.name}", w))]
    results = (*windows, *(v.close for v in verified))
    if not verified:
        best = max(shown, key=lambda w: w.rank)
        return Outcome(results, best, best.found, f"{best.trace.name} is believed: no close look could be taken")
    return _decide(session, results, sorted(verified, key=lambda v: v.rank, reverse=True))


def _decide(session: QuestionSession, results: tuple[PassResult, ...], verified: list[Verified]) -> Outcome:
    """Answer from the verified windows, best first: all that hold together, or the best one."""
    best = verified[0]
    held = [v for v in verified if v.close.at_least(session.settings.weak) and v.rank >= NEARLY * best.rank]
    said = ", ".join(v.said() for v in verified)
    if len(held) > 1:
        spans = merge(s for v in held for s in v.candidate.found)
        # the windows' own passes saw a frame as often as the first of them
        wide = session.widened(spans, held[0].candidate)
        looks = [
            session.attempt("all evidence", lambda: _read_together(session, spans)),
            session.attempt("the close look", lambda: scoring.zoom(session, "zoom", wide)),
        ]
        together = [one for one in looks if one is not None]
        results = (*results, *together)
        if together:
            chosen = likelier(*together)
            if chosen.at_least(session.settings.weak) or chosen.trace.confidence is None:
                reason = f"the evidence of {len(held)} windows holds ({said}), and {chosen.trace.name} sees all of it"
                return Outcome(results, chosen, spans, reason)
    chosen = best.likelier
    reason = f"{chosen.trace.name} is believed: {best.candidate.trace.name} shows the best verified evidence ({said})"
    return Outcome(results, chosen, best.candidate.found, reason)


def _read_together(session: QuestionSession, spans: Sequence[Span]) -> PassResult:
    """Let the model write after the pieces of the video that windows named, as after one window."""
    pieces = widen(spans, AROUND_S, *session.whole)
    plan = plan_on_grid(session.info, pieces, session.settings.window.budget(), session.policy.geometry)
    return write(session, "all evidence", plan)


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
