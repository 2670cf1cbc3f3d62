"""What a benchmark is: where its annotation lies, how it is read, what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zoomzero.benchmarks.metrics import BoolArray, FloatArray, Measure
from zoomzero.benchmarks.predictions import Prediction, Predictions, ResponseRule
from zoomzero.data.annotation import Dataset, Question
from zoomzero.errors import ConfigError, DataError
from zoomzero.spans import Span, iop, iou


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How annotation is read where it leaves something open.

    Args:
        seed: draws the options of questions made from captions.
        fps: frame rate of frame numbers, for annotation in frames; None: the data set's own.
    """

    seed: int = 0
    fps: float | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """The annotation files of one split."""

    files: tuple[Path, ...]
    split: str

    @property
    def folder(self) -> Path:
        """Where the first file lies; its companions are looked for there."""
        return self.files[0].parent


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Questions side by side with predictions, in the annotation's order; every array is (n,).

    `rows` holds None for a missing prediction. `present`: there is a row and it reports no failure. `answered`: it
    names an option; `right`: the right one. `grounded`: it gives at least one span.
    """

    questions: tuple[Question, ...]
    rows: tuple[Prediction | None, ...]
    present: BoolArray
    answered: BoolArray
    right: FloatArray
    grounded: BoolArray

    def values(self, of: Callable[[Question, Prediction], float]) -> FloatArray:
        """Return `of` for every question with a row that has not failed, 0 for the others."""
        return np.array(
            [
                of(question, row) if row is not None and here else 0.0
                for question, row, here in zip(self.questions, self.rows, self.present, strict=True)
            ],
            dtype=float,
        )

    def span_values(self, of: Callable[[Sequence[Span], tuple[Span, ...]], float]) -> FloatArray:
        """Return `of(true spans, predicted spans)` for every grounded question, 0 for the others."""
        return self.values(lambda question, row: of(question.spans, row.spans) if row.spans else 0.0)

    def asked_to_answer(self) -> BoolArray:
        """Return the rows an accuracy counts: all present ones, none when the file answers no question at all."""
        return self.present & self.answered.any()


def pair(questions: Sequence[Question], predictions: Predictions) -> Pairs:
    """Put predictions beside their questions."""
    rows = tuple(predictions.rows.get(question.id) for question in questions)
    present = np.array([row is not None and not row.failed for row in rows], dtype=bool)
    answered = np.array([row is not None and row.answer is not None for row in rows], dtype=bool) & present
    right = [row is not None and row.answer in question.right for question, row in zip(questions, rows, strict=True)]
    grounded = np.array([row is not None and bool(row.spans) for row in rows], dtype=bool) & present
    return Pairs(tuple(questions), rows, present, answered, np.array(right, dtype=float) * present, grounded)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark.

    Args:
        name: what the user types.
        about: one line for `--help` and errors.
        splits: split name -> file name patterns, tried in order; the first that matches is read.
        default_split: taken when a folder has several.
        read: annotation files -> questions.
        measure: the official measures.
        groups: the tables printed, by the names in `Question.groups`.
        headline: the measures people report, shown first; by default the first few of `measure`.
        response_rule: how the official evaluator finds the letter in a free response; for a question answered in
            words, the annotated answer itself when it takes the response for it.
        scores_answers, scores_spans: what a prediction must give; the rest is not missed when absent.
    """

    name: str
    about: str
    splits: Mapping[str, tuple[str, ...]]
    default_split: str
    read: Callable[[Source, ReadOptions], Dataset]
    measure: Callable[[Pairs], list[Measure]]
    groups: tuple[str, ...] = ()
    headline: tuple[str, ...] = ()
    response_rule: ResponseRule | None = None
    scores_answers: bool = True
    scores_spans: bool = True

    def load(self, data: str | Path, split: str | None = None, options: ReadOptions | None = None) -> Dataset:
        """Read the questions of a split.

        Args:
            data: the annotation's folder as released, or one of its files.
            split: which split; by default the only one there, else `default_split`.
            options: see `ReadOptions`.

        Raises:
            ConfigError: no such split.
            DataError: no annotation there, or not in the official format.
        """
        return self.read(self.find(Path(data), split), options or ReadOptions())

    def find(self, data: Path, split: str | None) -> Source:
        """Return the annotation files of a split."""
        if split is not None and split not in self.splits:
            raise ConfigError("--split", f"{self.name} has no split {split!r}", f"choose from {', '.join(self.splits)}")
        if data.is_file():
            return Source((data,), split or self._split_of(data))
        if not data.is_dir():
            raise DataError(data, "path", f"does not exist; give the folder of {self.name}'s annotation")
        found = {name: files for name in self.splits if (files := _first_match(data, self.splits[name]))}
        chosen = split or (self.default_split if self.default_split in found or len(found) != 1 else next(iter(found)))
        if chosen not in found:
            names = " or ".join(self.splits[chosen])
            have = f"; it has {', '.join(found)}" if found else ""
            raise DataError(data, f"split {chosen}", f"there is no {names} in this folder{have}")
        return Source(found[chosen], chosen)

    def _split_of(self, file: Path) -> str:
        for name, patterns in self.splits.items():
            if any(file.match(pattern) for pattern in patterns):
                return name
        return self.default_split


def _first_match(folder: Path, patterns: Sequence[str]) -> tuple[Path, ...]:
    for pattern in patterns:
        if files := tuple(sorted(path for path in folder.glob(pattern) if path.is_file())):
            return files
    return ()


# --- measures several benchmarks share ------------------------------------------------------------------


def accuracy(pairs: Pairs, name: str, counted: BoolArray, also: tuple[str, ...] = (), scale: float = 100.0) -> Measure:
    """Return the share of right answers."""
    return Measure(name, pairs.right, counted, scale=scale, also=also)


def share_at(values: FloatArray, threshold: float) -> FloatArray:
    """Return (n,) 1 where a value reaches the threshold (inclusive)."""
    return (values >= threshold).astype(float)


def set_measures(bench: Benchmark, pairs: Pairs) -> list[Measure]:
    """Return the `union` measures: spans as sets, every question counted, percent, the same for every benchmark.

    IoU and IoP of the merged predicted spans with the merged true ones; `Acc@GQA` is a right answer with IoP >= 0.5.
    What a benchmark does not ask for (answers, spans) is measured only when the predictions give it.

    Source: docs/reference/benchmarks.md.
    """
    all_ = np.ones(len(pairs.questions), dtype=bool)
    true = np.array([bool(question.spans) for question in pairs.questions], dtype=bool)
    known = any(question.right for question in pairs.questions)
    has_answers = known and (bench.scores_answers or bool(pairs.answered.any()))
    has_spans = bool(true.any()) and (bench.scores_spans or bool(pairs.grounded.any()))
    measures = [Measure("Acc@QA", pairs.right, all_)] if has_answers else []
    if not has_spans:
        return measures
    ious = pairs.span_values(lambda truths, predicted: iou(predicted, truths))
    iops = pairs.span_values(lambda truths, predicted: iop(predicted, truths))
    if has_answers:
        measures.append(Measure("Acc@GQA", pairs.right * share_at(iops, 0.5), all_, true))
    for name, values in (("IoU", ious), ("IoP", iops)):
        measures.append(Measure(f"m{name}", values, all_, true))
        measures += [Measure(f"{name}@{t}", share_at(values, t), all_, true) for t in (0.3, 0.5)]
    return measures
