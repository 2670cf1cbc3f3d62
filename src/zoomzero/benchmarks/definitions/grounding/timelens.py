"""TimeLens-Bench: Charades-STA, ActivityNet Captions and QVHighlights annotated anew; one moment for each sentence.

`charades-timelens.json`, `activitynet-timelens.json`, `qvhighlights-timelens.json`:
{video: {duration, spans: [[start, end], ..], queries: [text, ..]}}. Ids are `<video>_<place of the query>`, videos lie
in a folder for each source. It asks for moments alone: there are no answers.

Source: TencentARC/TimeLens, timelens/dataset/timelens_data.py; EvolvingLMMs-Lab/lmms-eval, tasks/timelens/utils.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.base import Benchmark, ReadOptions, Source
from zoomzero.benchmarks.definitions.grounding.moments import asked_when, row_measures
from zoomzero.data.annotation import Dataset, Question, read_json, read_spans, require
from zoomzero.data.values import Rows, Seconds, Texts
from zoomzero.errors import DataError

COLUMNS = {"duration": Seconds, "spans": Rows, "queries": Texts}
SOURCES = ("charades", "activitynet", "qvhighlights")


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    table = read_json(path)
    if not isinstance(table, dict):
        raise DataError(path, "file", "must be an object {video: {duration, spans, queries}}")
    questions = [one for video, row in table.items() for one in _questions(video, row, source.split, path)]
    return Dataset("timelens", source.split, tuple(questions), (path,))


def _questions(video: str, row: Any, split: str, path: Path) -> list[Question]:
    row = require(row, COLUMNS, path, video)
    spans, queries = read_spans(row["spans"], path, video), row["queries"]
    if len(spans) != len(queries):
        raise DataError(path, video, f"must have one span for each query, not {len(spans)}")
    return [
        Question(
            id=f"{video}_{place}",
            video=f"{split}/{video}.mp4",
            question=asked_when(query),
            options=(),
            answer="",
            spans=(span,),
            duration_s=row["duration"],
        )
        for place, (span, query) in enumerate(zip(spans, queries, strict=True))
    ]


BENCHMARKS = (
    Benchmark(
        name="timelens",
        about="TimeLens-Bench: moments of Charades, ActivityNet and QVHighlights, annotated anew",
        splits={name: (f"{name}-timelens.json",) for name in SOURCES},
        default_split="charades",
        read=_read,
        measure=row_measures,
        scores_answers=False,
        headline=("R1@0.3", "R1@0.5", "R1@0.7", "mIoU"),
    ),
)
