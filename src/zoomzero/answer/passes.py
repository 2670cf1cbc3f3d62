"""Single passes over a video: plan frames, decode them, let the model write or score, and account for all of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from zoomzero.answer.ahead import one_batch_ahead
from zoomzero.answer.trace import PassTrace
from zoomzero.config import ModelSettings
from zoomzero.errors import ModelError, VideoError
from zoomzero.policy.base import Completion, Context, ManyPolicy, Policy, Sampling, Turn
from zoomzero.prompts import (
    Mode,
    Reading,
    coarse_text,
    glue_token_mask,
    letter_token_index,
    option_labels,
    read_response,
    token_mask,
    video_header,
    zoom_text,
)
from zoomzero.spans import Span, clip, shift
from zoomzero.video.cache import FrameCache
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.subtitles import Cue, cues_in
from zoomzero.video.types import Clip, FrameBudget, FramePlan, VideoInfo

Progress = Callable[[str], None]
Found = TypeVar("Found")
SPARSE_FPS = 0.5
WINDOWS_AT_ONCE = 8
Job = tuple[str, FramePlan]  # a pass's name and what it looks at


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """One finished pass: its trace, the frames it saw, and what the model had read (to go on from)."""

    trace: PassTrace
    clip: Clip
    context: Context

    @property
    def found(self) -> tuple[Span, ...]:
        """The evidence the pass named."""
        return self.trace.found


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A window with its frames, None where it does not decode, and the seconds decoding took."""

    name: str
    plan: FramePlan
    frames: Clip | None
    decode_s: float


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One question about one video, with all it takes to run passes on it.

    `cues` are the video's subtitles; `missed` collects what could not be looked at, for the trace's notes.
    """

    policy: Policy
    settings: ModelSettings
    info: VideoInfo
    question: str
    options: tuple[str, ...]
    cues: tuple[Cue, ...] = ()
    cache: FrameCache = field(default_factory=lambda: FrameCache(256 << 20))
    progress: Progress = lambda stage: None
    timeout_s: float = 120.0
    missed: list[str] = field(default_factory=list)

    @property
    def labels(self) -> tuple[str, ...]:
        """The options' labels."""
        return option_labels(len(self.options))

    @property
    def whole(self) -> Span:
        """The whole video."""
        return Span(0.0, self.info.duration_s)

    def whole_plan(self) -> FramePlan:
        """Return the frames of a pass over the whole video."""
        return plan_regular(self.info, self.settings.coarse.budget(), self.policy.geometry)

    # --- passes that write ---------------------------------------------------------------------------------------

    def write(self, name: str, plan: FramePlan, *, window: Span | None = None) -> Look:
        """Let the model write an answer with spans, greedily; what is said in this part of the video is shown too.

        Args:
            name: the pass's name in the trace.
            plan: frames to look at.
            window: the part of the video the model is shown as if it were the video, for families that cannot be told
                true times and models that want it so; spans come back in the video's own time all the same.
        """
        self.progress(name)
        started = time.perf_counter()
        frames = self.frames(plan)
        decode_s = time.perf_counter() - started
        chat, from_s = self.writing_chat(frames, window)
        context = self.policy.read(chat)
        completion = self._generate(context, 1, Sampling(max_tokens=self.settings.max_new_tokens))[0]
        trace = self._trace(name, frames, context, decode_s, time.perf_counter() - started)
        return Look(self._read(trace, completion, from_s), frames, context)

    def write_windows(self, names: Sequence[str], plans: Sequence[FramePlan]) -> list[Look | None]:
        """`write` for each of several windows, some at a time where the model reads several chats together.

        Then the next ones are decoded while the model works: a pass's seconds hold what was waited for its frames.

        Args:
            names: the passes' names in the trace.
            plans: frames to look at; each plan's first span is its window.

        Returns:
            A look for each window, None where it does not decode. What the models read is not kept: a long video has
            many windows.
        """
        jobs = list(zip(names, plans, strict=True))
        if isinstance(self.policy, ManyPolicy):
            looks = self._write_runs(
                self.policy, [jobs[i : i + WINDOWS_AT_ONCE] for i in range(0, len(jobs), WINDOWS_AT_ONCE)]
            )
        else:
            looks = [self.attempt(n, partial(self.write, n, plan, window=plan.spans[0])) for n, plan in jobs]
        return [look and replace(look, context=replace(look.context, state=None)) for look in looks]

    def _write_runs(self, policy: ManyPolicy, runs: Sequence[Sequence[Job]]) -> list[Look | None]:
        """Read and write runs of windows, each at once; the next run is decoded meanwhile."""
        looks: list[Look | None] = []
        with closing(one_batch_ahead(runs, self._see)) as coming:
            started = time.perf_counter()
            for seen in coming:
                looks += self._write_together(policy, seen, time.perf_counter() - started)
                started = time.perf_counter()
        return looks

    def _see(self, job: Job) -> _Seen:
        """Decode a window."""
        name, plan = job
        self.progress(name)
        started = time.perf_counter()
        frames = self.attempt(name, partial(self.frames, plan))
        return _Seen(name, plan, frames, time.perf_counter() - started)

    def _write_together(self, policy: ManyPolicy, run: Sequence[_Seen], waited_s: float) -> list[Look | None]:
        """Read and write decoded windows at once; each has its share of the time that was waited for them."""
        asked = [self.writing_chat(one.frames, one.plan.spans[0]) for one in run if one.frames is not None]
        if not asked:
            return [None] * len(run)
        started = time.perf_counter()
        sampling = Sampling(max_tokens=self.settings.max_new_tokens)
        contexts = policy.read_many([chat for chat, _ in asked])
        drawn = policy.generate_many(contexts, 1, [sampling] * len(asked))
        share_s = (time.perf_counter() - started + waited_s) / len(asked)
        written = iter(zip(contexts, drawn, asked, strict=True))
        looks: list[Look | None] = []
        for one in run:
            if one.frames is None:
                looks.append(None)
                continue
            context, (completion,), (_, from_s) = next(written)
            self._checked(completion.logprobs)
            trace = self._trace(one.name, one.frames, context, one.decode_s, share_s)
            looks.append(Look(self._read(trace, completion, from_s), one.frames, context))
        return looks

    def writing_chat(self, frames: Clip, window: Span | None = None) -> tuple[list[Turn], float]:
        """Return what a pass that writes is asked, and by how many seconds the spans it will name are too early.

        Args:
            frames: what it sees.
            window: as in `write`.
        """
        told, duration_s, from_s = frames, self.info.duration_s, 0.0
        own_clock = self.settings.window_clock == "window" or not self.policy.geometry.free_times
        if window is not None and own_clock:
            told, duration_s, from_s = moved(frames, -window.start_s), window.length_s, window.start_s
        long, said = duration_s > self.settings.long_after_s, subtitle_text(self.cues, window or self.whole, from_s)
        text = coarse_text(self.question, self.options, self.mode, self.settings.style, long=long, subtitles=said)
        return [Turn("user", (told, video_header(duration_s) + text))], from_s

    def draw(self, name: str, look: Look, n: int, sampling: Sampling) -> list[Look]:
        """Draw n more answers from what a pass has read already: they cost their own words and nothing else."""
        if n < 1:
            return []
        self.progress(name)
        started = time.perf_counter()
        completions = self._generate(look.context, n, sampling)
        shared = replace(
            look.trace,
            times_s=(),
            visual_tokens=0,
            new_tokens=0,
            decoded_frames=0,
            decode_seconds=0.0,
            seconds=(time.perf_counter() - started) / n,
        )
        return [
            Look(self._read(replace(shared, name=f"{name} {i}"), completion, 0.0), look.clip, look.context)
            for i, completion in enumerate(completions, 1)
        ]

    @property
    def mode(self) -> Mode:
        """Which parts a pass that writes is asked for."""
        return "think" if self.settings.think else "no_think"

    def _read(self, trace: PassTrace, completion: Completion, by_s: float) -> PassTrace:
        """Fill in what a completion says; its spans are told `by_s` seconds too early."""
        reading = read_response(completion.text, len(self.options), self.mode, options=self.options)
        answer = self._answer_text(reading)
        return replace(
            trace,
            generated_tokens=len(completion.token_ids),
            text=completion.text,
            answer=answer,
            option=self.labels[reading.option] if reading.option is not None else None,
            confidence=answer_confidence(reading, completion) if answer is not None else 0.0,
            found=clip(shift(reading.spans, by_s), 0.0, self.info.duration_s),
            span_confidence=span_confidence(reading, completion),
            problems=reading.problems,
        )

    def _answer_text(self, reading: Reading) -> str | None:
        if not self.options:
            return reading.answer
        return self.options[reading.option] if reading.option is not None else None

    # --- passes that score ---------------------------------------------------------------------------------------

    def zoom(self, name: str, spans: Sequence[Span], *, budget: FrameBudget | None = None) -> Look:
        """Look closely at spans and score the options (or answer an open question in a few words).

        Args:
            name: the pass's name in the trace.
            spans: where to look, already widened.
            budget: frames and tokens; the settings' zoom budget when None.
        """
        plan = plan_spans(self.info, spans, budget or self.settings.zoom.budget(), self.policy.geometry)
        return self.score(name, plan, header="")

    def score(self, name: str, plan: FramePlan, *, header: str, direct: bool = False) -> Look:
        """Read frames and the question, then score the options without writing anything."""
        self.progress(name)
        started = time.perf_counter()
        frames = self.frames(plan)
        decode_s = time.perf_counter() - started
        context = self.policy.read(self.scoring_chat(frames, header=header, direct=direct))
        trace = self._judge(self._trace(name, frames, context, decode_s, 0.0), context)
        return Look(replace(trace, seconds=time.perf_counter() - started), frames, context)

    def scoring_chat(self, frames: Clip, *, header: str = "", direct: bool = False) -> list[Turn]:
        """Return what a pass that scores is asked; `answers` are then scored."""
        return [Turn("user", (frames, header + self._short_question(direct)))]

    @property
    def answers(self) -> tuple[tuple[str, ...], bool]:
        """The texts a scoring pass compares, one for each option, and whether their end counts."""
        as_text = self.settings.score_options_as == "text"
        return (self.options if as_text else self.labels), as_text

    def zoom_in_context(self, name: str, coarse: Look, spans: Sequence[Span]) -> Look:
        """Look closely at spans after the coarse pass, whose tokens stay read: only the new frames cost."""
        self.progress(name)
        started = time.perf_counter()
        plan = plan_spans(self.info, spans, self.settings.zoom.budget(), self.policy.geometry)
        frames = self.frames(plan)
        decode_s = time.perf_counter() - started
        turns = [Turn("assistant", (coarse.trace.text,)), Turn("user", (frames, self._short_question(False)))]
        context = self.policy.extend(coarse.context, turns)
        trace = self._judge(self._trace(name, frames, context, decode_s, 0.0), context)
        return Look(replace(trace, seconds=time.perf_counter() - started), frames, context)

    def _short_question(self, direct: bool) -> str:
        """Return the question for a pass that answers with nothing but the option."""
        if direct and self.settings.score_options_as == "letter":
            said = subtitle_text(self.cues, self.whole)
            return coarse_text(self.question, self.options, "direct", self.settings.style, subtitles=said)
        return zoom_text(self.question, self.options, self.settings.style, self.settings.score_options_as)

    def _judge(self, trace: PassTrace, context: Context) -> PassTrace:
        """Fill in the answer of a pass that scores: softmax over the options' log-probabilities."""
        if not self.options:
            completion = self._generate(context, 1, Sampling(max_tokens=64))[0]
            reading = read_response(completion.text, 0, "direct")
            return replace(
                trace,
                generated_tokens=len(completion.token_ids),
                text=completion.text,
                answer=reading.answer,
                confidence=answer_confidence(reading, completion) if reading.answer is not None else 0.0,
                problems=reading.problems,
            )
        texts, closed = self.answers
        scores = self.policy.score(context, texts, closed=closed)
        probabilities = self._checked(softmax(scores))
        best = max(range(len(scores)), key=scores.__getitem__)
        return replace(
            trace,
            answer=self.options[best],
            option=self.labels[best],
            confidence=probabilities[best],
            option_probabilities=probabilities,
        )

    # --- shared --------------------------------------------------------------------------------------------------

    def attempt(self, name: str, look: Callable[[], Found]) -> Found | None:
        """Run (a part of) a pass the answer can do without: None, and a note, when its piece of video does not decode.

        Raises:
            VideoError: the decoder hung; the next pass would only hang again.
        """
        started = time.perf_counter()
        try:
            return look()
        except VideoError as error:
            if error.stage != "decode" or time.perf_counter() - started >= self.timeout_s:
                raise
            self.missed.append(f"{name} was left out: {error.reason}")
            return None

    def _generate(self, context: Context, n: int, sampling: Sampling) -> list[Completion]:
        completions = self.policy.generate(context, n, sampling)
        for completion in completions:
            self._checked(completion.logprobs)
        return completions

    def _checked(self, values: tuple[float, ...]) -> tuple[float, ...]:
        """Return the model's numbers if they are numbers at all: no answer is chosen among NaNs."""
        if any(map(math.isnan, values)):
            fix = "use --dtype float32; if that does not help, its weights are damaged"
            raise ModelError(self.policy.name, "its probabilities are not numbers (NaN)", fix)
        return values

    def frames(self, plan: FramePlan) -> Clip:
        """Return the frames of a plan, decoded or from the cache."""
        # Far-apart frames may be neighbouring key frames where the model is told the time each frame really has.
        exact = plan.fps >= SPARSE_FPS or not self.policy.geometry.free_times
        return decode(self.info, plan, cache=self.cache, timeout_s=self.timeout_s, exact=exact)

    def _trace(self, name: str, frames: Clip, context: Context, decode_s: float, seconds: float) -> PassTrace:
        height, width = frames.frames.shape[1:3]
        return PassTrace(
            name=name,
            spans=frames.spans,  # without what did not decode
            times_s=frames.times_s,
            height=height,
            width=width,
            decoded_frames=frames.decoded_frames,
            visual_tokens=context.visual_tokens,
            prompt_tokens=context.prompt_tokens,
            new_tokens=context.new_tokens,
            generated_tokens=0,
            seconds=seconds,
            decode_seconds=decode_s,
            text="",
            answer=None,
            option=None,
            confidence=0.0,
            notes=frames.notes,
        )


def subtitle_text(cues: Sequence[Cue], span: Span, from_s: float = 0.0) -> str:
    """Return what is said in a span as `[start-end] text` lines, empty when nothing is.

    Args:
        cues: the video's subtitles.
        span: the part of the video.
        from_s: where the model believes the video to begin; the lines' times count from there.
    """
    said = cues_in(cues, span)
    return "\n".join(f"[{s.start_s - from_s:.0f}-{s.end_s - from_s:.0f}] {text}" for s, text in said)


def moved(frames: Clip, by_s: float) -> Clip:
    """Return a clip whose times are told `by_s` seconds later; the pixels stay the same."""
    return replace(frames, times_s=tuple(t + by_s for t in frames.times_s), spans=shift(frames.spans, by_s))


def answer_confidence(reading: Reading, completion: Completion) -> float:
    """Return the probability of the emitted letter; of the whole answer's tokens on average when it is words.

    Source: METHOD "inference on long videos" in docs/method.md.
    """
    letter = letter_token_index(reading, completion.offsets)
    if letter is not None:
        return math.exp(completion.logprobs[letter])
    mask = token_mask(reading.ranges.get("answer"), completion.offsets)
    chosen = [lp for lp, inside in zip(completion.logprobs, mask, strict=True) if inside]
    return math.exp(sum(chosen) / len(chosen)) if chosen else 0.0


def span_confidence(reading: Reading, completion: Completion) -> float:
    """Return how sharply the spans were written: mean over the glue's tokens of the mean -log p of the top 20."""
    mask = glue_token_mask(reading, completion.offsets)
    chosen = [peak for peak, inside in zip(completion.peaks, mask, strict=True) if inside]
    return sum(chosen) / len(chosen) if chosen else 0.0


def softmax(scores: Sequence[float]) -> tuple[float, ...]:
    """Return the probabilities of log-scores, summing to 1."""
    top = max(scores)
    weights = [math.exp(score - top) for score in scores]
    total = sum(weights)
    return tuple(weight / total for weight in weights)
