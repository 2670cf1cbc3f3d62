"""Passes that score: nothing is written, the options are compared by their log-probabilities after one prefill."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from zoomzero.answer.confidence import answer_confidence, checked, softmax, written_source
from zoomzero.answer.result import PassResult, begin_trace
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.trace import PassTrace
from zoomzero.policy.base import Choice, Sampling, Turn, Written
from zoomzero.policy.prefix import Prefix
from zoomzero.prompts import read_response
from zoomzero.spans import Span
from zoomzero.video.types import Clip, FrameBudget, FramePlan

OPEN_TOKENS = 64  # an open question is answered in a few words


def zoom(
    session: QuestionSession, name: str, spans: Sequence[Span], *, budget: FrameBudget | None = None
) -> PassResult:
    """Look closely at spans and score the options (or answer an open question in a few words).

    Args:
        session: the question.
        name: the pass's name in the trace.
        spans: where to look, already widened.
        budget: frames and tokens; the settings' zoom budget when None.
    """
    return score(session, name, session.zoom_plan(spans, budget), header="")


def score(session: QuestionSession, name: str, plan: FramePlan, *, header: str, direct: bool = False) -> PassResult:
    """Read frames and the question, then score the options without writing anything."""
    return _score(
        session,
        name,
        plan,
        lambda frames: Prefix.read(session.policy, session.scoring_chat(frames, header=header, direct=direct)),
    )


def zoom_in_context(session: QuestionSession, name: str, coarse: PassResult, spans: Sequence[Span]) -> PassResult:
    """Look closely at spans after the coarse pass: where the policy keeps what it read, only the new frames cost."""

    def go_on(frames: Clip) -> Prefix:
        said, question = coarse.trace.text, session.short_question(False)
        return coarse.prefix.extend([Turn("assistant", (said,)), Turn("user", (frames, question))])

    return _score(session, name, session.zoom_plan(spans), go_on)


def _score(session: QuestionSession, name: str, plan: FramePlan, read: Callable[[Clip], Prefix]) -> PassResult:
    """Decode, read, judge, and account for all of it."""
    session.progress(name)
    started = time.perf_counter()
    frames = session.frames(plan)
    decode_s = time.perf_counter() - started
    prefix = read(frames)
    reply = _ask(session, prefix)
    trace = begin_trace(name, frames, prefix.usage or reply.usage, decode_s, 0.0)
    judged = _read_words(session, trace, reply) if isinstance(reply, Written) else _read_choice(session, trace, reply)
    return session.done(PassResult(replace(judged, seconds=time.perf_counter() - started), frames, prefix))


def _ask(session: QuestionSession, prefix: Prefix) -> Choice | Written:
    """Let the model choose between the options; without options it says a few words."""
    if not session.options:
        return prefix.write(1, Sampling(max_tokens=OPEN_TOKENS))
    texts, closed = session.answers
    return prefix.choose(texts, closed=closed)


def _read_choice(session: QuestionSession, trace: PassTrace, choice: Choice) -> PassTrace:
    """Fill in the option that was chosen: softmax over log-probabilities, or what the model named."""
    if choice.logprobs is None:
        named = choice.chosen
        return replace(
            trace,
            text=choice.text,
            generated_tokens=choice.generated_tokens,
            answer=None if named is None else session.options[named],
            option=None if named is None else session.labels[named],
            confidence=0.0 if named is None else None,
            confidence_from="nothing" if named is None else "unknown",
        )
    probabilities = checked(softmax(choice.logprobs), session.policy.name)
    best = max(range(len(choice.logprobs)), key=choice.logprobs.__getitem__)
    return replace(
        trace,
        answer=session.options[best],
        option=session.labels[best],
        confidence=probabilities[best],
        confidence_from=choice.scored_by,
        option_probabilities=probabilities,
    )


def _read_words(session: QuestionSession, trace: PassTrace, written: Written) -> PassTrace:
    """Fill in the words an open question was answered with."""
    (completion,) = written.completions
    if completion.logprobs is not None:
        checked(completion.logprobs, session.policy.name)
    reading = read_response(completion.text, 0, "direct")
    confidence = answer_confidence(reading, completion) if reading.answer is not None else 0.0
    return replace(
        trace,
        generated_tokens=completion.generated_tokens,
        text=completion.text,
        answer=reading.answer,
        confidence=confidence,
        confidence_from=written_source(reading.answer, confidence),
        problems=reading.problems,
    )
