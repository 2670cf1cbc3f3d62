"""The Example schema and its JSON Lines files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoomzero.errors import DataError
from zoomzero.files import parse_json, write_whole
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

FIELDS = ("id", "video", "question", "options", "answer", "spans", "duration_s", "source", "split")
TEXTS = ("id", "video", "question", "answer", "source", "split")


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
    examples: list[Example] = []
    seen: dict[str, int] = {}
    for line, example in _read_lines(path):
        if example.id in seen:
            raise DataError(path, f"line {line}", f"id {example.id!r} was used on line {seen[example.id]} already")
        seen[example.id] = line
        examples.append(example)
    return examples


def write_examples(path: str | Path, examples: Iterable[Example]) -> None:
    """Write an examples file, complete or not at all."""
    write_whole(path, "".join(example.to_json() + "\n" for example in examples))


def _read_lines(path: Path) -> Iterator[tuple[int, Example]]:
    with path.open("rb") as lines:  # bytes: a line that is not UTF-8 is an error of that line
        for number, line in enumerate(lines, 1):
            if line.strip():
                try:
                    values = parse_json(line.decode("utf-8"))
                except ValueError as error:
                    reason = f"not JSON ({error}); `zoomzero convert` makes examples of a table"
                    raise DataError(path, f"line {number}", reason) from error
                yield number, _parse(path, number, values)


def _parse(path: Path, number: int, values: Any) -> Example:
    where = f"line {number}"
    if not isinstance(values, dict):
        raise DataError(path, where, "is not a JSON object")
    if missing := [name for name in FIELDS if name not in values]:
        raise DataError(path, where, f"lacks {', '.join(missing)}; an example has {', '.join(FIELDS)}")
    if unknown := sorted(set(values) - set(FIELDS)):
        raise DataError(path, where, f"has unknown fields {', '.join(unknown)}; an example has {', '.join(FIELDS)}")
    if wrong := [name for name in TEXTS if not isinstance(values[name], str)]:
        raise DataError(path, where, f"{', '.join(wrong)} must be text")
    if not isinstance(values["options"], list) or not all(isinstance(o, str) for o in values["options"]):
        raise DataError(path, where, "options must be a list of texts (empty for an open question)")
    labels = option_labels(len(values["options"]))
    if labels and values["answer"] not in labels:
        reason = f"answer {values['answer']!r} is no option's label; give {labels[0]} to {labels[-1]}"
        raise DataError(path, where, reason)
    spans, duration_s = _times(path, where, values)
    video = Path(values["video"])
    return Example(
        id=values["id"],
        video=str(video if video.is_absolute() else path.parent / video),
        question=values["question"],
        options=tuple(values["options"]),
        answer=values["answer"],
        spans=spans,
        duration_s=duration_s,
        source=values["source"],
        split=values["split"],
    )


def _times(path: Path, where: str, values: dict[str, Any]) -> tuple[tuple[Span, ...], float]:
    """Return the spans and the duration of a line, checked."""
    pairs = values["spans"]
    try:
        if not isinstance(pairs, list) or not all(isinstance(pair, list) for pair in pairs):
            raise TypeError("no list of lists")
        spans = tuple(Span(float(start), float(end)) for start, end in pairs)
        duration_s = float(values["duration_s"])
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(path, where, f"spans are [start, end] pairs and duration_s a number ({error})") from error
    if not all(math.isfinite(x) for span in spans for x in span) or not math.isfinite(duration_s):
        raise DataError(path, where, "spans and duration_s must be finite numbers")
    if bad := [span for span in spans if not 0 <= span.start_s < span.end_s]:
        raise DataError(path, where, f"span {list(bad[0])} is not 0 <= start < end; clip annotations to the video")
    if duration_s <= 0:
        raise DataError(path, where, f"duration_s {duration_s:g} is not a length in seconds")
    return spans, duration_s
