"""Search: several candidate spans, each verified by a close look; when all are weak, look where none of them is."""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoomzero.answer import scoring
from zoomzero.answer.result import Outcome, PassResult, because, likelier
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.windows import write_window
from zoomzero.answer.writing import coarse_pass, draw
from zoomzero.policy.base import Sampling
from zoomzero.spans import Span, complement, iou
from zoomzero.video.plan import plan_regular
from zoomzero.video.types import FramePlan

SAME_IOU = 0.7  # candidates that overlap so much point at the same moments
Pair = tuple[PassResult, PassResult]  # a candidate and the close look at its spans


def search(session: QuestionSession) -> Outcome:
    """Verify several candidate spans drawn from one chat; when all are weak, look where none of them is."""
    settings = session.settings
    greedy = coarse_pass(session)
    sampling = Sampling(temperature=1.0, max_tokens=settings.max_new_tokens, seed=0)
    candidates = [greedy, *draw(session, "candidate", greedy, settings.candidates - 1, sampling)]
    distinct = _distinct([c for c in candidates if c.found])
    verified = [pair for i, c in enumerate(distinct, 1) if (pair := _verify(session, f"verify {i}", c))]
    results = [*candidates, *(close for _, close in verified)]
    if all(close.below(settings.weak) for _, close in verified):
        outside = complement((s for c in distinct for s in c.found), *session.whole)
        for i, plan in enumerate(_chunks(session, outside), 1):
            second = write_window(session, f"outside {i}", plan)
            results += [second] if second else []
            pair = _verify(session, f"verify outside {i}", second) if second and second.found else None
            if pair:
                verified.append(pair)
                results.append(pair[1])
    if not verified:
        reason = "no candidate could be verified, so the coarse answer stands"
        return Outcome(tuple(results), greedy, greedy.found, reason)
    candidate, close = max(verified, key=lambda pair: pair[1].rank[1])
    winner = likelier(close, candidate)
    reason = f"best of {len(verified)} verified candidates; " + because(winner, (close, candidate))
    return Outcome(tuple(results), winner, candidate.found, reason)


def _verify(session: QuestionSession, name: str, candidate: PassResult) -> Pair | None:
    """Return a candidate with the close look at its spans; None when that part of the video does not decode."""
    close = session.attempt(name, lambda: scoring.zoom(session, name, session.widened(candidate.found)))
    return (candidate, close) if close else None


def _distinct(candidates: Sequence[PassResult]) -> list[PassResult]:
    """Leave out candidates that point at the same moments as an earlier one."""
    kept: list[PassResult] = []
    for candidate in candidates:
        if all(iou(candidate.found, other.found) < SAME_IOU for other in kept):
            kept.append(candidate)
    return kept


def _chunks(session: QuestionSession, parts: Sequence[Span]) -> list[FramePlan]:
    """Plan window-long looks at the parts nobody pointed at; when there are too many, some spread over all of them."""
    window = session.settings.window
    length_s = window.max_frames / window.fps
    edges: list[Span] = []
    for part in parts:
        count = max(1, math.ceil(part.length_s / length_s))
        step = part.length_s / count
        if step >= 1.0:
            edges += [Span(part.start_s + i * step, part.start_s + (i + 1) * step) for i in range(count)]
    most = session.settings.outside_looks
    if len(edges) > most:
        edges = [edges[(2 * i + 1) * len(edges) // (2 * most)] for i in range(most)]
    return [plan_regular(session.info, window.budget(), session.policy.geometry, edge) for edge in edges]
