"""NExT-GQA (grounded), and NExT-QA, whose questions it is a part of.

`val.csv`, `test.csv`: video_id, question, answer (TEXT), qid, type, a0..a4. `gsub_<split>.json`: {video_id: {duration,
location: {qid: [[start, end], ..]}}}. `map_vid_vidorID.json`: {video_id: "1164/3238737531"}, the video's path.
Ids are `<video_id>_<qid>`.

Source: doc-doc/NExT-GQA, datasets/nextgqa and code/TempGQA/eval_ground.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, accuracy, share_at
from zoomzero.benchmarks.metrics import Measure, best_overlap
from zoomzero.data.annotation import (
    Dataset,
    Question,
    label_of_text,
    read_json,
    read_rows,
    read_seconds,
    read_spans,
    require,
)
from zoomzero.data.values import Id, Text
from zoomzero.errors import DataError
from zoomzero.spans import Span

OPTION_COLUMNS = ("a0", "a1", "a2", "a3", "a4")
COLUMNS = {"video_id": Id, "question": Text, "answer": Text, "qid": Id, "type": Id} | dict.fromkeys(
    OPTION_COLUMNS, Text
)
USUAL_FPS = 30.0  # NExT-QA states frames, not seconds
VIDEO_MAP = "map_vid_vidorID.json"
# The paper reports TP (previous) and TN (next) together.
TYPES = {"TP": "TN"}


def _read(source: Source, options: ReadOptions) -> Dataset:
    truth_file = source.folder / f"gsub_{source.split}.json"
    if not truth_file.is_file():
        reason = "is missing; take the folder datasets/nextgqa as released (without grounding it is NExT-QA: `nextqa`)"
        raise DataError(truth_file, "file", reason)
    return _questions(source, truth_file)


def _read_nextqa(source: Source, options: ReadOptions) -> Dataset:
    return _questions(source, None)


def _questions(source: Source, truth_file: Path | None) -> Dataset:
    table = source.files[0]
    truth = _object(truth_file) if truth_file is not None else {}
    map_file = source.folder / VIDEO_MAP
    paths = _object(map_file) if map_file.is_file() else {}
    notes = Counter({"videos_without_a_path": 0})
    questions = []
    for number, row in enumerate(read_rows(table), 2):
        where = f"line {number}"
        row = require(row, COLUMNS, table, where)
        video = row["video_id"]
        notes["videos_without_a_path"] += video not in paths
        spans: tuple[Span, ...] = ()
        duration_s = 0.0
        if truth_file is not None:
            spans, duration_s = _truth(truth, video, row["qid"], truth_file)
        choices = tuple(row[name] for name in OPTION_COLUMNS)
        questions.append(
            Question(
                id=f"{video}_{row['qid']}",
                video=f"{paths.get(video, video)}.mp4",
                question=row["question"],
                options=choices,
                answer=label_of_text(choices, row["answer"]),
                spans=spans,
                duration_s=duration_s,
                estimate_s=_frames(row) / USUAL_FPS,
                groups={"type": (TYPES.get(row["type"], row["type"]),)},
            )
        )
    files = (table, *([truth_file] if truth_file else []), *([map_file] if paths else []))
    return Dataset("nextgqa" if truth_file else "nextqa", source.split, tuple(questions), files, notes)


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(path, "file", "must be an object with one entry for each video; is this the right file?")
    return value


def _frames(row: dict[str, Any]) -> float:
    count = str(row.get("frame_count", ""))
    return float(count) if count.isdecimal() and len(count) < 12 and int(count) else USUAL_FPS


def _truth(truth: dict[str, Any], video: str, qid: str, path: Path) -> tuple[tuple[Span, ...], float]:
    try:
        entry = truth[video]
        location, duration = entry["location"][qid], entry["duration"]
    except (KeyError, TypeError) as error:
        raise DataError(path, f"video {video}", f"has no duration and location of question {qid}") from error
    where = f"video {video}, question {qid}"
    return read_spans(location, path, where), read_seconds(duration, path, where)


def _measure(pairs: Pairs) -> list[Measure]:
    ious = pairs.span_values(lambda truths, predicted: best_overlap(truths, _one_span(predicted)).iou)
    iops = pairs.span_values(lambda truths, predicted: best_overlap(truths, _one_span(predicted)).iop)
    counted = pairs.grounded
    measures = [
        Measure("Acc@GQA", pairs.right * share_at(iops, 0.5), counted & pairs.asked_to_answer()),
        accuracy(pairs, "Acc@QA", pairs.asked_to_answer()),
    ]
    for name, values in (("IoP", iops), ("IoU", ious)):
        measures.append(Measure(f"m{name}", values, counted))
        measures += [Measure(f"{name}@{t}", share_at(values, t), counted) for t in (0.3, 0.5)]
    return measures


def _one_span(predicted: Sequence[Span]) -> Span:
    """Return the span that is scored: from the start of the first predicted one to the end of the last one."""
    return Span(predicted[0].start_s, predicted[-1].end_s)


def _measure_nextqa(pairs: Pairs) -> list[Measure]:
    return [accuracy(pairs, "Acc@QA", pairs.present)]


BENCHMARK = Benchmark(
    name="nextgqa",
    about="NExT-GQA: five options, evidence in short home videos",
    splits={"test": ("test.csv",), "val": ("val.csv",)},
    default_split="test",
    read=_read,
    measure=_measure,
    groups=("type",),
    headline=("Acc@GQA", "Acc@QA", "mIoP", "mIoU"),
)
NEXTQA = Benchmark(
    name="nextqa",
    about="NExT-QA: the same videos and more questions, no evidence",
    splits={"test": ("test.csv",), "val": ("val.csv",), "train": ("train.csv",)},
    default_split="test",
    read=_read_nextqa,
    measure=_measure_nextqa,
    groups=("type",),
    scores_spans=False,
)
BENCHMARKS = (BENCHMARK, NEXTQA)
