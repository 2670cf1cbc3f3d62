"""Passes that write: the model answers in words, with the spans that show it."""

from __future__ import annotations

import time
from dataclasses import replace

from zoomzero.answer.confidence import answer_confidence, checked, span_confidence, span_source, written_source
from zoomzero.answer.result import PassResult, begin_trace
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.trace import PassTrace
from zoomzero.policy.base import Completion, Sampling
from zoomzero.policy.prefix import Prefix
from zoomzero.prompts import Reading, read_response
from zoomzero.spans import Span, clip, shift
from zoomzero.video.types import FramePlan


def coarse_pass(session: QuestionSession) -> PassResult:
    """Let the model write an answer with spans after one look at the whole video."""
    return write(session, "coarse", session.whole_plan())


def write(session: QuestionSession, name: str, plan: FramePlan, *, window: Span | None = None) -> PassResult:
    """Let the model write an answer with spans, greedily; what is said in this part of the video is shown too.

    Args:
        session: the question.
        name: the pass's name in the trace.
        plan: frames to look at.
        window: the part of the video the model is shown as if it were the video, for families that cannot be told
            true times and models that want it so; spans come back in the video's own time all the same.
    """
    session.progress(name)
    started = time.perf_counter()
    frames = session.frames(plan)
    decode_s = time.perf_counter() - started
    chat, from_s = session.writing_chat(frames, window)
    prefix = Prefix.read(session.policy, chat)
    written = prefix.write(1, Sampling(max_tokens=session.settings.max_new_tokens))
    trace = begin_trace(name, frames, prefix.usage or written.usage, decode_s, time.perf_counter() - started)
    return session.done(PassResult(read_answer(session, trace, written.completions[0], from_s), frames, prefix))


def draw(session: QuestionSession, name: str, result: PassResult, n: int, sampling: Sampling) -> list[PassResult]:
    """Draw n more answers to what a pass was asked.

    Where the policy keeps what it read they cost their own words and nothing else; elsewhere the first of them pays
    for the prompt.
    """
    if n < 1:
        return []
    session.progress(name)
    started = time.perf_counter()
    written = result.prefix.write(n, sampling)
    seconds = (time.perf_counter() - started) / n
    results = []
    for number, completion in enumerate(written.completions, 1):
        trace = replace(
            result.trace,
            name=f"{name} {number}",
            times_s=(),
            visual_tokens=written.usage.visual_tokens if number == 1 else 0,
            new_tokens=written.usage.new_tokens if number == 1 else 0,
            decoded_frames=0,
            decode_seconds=0.0,
            seconds=seconds,
        )
        drawn = PassResult(read_answer(session, trace, completion, 0.0), result.clip, result.prefix)
        results.append(session.done(drawn))
    return results


def read_answer(session: QuestionSession, trace: PassTrace, completion: Completion, by_s: float) -> PassTrace:
    """Fill in what a completion says; its spans are told `by_s` seconds too early.

    Raises:
        ModelError: its log-probabilities are not numbers.
    """
    if completion.logprobs is not None:
        checked(completion.logprobs, session.policy.name)
    reading = read_response(completion.text, len(session.options), session.mode, options=session.options)
    answer = _answer_text(session, reading)
    confidence = answer_confidence(reading, completion) if answer is not None else 0.0
    sharpness = span_confidence(reading, completion)
    return replace(
        trace,
        generated_tokens=completion.generated_tokens,
        text=completion.text,
        answer=answer,
        option=session.labels[reading.option] if reading.option is not None else None,
        confidence=confidence,
        confidence_from=written_source(answer, confidence),
        found=clip(shift(reading.spans, by_s), 0.0, session.info.duration_s),
        span_confidence=sharpness,
        span_confidence_from=span_source(reading, sharpness),
        problems=reading.problems,
    )


def _answer_text(session: QuestionSession, reading: Reading) -> str | None:
    if not session.options:
        return reading.answer
    return session.options[reading.option] if reading.option is not None else None
