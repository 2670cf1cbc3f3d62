"""A data set's questions as its own annotation states them, and the reading of annotation files.

Nothing is repaired here: official measures are defined on the annotation as it is. `data/convert.py` repairs.
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoomzero.data.values import label_of_text, read_label, read_seconds, read_spans, require
from zoomzero.errors import DataError
from zoomzero.files import parse_json
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

__all__ = [
    "LETTERS_WITHOUT_OPTIONS",
    "Dataset",
    "Question",
    "label_of_text",
    "read_json",
    "read_label",
    "read_rows",
    "read_seconds",
    "read_spans",
    "read_text",
    "require",
    "sha256",
]

LETTERS_WITHOUT_OPTIONS = 4
_LINE_ENDS = re.compile(r"[ \t]*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029][\s]*")


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
    return _json(path, None, read_text(path))


def read_rows(path: Path, *, keep_line_ends: bool = False) -> list[dict[str, Any]]:
    """Return the rows of a table: .parquet, .csv, .tsv, .jsonl (one object a line) or .json (a list of objects).

    Args:
        path: the file.
        keep_line_ends: leave line ends inside a quoted field of a .csv or .tsv; else each is a blank.

    Raises:
        DataError: it cannot be read, or holds no such rows.
    """
    if path.suffix == ".parquet":
        return _read_parquet(path)
    if path.suffix in (".csv", ".tsv"):
        return _read_csv(path, keep_line_ends)
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
    return _json(path, number, text)


def _json(path: Path, line: int | None, text: str) -> Any:
    """Return a JSON value; errors name the line."""
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        where = f"line {line or error.lineno}"
        raise DataError(path, where, f"not JSON ({error.msg}); fetch the file again") from error
    except ValueError as error:
        raise DataError(path, f"line {line}" if line else "file", f"not readable JSON ({error})") from error


def _read_csv(path: Path, keep_line_ends: bool) -> list[dict[str, Any]]:
    between = "\t" if path.suffix == ".tsv" else ","
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), strict=True, delimiter=between)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():
                reason = f"has other than the header's {len(reader.fieldnames or ())} fields; is a quote missing?"
                raise DataError(path, f"line {reader.line_num}", reason)
            rows.append(row if keep_line_ends else {key: _LINE_ENDS.sub(" ", value) for key, value in row.items()})
    except csv.Error as error:
        raise DataError(path, f"line {reader.line_num}", f"not a CSV table ({error}); fetch the file again") from error
    return rows


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
