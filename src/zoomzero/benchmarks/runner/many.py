"""Many questions at once, over the runner of benchmarks: one model load, videos together, resumable, failures as rows.

A questions file is any that the benchmark `mcq` reads (docs/reference/benchmarks.md): a row is `id, video,
question` and maybe `options`. Answers come out in the same form: RUN/answers.jsonl, or RUN/answers.csv for questions in
.csv or .tsv.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.runner.evaluate import evaluate
from zoomzero.benchmarks.runner.planning import EvalSettings, Say
from zoomzero.benchmarks.runner.run import Row, make_folder, read_run
from zoomzero.config import parse_settings
from zoomzero.data.annotation import Question
from zoomzero.data.fingerprint import VIDEO_SUFFIXES
from zoomzero.errors import ConfigError, VideoError
from zoomzero.files import write_whole
from zoomzero.inputs.fetch import FetchLimits, fetch, is_address
from zoomzero.progress import bar

QUESTIONS_FILE = "questions.jsonl"
COLUMNS = ("id", "video", "question", "options", "answer", "option", "confidence", "spans", "failed", "seconds")
TABLES = (".csv", ".tsv")
NO_ANSWER: Row = {"said": None, "answer": None, "confidence": None, "spans": [], "seconds": 0.0}
KEPT_TOKENS = 16384  # of prompts, for further questions about a video


@dataclass(frozen=True, slots=True)
class Answers:
    """What many questions came to: the file with the answers, how many there are and how many of them failed."""

    path: Path
    rows: int
    failed: int
    summary: dict[str, Any]


def ask_many(
    questions: str | Path,
    videos: str | Path | None,
    out: str | Path,
    note: Say = lambda text: None,
    limits: FetchLimits | None = None,
    **settings: Any,
) -> Answers:
    """Ask every row of a questions file and write the answers beside the run.

    Args:
        questions: the file.
        videos: folder of the videos, however they were unpacked; by default that of the file.
        out: the run's folder; a run that is there goes on where it stopped.
        note: called with what the user should know.
        limits: within which videos named by an http(s) address are fetched, each once; what cannot be is a failed row.
        settings: of `EvalSettings`: model, modes (one), workers, ray, budget, limit, ... `keep_tokens` is KEPT_TOKENS
            unless given: questions about one video begin from what was read for the first of them.

    Raises:
        ConfigError, DataError, VideoError, ModelError: what is checked before anything is asked.
        EvaluationError: too many failures, or a full disk; the same call goes on.
    """
    questions = Path(questions).expanduser()
    if not questions.is_file():
        fix = "give a .jsonl, .json, .csv, .tsv or .parquet file with one row a question"
        raise ConfigError("--questions", f"there is no file {questions}", fix)
    values = {"benchmark": "mcq", "data": questions, "videos": videos or questions.parent, "out": out}
    # a failure is a row, and no reason to stop
    values |= {"max_failed": 1.0, "skip_missing": True, "keep_tokens": KEPT_TOKENS} | settings
    chosen = parse_settings(EvalSettings, values, "ask")
    if len(chosen.modes) != 1:
        raise ConfigError("--mode", "one answer to a question is written", "give one mode, or compare modes with eval")
    asked = {one.id: one for one in benchmark("mcq").load(questions).questions}
    unseen = _fetch_all([one.video for one in asked.values()], limits)
    summary = evaluate(chosen, note)
    (mode,) = chosen.modes
    folder = Path(out).expanduser()
    rows = _rows(folder / f"predictions.{mode}.jsonl")
    unseen = dict.fromkeys(read_run(folder)["missing_videos"], f"no such file in {values['videos']}") | unseen
    rows |= {id_: NO_ANSWER | {"failed": unseen[one.video]} for id_, one in asked.items() if one.video in unseen}
    answers = [answer_row(asked[id_], row) for id_, row in sorted(rows.items(), key=_place_in(asked)) if id_ in asked]
    path = folder / ("answers.csv" if questions.suffix in TABLES else "answers.jsonl")
    write_whole(path, _table(answers) if path.suffix == ".csv" else _lines(answers))
    return Answers(path, len(answers), sum(row["failed"] is not None for row in answers), summary)


def _fetch_all(videos: Iterable[str], limits: FetchLimits | None) -> dict[str, str]:
    """Fetch the videos that are named by an address and are not kept yet; why not, for those that could not be.

    Raises:
        VideoError: no video is left to ask about; why the first could not be fetched.
    """
    named = list(dict.fromkeys(videos))
    addresses = [video for video in named if is_address(video)]
    failed: dict[str, VideoError] = {}
    with bar("fetching", "videos") as step:
        for number, url in enumerate(addresses):
            step(number, len(addresses))
            try:
                fetch(url, limits)
            except VideoError as error:
                failed[url] = error
    if failed and len(failed) == len(named):
        raise next(iter(failed.values()))
    return {url: str(error) for url, error in failed.items()}


def one_question_each(folder: str | Path, question: str, options: Sequence[str], out: str | Path) -> Path:
    """Write a questions file that asks the same of every video below a folder; its path.

    Args:
        folder: of the videos.
        question, options: what is asked.
        out: the run's folder, where the file goes.

    Raises:
        ConfigError: there is no such folder, it holds no video, or `out` cannot be written.
    """
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise ConfigError("--videos", f"there is no folder {root}", "give the one that holds the videos")
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
    )
    if not names:
        raise ConfigError("--videos", f"{root} holds no video", f"files end in {', '.join(VIDEO_SUFFIXES)}")
    rows = [{"id": name, "video": name, "question": question, "options": list(options)} for name in names]
    path = make_folder(out) / QUESTIONS_FILE
    write_whole(path, _lines(rows))
    return path


def _rows(path: Path) -> dict[str, Row]:
    with path.open(encoding="utf-8") as lines:
        return {row["id"]: row for row in map(json.loads, lines)}


def _place_in(asked: Mapping[str, Question]) -> Any:
    places = {id_: place for place, id_ in enumerate(asked)}
    return lambda pair: places.get(pair[0], len(places))


def answer_row(question: Question, row: Row) -> dict[str, Any]:
    """Return a question with its answer: `answer` in words, `option` its label, None where there is none."""
    return {
        "id": question.id,
        "video": question.video,
        "question": question.question,
        "options": list(question.options),
        "answer": row["said"],
        "option": row["answer"] if question.options else None,
        "confidence": row["confidence"],
        "spans": row["spans"],
        "failed": row["failed"],
        "seconds": row["seconds"],
    }


def _lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; lists are JSON text, as the reader takes them back."""
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        lists = {name: json.dumps(value, ensure_ascii=False) for name, value in row.items() if isinstance(value, list)}
        writer.writerow({**row, **lists})
    return table.getvalue()
