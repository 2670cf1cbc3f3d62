"""One question about one video: its frames, and the words it is put in for passes that write and passes that score."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from zoomzero.answer.result import PassResult
from zoomzero.config import ModelSettings
from zoomzero.errors import VideoError
from zoomzero.policy.base import Policy, Turn
from zoomzero.prompts import Mode, coarse_text, option_labels, video_header, zoom_text
from zoomzero.spans import Span, shift, widen
from zoomzero.video.cache import FrameCache
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.subtitles import Cue, cues_in
from zoomzero.video.types import Clip, FrameBudget, FramePlan, VideoInfo

Progress = Callable[[str], None]
Found = TypeVar("Found")
SPARSE_FPS = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class QuestionSession:
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
    finished: Callable[[PassResult], None] = lambda result: None  # called with every pass as it ends
    decoding: Callable[[int, int], None] | None = None  # called with (frames decoded, frames in all)
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

    @property
    def mode(self) -> Mode:
        """Which parts a pass that writes is asked for."""
        return "think" if self.settings.think else "no_think"

    # --- frames --------------------------------------------------------------------------------------------------

    def whole_plan(self) -> FramePlan:
        """Return the frames of a pass over the whole video."""
        return plan_regular(self.info, self.settings.coarse.budget(), self.policy.geometry)

    def zoom_plan(self, spans: Sequence[Span], budget: FrameBudget | None = None) -> FramePlan:
        """Return the frames of a close look at spans; within the settings' zoom budget when None is given."""
        return plan_spans(self.info, spans, budget or self.settings.zoom.budget(), self.policy.geometry)

    def widened(self, spans: Sequence[Span], by: PassResult) -> tuple[Span, ...]:
        """Return the spans a pass found with the seconds at both ends that a close look adds.

        A pass cannot tell when something began between two of its frames: half their distance is the least.
        """
        return widen(spans, max(self.settings.widen_s, by.apart_s / 2), 0.0, self.info.duration_s)

    def frames(self, plan: FramePlan) -> Clip:
        """Return the frames of a plan, decoded or from the cache."""
        # Far-apart frames may be neighbouring key frames where the model is told the time each frame really has.
        exact = plan.fps >= SPARSE_FPS or not self.policy.geometry.free_times
        return decode(self.info, plan, cache=self.cache, timeout_s=self.timeout_s, exact=exact, progress=self.decoding)

    def done(self, result: PassResult) -> PassResult:
        """Tell who watches that a pass has ended, and return it."""
        self.finished(result)
        return result

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

    # --- words ---------------------------------------------------------------------------------------------------

    def writing_chat(self, frames: Clip, window: Span | None = None) -> tuple[list[Turn], float]:
        """Return what a pass that writes is asked, and by how many seconds the spans it will name are too early.

        Args:
            frames: what it sees.
            window: the part of the video the model is shown as if it were the video, for families that cannot be told
                true times and models that want it so.
        """
        told, duration_s, from_s = frames, self.info.duration_s, 0.0
        own_clock = self.settings.window_clock == "window" or not self.policy.geometry.free_times
        if window is not None and own_clock:
            told, duration_s, from_s = moved(frames, -window.start_s), window.length_s, window.start_s
        long, said = duration_s > self.settings.long_after_s, subtitle_text(self.cues, window or self.whole, from_s)
        text = coarse_text(self.question, self.options, self.mode, self.settings.style, long=long, subtitles=said)
        return [Turn("user", (told, video_header(duration_s) + text))], from_s

    def scoring_chat(self, frames: Clip, *, header: str = "", direct: bool = False) -> list[Turn]:
        """Return what a pass that scores is asked; `answers` are then scored."""
        return [Turn("user", (frames, header + self.short_question(direct)))]

    def short_question(self, direct: bool) -> str:
        """Return the question for a pass that answers with nothing but the option."""
        if direct and self.settings.score_options_as == "letter":
            said = subtitle_text(self.cues, self.whole)
            return coarse_text(self.question, self.options, "direct", self.settings.style, subtitles=said)
        return zoom_text(self.question, self.options, self.settings.style, self.settings.score_options_as)

    @property
    def answers(self) -> tuple[tuple[str, ...], bool]:
        """The texts a scoring pass compares, one for each option, and whether their end counts."""
        as_text = self.settings.score_options_as == "text"
        return (self.options if as_text else self.labels), as_text


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
