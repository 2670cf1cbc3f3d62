"""A data set's questions as its own annotation states them, and the reading of annotation files.

Nothing is repaired here: official measures are defined on the annotation as it is. `data/convert.py` repairs.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoomzero.errors import DataError
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

LETTERS_WITHOUT_OPTIONS = 4


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its truth, as annotated.

    `answer` is the right option's label, empty when the annotation names none of the options. `options` is empty when
    the file leaves the texts out. `spans` may start below 0, end past the video, be reversed or empty. `duration_s`
    is 0 when the annotation does not state it in seconds; `estimate_s` is then a rough guess. `groups` says where the
    question counts in tables: `{"type": ("CW",)}`. `saliency` holds, for every 2 s clip of the video, the scores of
    the annotators. `in_words`: the answer is a text to be said; there are no options, and letters mean nothing.
    """

    id: str
    video: str
    question: str
    options: tuple[str, ...]
    answer: str
    spans: tuple[Span, ...]
    duration_s: float = 0.0
    estimate_s: float = 0.0
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    saliency: tuple[tuple[float, ...], ...] = ()
    in_words: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels an answer may have; A to D where the file leaves the options out."""
        return option_labels(len(self.options) or LETTERS_WITHOUT_OPTIONS)

    @property
    def right(self) -> frozenset[str]:
        """The labels that count as right: the annotated one, and those of options with the very same text."""
        if not self.options or not self.answer:
            return frozenset({self.answer} - {""})
        text = self.options[self.labels.index(self.answer)]
        return frozenset(label for label, option in zip(self.labels, self.options, strict=True) if option == text)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The questions of one split, the files they came from, and what the reader left out or assumed (counted)."""

    name: str
    split: str
    questions: tuple[Question, ...]
    files: tuple[Path, ...]
    notes: Mapping[str, int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for one in self.questions:
            if one.id in seen:
                raise DataError(self.files[0], one.id, "the annotation has this id twice; ids must be unique")
            seen.add(one.id)


def sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


# --- files ----------------------------------------------------------------------------------------------


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file, with or without a byte order mark."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(path, f"byte {error.start}", "is not UTF-8 text; is this the right file?") from error
    except OSError as error:
        raise DataError(path, "file", f"cannot be read ({error.strerror}); check the path") from error


def read_json(path: Path) -> Any:
    """Return the content of a JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise DataError(path, f"line {error.lineno}", f"not JSON ({error.msg}); fetch the file again") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a table: .parquet, .csv, .tsv, .jsonl (one object a line) or .json (a list of objects)."""
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix == ".csv":
        return list(csv.DictReader(read_text(path).splitlines()))
    if path.suffix == ".tsv":
        return list(csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter="\t"))
    if path.suffix == ".jsonl":
        rows: Any = [_line(path, number, text) for number, text in _numbered(path)]
    else:
        rows = read_json(path)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(path, "file", "must hold a list of JSON objects; is this the right file?")
    return rows


def _numbered(path: Path) -> list[tuple[int, str]]:
    return [(n, line) for n, line in enumerate(read_text(path).split("\n"), 1) if line.strip()]


def _line(path: Path, number: int, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(path, f"line {number}", f"not JSON ({error.msg}); fetch the file again") from error


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    try:
        parquet = importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        fix = "install pyarrow (`pip install pyarrow`) or give the same rows as .jsonl"
        raise DataError(path, "file", f"parquet files need pyarrow; {fix}") from error
    try:
        rows: list[dict[str, Any]] = parquet.read_table(path).to_pylist()
    except (OSError, ValueError) as error:  # pyarrow's ArrowInvalid is a ValueError
        raise DataError(path, "file", f"is not a readable parquet file ({str(error).splitlines()[0]})") from error
    return rows


# --- values ---------------------------------------------------------------------------------------------


def require(row: Mapping[str, Any], columns: Iterable[str], path: Path, where: str) -> None:
    """Raise a DataError that names the columns a row lacks and those it has."""
    if missing := [name for name in columns if name not in row]:
        has = ", ".join(str(key) for key in list(row)[:12]) or "nothing"
        raise DataError(path, where, f"lacks {', '.join(missing)} (it has {has}); is this the right file?")


def read_spans(value: Any, path: Path, where: str) -> tuple[Span, ...]:
    """Return annotated [start, end] pairs as spans, unrepaired."""
    try:
        spans = tuple(Span(float(start), float(end)) for start, end in value)
    except (TypeError, ValueError) as error:
        raise DataError(path, where, f"spans must be [start, end] pairs of seconds, not {value!r}") from error
    if not all(math.isfinite(x) for span in spans for x in span):
        raise DataError(path, where, f"spans must be finite, not {value!r}")
    return spans


def read_seconds(value: Any, path: Path, where: str) -> float:
    """Return a duration in seconds."""
    try:
        seconds = float(value)
    except (TypeError, ValueError) as error:
        raise DataError(path, where, f"a duration must be a number of seconds, not {value!r}") from error
    if not math.isfinite(seconds) or seconds < 0:
        raise DataError(path, where, f"a duration must be finite and not negative, not {value!r}")
    return seconds


def label_of_text(options: Sequence[str], answer: str) -> str:
    """Return the label of the first option with this text, empty when none has it."""
    return option_labels(len(options))[options.index(answer)] if answer in options else ""


def read_label(answer: Any, n_options: int, path: Path, where: str) -> str:
    """Return an annotated letter, checked against the number of options."""
    labels = option_labels(n_options)
    if answer not in labels:
        raise DataError(path, where, f"the right answer {answer!r} is none of {labels[0]}..{labels[-1]}")
    return str(answer)
