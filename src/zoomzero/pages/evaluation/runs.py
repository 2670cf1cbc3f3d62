"""What the evaluation report reads: run folders, the questions they were asked, and every answer beside its truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, pair, set_measures
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.metrics import BoolArray, IntArray, Measure
from zoomzero.benchmarks.predictions import Predictions, read_predictions
from zoomzero.benchmarks.runner.run import RUN_FILE, Row, predictions_path, read_rows, read_run
from zoomzero.data.annotation import Dataset, Question, sha256
from zoomzero.errors import ConfigError, DataError

NEEDED = ("benchmark", "split", "data", "modes", "dataset")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder.

    `record` is its run.json, `chosen` are the ids it was to ask, `notes` say what a reader of its numbers must know.
    """

    number: int
    folder: Path
    record: Mapping[str, Any]
    chosen: frozenset[str]
    notes: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """What it is called among several runs."""
        return f"R{self.number}"


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One mode of one run, its answers beside the questions of its set; every array is (n,).

    `rows` holds what the mode answered, by id, `union` the union measures by name. `chosen` marks the questions it was
    to answer, `counted` those its scores are over: it has a row, or never gets one since the video was not there.
    `skipped` are the latter.
    """

    run: Run
    mode: str
    name: str
    rows: Mapping[str, Row]
    pairs: Pairs
    union: Mapping[str, Measure]
    chosen: BoolArray
    counted: BoolArray
    skipped: BoolArray

    @property
    def names_spans(self) -> bool:
        """Whether the mode is asked for spans at all."""
        return self.mode != "direct"


@dataclass(frozen=True, slots=True, eq=False)
class QuestionSet:
    """The same questions, asked in one or several runs. `clusters` (n,) numbers the questions' videos from 0."""

    name: str
    bench: Benchmark
    questions: tuple[Question, ...]
    clusters: IntArray
    entries: tuple[Entry, ...]
    runs: tuple[Run, ...]

    def mark(self, entry: Entry) -> str:
        """Return the style class that tells an entry from the first run's."""
        return "" if entry.run.number == self.runs[0].number else "hollow"


def read_runs(
    folders: Sequence[str | Path], data: str | Path | None = None, say: Say = lambda text: None
) -> tuple[QuestionSet, ...]:
    """Read runs and the annotation they were asked about; runs with the very same questions share a set.

    Args:
        folders: what `zoomzero eval --out` wrote; a run may be going on.
        data: where the annotation is now; by default where run.json says it was.
        say: called with what is being read.

    Raises:
        ConfigError: no run, or one given twice.
        DataError: no run there, a damaged file, or annotation that is not there any more.
    """
    _check(folders)
    loaded: dict[tuple[Any, ...], Dataset] = {}
    groups: list[tuple[Dataset, list[Run]]] = []
    for number, folder in enumerate(map(Path, folders), 1):
        say(f"reading {folder}")
        record = _record(folder)
        key = (*(record.get(name) for name in ("benchmark", "split", "data", "seed", "fps")),)
        if key not in loaded:
            loaded[key] = _annotation(folder, record, data)
        dataset = loaded[key]
        run = Run(number, folder, record, *_chosen(record, dataset))
        run = replace(run, notes=(*run.notes, *_changed_files(record, dataset)))
        same = [members for other, members in groups if _same_questions(other, dataset)]
        if same:
            same[0].append(run)
        else:
            groups.append((dataset, [run]))
    several = len(folders) > 1
    names = [f"{dataset.name} {dataset.split}" for dataset, _ in groups]
    return tuple(
        _question_set(
            name if names.count(name) == 1 else f"{name} ({', '.join(run.label for run in runs)})",
            dataset,
            runs,
            several,
            say,
        )
        for name, (dataset, runs) in zip(names, groups, strict=True)
    )


def _check(folders: Sequence[str | Path]) -> None:
    if not folders:
        raise ConfigError("RUN", "no run is given", "give the --out of one or more `zoomzero eval`")
    places = [Path(folder).resolve() for folder in folders]
    twice = next((folder for folder, place in zip(folders, places, strict=True) if places.count(place) > 1), None)
    if twice is not None:
        raise ConfigError("RUN", f"{twice} is given twice", "give each run once")


def _record(folder: Path) -> dict[str, Any]:
    record = read_run(folder)
    if missing := [name for name in NEEDED if name not in record]:
        raise DataError(folder / RUN_FILE, "file", f"lacks {', '.join(missing)}; was it written by `zoomzero eval`?")
    return record


def _annotation(folder: Path, record: Mapping[str, Any], data: str | Path | None) -> Dataset:
    """Return all questions of a run's split, read as the run read them."""
    bench = benchmark(record["benchmark"])
    options = ReadOptions(seed=record.get("seed") or 0, fps=record.get("fps"))
    files = [Path(path) for path in record["dataset"].get("files", {})]
    try:
        return bench.read(_source(bench, record, data, files), options)
    except DataError as error:
        reason = f"the annotation cannot be read ({error}); put it back, or say with --data where it is now"
        raise DataError(folder / RUN_FILE, "data", reason) from error


def _source(bench: Benchmark, record: Mapping[str, Any], data: str | Path | None, files: Sequence[Path]) -> Source:
    """Return the annotation's files: those of the folder, or the very file the run was given by its name."""
    by_name = bool(files) and files[0].is_file() and data is None
    try:
        found = bench.find(Path(data or record["data"]), record["split"])
    except DataError:
        if not by_name:
            raise
        return bench.find(files[0], record["split"])
    return bench.find(files[0], record["split"]) if by_name and not set(found.files) <= set(files) else found


def _chosen(record: Mapping[str, Any], dataset: Dataset) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the ids a run was to ask, and a note when that is not known any more."""
    from zoomzero.benchmarks.runner.planning import choose

    sessions = record.get("sessions") or [{}]
    asked = sessions[-1].get("asked", {})
    limit, only = asked.get("limit"), asked.get("only")
    wanted = record["dataset"].get("n")
    try:
        questions = choose(dataset, limit, Path(only) if only else None).questions
    except DataError:
        questions = ()
    if only and len(questions) != wanted:
        note = f"it asked the ids in {only}, which cannot be read any more: only questions that have a row are counted"
        return frozenset(), (note,)
    return frozenset(question.id for question in questions), ()


def _changed_files(record: Mapping[str, Any], dataset: Dataset) -> tuple[str, ...]:
    """Return a note on every annotation file that is not what the run read."""
    then = {Path(path).name: value for path, value in record["dataset"].get("files", {}).items()}
    changed = [path.name for path in dataset.files if then.get(path.name, "") != sha256(path)] if then else []
    told = f"{', '.join(changed)} changed since it ran: its answers are judged by another annotation than it was asked"
    return (told,) if changed else ()


def _same_questions(a: Dataset, b: Dataset) -> bool:
    def asked(one: Question) -> tuple[Any, ...]:
        return one.id, one.question, one.options, one.answer, one.spans

    same_name = (a.name, a.split, len(a.questions)) == (b.name, b.split, len(b.questions))
    return same_name and all(asked(x) == asked(y) for x, y in zip(a.questions, b.questions, strict=True))


# --- answers --------------------------------------------------------------------------------------------


def _question_set(name: str, dataset: Dataset, runs: Sequence[Run], several: bool, say: Say) -> QuestionSet:
    """Put the answers of runs beside the questions any of them was to ask."""
    rows: dict[tuple[int, str], dict[str, Row]] = {}
    for run in runs:
        for mode in run.record["modes"]:
            say(f"reading {run.folder}: {mode}")
            rows[run.number, mode] = {row["id"]: row for row in read_rows(run.folder, mode)}
    known = {question.id for question in dataset.questions}
    noted: list[Run] = []
    wanted: set[str] = set()
    for run in runs:
        answered = {id_ for (number, _), found in rows.items() if number == run.number for id_ in found}
        chosen = run.chosen or frozenset(answered & known)
        strangers = len(answered - known)
        lost = f"{strangers} of its rows are about questions that the annotation does not have: left out"
        noted.append(replace(run, chosen=chosen, notes=(*run.notes, *([lost] if strangers else []))))
        wanted |= chosen
    questions = tuple(question for question in dataset.questions if question.id in wanted)
    bench = benchmark(dataset.name)
    entries = []
    for run in noted:
        for mode in run.record["modes"]:
            title = f"{mode} {run.label}" if several else mode
            say(f"reading {run.folder}: {mode}")
            entries.append(_entry(bench, questions, run, mode, title, rows[run.number, mode]))
    _, clusters = np.unique([question.video for question in questions], return_inverse=True)
    return QuestionSet(name, bench, questions, clusters.astype(np.int64), tuple(entries), tuple(noted))


def _entry(
    bench: Benchmark, questions: Sequence[Question], run: Run, mode: str, name: str, rows: Mapping[str, Row]
) -> Entry:
    found = Predictions({}, {})
    if rows and questions:
        found = read_predictions([predictions_path(run.folder, mode)], questions, bench.response_rule)
    gone = set(run.record.get("missing_videos") or ())
    chosen = np.array([question.id in run.chosen for question in questions], dtype=bool)
    done = np.array([question.id in rows for question in questions], dtype=bool) & chosen
    skipped = np.array([question.video in gone for question in questions], dtype=bool) & chosen & ~done
    kept = {question.id: rows[question.id] for question, here in zip(questions, done, strict=True) if here}
    pairs = pair(questions, found)
    union = {one.name: one for one in set_measures(bench, pairs)}
    return Entry(run, mode, name, kept, pairs, union, chosen, done | skipped, skipped)
