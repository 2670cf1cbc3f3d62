"""Rollouts: examples in, groups of judged completions out.

One prefill per prompt, G completions drawn against it, one scoring batch for all close looks, rewards, and an advantage
for every token. Groups that teach nothing are dropped and replaced (online filtering).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

from zoomzero.config import ModelSettings
from zoomzero.data.example import Example
from zoomzero.errors import ServerError, TrainingError, VideoError
from zoomzero.policy.base import Sampling, TokenCompletion, Turn
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.prompts import Reading, answer_token_mask, option_labels
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult, right_option, zoom_hard, zoom_written
from zoomzero.train.credit.rewards import consensus_spans, reward_values
from zoomzero.train.rollouts.credited import credited, teaches
from zoomzero.train.rollouts.engine import RolloutEngine
from zoomzero.train.rollouts.prompted import Prompted, Prompter, read_completion
from zoomzero.train.rollouts.record import Rollout, RolloutGroup
from zoomzero.train.rollouts.stream import ExampleStream, prompt_seed
from zoomzero.train.rollouts.verify import Verifier
from zoomzero.train.rollouts.zoom_frames import ZoomFrames, ZoomPrompts
from zoomzero.train.settings import GrpoSettings
from zoomzero.train.stopwatch import Stopwatch
from zoomzero.video.cache import FrameCache
from zoomzero.video.types import Clip

LEAST_SEEN = 20  # examples before a share of unreadable ones means anything


@dataclass(slots=True)
class Tally:
    """What happened while batches were collected, for the log; `take` starts it again."""

    drawn: int = 0
    dropped: int = 0
    filled: int = 0  # dropped groups that were learned from all the same, for want of better ones
    unreadable: list[str] = field(default_factory=list)
    control_prompts: int = 0  # examples whose true spans are looked at
    controls: int = 0  # those of them that decoded
    true_right: int = 0
    random_right: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Written:
    """Completions of some prompts, whose close looks are being decoded; none of these without a verifier."""

    prompted: Sequence[Prompted]
    completions: Sequence[Sequence[TokenCompletion]]
    readings: Sequence[Sequence[Reading]]
    looked: Sequence[Future[ZoomPrompts]]


class RolloutCollector:
    """Draws, verifies and rewards.

    Args:
        engine: draws completions.
        policy: tells geometry, and asks in the passes' words.
        verifier: judges spans; None: no zoom reward.
        stream: where examples come from.
        settings: of the run.
        model_settings: how the model is asked.
        watch: gets the seconds.
    """

    decodes_ahead = True  # bench/pipeline.py compares both ways

    def __init__(
        self,
        engine: RolloutEngine,
        policy: QwenPolicy,
        verifier: Verifier | None,
        stream: ExampleStream[Example],
        settings: GrpoSettings,
        model_settings: ModelSettings,
        watch: Stopwatch,
    ) -> None:
        self.engine, self.policy, self.verifier, self.stream = engine, policy, verifier, stream
        self.settings, self.watch = settings, watch
        self.cache = FrameCache(settings.data.frame_cache_mb << 20)
        self.ask = Prompter(
            policy, model_settings, self.cache, settings.data.timeout_s, settings.rollout.coarse_frames, settings.seed
        )
        self.tally = Tally()
        self.seen = self.unreadable = 0
        self.prompted: dict[int, Prompted] = {}  # of the groups that were kept last, by place
        threads = min(settings.rollout.prompts_at_once, os.cpu_count() or 1)
        self.looks = None if verifier is None else ZoomFrames(verifier, settings.seed, threads)
        self._ahead = ThreadPoolExecutor(threads, "decode-ahead")
        self._coming: dict[int, Future[Prompted]] = {}  # by place: what is decoded in the background
        drawing = settings.rollout.server.concurrency if settings.rollout.server is not None else 1
        self._drawing = ThreadPoolExecutor(drawing, "draw-ahead")
        self._drawn: dict[int, Future[list[TokenCompletion]]] = {}  # by place: what is drawn in the background

    def close(self) -> None:
        """Let go of what is decoded in the background."""
        for threads in (self._drawing, self._ahead):
            threads.shutdown(wait=False, cancel_futures=True)
        self.engine.close()
        if self.looks is not None:
            self.looks.close()

    # --- what the model is asked -----------------------------------------------------------------------------------

    def take(self, count: int, step: int) -> list[Prompted]:
        """Return the next `count` readable examples; unreadable ones are skipped, counted and listed.

        Raises:
            TrainingError: more of them than `data.max_unreadable` cannot be read.
        """
        prompted: list[Prompted] = []
        in_a_row = 0
        while len(prompted) < count:
            place, example = self.stream.take(1)[0]
            self.seen += 1
            try:
                with self.watch.phase("decode"):
                    coming = self._coming.pop(place, None)
                    prompted.append(self.ask(place, example) if coming is None else coming.result())
                in_a_row = 0
            except VideoError as error:
                self._drawn.pop(place, None)  # it failed for the same reason
                in_a_row += 1
                self._count_unreadable(str(error), step, none_left=in_a_row >= len(self.stream.examples))
        self._decode_ahead(count if self.decodes_ahead else 0)
        return prompted

    def _decode_ahead(self, count: int) -> None:
        """Begin to decode the next examples: that goes on while a batch is written and learned from."""
        for place, example in self.stream.peek(count):
            if place not in self._coming:
                self._coming[place] = self._ahead.submit(self.ask, place, example)

    def _draw_ahead(self, count: int) -> None:
        """Begin to draw for the next examples: a server does that while a batch is learned from."""
        self._decode_ahead(count)
        for place, _ in self.stream.peek(count):
            if place not in self._drawn:
                self._drawn[place] = self._drawing.submit(self._draw_one, self._coming[place])

    def _draw_one(self, coming: Future[Prompted]) -> list[TokenCompletion]:
        one = coming.result()
        return self.engine.generate([one.chat], self.settings.rollout.num_generations, [self._sampling(one)])[0]

    def prompt_of(self, group: RolloutGroup) -> Prompted:
        """Return what a group's model was asked; after a resume its video is decoded again.

        Raises:
            VideoError: it cannot be read any more.
        """
        if group.index not in self.prompted:
            with self.watch.phase("decode"):
                self.prompted[group.index] = self.ask(group.index, group.example)
        return self.prompted[group.index]

    def _count_unreadable(self, message: str, step: int, *, none_left: bool) -> None:
        self.unreadable += 1
        self.tally.unreadable.append(message)
        enough = self.seen >= min(LEAST_SEEN, len(self.stream.examples))
        if none_left or (enough and self.unreadable > self.settings.data.max_unreadable * self.seen):
            reason = f"{self.unreadable} of {self.seen} videos cannot be read, the last: {message}"
            raise TrainingError(step, reason, "mend or remove them, or raise data.max_unreadable")

    # --- collecting ------------------------------------------------------------------------------------------------

    def collect(self, count: int, step: int) -> tuple[list[RolloutGroup], list[RolloutGroup]]:
        """Return `count` groups to learn from, and those that were dropped.

        Args:
            count: prompts.
            step: updates made so far.

        Raises:
            TrainingError: too many unreadable videos.
            ServerError: the server that draws is lost; the next call meets the same examples.
        """
        before = self.stream.taken, self.seen, self.unreadable
        try:
            found = self._collect(count, step)
        except ServerError:
            self.stream.taken, self.seen, self.unreadable = before
            raise
        if self.engine.draws_ahead:
            self._draw_ahead(count)
        return found

    def _collect(self, count: int, step: int) -> tuple[list[RolloutGroup], list[RolloutGroup]]:
        rules = self.settings.rollout.filter
        kept: list[RolloutGroup] = []
        dropped: list[RolloutGroup] = []
        self.prompted.clear()
        for _ in range(rules.max_tries if rules.enabled else 1):
            prompted = self.take(count - len(kept), step)
            for one, group in zip(prompted, self.roll(prompted, step), strict=True):
                (kept if group.kept else dropped).append(group)
                if group.kept:
                    self.prompted[one.place] = one
            if len(kept) == count:
                break
        short = count - len(kept)
        self.tally.drawn += len(kept) + len(dropped)
        self.tally.dropped += len(dropped) - short
        self.tally.filled += short
        kept += dropped[len(dropped) - short :]
        return sorted(kept, key=lambda g: g.index), dropped[: len(dropped) - short]

    def roll(self, prompted: Sequence[Prompted], step: int) -> list[RolloutGroup]:
        """Draw, verify and reward the completions of some prompts.

        While some prompts are written after, the frames that those before them named are decoded.
        """
        at_once = self.settings.rollout.prompts_at_once
        groups: list[RolloutGroup] = []
        waiting: _Written | None = None
        for first in range(0, len(prompted), at_once):
            written = self._write(prompted[first : first + at_once])
            if waiting is not None:
                groups += self._groups(waiting, step)
            waiting = written
        return groups if waiting is None else groups + self._groups(waiting, step)

    def _write(self, prompted: Sequence[Prompted]) -> _Written:
        """Draw completions and begin to decode what they name."""
        drawn = self._draw(prompted)
        readings = [
            [read_completion(one, completion.text) for completion in completions]
            for one, completions in zip(prompted, drawn, strict=True)
        ]
        return _Written(prompted, drawn, readings, self._start_looks(prompted, readings, controls=True))

    def _draw(self, prompted: Sequence[Prompted]) -> list[list[TokenCompletion]]:
        """Return the completions of some prompts: those that were drawn ahead, and the rest drawn now."""
        waiting = {one.place: self._drawn.pop(one.place) for one in prompted if one.place in self._drawn}
        now = [one for one in prompted if one.place not in waiting]
        drawn: dict[int, list[TokenCompletion]] = {}
        if now:
            count, samplings = self.settings.rollout.num_generations, [self._sampling(one) for one in now]
            fresh = self.engine.generate([one.chat for one in now], count, samplings)
            drawn = dict(zip([one.place for one in now], fresh, strict=True))
        with self.watch.phase("generate"):
            drawn |= {place: future.result() for place, future in waiting.items()}
        return [drawn[one.place] for one in prompted]

    def _sampling(self, one: Prompted) -> Sampling:
        rules = self.settings.rollout
        seed = prompt_seed(self.settings.seed, one.place)
        return Sampling(rules.temperature, rules.top_p, rules.max_new_tokens, seed)

    def _groups(self, written: _Written, step: int) -> list[RolloutGroup]:
        """Verify and reward what was written."""
        looks = self._judge(written.prompted, written.readings, written.looked)
        return [
            self._group(*parts, step)
            for parts in zip(written.prompted, written.completions, written.readings, looks, strict=True)
        ]

    # --- close looks -----------------------------------------------------------------------------------------------

    def look(
        self, prompted: Sequence[Prompted], readings: Sequence[Sequence[Reading]]
    ) -> list[list[ZoomResult | None]]:
        """Judge the spans of all responses in one batch; None for each when there is no verifier."""
        return self._judge(prompted, readings, self._start_looks(prompted, readings, controls=False))

    def _start_looks(
        self, prompted: Sequence[Prompted], readings: Sequence[Sequence[Reading]], *, controls: bool
    ) -> list[Future[ZoomPrompts]]:
        """Begin to decode; with `controls`, also the true spans of the batch's first few examples that have any."""
        if self.looks is None:
            return []
        coming = []
        for one, group in zip(prompted, readings, strict=True):
            wanted = controls and self.tally.control_prompts < self.settings.rollout.controls
            wanted = wanted and self.looks.has_controls(one)
            self.tally.control_prompts += wanted
            coming.append(self.looks.start(one, group, controls=wanted))
        return coming

    def _judge(
        self, prompted: Sequence[Prompted], readings: Sequence[Sequence[Reading]], coming: Sequence[Future[ZoomPrompts]]
    ) -> list[list[ZoomResult | None]]:
        """Wait for the frames and judge all of them, controls for the log."""
        if self.verifier is None:
            return [[None] * len(group) for group in readings]
        with self.watch.phase("decode"):
            looked = [future.result() for future in coming]
        self.tally.unreadable += [problem for one in looked for problem in one.problems]
        found = iter(self.verifier.judge([prompt for one in looked for prompt in one.prompts]))
        pairs = [(p.example, one.controls) for p, one in zip(prompted, looked, strict=True) if one.controls is not None]
        verdicts = iter(self.verifier.judge([prompt for _, controls in pairs for prompt in controls]))
        for example, _ in pairs:
            self.tally.controls += 1
            self.tally.true_right += chose_right(next(verdicts), example)
            self.tally.random_right += chose_right(next(verdicts), example)
        return [[next(found) for _ in group] for group in readings]

    # --- rewards and credit ----------------------------------------------------------------------------------------

    def _group(
        self,
        one: Prompted,
        completions: Sequence[TokenCompletion],
        readings: Sequence[Reading],
        looks: Sequence[ZoomResult | None],
        step: int,
    ) -> RolloutGroup:
        labels = option_labels(len(one.example.options))
        reward = self.settings.objective.reward
        pseudo = pseudo_truth(one.example, readings, looks) if reward.consensus else ()
        truth = replace(one.example, spans=pseudo) if pseudo else one.example
        rollouts = [
            Rollout(
                text=completion.text,
                token_ids=completion.token_ids,
                offsets=completion.offsets,
                finished=completion.finished,
                option=labels[reading.option] if reading.option is not None else None,
                spans=reading.spans,
                problems=reading.problems,
                answer_mask=answer_token_mask(reading, completion.offsets),
                rewards=reward_values(completion.text, reading, truth, reward, mode=one.asked.mode, zoom=look),
                zoom=look,
                server_log_probs=completion.logprobs if completion.drawn_at is not None else None,
                drawn_at=completion.drawn_at,
            )
            for completion, reading, look in zip(completions, readings, looks, strict=True)
        ]
        group = RolloutGroup(
            index=one.place,
            step=step,
            example=one.example,
            prompt=prompt_text(one.chat),
            rollouts=tuple(rollouts),
            kept=teaches(rollouts, self.settings),
            pseudo_truth=pseudo,
        )
        return credited([group], self.settings)[0]


def pseudo_truth(example: Example, readings: Sequence[Reading], looks: Sequence[ZoomResult | None]) -> tuple[Span, ...]:
    """Return what a group's verified responses agree on, for an example without spans; empty for others.

    A response is verified when it names the right option, and so does the zoom pass that sees its spans alone.
    """
    if example.spans or not example.options:
        return ()
    right = right_option(example)
    verified = [
        reading.spans
        for reading, look in zip(readings, looks, strict=True)
        if reading.option == right and look is not None and look.on_span and chose_right(look, example)
    ]
    return consensus_spans(verified)


def chose_right(look: ZoomResult, example: Example) -> bool:
    """Return whether the option that a look finds best, or names exactly, is the right one."""
    if look.option_log_probs is not None:
        return bool(zoom_hard(look.option_log_probs, right_option(example)))
    return bool(zoom_written(look.text or "", example))


def prompt_text(chat: Sequence[Turn]) -> str:
    """Return a chat as text, its clips as one line each."""
    return "".join(_clip_line(part) if isinstance(part, Clip) else part for turn in chat for part in turn.parts)


def _clip_line(clip: Clip) -> str:
    height, width = clip.frames.shape[1:3]
    return f"[{len(clip.times_s)} frames of {width}x{height}, {clip.times_s[0]:.1f}-{clip.times_s[-1]:.1f} s]\n"
