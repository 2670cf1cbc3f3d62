"""The types that values of annotation and predictions must have: one place where foreign data becomes ours."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from zoomzero.errors import DataError
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

LONGEST_TEXT = 1 << 20  # characters of a question, an option, an answer
LONGEST_ID = 1000
MOST_OPTIONS = 702  # A to ZZ
MOST_SPANS = 100_000
SHOWN = 60  # characters of a wrong value in an error


def shown(value: Any) -> str:
    """Return a value for an error: short, on one line."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number")
    return value


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("must be a text or a number")
    text = str(value)
    if len(text) > LONGEST_ID or "\0" in text:
        raise ValueError(f"must have at most {LONGEST_ID} characters, none of them 0")
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a text")
    if len(value) > LONGEST_TEXT:
        raise ValueError(f"must have at most {LONGEST_TEXT} characters")
    return value


def _words(value: Any) -> str:
    return _text(value) if isinstance(value, str) else _id(value)


def _options(value: Any) -> tuple[str, ...]:
    if isinstance(value, dict):
        labels = option_labels(min(len(value), MOST_OPTIONS))
        if set(value) != set(labels):
            raise ValueError("must be a list of texts, or an object with the keys A, B, ..")
        value = [value[label] for label in labels]
    if not isinstance(value, (list, tuple)) or len(value) > MOST_OPTIONS:
        raise ValueError(f"must be a list of at most {MOST_OPTIONS} texts")
    if any(isinstance(one, (list, tuple, dict)) or one is None for one in value):
        raise ValueError("must hold texts only")
    return tuple(_text(str(one)) for one in value)


def _listed(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list")
    return value


def _table(value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError("must be an object")
    return value


Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
Seconds = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]
Id = Annotated[str, BeforeValidator(_id)]
Text = Annotated[str, BeforeValidator(_text)]
Words = Annotated[str, BeforeValidator(_words)]  # a text, or a number that stands for one
Options = Annotated[tuple[str, ...], BeforeValidator(_options)]
Texts = Annotated[list[Text], BeforeValidator(_listed)]
Labels = Annotated[tuple[Id, ...], BeforeValidator(lambda value: [value] if isinstance(value, str) else _listed(value))]
Rows = Annotated[list[Any], BeforeValidator(_listed)]
Table = Annotated[dict[str, Any], BeforeValidator(_table)]
Numbers = Annotated[list[Number], BeforeValidator(_listed)]
Pair = Annotated[tuple[Number, Number], BeforeValidator(_listed)]
Pairs = Annotated[list[Pair], BeforeValidator(_listed), Field(max_length=MOST_SPANS)]


def listed_as(kind: Any) -> Any:
    """Return the type of a list whose entries are of a type."""
    return Annotated[list[kind], BeforeValidator(_listed)]


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def as_type(kind: Any, value: Any) -> Any:
    """Return a value as one of the types above.

    Raises:
        ValueError: it is none; the message says what it must be.
    """
    adapter = _ADAPTERS.get(kind)
    if adapter is None:
        adapter = _ADAPTERS[kind] = TypeAdapter(kind)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ").removeprefix("Input ").replace("should", "must")
        raise ValueError(message) from error


def typed(value: Any, kind: Any, name: str, path: Path, where: str) -> Any:
    """Return a value as one of the types above.

    Args:
        value: as read.
        kind: the type.
        name, path, where: its column and place, for the error.

    Raises:
        DataError: it is none.
    """
    try:
        return as_type(kind, value)
    except ValueError as error:
        raise DataError(path, where, f"{name} {error}, not {shown(value)}") from error


def require(
    row: Mapping[str, Any], columns: Mapping[str, Any] | Iterable[str], path: Path, where: str
) -> dict[str, Any]:
    """Return a row with its columns checked and of their types.

    Args:
        row: as read.
        columns: what it must have; a mapping gives each column's type.
        path, where: for errors.

    Raises:
        DataError: the row is no object, lacks columns (named, with those it has), or a value is of another type.
    """
    if not isinstance(row, dict):
        raise DataError(path, where, f"must be an object, not {shown(row)}; is this the right file?")
    names = list(columns)
    if missing := [name for name in names if name not in row]:
        has = ", ".join(str(key) for key in list(row)[:12]) or "nothing"
        raise DataError(path, where, f"lacks {', '.join(missing)} (it has {has}); is this the right file?")
    values = dict(row)
    if isinstance(columns, Mapping):
        for name, kind in columns.items():
            values[name] = typed(row[name], kind, name, path, where)
    return values


def as_id(value: Any, path: Path, where: str) -> str:
    """Return an id as text."""
    return str(typed(value, Id, "an id", path, where))


def read_spans(value: Any, path: Path, where: str) -> tuple[Span, ...]:
    """Return annotated [start, end] pairs as spans, unrepaired."""
    try:
        return tuple(Span(*pair) for pair in as_type(Pairs, value))
    except ValueError as error:
        finite = "be finite" if "finite" in str(error) else "be [start, end] pairs of seconds"
        raise DataError(path, where, f"spans must {finite}, not {shown(value)}") from error


def read_seconds(value: Any, path: Path, where: str) -> float:
    """Return a duration in seconds."""
    try:
        seconds: float = as_type(Number, value)
    except ValueError as error:
        must = "be finite and not negative" if "finite" in str(error) else "be a number of seconds"
        raise DataError(path, where, f"a duration must {must}, not {shown(value)}") from error
    if seconds < 0 or not math.isfinite(seconds):
        raise DataError(path, where, f"a duration must be finite and not negative, not {shown(value)}")
    return seconds


def label_of_text(options: Sequence[str], answer: str) -> str:
    """Return the label of the first option with this text, empty when none has it."""
    return option_labels(len(options))[options.index(answer)] if answer in options else ""


def read_label(answer: Any, n_options: int, path: Path, where: str) -> str:
    """Return an annotated letter, checked against the number of options."""
    labels = option_labels(n_options)
    if not labels:
        raise DataError(path, where, "has no options to answer with")
    if answer not in labels:
        raise DataError(path, where, f"the right answer {shown(answer)} is none of {labels[0]}..{labels[-1]}")
    return str(answer)
