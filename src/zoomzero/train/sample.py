"""Several answers to every example, drawn from one prefill each, appended to a file that survives `kill -9`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from pydantic import Field

from zoomzero.config import ModelSettings, Settings
from zoomzero.data.example import Example
from zoomzero.errors import ConfigError, DataError, ModelError, VideoError
from zoomzero.passes import Asked
from zoomzero.policy.base import Completion, Sampling, Turn
from zoomzero.prompts import option_labels, read_response
from zoomzero.train.stream import prompt_seed
from zoomzero.video.cache import FrameCache
from zoomzero.video.probe import probe
from zoomzero.video.types import VideoInfo

if TYPE_CHECKING:
    from zoomzero.policy.qwen import QwenPolicy

FREE = ("at_once", "max_unreadable", "timeout_s", "frame_cache_mb")  # settings that change no answer
NEW_FILE = "give another --samples-file, or delete it to draw anew"
Progress = Callable[[int, int], None]


class SampleSettings(Settings):
    """How answers are drawn."""

    n: int = Field(8, ge=1, description="Answers to each example.")
    temperature: float = Field(1.0, gt=0, description="Of sampling.")
    top_p: float = Field(1.0, gt=0, le=1, description="Nucleus sampling; 1 draws from the model itself.")
    max_new_tokens: int | None = Field(None, ge=1, description="Tokens of an answer; by default the model's own limit.")
    seed: int = Field(0, ge=0, description="The same seed draws the same answers, in one go or resumed.")
    at_once: int = Field(4, ge=1, description="Examples whose answers are drawn together.")
    max_unreadable: float = Field(0.05, ge=0, le=1, description="Share of unreadable videos at which sampling stops.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds one decoding job may take.")
    frame_cache_mb: int = Field(
        512, ge=0, description="Decoded frames kept in memory, for several questions on a video."
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Ready:
    """An example with what the model is asked, or with why it cannot be; `place` is its place in the file."""

    place: int
    example: Example
    chat: tuple[Turn, ...] = ()
    asked: Asked | None = None
    error: str = ""


@dataclass(slots=True)
class Sampler:
    """Draws answers.

    Args:
        policy: the model.
        model_settings: how it is asked: as in the coarse pass.
        settings: how it is drawn from.
    """

    policy: QwenPolicy
    model_settings: ModelSettings
    settings: SampleSettings
    _cache: FrameCache = field(init=False)
    _infos: dict[str, VideoInfo | VideoError] = field(init=False, default_factory=dict)
    _stopped: Event = field(init=False, default_factory=Event)

    def __post_init__(self) -> None:
        self._cache = FrameCache(self.settings.frame_cache_mb << 20)

    def rows(self, examples: Sequence[tuple[int, Example]]) -> Iterator[list[list[dict[str, Any]]]]:
        """Yield, for every few examples, the rows of each: n answers, or one error.

        The next examples' frames are decoded while the model works.

        Args:
            examples: with their places in the whole file, from which their random numbers follow.
        """
        size = self.settings.at_once
        batches = [examples[first : first + size] for first in range(0, len(examples), size)]
        with ThreadPoolExecutor(1, "decode-ahead") as ahead:
            try:
                coming = ahead.submit(self._prepare, batches[0]) if batches else None
                for number in range(len(batches)):
                    assert coming is not None
                    ready = coming.result()
                    coming = ahead.submit(self._prepare, batches[number + 1]) if number + 1 < len(batches) else None
                    yield self._answers(ready)
            finally:
                self._stopped.set()  # an interrupted run waits for one video, not for the whole next batch

    def _prepare(self, batch: Sequence[tuple[int, Example]]) -> list[_Ready]:
        return [self._ready(place, example) for place, example in batch if not self._stopped.is_set()]

    def _ready(self, place: int, example: Example) -> _Ready:
        try:
            info = self._probe(example.video)
            asked = Asked(
                self.policy,
                self.model_settings,
                info,
                example.question,
                example.options,
                cache=self._cache,
                timeout_s=self.settings.timeout_s,
            )
            frames = asked.frames(asked.whole_plan())
        except VideoError as error:
            self._infos[example.video] = error  # its other questions need not wait for it again
            return _Ready(place, example, error=str(error))
        return _Ready(place, example, tuple(asked.writing_chat(frames)[0]), asked)

    def _probe(self, video: str) -> VideoInfo:
        if video not in self._infos:
            self._infos[video] = probe(video, timeout_s=self.settings.timeout_s)
        found = self._infos[video]
        if isinstance(found, VideoError):
            raise found
        return found

    def _answers(self, ready: Sequence[_Ready]) -> list[list[dict[str, Any]]]:
        can = [one for one in ready if one.asked is not None]
        rules = self.settings
        limit = rules.max_new_tokens or self.model_settings.max_new_tokens
        samplings = [Sampling(rules.temperature, rules.top_p, limit, prompt_seed(rules.seed, one.place)) for one in can]
        contexts = self.policy.read_many([one.chat for one in can])
        drawn = iter(self.policy.generate_many(contexts, rules.n, samplings))
        return [
            [{"id": one.example.id, "error": one.error}] if one.asked is None else self._rows_of(one, next(drawn))
            for one in ready
        ]

    def _rows_of(self, one: _Ready, completions: Sequence[Completion]) -> list[dict[str, Any]]:
        assert one.asked is not None
        example, labels = one.example, option_labels(len(one.example.options))
        rows = []
        for number, completion in enumerate(completions):
            if any(map(math.isnan, completion.logprobs)):
                fix = "use --dtype float32; if that does not help, its weights are damaged"
                raise ModelError(self.policy.name, "its probabilities are not numbers (NaN)", fix)
            reading = read_response(completion.text, len(example.options), one.asked.mode, options=example.options)
            answer = reading.answer if not labels else None if reading.option is None else labels[reading.option]
            spans = [list(span) for span in reading.spans]
            row = {"id": example.id, "sample": number, "answer": answer, "spans": spans, "text": completion.text}
            rows.append(row | {"finished": completion.finished})
        return rows


def sample(
    load: Callable[[], tuple[QwenPolicy, ModelSettings]],
    examples: Sequence[Example],
    settings: SampleSettings,
    path: Path,
    identity: dict[str, Any],
    *,
    skip: Set[str] = frozenset(),
    progress: Progress | None = None,
) -> None:
    """Draw n answers to every example that `path` does not hold yet, and append them.

    An example's rows are written together once all are there; what a killed run left half-written is cut off and
    drawn again, with the same random numbers.

    Args:
        load: gives the model and how it is asked; called only when something is left to draw.
        examples: all of the file, in order.
        settings: how to draw.
        path: JSON Lines: `id`, `sample`, `answer`, `spans`, `text`, `finished`; or `id`, `error`.
        identity: what else answers depend on (the model's and the examples' hashes); kept in `path`.run.json.
        skip: ids of examples that need no answers.
        progress: called with (examples done, examples in all).

    Raises:
        ConfigError: `path` holds answers drawn otherwise.
        VideoError: more videos than `max_unreadable` cannot be read.
        ModelError: the model cannot be loaded, or its probabilities are no numbers.
    """
    _claim(path, {**identity, "settings": settings.model_dump(mode="json")})
    done, failed = _resume(path, settings.n)
    wanted = [(place, one) for place, one in enumerate(examples) if one.id not in skip]
    left = [(place, one) for place, one in wanted if one.id not in done and one.id not in failed]
    if not left:
        return
    videos = {one.id: one.video for _, one in wanted}
    unreadable = {videos[id_]: reason for id_, reason in failed.items() if id_ in videos}
    _check_readable(unreadable, set(videos.values()), settings, path)
    count = len(wanted) - len(left)
    if progress:
        progress(count, len(wanted))
    sampler = Sampler(*load(), settings)
    with path.open("ab") as file:
        for groups in sampler.rows(left):
            for rows in groups:
                file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
                count += 1
                if "error" in rows[0]:
                    unreadable[videos[rows[0]["id"]]] = rows[0]["error"]
            file.flush()
            os.fsync(file.fileno())
            if progress:
                progress(count, len(wanted))
            _check_readable(unreadable, set(videos.values()), settings, path)


def _check_readable(unreadable: dict[str, str], videos: set[str], settings: SampleSettings, path: Path) -> None:
    if len(unreadable) > settings.max_unreadable * len(videos):
        first = next(iter(unreadable.values()))
        reason = f"{len(unreadable)} of {len(videos)} videos cannot be read (first {first})"
        fix = f"mend them and remove their lines from {path}, or raise sampling.max_unreadable"
        raise VideoError(path, "sample", reason, fix)


def _claim(path: Path, identity: dict[str, Any]) -> None:
    """Write down how a samples file is made, or check that it was made so."""
    record = Path(f"{path}.run.json")
    if path.is_file() and path.stat().st_size:
        if not record.is_file():
            raise ConfigError("--samples-file", f"{path} has no {record.name} that says how it was drawn", NEW_FILE)
        try:
            before = json.loads(record.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError(record, "file", f"is damaged ({error}); delete it and {path.name}") from error
        changed = _changed(before, identity)
        if changed:
            raise ConfigError("--samples-file", f"{path} was drawn with other {', '.join(changed)}", NEW_FILE)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(f"{record}.partial")
    partial.write_text(json.dumps(identity, indent=1) + "\n", encoding="utf-8")
    partial.replace(record)


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return what differs, settings by their own names; those no answer depends on may."""
    flat = [
        {**one, **{f"sampling.{k}": v for k, v in one["settings"].items() if k not in FREE}} for one in (before, now)
    ]
    return [name for name in flat[1] if name != "settings" and flat[0].get(name) != flat[1][name]]


def _resume(path: Path, n: int) -> tuple[set[str], dict[str, str]]:
    """Cut off what a killed run left unfinished; return the ids that are done, and the errors of those that failed."""
    done: set[str] = set()
    failed: dict[str, str] = {}
    if not path.is_file():
        return done, failed
    whole, at, group = 0, 0, ("", 0)
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            at += len(line)
            if not line.endswith(b"\n"):
                break
            try:
                row = json.loads(line)
                id_ = row["id"]
            except (ValueError, KeyError, TypeError) as error:
                raise DataError(path, f"line {number}", f"is no answer ({error}); remove this line") from error
            if "error" in row:
                failed[id_] = str(row["error"])
                whole, group = at, ("", 0)
                continue
            group = (id_, group[1] + 1) if group[0] == id_ else (id_, 1)
            if group[1] == n:
                done.add(id_)
                whole, group = at, ("", 0)
    if whole < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(whole)
    return done, failed
