"""The zoom pass as a reward: what a verifier makes of the spans that responses name, prefill only, in one batch."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

from zoomzero.answer.session import QuestionSession
from zoomzero.config import ModelSettings
from zoomzero.errors import ModelError
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention.packed import fill_rows
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.prompts import Reading
from zoomzero.spans import Span, clip, widen
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.settings import GrpoSettings
from zoomzero.train.stopwatch import Stopwatch
from zoomzero.video.plan import plan_on_grid, plan_uniform
from zoomzero.video.types import Clip, FramePlan

UNIFORM_FRAMES = 20  # of the whole video when there is no span (the paper's code)
WRITTEN_TOKENS = 16
LEAST_SPAN_S = 1e-3  # shorter ones show nothing


@dataclass(frozen=True, slots=True, eq=False)
class ZoomPrompt:
    """What the verifier is shown for one response; `chat` is None when there is nothing to look at."""

    asked: QuestionSession
    on_span: bool
    chat: tuple[Turn, ...] | None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for prompts whose answer must be equal: the same pixels, words and options."""
        parts = [part for turn in self.chat or () for part in turn.parts]
        return (self.asked.options, *(p if isinstance(p, str) else (p.key, p.times_s) for p in parts))


class Verifier:
    """Answers in the zoom pass.

    Args:
        policy: the model that answers: the reference or the model being trained.
        settings: of the run.
        model_settings: how the model is asked.
        watch: gets the seconds.
        guard: makes `policy` the reference while it answers (an adapter switched off); nothing by default.
    """

    def __init__(
        self,
        policy: QwenPolicy,
        settings: GrpoSettings,
        model_settings: ModelSettings,
        watch: Stopwatch,
        guard: Callable[[], AbstractContextManager[object]] = nullcontext,
    ) -> None:
        self.policy, self.watch, self.guard = policy, watch, guard
        self.row_tokens, self.leak = settings.row_tokens, settings.rollout.think_leak
        self.writes = settings.objective.reward.zoom == "substring"
        self.without_span = settings.objective.reward.zoom_without_span
        self.joined = settings.rollout.zoom_joined
        wish = settings.rollout.zoom_widen_s
        self.widen_s = model_settings.widen_s if wish is None else wish

    def prompt(self, asked: QuestionSession, reading: Reading) -> ZoomPrompt:
        """Return what to look at for one response: the frames inside its spans, true times kept.

        Raises:
            VideoError: these frames do not decode.
        """
        spans = [span for span in clip(reading.spans, 0.0, asked.info.duration_s) if span.length_s >= LEAST_SPAN_S]
        if spans:
            return self.look_at(asked, spans, reading.think if self.leak else "")
        if not self.without_span:
            return ZoomPrompt(asked, False, None)
        plan = plan_uniform(asked.info, UNIFORM_FRAMES, asked.settings.zoom.budget(), self.policy.geometry)
        return ZoomPrompt(asked, False, self._chat(asked, plan, reading.think if self.leak else ""))

    def look_at(self, asked: QuestionSession, spans: Sequence[Span], think: str = "") -> ZoomPrompt:
        """Return the prompt of given spans, widened."""
        wide = widen(spans, self.widen_s, 0.0, asked.info.duration_s)
        plan = plan_on_grid(asked.info, wide, asked.settings.zoom.budget(), self.policy.geometry)
        return ZoomPrompt(asked, True, self._chat(asked, plan, think))

    def _chat(self, asked: QuestionSession, plan: FramePlan, think: str) -> tuple[Turn, ...]:
        frames = asked.frames(plan)
        if self.joined:
            frames = as_if_contiguous(frames)
        words = re.sub(r"<[^>]*>", " ", think).strip()
        return tuple(asked.scoring_chat(frames, header=f"{words}\n" if words else ""))

    def judge(self, prompts: Sequence[ZoomPrompt]) -> list[ZoomResult]:
        """Return the verifier's look at every prompt; equal prompts are answered once.

        Its vision tower's work counts as time of the zoom pass, so that the log says what it costs.

        Raises:
            ModelError: the memory does not take them, or the scores are not numbers.
        """
        unique = {prompt.key: prompt for prompt in prompts if prompt.chat is not None}
        written = [prompt for prompt in unique.values() if self.writes or not prompt.asked.options]
        scored = [prompt for prompt in unique.values() if not self.writes and prompt.asked.options]
        with self.watch.phase("zoom"), self.guard():
            found = [*self._score(scored), *self._write(written)]
        looks = dict(zip([prompt.key for prompt in [*scored, *written]], found, strict=True))
        nothing = ZoomResult(False, text="") if self.writes else ZoomResult(False)
        return [
            nothing if prompt.chat is None else replace(looks[prompt.key], on_span=prompt.on_span) for prompt in prompts
        ]

    def _score(self, prompts: Sequence[ZoomPrompt]) -> list[ZoomResult]:
        if not prompts:
            return []
        chats = [prompt.chat or () for prompt in prompts]
        texts, closed = zip(*(prompt.asked.answers for prompt in prompts), strict=True)
        scores = self.policy.score_many(chats, texts, closed=closed[0], max_prompt_tokens=self.row_tokens)
        if any(math.isnan(value) for values in scores for value in values):
            fix = "set bf16 = false and dtype = float32; if that does not help, its weights are damaged"
            raise ModelError(self.policy.name, "its scores of the options are not numbers (NaN)", fix)
        return [ZoomResult(True, option_log_probs=tuple(values)) for values in scores]

    def _write(self, prompts: Sequence[ZoomPrompt]) -> list[ZoomResult]:
        chats = [prompt.chat or () for prompt in prompts]
        looks: list[ZoomResult] = []
        # a row at a time: what was read is kept until the answers are written
        for row in fill_rows([self.policy.prompt_length(chat) for chat in chats], self.row_tokens):
            contexts = self.policy.read_many([chats[i] for i in row])
            drawn = self.policy.generate_many(contexts, 1, [Sampling(max_tokens=WRITTEN_TOKENS)] * len(row))
            looks += [ZoomResult(True, text=completions[0].text) for completions in drawn]
        return looks


def as_if_contiguous(frames: Clip) -> Clip:
    """Return a clip whose frames follow each other at its rate from 0 s on: the paper's code loses their times."""
    times = tuple(i / frames.fps for i in range(len(frames.times_s)))
    return replace(frames, times_s=times, spans=(Span(0.0, len(times) / frames.fps),))
