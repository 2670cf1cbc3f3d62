"""Close looks whose frames are decoded in the background, while the model writes for other prompts."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event

import numpy as np

from zoomzero.answer.session import QuestionSession
from zoomzero.errors import VideoError
from zoomzero.prompts import Reading
from zoomzero.spans import Span, clip, covered_s
from zoomzero.train.rollouts.prompted import Prompted
from zoomzero.train.rollouts.stream import prompt_seed
from zoomzero.train.rollouts.verify import Verifier, ZoomPrompt


@dataclass(frozen=True, slots=True, eq=False)
class ZoomPrompts:
    """What the verifier shall see for one prompt.

    Args:
        prompts: for each response.
        controls: the example's true spans and random ones as long, where they are wanted and decode.
        problems: what did not decode.
    """

    prompts: tuple[ZoomPrompt, ...]
    controls: tuple[ZoomPrompt, ZoomPrompt] | None
    problems: tuple[str, ...]


class ZoomFrames:
    """Decodes the frames of close looks, several prompts side by side; one prompt's share what they decode.

    Args:
        verifier: says what it wants to see of spans.
        seed: of the run; random spans follow from it.
        threads: prompts decoded side by side.
    """

    def __init__(self, verifier: Verifier, seed: int, threads: int) -> None:
        self.verifier, self.seed = verifier, seed
        self._threads = ThreadPoolExecutor(threads, "close-looks")
        self._closed = Event()

    def close(self) -> None:
        """Let go of what is decoded in the background."""
        self._closed.set()  # an interrupted run waits for one look of a thread, not for all of a prompt
        self._threads.shutdown(wait=False, cancel_futures=True)

    def start(self, one: Prompted, readings: Sequence[Reading], *, controls: bool = False) -> Future[ZoomPrompts]:
        """Begin to decode what a prompt's responses named and, with `controls`, its true and random spans."""
        return self._threads.submit(self._look, one, readings, controls)

    def has_controls(self, one: Prompted) -> bool:
        """Return whether an example has true spans, and options to be right or wrong about."""
        return bool(one.example.options and clip(one.example.spans, 0.0, one.asked.info.duration_s))

    def _look(self, one: Prompted, readings: Sequence[Reading], wants_controls: bool) -> ZoomPrompts:
        problems: list[str] = []
        prompts: list[ZoomPrompt] = []
        for reading in readings:
            if self._closed.is_set():
                raise CancelledError
            prompts.append(self._prompt(one.asked, reading, problems))
        controls = self._controls(one, problems) if wants_controls else None
        return ZoomPrompts(tuple(prompts), controls, tuple(problems))

    def _prompt(self, asked: QuestionSession, reading: Reading, problems: list[str]) -> ZoomPrompt:
        """Return what the verifier sees; spans whose frames do not decode give it nothing to see."""
        try:
            return self.verifier.prompt(asked, reading)
        except VideoError as error:
            problems.append(f"close look: {error}")
            return ZoomPrompt(asked, False, None)

    def _controls(self, one: Prompted, problems: list[str]) -> tuple[ZoomPrompt, ZoomPrompt] | None:
        duration_s = one.asked.info.duration_s
        true = clip(one.example.spans, 0.0, duration_s)
        rng = np.random.default_rng(prompt_seed(self.seed, one.place))
        start_s = float(rng.uniform(0.0, duration_s - covered_s(true)))
        other = [Span(start_s, start_s + covered_s(true))]
        try:
            return self.verifier.look_at(one.asked, true), self.verifier.look_at(one.asked, other)
        except VideoError as error:
            problems.append(f"close look: {error}")
            return None
