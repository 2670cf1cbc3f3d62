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

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from zoomzero.config import ModelSettings, settings_hash
from zoomzero.errors import ConfigError
from zoomzero.passes import Asked, Look, Progress
from zoomzero.policy.base import Policy, Sampling
from zoomzero.prompts import video_header
from zoomzero.spans import Span, complement, iou, merge, widen
from zoomzero.trace import Trace
from zoomzero.video.cache import FrameCache
from zoomzero.video.plan import plan_regular, plan_windows
from zoomzero.video.probe import probe
from zoomzero.video.subtitles import Subtitles, read_subtitles
from zoomzero.video.types import FramePlan, VideoInfo

AskMode = Literal["direct", "coarse", "zoom", "context", "divide", "search"]
MODES: tuple[AskMode, ...] = get_args(AskMode)
PASSES = ("coarse", "zoom", "window")  # the kinds of pass that have a budget of their own
PASSES_OF: dict[AskMode, tuple[str, ...]] = {
    "direct": ("coarse",),
    "coarse": ("coarse",),
    "zoom": ("coarse", "zoom"),
    "context": ("coarse", "zoom"),
    "divide": PASSES,
    "search": PASSES,
}


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
    cache: FrameCache | None = None,
    as_annotated: bool = False,
) -> tuple[Trace, tuple[Look, ...]]:
    """Answer a question about a video and show when the evidence is on screen.

    Args:
        policy: the model.
        settings: how the model wants to be asked (`load_model_settings`).
        video: a file, a directory of images (with `fps`), or what `probe` returned.
        question: in plain words.
        options: the answers to choose from; none for an open question.
        mode: see the module's first lines.
        subtitles: SRT, VTT, TTML or ASS file; what is said in a window (or the whole video) goes into the prompt of
            the pass that looks at it. Close looks do without.
        budget_tokens: visual tokens each pass may spend, instead of the settings' own limits.
        fps: frame rate of a directory of images.
        timeout_s: seconds a decoding job may be silent before the video is given up.
        progress: called with the name of each pass as it starts.
        cache: decoded frames to share with other questions about the same video.
        as_annotated: take options as they are: benchmarks have questions with equal or empty ones.

    Returns:
        The trace, and the looks behind it in the same order as `trace.passes` (they hold the frames).

    Raises:
        ConfigError, VideoError, ModelError: naming what to change.
    """
    check_question(question, options, mode, as_annotated=as_annotated)
    started = time.perf_counter()
    cues = read_subtitles(subtitles) if subtitles is not None else Subtitles()
    if budget_tokens is not None:
        settings = with_budget(settings, budget_tokens, PASSES_OF[mode])
    info = video if isinstance(video, VideoInfo) else probe(video, fps=fps, timeout_s=timeout_s)
    quiet: Progress = lambda stage: None  # noqa: E731
    asked = Asked(
        policy, settings, info, question, tuple(options), cues, progress=progress or quiet, timeout_s=timeout_s
    )
    if cache is not None:
        asked = replace(asked, cache=cache)
    looks, chosen, spans, reason = _RUN[mode](asked)
    notes = dict.fromkeys(
        (*info.notes, *cues.notes, *(note for look in looks for note in look.trace.notes), *asked.missed)
    )
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


def check_question(question: str, options: Sequence[str], mode: str, *, as_annotated: bool = False) -> None:
    """Refuse what cannot be asked; with `as_annotated`, options may be empty or equal.

    Raises:
        ConfigError: an unknown mode, an empty question or option, one option, the same option twice, or text that is
            not Unicode.
    """
    if mode not in MODES:
        raise ConfigError("--mode", f"{mode!r} is unknown", f"use one of {', '.join(MODES)}")
    if not question.strip():
        raise ConfigError("QUESTION", "is empty", "say what you want to know about the video")
    for name, text in (("QUESTION", question), *(("--option", option) for option in options)):
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise ConfigError(name, "holds bytes that are not UTF-8", "set the terminal to UTF-8 or retype the text")
    if len(options) == 1:
        raise ConfigError(
            "--option",
            "one option leaves nothing to choose",
            "give two or more, or none for an open question",
        )
    if as_annotated:
        return
    if blank := [i for i, option in enumerate(options, 1) if not option.strip()]:
        raise ConfigError("--option", f"option {blank[0]} is empty", "give every option a text")
    if len({option.strip() for option in options}) < len(options):
        raise ConfigError("--option", "the same text is given twice", "make every option different")


def with_budget(settings: ModelSettings, tokens: int, passes: Sequence[str] = PASSES) -> ModelSettings:
    """Return the settings with every pass limited to `tokens` visual tokens.

    Args:
        settings: the model's.
        tokens: what each pass may spend.
        passes: the kinds of pass that will run, whose smallest frames must fit.

    Raises:
        ConfigError: one of these passes cannot hold a frame.
    """
    kinds = {name: getattr(settings, name) for name in PASSES}
    least, name = max((min(kinds[name].min_frame_tokens, kinds[name].max_frame_tokens), name) for name in passes)
    if tokens < least:
        reason = f"{tokens} visual tokens cannot hold the smallest frames of a {name} pass"
        raise ConfigError("--budget", reason, f"give at least {least}")
    return settings.model_copy(
        update={name: kind.model_copy(update={"max_tokens": tokens}) for name, kind in kinds.items()}
    )


Outcome = tuple[tuple[Look, ...], Look, tuple[Span, ...], str]


def _direct(asked: Asked) -> Outcome:
    if asked.cues and asked.settings.score_options_as == "text":
        asked.missed.append("this model's direct mode reads no subtitles")
    look = asked.score("direct", asked.whole_plan(), header=video_header(asked.info.duration_s), direct=True)
    return (look,), look, (), "one pass over the whole video; no spans are asked for"


def _coarse(asked: Asked) -> Outcome:
    look = _coarse_look(asked)
    return (look,), look, look.found, "one pass over the whole video"


def _zoom(asked: Asked) -> Outcome:
    coarse = _coarse_look(asked)
    return _fine(asked, coarse, lambda spans: asked.zoom("zoom", spans))


def _context(asked: Asked) -> Outcome:
    coarse = _coarse_look(asked)
    return _fine(asked, coarse, lambda spans: asked.zoom_in_context("context", coarse, spans))


def _fine(asked: Asked, coarse: Look, zoom: Callable[[Sequence[Span]], Look]) -> Outcome:
    """Zoom into what the coarse pass found and keep the likelier answer."""
    if not coarse.found:
        return (coarse,), coarse, (), "the coarse pass found no evidence, so there was nothing to zoom into"
    fine = asked.attempt("the close look", lambda: zoom(_widened(asked, coarse.found)))
    if fine is None:
        return (coarse,), coarse, coarse.found, "what the coarse pass found does not decode, so its answer stands"
    best = likelier(fine, coarse)
    return (coarse, fine), best, coarse.found, _because(best, (fine, coarse))


def _divide(asked: Asked) -> Outcome:
    """Look at windows one by one; agree, or zoom into the best windows' spans.

    Windows that agree count as an answer only when they are also sure: a handful of guesses at chance level agree
    now and then.
    """
    settings = asked.settings
    plans = plan_windows(asked.info, settings.window.budget(), asked.policy.geometry, settings.window.max_frames)
    tried = asked.write_windows([f"window {i} of {len(plans)}" for i in range(1, len(plans) + 1)], plans)
    windows = [window for window in tried if window is not None]
    coarse = _coarse_look(asked)
    with_evidence = [w for w in windows if w.found and w.trace.answer is not None]
    best = sorted(with_evidence, key=lambda w: w.trace.span_confidence, reverse=True)[: settings.divide_top]
    looks = (*windows, coarse)
    if not best:
        return looks, coarse, coarse.found, "no window shows evidence, so the pass over the whole video decides"
    sure = [w for w in best if w.trace.confidence >= settings.certain]
    if sure and len({w.trace.answer for w in sure}) == 1:
        winner = max(sure, key=lambda w: w.trace.confidence)
        spans = merge(s for w in sure for s in w.found)
        agree = "1 is certain" if len(sure) == 1 else f"{len(sure)} are certain, and they agree"
        return looks, winner, spans, f"of {len(windows)} windows {agree}"
    spans = merge(s for w in best for s in w.found)
    fine = asked.attempt("the close look", lambda: asked.zoom("zoom", _widened(asked, spans)))
    rivals = (*((fine,) if fine else ()), coarse, *best)
    winner = likelier(*rivals)
    shown = spans if winner is fine else winner.found
    return (*windows, coarse, *((fine,) if fine else ())), winner, shown, _because(winner, rivals)


def _search(asked: Asked) -> Outcome:
    """Verify several candidate spans drawn from one prefill; when all are weak, look where none of them is."""
    settings = asked.settings
    greedy = _coarse_look(asked)
    sampling = Sampling(temperature=1.0, max_tokens=settings.max_new_tokens, seed=0)
    candidates = [greedy, *asked.draw("candidate", greedy, settings.candidates - 1, sampling)]
    distinct = _distinct([c for c in candidates if c.found])
    verified = [pair for i, c in enumerate(distinct, 1) if (pair := _verify(asked, f"verify {i}", c))]
    looks = [*candidates, *(zoom for _, zoom in verified)]
    if all(zoom.trace.confidence < settings.weak for _, zoom in verified):
        outside = complement((s for c in distinct for s in c.found), *asked.whole)
        for i, plan in enumerate(_chunks(asked, outside), 1):
            second = _window_look(asked, f"outside {i}", plan)
            looks += [second] if second else []
            pair = _verify(asked, f"verify outside {i}", second) if second and second.found else None
            if pair:
                verified.append(pair)
                looks.append(pair[1])
    if not verified:
        return tuple(looks), greedy, greedy.found, "no candidate could be verified, so the coarse answer stands"
    candidate, zoom = max(verified, key=lambda pair: pair[1].trace.confidence)
    winner = likelier(zoom, candidate)
    reason = f"best of {len(verified)} verified candidates; " + _because(winner, (zoom, candidate))
    return tuple(looks), winner, candidate.found, reason


def _verify(asked: Asked, name: str, candidate: Look) -> tuple[Look, Look] | None:
    """Return a candidate with the close look at its spans; None when that part of the video does not decode."""
    zoom = asked.attempt(name, lambda: asked.zoom(name, _widened(asked, candidate.found)))
    return (candidate, zoom) if zoom else None


_RUN: dict[AskMode, Callable[[Asked], Outcome]] = {
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


def _coarse_look(asked: Asked) -> Look:
    return asked.write("coarse", asked.whole_plan())


def _window_look(asked: Asked, name: str, plan: FramePlan) -> Look | None:
    """Look at one window; None when none of it decodes."""
    return asked.attempt(name, lambda: asked.write(name, plan, window=plan.spans[0]))


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
    """Plan window-long looks at the parts nobody pointed at; when there are too many, some spread over all of them."""
    window = asked.settings.window
    length_s = window.max_frames / window.fps
    edges: list[Span] = []
    for part in parts:
        count = max(1, math.ceil(part.length_s / length_s))
        step = part.length_s / count
        if step >= 1.0:
            edges += [Span(part.start_s + i * step, part.start_s + (i + 1) * step) for i in range(count)]
    most = asked.settings.outside_looks
    if len(edges) > most:
        edges = [edges[(2 * i + 1) * len(edges) // (2 * most)] for i in range(most)]
    return [plan_regular(asked.info, window.budget(), asked.policy.geometry, edge) for edge in edges]
