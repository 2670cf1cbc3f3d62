"""ActivityNet Captions: what happens when, in sentences. Training data; `zoomzero score` measures it all the same.

`train.json`, `val_1.json`, `val_2.json` (or `train_modified.json`): {v_id: {duration, timestamps, sentences}}. It asks
no question: examples ask for the order of events (`data/captions.py`). Ids are `<v_id>_<place of the sentence>`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.base import Benchmark, ReadOptions, Source
from zoomzero.benchmarks.definitions.grounding.moments import moment_measures
from zoomzero.data.annotation import Dataset, read_json, read_spans, require
from zoomzero.data.captions import Caption, order_questions
from zoomzero.data.values import Rows, Seconds, Texts
from zoomzero.errors import DataError


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    table = read_json(path)
    if not isinstance(table, dict):
        raise DataError(path, "file", "must be an object {v_id: {duration, timestamps, sentences}}")
    captions = [caption for video, row in table.items() for caption in _captions(video, row, path)]
    questions, notes = order_questions(captions, options.seed)
    return Dataset("activitynet", source.split, tuple(questions), (path,), notes)


def _captions(video: str, row: Any, path: Path) -> list[Caption]:
    row = require(row, {"duration": Seconds, "timestamps": Rows, "sentences": Texts}, path, video)
    spans = read_spans(row["timestamps"], path, video)
    if len(spans) != len(row["sentences"]):
        raise DataError(path, video, f"has {len(spans)} timestamps for {len(row['sentences'])} sentences")
    duration_s = row["duration"]
    return [
        Caption(f"{video}_{i}", f"{video}.mp4", video, " ".join(sentence.split()), (span,), duration_s)
        for i, (span, sentence) in enumerate(zip(spans, row["sentences"], strict=True))
    ]


BENCHMARK = Benchmark(
    name="activitynet",
    about="ActivityNet Captions: training data, the order of events",
    splits={
        "train": ("train.json", "train_modified.json"),
        "val_1": ("val_1.json",),
        "val_2": ("val_2.json",),
    },
    default_split="train",
    read=_read,
    measure=moment_measures,
    headline=("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "Acc@QA"),
)
BENCHMARKS = (BENCHMARK,)
