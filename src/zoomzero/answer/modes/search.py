"""Search: several candidate spans, each verified by a close look; when all are weak, look where none of them is.

Where the frames of the pass over the whole video lie far apart, what it names is a hint: the windows that hold it are
looked at first, and what these name is verified.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from zoomzero.answer.modes.verify import Verified, verify
from zoomzero.answer.modes.whole import answered
from zoomzero.answer.result import Outcome, PassResult
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.windows import write_window, write_windows
from zoomzero.answer.writing import coarse_pass, draw
from zoomzero.policy.base import Sampling
from zoomzero.spans import Span, complement, intersection_s, iou
from zoomzero.video.plan import plan_regular, plan_windows
from zoomzero.video.types import FramePlan

SAME_IOU = 0.7  # candidates that overlap so much point at the same moments
FAR = 2.0  # times as far apart as a window's frames: what a pass names between such frames it has hardly seen


def search(session: QuestionSession) -> Outcome:
    """Verify several candidate spans drawn from one chat; when all are weak, look where none of them is."""
    settings = session.settings
    greedy = coarse_pass(session)
    sampling = Sampling(temperature=1.0, max_tokens=settings.max_new_tokens, seed=0)
    results = [greedy, *draw(session, "candidate", greedy, settings.candidates - 1, sampling)]
    distinct = _distinct(results)
    pointed_at = [s for c in distinct for s in c.found]
    if greedy.apart_s * settings.window.fps > FAR:
        hinted = _windows_at(session, pointed_at)
        looks = write_windows(session, [f"near {i}" for i in range(1, len(hinted) + 1)], hinted)
        results += [one for one in looks if one is not None]
        distinct, pointed_at = _distinct([one for one in looks if one]), [plan.spans[0] for plan in hinted]
    verified = [v for i, c in enumerate(distinct, 1) if (v := verify(session, f"verify {i}", c))]
    results += [v.close for v in verified]
    if all(v.close.below(settings.weak) for v in verified):
        outside = complement(pointed_at, *session.whole)
        for i, plan in enumerate(_chunks(session, outside), 1):
            second = write_window(session, f"outside {i}", plan)
            results += [second] if second else []
            more = verify(session, f"verify outside {i}", second) if second and second.found else None
            if more:
                verified.append(more)
                results.append(more.close)
    if not verified:
        outcome = answered(session, greedy, "no candidate could be verified, so the pass over the whole video decides")
        return Outcome((*results, *outcome.results[1:]), outcome.chosen, outcome.spans, outcome.reason)
    best = max(verified, key=lambda v: v.rank)
    return Outcome(tuple(results), best.likelier, best.candidate.found, _reason(best, verified, results))


def _reason(best: Verified, verified: Sequence[Verified], results: Sequence[PassResult]) -> str:
    """Say which candidate won by what, and why a surer pass did not."""
    chosen = best.likelier.trace
    others = ", ".join(v.said() for v in verified if v is not best)
    found = best.candidate.trace.name
    many = f"{found} is the best verified of {len(verified)} candidates"
    reason = f"{chosen.name} is believed: {many if others else f'{found} is the only candidate that was verified'}"
    reason += f" ({best.said()}{' against ' + others if others else ''})"
    surer = max(results, key=lambda one: one.rank)
    if surer.trace.answer != chosen.answer and surer.rank[1] > (chosen.confidence or 0.0):
        reason += f"; {surer.trace.name} is surer ({surer.trace.confidence:.2f}), but a close look at its moment is not"
    return reason


def _windows_at(session: QuestionSession, spans: Sequence[Span]) -> list[FramePlan]:
    """Return those of the video's windows that hold some of the spans."""
    window = session.settings.window
    plans = plan_windows(session.info, window.budget(), session.policy.geometry, window.max_frames)
    return [plan for plan in plans if intersection_s(plan.spans, spans) > 0]


def _distinct(candidates: Sequence[PassResult]) -> list[PassResult]:
    """Leave out candidates that name no moments, or the same as an earlier one."""
    kept: list[PassResult] = []
    for candidate in candidates:
        if candidate.found and all(iou(candidate.found, other.found) < SAME_IOU for other in kept):
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
