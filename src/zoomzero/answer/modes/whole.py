"""Modes of one pass over the whole video: `direct` scores the options, `coarse` writes an answer with its spans."""

from __future__ import annotations

from zoomzero.answer.result import Outcome, PassResult
from zoomzero.answer.scoring import score
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.writing import coarse_pass
from zoomzero.prompts import video_header


def direct(session: QuestionSession) -> Outcome:
    """Score the options after one look at the whole video; no spans are asked for."""
    result = _direct_pass(session)
    return Outcome((result,), result, (), "one pass over the whole video; no spans are asked for")


def coarse(session: QuestionSession) -> Outcome:
    """Write an answer with spans after one look at the whole video."""
    return answered(session, coarse_pass(session), "one pass over the whole video")


def answered(session: QuestionSession, first: PassResult, reason: str) -> Outcome:
    """Answer with a pass over the whole video; where its reply names no option, score the options over the same frames.

    Args:
        session: the question.
        first: the pass.
        reason: why there is no other.
    """
    if first.answered or not session.options:
        stands = "" if first.answered else "; its reply names no answer"
        return Outcome((first,), first, first.found, reason + stands)
    scored = _direct_pass(session)
    return Outcome(
        (first, scored), scored, first.found, f"{reason}; its reply names no option, so the options were scored instead"
    )


def _direct_pass(session: QuestionSession) -> PassResult:
    if session.cues and session.settings.score_options_as == "text":
        session.missed.append("this model's direct mode reads no subtitles")
    header = video_header(session.info.duration_s)
    return score(session, "direct", session.whole_plan(), header=header, direct=True)
