"""Coarse to fine: find the moment in the whole video, look at it closely, and decide which answer to believe.

Modes (docs/method.md):
    direct   one pass over the whole video, options scored, nothing written, no spans
    coarse   one pass over the whole video writes answer and spans
    zoom     coarse, then a close look at its spans; the likelier answer wins
    context  like zoom, but the close look goes on from what the coarse pass has read (its KV is kept)
    divide   windows of the video one by one, then a close look at the best windows' spans
    search   several span candidates drawn from one prefill, each verified by a close look; elsewhere if all are weak
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, get_args

from zoomzero.config import ModelSettings, settings_hash
from zoomzero.errors import ConfigError
from zoomzero.passes import Asked, Look, Progress
from zoomzero.policy.base import Policy, Sampling
from zoomzero.prompts import video_header
from zoomzero.spans import Span, complement, iou, merge, widen
from zoomzero.trace import Trace
from zoomzero.video.plan import plan_regular, plan_windows
from zoomzero.video.probe import probe
from zoomzero.video.subtitles import Cue, cues_in, read_subtitles
from zoomzero.video.types import FrameBudget, FramePlan, VideoInfo

AskMode = Literal["direct", "coarse", "zoom", "context", "divide", "search"]
MODES: tuple[AskMode, ...] = get_args(AskMode)


def answer(
    policy: Policy,
    settings: ModelSettings,
    video: str | Path | VideoInfo,
    question: str,
    options: Sequence[str] = (),
    *,
    mode: AskMode = "zoom",
    subtitles: str | Path | None = None,
    budget_tokens: int | None = None,
    fps: float | None = None,
    timeout_s: float = 120.0,
    progress: Progress | None = None,
) -> tuple[Trace, tuple[Look, ...]]:
    """Answer a question about a video and show when the evidence is on screen.

    Args:
        policy: the model.
        settings: how the model wants to be asked (`load_model_settings`).
        video: a file, a directory of images (with `fps`), or what `probe` returned.
        question: in plain words.
        options: the answers to choose from; none for an open question.
        mode: see the module's first lines.
        subtitles: SRT or VTT file; what is said in a window goes into that window's prompt.
        budget_tokens: visual tokens each pass may spend, instead of the settings' own limits.
        fps: frame rate of a directory of images.
        timeout_s: seconds a decoding job may be silent before the video is given up.
        progress: called with the name of each pass as it starts.

    Returns:
        The trace, and the looks behind it in the same order as `trace.passes` (they hold the frames).

    Raises:
        ConfigError, VideoError, ModelError: naming what to change.
    """
    check_question(question, options, mode)
    started = time.perf_counter()
    info = video if isinstance(video, VideoInfo) else probe(video, fps=fps)
    cues = read_subtitles(subtitles) if subtitles is not None else ()
    if budget_tokens is not None:
        settings = with_budget(settings, budget_tokens)
    quiet: Progress = lambda stage: None  # noqa: E731
    asked = Asked(policy, settings, info, question, tuple(options), progress=progress or quiet, timeout_s=timeout_s)
    looks, chosen, spans, reason = _RUN[mode](asked, cues)
    notes = dict.fromkeys((*info.notes, *(note for look in looks for note in look.trace.notes)))
    if chosen.trace.answer is None:
        notes["the model's reply names no answer"] = None
    trace = Trace(
        video=info.path,
        duration_s=info.duration_s,
        question=question,
        options=tuple(options),
        mode=mode,
        answer=chosen.trace.answer,
        option=chosen.trace.option,
        spans=spans,
        confidence=chosen.trace.confidence,
        reason=reason,
        passes=tuple(look.trace for look in looks),
        model=policy.name,
        settings_hash=settings_hash(settings),
        seconds=time.perf_counter() - started,
        notes=tuple(notes),
    )
    return trace, looks


def check_question(question: str, options: Sequence[str], mode: str) -> None:
    """Refuse what cannot be asked.

    Raises:
        ConfigError: an unknown mode, an empty question or option, one option, or the same option twice.
    """
    if mode not in MODES:
        raise ConfigError("--mode", f"{mode!r} is unknown", f"use one of {', '.join(MODES)}")
    if not question.strip():
        raise ConfigError("QUESTION", "is empty", "say what you want to know about the video")
    if len(options) == 1:
        raise ConfigError(
            "--option",
            "one option leaves nothing to choose",
            "give two or more, or none for an open question",
        )
    if blank := [i for i, option in enumerate(options, 1) if not option.strip()]:
        raise ConfigError("--option", f"option {blank[0]} is empty", "give every option a text")
    if len({option.strip() for option in options}) < len(options):
        raise ConfigError("--option", "the same text is given twice", "make every option different")


def with_budget(settings: ModelSettings, tokens: int) -> ModelSettings:
    """Return the settings with every pass limited to `tokens` visual tokens.

    Raises:
        ConfigError: less than one token.
    """
    if tokens < 1:
        raise ConfigError(
            "--budget", f"{tokens} visual tokens hold no frame", "give a positive number of visual tokens"
        )
    passes = {
        name: getattr(settings, name).model_copy(update={"max_tokens": tokens}) for name in ("coarse", "zoom", "window")
    }
    return settings.model_copy(update=passes)


Outcome = tuple[tuple[Look, ...], Look, tuple[Span, ...], str]


def _direct(asked: Asked, cues: Sequence[Cue]) -> Outcome:
    look = asked.score("direct", _whole_plan(asked), header=video_header(asked.info.duration_s), direct=True)
    return (look,), look, (), "one pass over the whole video; no spans are asked for"


def _coarse(asked: Asked, cues: Sequence[Cue]) -> Outcome:
    look = _coarse_look(asked, cues)
    return (look,), look, look.found, "one pass over the whole video"


def _zoom(asked: Asked, cues: Sequence[Cue]) -> Outcome:
    coarse = _coarse_look(asked, cues)
    return _fine(asked, coarse, lambda spans: asked.zoom("zoom", spans))


def _context(asked: Asked, cues: Sequence[Cue]) -> Outcome:
    coarse = _coarse_look(asked, cues)
    return _fine(asked, coarse, lambda spans: asked.zoom_in_context("context", coarse, spans))


def _fine(asked: Asked, coarse: Look, zoom: Callable[[Sequence[Span]], Look]) -> Outcome:
    """Zoom into what the coarse pass found and keep the likelier answer."""
    if not coarse.found:
        return (coarse,), coarse, (), "the coarse pass found no evidence, so there was nothing to zoom into"
    fine = zoom(_widened(asked, coarse.found))
    best = likelier(fine, coarse)
    return (coarse, fine), best, coarse.found, _because(best, (fine, coarse))


def _divide(asked: Asked, cues: Sequence[Cue]) -> Outcome:
    """Look at windows one by one; agree, or zoom into the best windows' spans.

    Windows that agree count as an answer only when they are also sure: a handful of guesses at chance level agree
    now and then.
    """
    settings = asked.settings
    length = settings.window.max_frames
    plans = plan_windows(asked.info, settings.window.budget(), asked.policy.geometry, length)
    windows = [_window_look(asked, plan, i, len(plans), cues) for i, plan in enumerate(plans, 1)]
    coarse = _coarse_look(asked, cues)
    with_evidence = [w for w in windows if w.found and w.trace.answer is not None]
    best = sorted(with_evidence, key=lambda w: w.trace.span_confidence, reverse=True)[: settings.divide_top]
    looks = (*windows, coarse)
    if not best:
        spans = coarse.found
        return looks, coarse, spans, "no window shows evidence, so the pass over the whole video decides"
    sure = [w for w in best if w.trace.confidence >= settings.certain]
    if sure:
        winner = max(sure, key=lambda w: w.trace.confidence)
        if len({w.trace.answer for w in sure}) == 1:
            spans = merge(s for w in sure for s in w.found)
            return looks, winner, spans, f"{len(sure)} of {len(windows)} windows are certain, and they agree"
    spans = merge(s for w in best for s in w.found)
    fine = asked.zoom("zoom", _widened(asked, spans))
    winner = likelier(fine, coarse, max(best, key=lambda w: w.trace.confidence))
    shown = spans if winner is fine else winner.found
    return (*looks, fine), winner, shown, _because(winner, (fine, coarse, *best))


def _search(asked: Asked, cues: Sequence[Cue]) -> Outcome:
    """Verify several candidate spans drawn from one prefill; when all are weak, look where none of them is."""
    settings = asked.settings
    greedy = _coarse_look(asked, cues)
    sampling = Sampling(temperature=1.0, max_tokens=settings.max_new_tokens, seed=0)
    candidates = [greedy, *asked.draw("candidate", greedy, settings.candidates - 1, sampling)]
    distinct = _distinct([c for c in candidates if c.found])
    verified = [
        (candidate, asked.zoom(f"verify {i}", _widened(asked, candidate.found)))
        for i, candidate in enumerate(distinct, 1)
    ]
    looks = (*candidates, *(zoom for _, zoom in verified))
    best = max(verified, key=lambda pair: pair[1].trace.confidence, default=None)
    if best is None or best[1].trace.confidence < settings.weak:
        outside = complement((s for c in distinct for s in c.found), *asked.whole)
        for i, part in enumerate(_chunks(asked, outside), 1):
            second = asked.write(f"outside {i}", part)
            looks = (*looks, second)
            if second.found:
                zoom = asked.zoom(f"verify outside {i}", _widened(asked, second.found))
                looks = (*looks, zoom)
                if best is None or zoom.trace.confidence > best[1].trace.confidence:
                    best = (second, zoom)
    if best is None:
        return looks, greedy, (), "no candidate names any evidence, so the coarse answer stands"
    candidate, zoom = best
    winner = likelier(zoom, candidate)
    reason = f"best of {len(verified)} verified candidates; " + _because(winner, (zoom, candidate))
    return looks, winner, candidate.found, reason


_RUN: dict[AskMode, Callable[[Asked, Sequence[Cue]], Outcome]] = {
    "direct": _direct,
    "coarse": _coarse,
    "zoom": _zoom,
    "context": _context,
    "divide": _divide,
    "search": _search,
}


def likelier(*looks: Look) -> Look:
    """Return the look whose answer has the highest probability; the first of equals; one with an answer if any has."""
    return max(looks, key=lambda look: (look.trace.answer is not None, look.trace.confidence))


def _because(winner: Look, others: Sequence[Look]) -> str:
    """Say why an answer won, with the numbers."""
    rest = ", ".join(f"{o.trace.name} {o.trace.confidence:.2f}" for o in others if o is not winner)
    return f"{winner.trace.name} is the most confident ({winner.trace.confidence:.2f} against {rest})"


def _whole_plan(asked: Asked) -> FramePlan:
    return plan_regular(asked.info, asked.settings.coarse.budget(), asked.policy.geometry)


def _coarse_look(asked: Asked, cues: Sequence[Cue]) -> Look:
    return asked.write("coarse", _whole_plan(asked), subtitles=subtitle_text(cues, asked.whole))


def _window_look(asked: Asked, plan: FramePlan, number: int, count: int, cues: Sequence[Cue]) -> Look:
    window = plan.spans[0]
    name = f"window {number} of {count}"
    return asked.write(name, plan, subtitles=subtitle_text(cues, window), window=window)


def subtitle_text(cues: Sequence[Cue], span: Span) -> str:
    """Return what is said in a span as `[start-end] text` lines, empty when nothing is."""
    return "\n".join(f"[{s.start_s:.0f}-{s.end_s:.0f}] {text}" for s, text in cues_in(cues, span))


def _widened(asked: Asked, spans: Sequence[Span]) -> tuple[Span, ...]:
    return widen(spans, asked.settings.widen_s, 0.0, asked.info.duration_s)


def _distinct(candidates: Sequence[Look], same_iou: float = 0.7) -> list[Look]:
    """Leave out candidates that point at the same moments as an earlier one."""
    kept: list[Look] = []
    for candidate in candidates:
        if all(iou(candidate.found, other.found) < same_iou for other in kept):
            kept.append(candidate)
    return kept


def _chunks(asked: Asked, parts: Sequence[Span]) -> list[FramePlan]:
    """Plan window-long looks at the parts nobody pointed at, the longest parts first."""
    window = asked.settings.window
    length_s = window.max_frames / window.fps
    budget: FrameBudget = window.budget()
    plans = []
    for part in sorted(parts, key=lambda p: -p.length_s):
        count = max(1, -(-int(part.length_s) // max(1, int(length_s))))
        step = part.length_s / count
        if step >= 1.0:
            edges = [Span(part.start_s + i * step, part.start_s + (i + 1) * step) for i in range(count)]
            plans += [plan_regular(asked.info, budget, asked.policy.geometry, edge) for edge in edges]
    return plans[: asked.settings.outside_looks]
