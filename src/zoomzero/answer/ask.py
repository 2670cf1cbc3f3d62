"""Ask a question about a video in one of the modes: check it, run the mode, and return its trace."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from zoomzero.answer.modes import PASSES, PASSES_OF, REGISTRY
from zoomzero.answer.names import MODES, AskMode
from zoomzero.answer.result import PassResult
from zoomzero.answer.session import Progress, QuestionSession
from zoomzero.answer.trace import Trace
from zoomzero.config import ModelSettings, settings_hash
from zoomzero.errors import ConfigError
from zoomzero.policy.base import Policy, ServedPolicy
from zoomzero.video.cache import FrameCache
from zoomzero.video.probe import probe
from zoomzero.video.subtitles import Subtitles, read_subtitles
from zoomzero.video.types import VideoInfo


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
    finished: Callable[[PassResult], None] | None = None,
    decoding: Callable[[int, int], None] | None = None,
    cache: FrameCache | None = None,
    as_annotated: bool = False,
) -> tuple[Trace, tuple[PassResult, ...]]:
    """Answer a question about a video and show when the evidence is on screen.

    Args:
        policy: the model.
        settings: how the model wants to be asked (`load_model_settings`).
        video: a file, a directory of images (with `fps`), or what `probe` returned.
        question: in plain words.
        options: the answers to choose from; none for an open question.
        mode: see `zoomzero.answer.modes`.
        subtitles: SRT, VTT, TTML or ASS file; what is said in a window (or the whole video) goes into the prompt of
            the pass that looks at it. Close looks do without.
        budget_tokens: visual tokens each pass may spend, instead of the settings' own limits.
        fps: frame rate of a directory of images.
        timeout_s: seconds a decoding job may be silent before the video is given up.
        progress: called with the name of each pass as it starts.
        finished: called with each pass as it ends.
        decoding: called with (frames decoded, frames in all) while a pass's frames are decoded.
        cache: decoded frames to share with other questions about the same video.
        as_annotated: take options as they are: benchmarks have questions with equal or empty ones.

    Returns:
        The trace, and the passes' results behind it in the same order as `trace.passes` (they hold the frames).

    Raises:
        ConfigError, VideoError, ModelError: naming what to change.
    """
    check_question(question, options, mode, as_annotated=as_annotated)
    check_video(video)
    started = time.perf_counter()
    cues = read_subtitles(subtitles) if subtitles is not None else Subtitles()
    if budget_tokens is not None:
        settings = with_budget(settings, budget_tokens, PASSES_OF[mode])
    info = video if isinstance(video, VideoInfo) else probe(video, fps=fps, timeout_s=timeout_s)
    quiet: Progress = lambda stage: None  # noqa: E731
    session = QuestionSession(
        policy, settings, info, question, tuple(options), cues, progress=progress or quiet, timeout_s=timeout_s
    )
    session = replace(session, decoding=decoding)
    if finished is not None:
        session = replace(session, finished=finished)
    if cache is not None:
        session = replace(session, cache=cache)
    outcome = REGISTRY[mode].run(session)
    results, chosen = outcome.results, outcome.chosen
    notes = dict.fromkeys(
        (*info.notes, *cues.notes, *(note for one in results for note in one.trace.notes), *session.missed)
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
        spans=outcome.spans,
        confidence=chosen.trace.confidence,
        reason=outcome.reason,
        passes=tuple(one.trace for one in results),
        model=policy.name,
        settings_hash=settings_hash(settings),
        seconds=time.perf_counter() - started,
        notes=tuple(notes),
        server=policy.facts.to_dict() if isinstance(policy, ServedPolicy) else None,
    )
    return trace, results


def check_video(video: object) -> None:
    """Refuse what names no video.

    Raises:
        ConfigError: it is neither a path nor what `probe` returned.
    """
    if not isinstance(video, (str, os.PathLike, VideoInfo)):
        fix = "give the path of a file, or of a directory of images with fps; `Model.ask` takes frames too"
        raise ConfigError("VIDEO", f"is a {type(video).__module__}.{type(video).__name__}, not a path", fix)


def check_question(question: str, options: Sequence[str], mode: str, *, as_annotated: bool = False) -> None:
    """Refuse what cannot be asked; with `as_annotated`, options may be empty or equal.

    Raises:
        ConfigError: an unknown mode, an empty question or option, options that are one text, one option, the same
            option twice, or text that is not Unicode.
    """
    if mode not in MODES:
        raise ConfigError("--mode", f"{mode!r} is unknown", f"use one of {', '.join(MODES)}")
    if not question.strip():
        raise ConfigError("QUESTION", "is empty", "say what you want to know about the video")
    if isinstance(options, str):
        fix = f"give a list: {list(options)!r}" if 1 < len(options) < 4 else "give a list with one text for each option"
        raise ConfigError("--option", f"{options[:40]!r} is one text, not several options", fix)
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
