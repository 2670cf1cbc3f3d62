"""Several answers to every example, drawn from one prefill each, appended to a file that survives `kill -9`."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from zoomzero.answer.ahead import one_batch_ahead
from zoomzero.config import ModelSettings, Settings
from zoomzero.data.example import Example
from zoomzero.errors import ConfigError, DataError, ModelError, VideoError
from zoomzero.files import write_whole
from zoomzero.policy.base import Completion, Policy, Sampling
from zoomzero.policy.prefix import write_many
from zoomzero.prompts import option_labels
from zoomzero.train.rollouts.prompted import Prompted, Prompter, read_completion
from zoomzero.train.rollouts.stream import prompt_seed
from zoomzero.video.cache import FrameCache

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


@dataclass(frozen=True, slots=True)
class _Unreadable:
    """An example the model cannot be asked about, and why."""

    example: Example
    error: str


@dataclass(slots=True)
class Sampler:
    """Draws answers.

    Args:
        policy: the model.
        model_settings: how it is asked: as in the coarse pass.
        settings: how it is drawn from.
    """

    policy: Policy
    model_settings: ModelSettings
    settings: SampleSettings
    _ask: Prompter = field(init=False)
    _unreadable: dict[str, str] = field(init=False, default_factory=dict)  # video -> why

    def __post_init__(self) -> None:
        cache = FrameCache(self.settings.frame_cache_mb << 20)
        self._ask = Prompter(self.policy, self.model_settings, cache, self.settings.timeout_s)

    def rows(self, examples: Sequence[tuple[int, Example]]) -> Iterator[list[list[dict[str, Any]]]]:
        """Yield, for every few examples, the rows of each: n answers, or one error.

        The next examples' frames are decoded while the model works.

        Args:
            examples: with their places in the whole file, from which their random numbers follow.
        """
        size = self.settings.at_once
        batches = [examples[first : first + size] for first in range(0, len(examples), size)]
        with closing(one_batch_ahead(batches, self._ready)) as coming:
            for ready in coming:
                yield self._answers(ready)

    def _ready(self, placed: tuple[int, Example]) -> Prompted | _Unreadable:
        place, example = placed
        if example.video not in self._unreadable:
            try:
                return self._ask(place, example)
            except VideoError as error:
                self._unreadable[example.video] = str(error)  # its other questions need not wait for it again
        return _Unreadable(example, self._unreadable[example.video])

    def _answers(self, ready: Sequence[Prompted | _Unreadable]) -> list[list[dict[str, Any]]]:
        can = [one for one in ready if isinstance(one, Prompted)]
        rules = self.settings
        limit = rules.max_new_tokens or self.model_settings.max_new_tokens
        samplings = [Sampling(rules.temperature, rules.top_p, limit, prompt_seed(rules.seed, one.place)) for one in can]
        drawn = iter(write_many(self.policy, [one.chat for one in can], rules.n, samplings))
        return [
            self._rows_of(one, next(drawn).completions)
            if isinstance(one, Prompted)
            else [{"id": one.example.id, "error": one.error}]
            for one in ready
        ]

    def _rows_of(self, one: Prompted, completions: Sequence[Completion]) -> list[dict[str, Any]]:
        example, labels = one.example, option_labels(len(one.example.options))
        rows = []
        for number, completion in enumerate(completions):
            if any(map(math.isnan, completion.logprobs or ())):
                fix = "use --dtype float32; if that does not help, its weights are damaged"
                raise ModelError(self.policy.name, "its probabilities are not numbers (NaN)", fix)
            reading = read_completion(one, completion.text)
            answer = reading.answer if not labels else None if reading.option is None else labels[reading.option]
            spans = [list(span) for span in reading.spans]
            row = {"id": example.id, "sample": number, "answer": answer, "spans": spans, "text": completion.text}
            rows.append(row | {"finished": completion.finished})
        return rows


def sample(
    load: Callable[[], tuple[Policy, ModelSettings]],
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
    write_whole(record, json.dumps(identity, indent=1) + "\n")


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
