"""Reading any predictions file: ours, and the official submission formats.

| written | from |
|---|---|
| lines `{"id", "answer", "spans"}`, with `error` where the model failed | this project |
| lines `{"qid", "pred_relevant_windows", "ans", "pred_saliency_scores"}` | ReXTime, QVHighlights |
| `{"<video>_<qid>": [start, end]}` and `{"<video>_<qid>": {"prediction": 2, "answer": 1}}` | NExT-GQA |
| `{"<uid>": "A"}` | LVBench |
| `[{"video_id", "questions": [{"question_id", "response"}]}]` | Video-MME |
| `[{"question_id", "option"}]` | MLVU |

NExT-GQA's two files are given together, or lie in one under `pred_ground` and `pred_qa`.

What a row says wrongly is data: the span or answer is left out and counted. A file that cannot be understood, two rows
for one question, or a file about other questions is a DataError.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from zoomzero.data.annotation import Question
from zoomzero.data.values import as_id, shown
from zoomzero.errors import DataError
from zoomzero.files import parse_json
from zoomzero.prompts import option_labels
from zoomzero.prompts.choices import read_option
from zoomzero.spans import Span

ID_KEYS = ("id", "qid", "question_id", "uid")
SPAN_KEYS = ("spans", "pred_relevant_windows")
# Where a row has several, the first is the model's: in the official files that hold both, `answer` is the truth.
ANSWER_KEYS = ("response", "prediction", "pred", "option", "ans", "answer")
FAULTS = (
    "half_written_lines",
    "unknown_ids",
    "unread_answers",
    "out_of_range_answers",
    "bad_spans",
    "reversed_spans",
    "point_spans",
    "spans_past_end",
    "bad_saliency",
)

LARGEST = 1e300  # numbers beyond it are no times and would not add up

ResponseRule = Callable[[str, Question], str]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model said to one question.

    `answer` is an option's label (words for an open question), None when none was read. `spans` are as written and in
    that order: reversed and empty ones are kept, those that are not two finite numbers are not. `scores` has one number
    for each span when the file gives them. `failed`: the row reports an error instead of an answer.
    """

    id: str
    answer: str | None = None
    spans: tuple[Span, ...] = ()
    scores: tuple[float, ...] = ()
    saliency: tuple[float, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Predictions:
    """The predictions for known questions, and the count of every fault."""

    rows: Mapping[str, Prediction]
    faults: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Samples:
    """Several predictions for each known question, in the files' order; `errors` says why a question has none.

    Rows that report an error are not among the samples; `faults` counts as for `Predictions`.
    """

    rows: Mapping[str, tuple[Prediction, ...]]
    errors: Mapping[str, str]
    faults: Mapping[str, int]


class _Record(NamedTuple):
    where: str
    values: dict[str, Any]


def read_predictions(
    paths: Sequence[str | Path], questions: Sequence[Question], response_rule: ResponseRule | None = None
) -> Predictions:
    """Read one or more files; rows for the same question in different files complete each other.

    Args:
        paths: the files.
        questions: what was asked; rows for other ids are counted as `unknown_ids`.
        response_rule: how a benchmark's official evaluator finds the letter in a `response`; by default our tolerant
            reader.

    Raises:
        DataError: no readable row, no row for a known question, two rows for one question.
    """
    known = {one.id: one for one in questions}
    faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
    rows: dict[str, Prediction] = {}
    for path in map(Path, paths):
        in_file: dict[str, str] = {}
        strangers: list[str] = []
        for record in _records(path, faults):
            id_ = _id(record, path)
            if id_ in in_file:
                reason = f"question {id_!r} was answered at {in_file[id_]} already; keep one row for each question"
                raise DataError(path, record.where, reason)
            in_file[id_] = record.where
            if id_ not in known:
                strangers.append(id_)
                continue
            row = _prediction(record, path, known[id_], faults, response_rule)
            rows[id_] = _combined(rows[id_], row, path, record.where) if id_ in rows else row
        faults["unknown_ids"] += len(strangers)
        _check_ids(path, in_file, strangers, questions)
    return Predictions(rows, dict(faults))


def read_samples(paths: Sequence[str | Path], questions: Sequence[Question]) -> Samples:
    """Read files that hold several rows for one question, each an answer drawn anew.

    Args:
        paths: the files; a question may have rows in several of them.
        questions: what was asked; rows for other ids are counted as `unknown_ids`.

    Raises:
        DataError: no readable row, no row for a known question.
    """
    known = {one.id: one for one in questions}
    faults: Counter[str] = Counter(dict.fromkeys(FAULTS, 0))
    rows: dict[str, list[Prediction]] = {}
    errors: dict[str, str] = {}
    for path in map(Path, paths):
        in_file: dict[str, str] = {}
        strangers: list[str] = []
        for record in _records(path, faults):
            id_ = _id(record, path)
            if id_ not in known and id_ not in in_file:
                strangers.append(id_)
            in_file[id_] = record.where
            if id_ not in known:
                faults["unknown_ids"] += 1
                continue
            row = _prediction(record, path, known[id_], faults, None)
            if row.failed:
                errors[id_] = str(record.values.get("error") or record.values["failed"])
            else:
                rows.setdefault(id_, []).append(row)
        _check_ids(path, in_file, strangers, questions)
    lost = {id_: reason for id_, reason in errors.items() if id_ not in rows}
    return Samples({id_: tuple(group) for id_, group in rows.items()}, lost, dict(faults))


def _check_ids(path: Path, in_file: Mapping[str, str], strangers: Sequence[str], asked: Sequence[Question]) -> None:
    if not in_file:
        raise DataError(path, "file", "holds no complete row; is the run finished, is this the right file?")
    if len(strangers) == len(in_file):
        example = asked[0].id if asked else "none"
        reason = f"is no question of this split, nor is any other id here (ids look like {example!r}); check --split"
        raise DataError(path, f"id {strangers[0]!r}", reason)


# --- records --------------------------------------------------------------------------------------------


def _records(path: Path, faults: Counter[str]) -> Iterator[_Record]:
    """Yield the rows of a file in any of the formats."""
    text = _text(path, faults)
    if path.suffix != ".jsonl":
        try:
            whole = parse_json(text)
        except json.JSONDecodeError:
            whole = None  # then it is read line by line, which names the line that is wrong
        except ValueError as error:
            raise DataError(path, "file", f"not readable JSON ({error})") from error
        if isinstance(whole, (dict, list)):
            yield from _from_json(path, whole)
            return
    yield from _from_lines(path, text, faults)


def _text(path: Path, faults: Counter[str]) -> str:
    """Return the file's text without a last row that was cut inside a character."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(path, "file", f"cannot be read ({error.strerror}); check the path") from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        last = data.rfind(b"\n") + 1
        if error.start < last:
            line = data.count(b"\n", 0, error.start) + 1
            raise DataError(path, f"line {line}", "is not UTF-8 text; is this the right file?") from error
        faults["half_written_lines"] += 1
        return data[:last].decode("utf-8-sig")


def _from_lines(path: Path, text: str, faults: Counter[str]) -> Iterator[_Record]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = parse_json(line)
        except json.JSONDecodeError as error:
            if number == len(lines):  # no line end: the writer was stopped in the middle of this row
                faults["half_written_lines"] += 1
                return
            raise DataError(path, f"line {number}", f"not JSON ({error.msg}); remove or repair this line") from error
        except ValueError as error:
            reason = f"not readable JSON ({error}); remove or repair this line"
            raise DataError(path, f"line {number}", reason) from error
        if not isinstance(values, dict):
            raise DataError(path, f"line {number}", "is not a JSON object; a row is one object with id, answer, spans")
        yield _Record(f"line {number}", values)


def _from_json(path: Path, whole: dict[str, Any] | list[Any]) -> Iterator[_Record]:
    if isinstance(whole, dict):
        if any(key in whole for key in ID_KEYS):
            yield _Record("row 1", whole)
        elif "pred_ground" in whole or "pred_qa" in whole:
            yield from _both_halves(path, whole)
        elif isinstance(listed := whole.get("submission", whole.get("res_list")), list):
            yield from _from_json(path, listed)
        else:
            for key, value in whole.items():
                yield _Record(f"key {key!r}", _from_entry(path, key, value))
        return
    for number, row in enumerate(whole, 1):
        if not isinstance(row, dict):
            raise DataError(path, f"row {number}", "is not a JSON object; a row is one object with id, answer, spans")
        if isinstance(row.get("questions"), list):
            yield from _from_json(path, row["questions"])
        else:
            yield _Record(f"row {number}", row)


def _both_halves(path: Path, whole: dict[str, Any]) -> Iterator[_Record]:
    halves = [whole.get(name) or {} for name in ("pred_ground", "pred_qa")]
    if not all(isinstance(half, dict) for half in halves):
        raise DataError(path, "pred_ground, pred_qa", "must be objects with one entry for each question")
    for key in {**halves[0], **halves[1]}:
        values = {"id": key}
        for half in halves:
            if key in half:
                values |= _from_entry(path, key, half[key])
        yield _Record(f"key {key!r}", values)


def _from_entry(path: Path, key: str, value: Any) -> dict[str, Any]:
    """Return the row that `key: value` stands for: a span, a list of spans, a letter, or an object."""
    if isinstance(value, list):
        single = len(value) == 2 and not any(isinstance(part, list) for part in value)
        return {"id": key, "spans": [value] if single else value}
    if isinstance(value, dict):
        return {**value, "id": key}
    if isinstance(value, (str, int)) or value is None:
        return {"id": key, "answer": value}
    raise DataError(path, f"key {key!r}", "holds neither a span, a letter nor a row")


# --- rows -----------------------------------------------------------------------------------------------


def _id(record: _Record, path: Path) -> str:
    for key in ID_KEYS:
        if key in record.values:
            return as_id(record.values[key], path, record.where)
    reason = f"lacks an id (one of {', '.join(ID_KEYS)}; it has {', '.join(map(str, list(record.values)[:8]))})"
    raise DataError(path, record.where, reason)


def _prediction(
    record: _Record, path: Path, question: Question, faults: Counter[str], rule: ResponseRule | None
) -> Prediction:
    values = record.values
    spans, scores = _spans(values, path, record.where, question, faults)
    saliency = values.get("pred_saliency_scores") or ()
    if not isinstance(saliency, (list, tuple)) or not all(isinstance(x, (int, float)) for x in saliency):
        raise DataError(path, record.where, "pred_saliency_scores must be a list of numbers, one for each 2 s clip")
    if not all(map(_is_number, saliency)):  # the largest of them would be anywhere
        faults["bad_saliency"] += 1
        saliency = ()
    return Prediction(
        id=question.id,
        answer=_answer(values, question, faults, rule),
        spans=spans,
        scores=scores,
        saliency=tuple(float(x) for x in saliency),
        failed=bool(values.get("error") or values.get("failed")),  # `failed`: rows of `zoomzero eval`
    )


def _answer(values: dict[str, Any], question: Question, faults: Counter[str], rule: ResponseRule | None) -> str | None:
    """Return the label a row names, None (and a count) when it names none."""
    ours = "id" in values and "prediction" not in values  # our rows may hold the model's words beside its answer
    key = next((name for name in (("answer",) if ours else ()) + ANSWER_KEYS if name in values), "answer")
    written = values.get(key)
    if written is None or written == "":
        return None
    labels = question.labels
    if question.in_words or (not question.options and question.answer not in ("", *labels)):
        if isinstance(written, (str, int, float)):
            return (rule or same_words)(str(written), question)
        faults["unread_answers"] += 1
        return None
    if isinstance(written, int) and not isinstance(written, bool):
        if 0 <= written < len(labels):
            return labels[written]
        faults["out_of_range_answers"] += 1
        return None
    if not isinstance(written, str):
        faults["unread_answers"] += 1
        return None
    if rule is not None and key == "response":
        return rule(written, question) or None
    text = written.strip()
    found, _ = read_option(text, len(labels), question.options, "letter")
    if found is not None:
        return labels[found.place]
    faults["out_of_range_answers" if text.upper() in option_labels(26) else "unread_answers"] += 1
    return None


def same_words(response: str, question: Question) -> str:
    """Return the annotated answer when a response says the same: case, blanks and full stops around it apart."""
    said, true = (" ".join(text.split()).strip(" .").casefold() for text in (response, question.answer))
    return question.answer if said == true else response.strip()


def _spans(
    values: dict[str, Any], path: Path, where: str, question: Question, faults: Counter[str]
) -> tuple[tuple[Span, ...], tuple[float, ...]]:
    """Return the finite spans of a row as written, and their scores if all have one."""
    written: Any = next((values[key] for key in SPAN_KEYS if values.get(key) is not None), [])
    if not isinstance(written, list):
        raise DataError(path, where, f"spans must be a list of [start, end] pairs in seconds, not {shown(written)}")
    if len(written) == 2 and all(_is_number(part) for part in written):
        written = [written]
    spans, scores = [], []
    for entry in written:
        if not isinstance(entry, list) or len(entry) not in (2, 3) or not all(_is_number(x) for x in entry[:2]):
            faults["bad_spans"] += 1
            continue
        span = Span(float(entry[0]), float(entry[1]))
        faults["reversed_spans"] += span.end_s < span.start_s
        faults["point_spans"] += span.end_s == span.start_s
        faults["spans_past_end"] += bool(question.duration_s) and max(span) > question.duration_s
        spans.append(span)
        if len(entry) == 3 and _is_number(entry[2]):
            scores.append(float(entry[2]))
    return tuple(spans), tuple(scores) if len(scores) == len(spans) else ()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def _combined(a: Prediction, b: Prediction, path: Path, where: str) -> Prediction:
    """Return two half rows as one; both must not say the same thing."""
    if (a.answer is not None and b.answer is not None) or (a.spans and b.spans):
        raise DataError(path, where, f"question {a.id!r} was answered in another file already; give each file once")
    return replace(
        a,
        answer=a.answer if a.answer is not None else b.answer,
        spans=a.spans or b.spans,
        scores=a.scores or b.scores,
        saliency=a.saliency or b.saliency,
        failed=a.failed or b.failed,
    )
