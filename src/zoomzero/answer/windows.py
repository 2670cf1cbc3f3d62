"""Windows of a video: the same question put to each, some at a time, the next ones decoded while the model works."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

from zoomzero.answer.ahead import one_batch_ahead
from zoomzero.answer.result import PassResult, begin_trace
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.writing import read_answer, write
from zoomzero.policy.base import BatchPolicy, Sampling
from zoomzero.policy.prefix import Prefix
from zoomzero.video.types import Clip, FramePlan

WINDOWS_AT_ONCE = 8
Job = tuple[str, FramePlan]  # a pass's name and what it looks at


@dataclass(frozen=True, slots=True, eq=False)
class _Decoded:
    """A window with its frames, None where it does not decode, and the seconds decoding took."""

    name: str
    plan: FramePlan
    frames: Clip | None
    decode_s: float


def write_window(session: QuestionSession, name: str, plan: FramePlan) -> PassResult | None:
    """Let the model write after one window, the plan's first span; None when none of it decodes."""
    return session.attempt(name, partial(write, session, name, plan, window=plan.spans[0]))


def write_windows(
    session: QuestionSession, names: Sequence[str], plans: Sequence[FramePlan]
) -> list[PassResult | None]:
    """`write_window` for each of several windows, some at a time where the policy takes several chats together.

    Then the next ones are decoded while the model works: a pass's seconds hold what was waited for its frames.

    Args:
        session: the question.
        names: the passes' names in the trace.
        plans: frames to look at; each plan's first span is its window.

    Returns:
        A result for each window, None where it does not decode. What the model read is not kept: a long video has
        many windows.
    """
    jobs = list(zip(names, plans, strict=True))
    if not isinstance(session.policy, BatchPolicy):
        results = [write_window(session, name, plan) for name, plan in jobs]
        return [one and replace(one, prefix=one.prefix.released()) for one in results]
    runs = [jobs[i : i + WINDOWS_AT_ONCE] for i in range(0, len(jobs), WINDOWS_AT_ONCE)]
    found: list[PassResult | None] = []
    with closing(one_batch_ahead(runs, partial(_decode, session))) as coming:
        started = time.perf_counter()
        for decoded in coming:
            found += _write_together(session, session.policy, decoded, time.perf_counter() - started)
            started = time.perf_counter()
    return found


def _decode(session: QuestionSession, job: Job) -> _Decoded:
    """Decode a window."""
    name, plan = job
    session.progress(name)
    started = time.perf_counter()
    frames = session.attempt(name, partial(session.frames, plan))
    return _Decoded(name, plan, frames, time.perf_counter() - started)


def _write_together(
    session: QuestionSession, policy: BatchPolicy, run: Sequence[_Decoded], waited_s: float
) -> list[PassResult | None]:
    """Write after decoded windows at once; each has its share of the time that was waited for them."""
    asked = [session.writing_chat(one.frames, one.plan.spans[0]) for one in run if one.frames is not None]
    if not asked:
        return [None] * len(run)
    started = time.perf_counter()
    sampling = Sampling(max_tokens=session.settings.max_new_tokens)
    written = policy.write_many([chat for chat, _ in asked], 1, [sampling] * len(asked))
    share_s = (time.perf_counter() - started + waited_s) / len(asked)
    replies = iter(zip(written, asked, strict=True))
    results: list[PassResult | None] = []
    for one in run:
        if one.frames is None:
            results.append(None)
            continue
        reply, (chat, from_s) = next(replies)
        trace = begin_trace(one.name, one.frames, reply.usage, one.decode_s, share_s)
        trace = read_answer(session, trace, reply.completions[0], from_s)
        results.append(session.done(PassResult(trace, one.frames, Prefix(policy, tuple(chat)))))
    return results
