"""Any file of multiple-choice questions: one row a question, .jsonl, .json, .csv, .tsv or .parquet.

| what | columns, the first there is |
|---|---|
| id | id, question_id, qid, uid, q_uid; without one, the row's number from 1 |
| video | video, video_path, video_name, video_id, videoID, video_uid, vid; `.mp4` is added to a name without a suffix |
| question | question, query |
| options | options, choices, candidates: a list, a map (its keys are in order), or text with one option a line; or columns option0, option_0, option A, a0, answer_choice_0, A and those that follow |
| answer | answer, answer_id, answer_idx, correct_choice, correct_answer, right_answer, gt: a letter, a place from 0, or an option's text; empty when unknown |
| spans | spans, evidence, clue_intervals: [[start, end], ..] in seconds; not needed |
| duration | duration, duration_s: seconds; not needed |

Tables are printed for category, task, task_type, question_type, type and domain where the file has them. This covers
Video-MMMU, MMVU, Video-Holmes, MINERVA, EgoSchema and what you make yourself.
"""  # noqa: E501

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source
from zoomzero.benchmarks.definitions.choice.letters import without_letters
from zoomzero.benchmarks.metrics import Measure
from zoomzero.data.annotation import Dataset, Question, read_rows, read_seconds, read_spans
from zoomzero.data.values import Id, Labels, Options, Text, Words, as_id, shown, typed
from zoomzero.errors import DataError
from zoomzero.files import parse_json
from zoomzero.prompts import option_labels

IDS = ("id", "question_id", "qid", "uid", "q_uid")
VIDEOS = ("video", "video_path", "video_name", "video_id", "videoID", "video_uid", "vid")
QUESTIONS = ("question", "query")
OPTIONS = ("options", "choices", "candidates")
# A column for each option: how the first is called, and the next.
COLUMNS = (
    tuple(f"option{i}" for i in range(12)),
    tuple(f"option_{i}" for i in range(12)),
    tuple(f"option {i}" for i in range(12)),
    tuple(f"option {letter}" for letter in option_labels(12)),
    tuple(f"option_{letter.lower()}" for letter in option_labels(12)),
    tuple(f"a{i}" for i in range(12)),
    tuple(f"answer_choice_{i}" for i in range(12)),
    option_labels(12),
)
ANSWERS = ("answer", "answer_id", "answer_idx", "correct_choice", "correct_answer", "right_answer", "gt")
SPANS = ("spans", "evidence", "clue_intervals")
DURATIONS = ("duration_s", "duration")
GROUPS = ("category", "task", "task_type", "question_type", "type", "domain")
NO_OPTION = ("", "N/A")
USUAL_S = 60.0


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    questions = [_question(row, n, path) for n, row in enumerate(read_rows(path, keep_line_ends=True), 1)]
    return Dataset("mcq", source.split, tuple(questions), (path,))


def _question(row: dict[str, Any], number: int, path: Path) -> Question:
    where = f"row {number}"
    choices = read_options(row, path, where)
    video = typed(_needed(row, VIDEOS, "video", path, where), Id, "the video", path, where)
    spans, duration = _first(row, SPANS), _first(row, DURATIONS)
    id_ = _first(row, IDS)
    answer = read_answer(_first(row, ANSWERS), choices, path, where)
    return Question(
        id=str(number) if id_ is None else as_id(id_, path, where),
        video=video if Path(video).suffix else f"{video}.mp4",
        question=typed(_needed(row, QUESTIONS, "question", path, where), Text, "the question", path, where),
        options=choices,
        answer=answer,
        spans=() if spans is None else read_spans(_parsed(spans, path, where), path, where),
        duration_s=0.0 if duration is None else read_seconds(duration, path, where),
        estimate_s=USUAL_S,
        groups=_groups(row, path, where),
        in_words=not choices,
    )


def _groups(row: Mapping[str, Any], path: Path, where: str) -> dict[str, tuple[str, ...]]:
    """Return where a row counts in tables; with a list, in several places."""
    given = {name: row[name] for name in GROUPS if row.get(name) not in (None, "", [])}
    listed = {name: value if isinstance(value, list) else [value] for name, value in given.items()}
    return {name: typed(value, Labels, name, path, where) for name, value in listed.items()}


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    """Return the value of the first column there is, None when all are missing or empty."""
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def _needed(row: Mapping[str, Any], names: Sequence[str], what: str, path: Path, where: str) -> Any:
    value = _first(row, names)
    if value is None:
        has = ", ".join(str(key) for key in list(row)[:12]) or "nothing"
        raise DataError(path, where, f"has no {what}: no column {', '.join(names)} (it has {has})")
    return value


def _parsed(value: Any, path: Path, where: str) -> Any:
    """Return a list that a table holds as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except ValueError as error:
        raise DataError(path, where, f"{shown(value)} must be a list written as JSON") from error


def read_options(row: Mapping[str, Any], path: Path, where: str) -> tuple[str, ...]:
    """Return the texts of a row's options, without letters of their own; empty for an open question.

    Args:
        row: any of the forms above.
        path, where: for errors.

    Raises:
        DataError: one option alone, or something that is no list of texts.
    """
    written = _first(row, OPTIONS)
    if isinstance(written, str):
        written = parse_json(written) if _is_json(written) else re.split(r"\s*\n\s*", written.strip())
    if isinstance(written, Mapping):
        written = [written[key] for key in sorted(written) if written[key] is not None]
    if written is None:
        names = next((names for names in COLUMNS if all(name in row for name in names[:2])), ())
        written = [row[name] for name in names if row.get(name) is not None and str(row[name]) not in NO_OPTION]
    listed = typed(written, Options, "options", path, where)
    if len(listed) == 1:
        raise DataError(path, where, "has one option; give two or more, or none for an open question")
    return without_letters(listed)


def _is_json(text: str) -> bool:
    try:
        return isinstance(parse_json(text), (list, dict))
    except ValueError:
        return False


def read_answer(written: Any, options: Sequence[str], path: Path, where: str) -> str:
    """Return the right option's label from a letter, a place from 0 or a text; empty when unknown.

    Raises:
        DataError: the answer is none of the options.
    """
    if written is None:
        return ""
    text: str = typed(written, Words, "the answer", path, where).strip()
    if not options:
        return text
    labels = option_labels(len(options))
    if text in options:
        return labels[options.index(text)]
    if text.strip("().").upper() in labels:
        return text.strip("().").upper()
    if text.isdecimal() and len(text) < 5 and int(text) < len(labels):
        return labels[int(text)]
    reason = f"the answer {shown(text)} is no letter {labels[0]}..{labels[-1]}, no place from 0 and no option's text"
    raise DataError(path, where, reason)


def _measure(pairs: Pairs) -> list[Measure]:
    """Score accuracy over the questions whose answer is known."""
    known = np.array([bool(question.answer) for question in pairs.questions], dtype=bool)
    return [Measure("Acc@QA", pairs.right, pairs.present, known)]


BENCHMARKS = (
    Benchmark(
        name="mcq",
        about="any file of multiple-choice questions",
        splits={"test": ("questions.*", "test*.parquet", "test*.json*", "test*.csv", "*.jsonl", "*.csv", "*.tsv")},
        default_split="test",
        read=_read,
        measure=_measure,
        groups=GROUPS,
        headline=("Acc@QA",),
        scores_spans=False,
    ),
)
