"""The Example schema and its JSON Lines files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoomzero.errors import DataError
from zoomzero.spans import Span

FIELDS = ("id", "video", "question", "options", "answer", "spans", "duration_s", "source", "split")


@dataclass(frozen=True, slots=True)
class Example:
    """One question about one video with its truth.

    `video` is a path, relative to the examples file or absolute. `options` is empty for an open question; `answer` is
    then the text, else the right option's label (`A`, `B`, ...). `spans` are the true evidence in seconds.
    """

    id: str
    video: str
    question: str
    options: tuple[str, ...]
    answer: str
    spans: tuple[Span, ...]
    duration_s: float
    source: str
    split: str

    def to_json(self) -> str:
        """Return the example as one JSON line, without the line end."""
        return json.dumps(asdict(self), ensure_ascii=False)


def read_examples(path: str | Path) -> list[Example]:
    """Read an examples file; relative video paths are resolved against its folder.

    Raises:
        DataError: a line that is not JSON, a missing or unknown field, a value of the wrong kind, a repeated id.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(path, "file", "no such file; give an examples.jsonl (write one with `zoomzero world`)")
    examples = list(_read_lines(path))
    seen: dict[str, int] = {}
    for line, example in enumerate(examples, 1):
        if example.id in seen:
            raise DataError(path, f"line {line}", f"id {example.id!r} was used on line {seen[example.id]} already")
        seen[example.id] = line
    return examples


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write an examples file, complete or not at all."""
    path = Path(path)
    partial = path.with_suffix(path.suffix + ".partial")
    partial.write_text("".join(example.to_json() + "\n" for example in examples), encoding="utf-8")
    partial.replace(path)


def _read_lines(path: Path) -> Iterator[Example]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    values = json.loads(line)
                except ValueError as error:
                    raise DataError(path, f"line {number}", f"not JSON ({error})") from error
                yield _parse(path, number, values)


def _parse(path: Path, number: int, values: Any) -> Example:
    where = f"line {number}"
    if not isinstance(values, dict):
        raise DataError(path, where, "is not a JSON object")
    if missing := [name for name in FIELDS if name not in values]:
        raise DataError(path, where, f"lacks {', '.join(missing)}; an example has {', '.join(FIELDS)}")
    if unknown := sorted(set(values) - set(FIELDS)):
        raise DataError(path, where, f"has unknown fields {', '.join(unknown)}; an example has {', '.join(FIELDS)}")
    try:
        spans = tuple(Span(float(start), float(end)) for start, end in values["spans"])
        duration_s = float(values["duration_s"])
    except (TypeError, ValueError) as error:
        raise DataError(path, where, f"spans are [start, end] pairs and duration_s a number ({error})") from error
    if not all(math.isfinite(x) for span in spans for x in span) or not math.isfinite(duration_s):
        raise DataError(path, where, "spans and duration_s must be finite numbers")
    if not isinstance(values["options"], list) or not all(isinstance(o, str) for o in values["options"]):
        raise DataError(path, where, "options must be a list of texts (empty for an open question)")
    video = Path(str(values["video"]))
    return Example(
        id=str(values["id"]),
        video=str(video if video.is_absolute() else path.parent / video),
        question=str(values["question"]),
        options=tuple(values["options"]),
        answer=str(values["answer"]),
        spans=spans,
        duration_s=duration_s,
        source=str(values["source"]),
        split=str(values["split"]),
    )
