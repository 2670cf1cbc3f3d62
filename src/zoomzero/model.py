"""`Model`: what `zoomzero.load` returns, a policy with the settings it is asked by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomzero.answer.ask import answer
from zoomzero.answer.names import AskMode
from zoomzero.answer.trace import Trace
from zoomzero.config import ModelSettings
from zoomzero.errors import ZoomZeroError
from zoomzero.inputs.frames import frames_video, is_frames
from zoomzero.policy.base import Policy
from zoomzero.video.cache import FrameCache
from zoomzero.video.types import VideoInfo

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Frames = npt.NDArray[np.uint8] | Sequence[Any]

CACHE_BYTES = 256 << 20
Video = str | Path | VideoInfo


@dataclass(frozen=True, slots=True)
class Ask:
    """One question to `Model.ask_many`: as the arguments of `Model.ask`."""

    video: Video
    question: str
    options: Sequence[str] = ()


class Model:
    """A model that answers questions about videos and shows when the evidence is on screen.

    Args:
        policy: the model itself.
        settings: how it is asked.
    """

    def __init__(self, policy: Policy, settings: ModelSettings) -> None:
        self.policy, self.settings = policy, settings

    def ask(
        self,
        video: Video | Frames,
        question: str,
        options: Sequence[str] = (),
        *,
        mode: AskMode = "zoom",
        subtitles: str | Path | None = None,
        budget_tokens: int | None = None,
        fps: float | None = None,
        timeout_s: float = 120.0,
    ) -> Trace:
        """Answer one question about one video.

        Args:
            video: a file, a directory of images (with `fps`), what `probe` returned, or the frames themselves (with
                `fps`): uint8 RGB, (T, H, W, 3).
            question: in plain words.
            options: the answers to choose from, a list of texts; none for an open question.
            mode: direct, coarse, zoom, context, divide or search (docs/method.md).
            subtitles: an SRT or VTT file with what is said.
            budget_tokens: visual tokens each pass may spend.
            fps: frame rate of a directory of images, or of frames.
            timeout_s: seconds a decoding job may be silent before the video is given up.

        Returns:
            The answer with its evidence in seconds, its passes, their costs, and why it won.

        Raises:
            ConfigError, VideoError, ModelError: naming what to change.
        """
        if is_frames(video):
            with frames_video(video, fps) as made:
                trace = self.ask(
                    made,
                    question,
                    options,
                    mode=mode,
                    subtitles=subtitles,
                    budget_tokens=budget_tokens,
                    timeout_s=timeout_s,
                )
            return replace(trace, video=f"{made.frame_count} frames in memory")
        trace, _ = answer(
            self.policy,
            self.settings,
            video,  # type: ignore[arg-type]
            question,
            options,
            mode=mode,
            subtitles=subtitles,
            budget_tokens=budget_tokens,
            fps=fps,
            timeout_s=timeout_s,
        )
        return trace

    def ask_many(
        self,
        questions: Iterable[Ask | tuple[Video, str] | tuple[Video, str, Sequence[str]]],
        *,
        mode: AskMode = "zoom",
        timeout_s: float = 120.0,
    ) -> list[Trace | ZoomZeroError]:
        """Answer several questions, one after the other; neighbours about one video share its decoded frames.

        Args:
            questions: `Ask`, or (video, question), or (video, question, options). Frames in memory become a video with
                `zoomzero.inputs.frames.frames_video`.
            mode: as in `ask`.
            timeout_s: as in `ask`.

        Returns:
            For each question, in order, its trace, or the error that kept it from being answered: one bad video does
            not cost the other answers.
        """
        cache, last = FrameCache(CACHE_BYTES), None
        found: list[Trace | ZoomZeroError] = []
        for one in questions:
            asked = one if isinstance(one, Ask) else Ask(*one)
            if asked.video != last:
                cache.clear()
            last = asked.video
            try:
                trace, _ = answer(
                    self.policy,
                    self.settings,
                    asked.video,
                    asked.question,
                    asked.options,
                    mode=mode,
                    timeout_s=timeout_s,
                    cache=cache,
                )
                found.append(trace)
            except ZoomZeroError as error:
                found.append(error)
        return found
