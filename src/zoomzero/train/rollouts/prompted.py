"""Examples as they are put to the model, for rollouts and samples alike: the coarse pass's question and frames."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from zoomzero.answer.session import QuestionSession
from zoomzero.config import ModelSettings
from zoomzero.data.example import Example
from zoomzero.policy.base import Policy, Turn
from zoomzero.prompts import Reading, read_response
from zoomzero.video.cache import FrameCache
from zoomzero.video.probe import probe
from zoomzero.video.types import VideoInfo


@dataclass(frozen=True, slots=True, eq=False)
class Prompted:
    """An example with what the model is asked about it; `place` is its place in what is gone through."""

    place: int
    example: Example
    asked: QuestionSession
    chat: tuple[Turn, ...]


class Prompter:
    """Puts examples to a model; a video that several of them are about is probed once.

    Args:
        policy: tells geometry, and asks in the passes' words.
        settings: how the model is asked.
        cache: keeps decoded frames.
        timeout_s: seconds one decoding job may take.
        coarse_frames: least and most frames of the coarse pass, drawn anew for every place; None: the settings' own.
        seed: of the run, from which these draws follow.
    """

    def __init__(
        self,
        policy: Policy,
        settings: ModelSettings,
        cache: FrameCache,
        timeout_s: float,
        coarse_frames: tuple[int, int] | None = None,
        seed: int = 0,
    ) -> None:
        self.policy, self.settings, self.cache, self.timeout_s = policy, settings, cache, timeout_s
        self.coarse_frames, self.seed = coarse_frames, seed
        self._infos: dict[str, VideoInfo] = {}

    def __call__(self, place: int, example: Example) -> Prompted:
        """Decode what the coarse pass sees and put the question to it.

        Raises:
            VideoError: the video cannot be read.
        """
        if example.video not in self._infos:
            self._infos[example.video] = probe(example.video, timeout_s=self.timeout_s)
        asked = QuestionSession(
            self.policy,
            self._settings_at(place),
            self._infos[example.video],
            example.question,
            example.options,
            cache=self.cache,
            timeout_s=self.timeout_s,
        )
        frames = asked.frames(asked.whole_plan())
        return Prompted(place, example, asked, tuple(asked.writing_chat(frames)[0]))

    def _settings_at(self, place: int) -> ModelSettings:
        """Return how the model is asked at a place of the run; places below 0 (validation) get the whole budget."""
        if self.coarse_frames is None or place < 0:
            return self.settings
        least, most = self.coarse_frames
        draw = np.random.default_rng((self.seed, place, 0xF8A3E5)).uniform(math.log(least), math.log(most))
        coarse = self.settings.coarse
        frames = min(round(math.exp(draw)), coarse.max_frames)
        return self.settings.model_copy(update={"coarse": coarse.model_copy(update={"max_frames": frames})})


def read_completion(one: Prompted, text: str) -> Reading:
    """Return what a completion of a prompt says."""
    return read_response(text, len(one.example.options), one.asked.mode, options=one.example.options)
