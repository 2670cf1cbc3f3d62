"""Charades-STA: one moment of a home video for each sentence.

`charades_sta_test.txt`, `charades_sta_train.txt`: a line `<video> <start> <end>##<sentence>` for each; or the rows
`video`, `caption`, `timestamp` of lmms-eval as .parquet, .jsonl or .json. Durations come from `Charades_v1_<split>.csv`
(columns id, length) when it lies beside them. Ids are `<video>_<how many sentences of that video came before>`.

Source: jiyanggao/TALL; EvolvingLMMs-Lab/lmms-eval, tasks/charades_sta/eval_tvg.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from zoomzero.benchmarks.definitions.base import Benchmark, ReadOptions, Source
from zoomzero.benchmarks.definitions.grounding.moments import asked_when, row_measures
from zoomzero.data.annotation import Dataset, Question, read_rows, read_spans, read_text, require
from zoomzero.data.values import Id, Rows, Seconds, Text
from zoomzero.errors import DataError
from zoomzero.spans import Span

USUAL_CLIP_S = 30.0
Moment = tuple[str, Span, str]  # video, when, sentence


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    lengths_file = source.folder / f"Charades_v1_{source.split}.csv"
    lengths = _lengths(lengths_file) if lengths_file.is_file() else {}
    before: Counter[str] = Counter()
    questions = []
    for video, span, sentence in _lines(path) if path.suffix == ".txt" else _rows(path):
        questions.append(
            Question(
                id=f"{video}_{before[video]}",
                video=f"{video}.mp4",
                question=asked_when(sentence),
                options=(),
                answer="",
                spans=(span,),
                duration_s=lengths.get(video, 0.0),
                estimate_s=USUAL_CLIP_S,
            )
        )
        before[video] += 1
    files = (path, lengths_file) if lengths else (path,)
    return Dataset("charades", source.split, tuple(questions), files)


def _lines(path: Path) -> Iterator[Moment]:
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        where = f"line {number}"
        head, mark, sentence = line.strip().partition("##")
        words = head.split()
        if not mark or len(words) != 3:
            raise DataError(path, where, "must be `video start end##sentence`; is this the right file?")
        (span,) = read_spans([words[1:]], path, where)
        yield words[0], span, sentence


def _rows(path: Path) -> Iterator[Moment]:
    for number, row in enumerate(read_rows(path), 1):
        where = f"row {number}"
        row = require(row, {"video": Id, "caption": Text, "timestamp": Rows}, path, where)
        (span,) = read_spans([row["timestamp"]], path, where)
        yield row["video"].removesuffix(".mp4"), span, row["caption"]


def _lengths(path: Path) -> dict[str, float]:
    lengths = {}
    for number, row in enumerate(read_rows(path), 2):
        row = require(row, {"id": Id, "length": Seconds}, path, f"line {number}")
        lengths[row["id"]] = row["length"]
    return lengths


BENCHMARKS = (
    Benchmark(
        name="charades",
        about="Charades-STA: moments of home videos, as every paper reports them",
        splits={
            split: (f"charades_sta_{split}.txt", f"{split}-*.parquet", f"charades_sta_{split}.json*")
            for split in ("test", "train")
        },
        default_split="test",
        read=_read,
        measure=row_measures,
        scores_answers=False,
        headline=("R1@0.3", "R1@0.5", "R1@0.7", "mIoU"),
    ),
)
