"""Modes of one pass over the whole video: `direct` scores the options, `coarse` writes an answer with its spans."""

from __future__ import annotations

from zoomzero.answer.result import Outcome
from zoomzero.answer.scoring import score
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.writing import coarse_pass
from zoomzero.prompts import video_header


def direct(session: QuestionSession) -> Outcome:
    """Score the options after one look at the whole video; no spans are asked for."""
    if session.cues and session.settings.score_options_as == "text":
        session.missed.append("this model's direct mode reads no subtitles")
    header = video_header(session.info.duration_s)
    result = score(session, "direct", session.whole_plan(), header=header, direct=True)
    return Outcome((result,), result, (), "one pass over the whole video; no spans are asked for")


def coarse(session: QuestionSession) -> Outcome:
    """Write an answer with spans after one look at the whole video."""
    result = coarse_pass(session)
    return Outcome((result,), result, result.found, "one pass over the whole video")
