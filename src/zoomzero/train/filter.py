"""`zoomzero filter`: examples in, those worth learning from out, with everything that was decided on record.

Beside the kept examples `OUT` lie `OUT.manifest.json` and `OUT.filter.json`: settings, counts, the difficulty and
verdict of every example.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from zoomzero.benchmarks.predictions import read_samples
from zoomzero.config import ModelSettings, Settings, settings_hash
from zoomzero.data.annotation import Question, sha256
from zoomzero.data.difficulty import KEPT, DifficultySettings, Judged, counts, judge
from zoomzero.data.example import Example, read_examples, write_examples
from zoomzero.data.manifest import LeakReport, find_leaks, make_manifest, write_manifest
from zoomzero.errors import ConfigError
from zoomzero.files import write_whole
from zoomzero.train.rollouts.sample import Progress, SampleSettings, sample

if TYPE_CHECKING:
    from zoomzero.policy.local.qwen import QwenPolicy


class OfflineFilterSettings(Settings):
    """Which examples are kept, and how answers to them are drawn."""

    rule: DifficultySettings = Field(DifficultySettings(), description="The thresholds.")
    sampling: SampleSettings = Field(SampleSettings(), description="Where answers are drawn here (--model).")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A model to draw answers with: `load` gives it, `identity` is what its answers depend on, `file` gets them."""

    name: str
    load: Callable[[], tuple[QwenPolicy, ModelSettings]]
    identity: Mapping[str, Any]
    file: Path


@dataclass(frozen=True, slots=True)
class FilterReport:
    """What was decided, and from what.

    `answered_by` names the predictions files or the model; `faults` counts what the predictions say wrongly.
    """

    source: str
    out: str
    answered_by: tuple[str, ...]
    settings: OfflineFilterSettings
    judged: tuple[Judged, ...]
    leaks: LeakReport | None
    faults: Mapping[str, int]

    @property
    def counts(self) -> dict[str, int]:
        """How many were kept, and dropped for each reason."""
        return counts(self.judged)

    def to_dict(self) -> dict[str, Any]:
        """Return everything but the examples' own content as plain values."""
        return {
            "source": self.source,
            "source_sha256": sha256(self.source),
            "out": self.out,
            "answered_by": list(self.answered_by),
            "settings": self.settings.model_dump(mode="json"),
            "settings_hash": settings_hash(self.settings),
            "examples": len(self.judged),
            "counts": self.counts,
            "faults": {name: count for name, count in self.faults.items() if count},
            "leaks": self.leaks.to_dict() if self.leaks else None,
        }


def filter_examples(
    source: str | Path,
    out: str | Path,
    settings: OfflineFilterSettings,
    *,
    predictions: Sequence[str | Path] = (),
    drawn: Drawn | None = None,
    without: Sequence[str | Path] = (),
    progress: Progress | None = None,
) -> FilterReport:
    """Judge examples and write those worth keeping.

    Args:
        source: the examples file.
        out: the examples file to write; `.manifest.json` and `.filter.json` are written beside it.
        settings: the thresholds, and how answers are drawn.
        predictions: files with several answers to each example; or
        drawn: a model to draw them with. Without either only what leaks is dropped.
        without: manifests or examples files of evaluations; what they hold is dropped.
        progress: called with (examples answered, examples in all) while answers are drawn.

    Raises:
        ConfigError: nothing to filter by, or `out` cannot be written. DataError: a file cannot be read.
        VideoError: too many videos cannot be read. ModelError: the model cannot be loaded.
    """
    source, out = Path(source), Path(out)
    _check(source, out, predictions, drawn, without)
    examples = read_examples(source)
    leaks = find_leaks(examples, without) if without else None
    leaked = leaks.leaked_ids if leaks else frozenset()
    files = [Path(one) for one in predictions]
    if drawn is not None:
        sample(
            drawn.load, examples, settings.sampling, drawn.file, dict(drawn.identity), skip=leaked, progress=progress
        )
        files = [drawn.file]
    judged, faults = _judge(examples, files, leaks, settings.rule)
    named = (drawn.name,) if drawn is not None else tuple(map(str, files))
    report = FilterReport(str(source), str(out), named, settings, judged, leaks, faults)
    _write(report, out, [source, *files])
    return report


def _check(
    source: Path, out: Path, predictions: Sequence[str | Path], drawn: Drawn | None, without: Sequence[str | Path]
) -> None:
    if not (predictions or drawn or without):
        fix = "give --predictions FILE, --model MODEL or --without MANIFEST"
        raise ConfigError("filter", "nothing says what to drop", fix)
    if predictions and drawn:
        raise ConfigError("--predictions", "and --model both give answers", "give one of the two")
    if out.exists() and source.exists() and out.samefile(source):
        raise ConfigError("--out", f"{out} is the file that is read", "give another one")
    if out.is_dir():
        raise ConfigError("--out", f"{out} is a directory", "give the name of a file")
    if not out.absolute().parent.is_dir() or not os.access(out.absolute().parent, os.W_OK):
        raise ConfigError("--out", f"nothing can be written to {out.parent}", "make it, or give another folder")


def _judge(
    examples: Sequence[Example], files: Sequence[Path], leaks: LeakReport | None, rule: DifficultySettings
) -> tuple[tuple[Judged, ...], Mapping[str, int]]:
    """Return the verdicts in the file's order; without answers everything that does not leak is kept."""
    found = {}
    for leak in leaks.leaks if leaks else ():
        asked = ", the same question" if leak.same_question else ""
        found[leak.example_id] = f"{leak.evaluation}: the same {leak.by}{asked}"
    if not files:
        kept = (Judged(e, "leaks", detail=found[e.id]) if e.id in found else Judged(e, KEPT) for e in examples)
        return tuple(kept), {}
    answers = read_samples(files, [_question(one) for one in examples])
    judged = (
        Judged(one, "leaks", detail=found[one.id])
        if one.id in found
        else judge(one, answers.rows.get(one.id, ()), rule, answers.errors.get(one.id, ""))
        for one in examples
    )
    return tuple(judged), answers.faults


def _question(one: Example) -> Question:
    return Question(one.id, one.video, one.question, one.options, one.answer, one.spans, one.duration_s)


def _write(report: FilterReport, out: Path, sources: Sequence[Path]) -> None:
    kept = [_from(one.example, out) for one in report.judged if one.kept]
    write_examples(out, kept)
    notes = {f"dropped_{reason}": count for reason, count in report.counts.items() if reason != KEPT and count}
    write_manifest(out, make_manifest(out, kept, sources=sources, notes=notes))
    items = [
        {
            "id": one.example.id,
            "verdict": one.verdict,
            **({"detail": one.detail} if one.detail else {}),
            **(asdict(one.difficulty) if one.difficulty else {}),
        }
        for one in report.judged
    ]
    write_whole(record_path(out), json.dumps({**report.to_dict(), "items": items}, indent=1) + "\n")


def record_path(out: str | Path) -> Path:
    """Return where the record of a filtered examples file lies."""
    return Path(f"{out}.filter.json")


def _from(example: Example, out: Path) -> Example:
    """Return an example whose video is found from the new file: below its folder, or from here, as a relative path."""
    video, folder = Path(example.video), out.absolute().parent
    if video.is_absolute() and not video.is_relative_to(folder):
        return example
    return replace(example, video=Path(os.path.relpath(video.absolute(), folder)).as_posix())
