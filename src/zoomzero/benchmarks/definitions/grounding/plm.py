"""PLM-Video: captions of what one subject does, in frames of SA-V videos; and its two-option questions.

Rows of any of four kinds, as .jsonl or .parquet: `dense_captions` (RDCap: the phases of a subject, in order), `caption`
with start_frame and end_frame (RCap, RTLoc), `options` with answer_idx (FGQA). Frames lie on the grid of
`total_frames`; both ends are inside. Frame i is on screen from i / fps to (i + 1) / fps. Ids are the rows' `uid`
(phases: `<uid>_<place>`), behind `<file>:` where several files are read at once, since each counts from 0.

Source: facebook/PLM-VideoBench and PLM-Video-Human (field names); EvolvingLMMs-Lab/lmms-eval, tasks/plm_videobench.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.base import Benchmark, ReadOptions, Source
from zoomzero.benchmarks.definitions.grounding.moments import moment_measures
from zoomzero.data.annotation import Dataset, Question, read_rows, require
from zoomzero.data.captions import Caption, order_questions, shown_questions
from zoomzero.data.values import Id, Number, Options, Rows, Text, typed
from zoomzero.errors import DataError
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

# The release the captions were made on is `videos_fps_6`.
SAV_FPS = 6.0
USUAL_CLIP_S = 30.0
ABSENT = "out of frame"


def _read(source: Source, options: ReadOptions) -> Dataset:
    fps = options.fps or SAV_FPS
    notes = Counter({"phases_out_of_frame_left_out": 0})
    phases: list[Caption] = []
    moments: list[Caption] = []
    questions: list[Question] = []
    for path in source.files:
        for number, row in enumerate(read_rows(path), 1):
            where = f"row {number}"
            row = require(row, {"video": Id, "uid": Id}, path, where)
            if len(source.files) > 1:
                row["uid"] = f"{path.stem}:{row['uid']}"  # each file counts its rows from 0
            if "dense_captions" in row:
                phases += _phases(row, fps, path, where, notes)
            elif "options" in row:
                questions.append(_two_options(row, path, where))
            else:
                moments.append(_moment(row, fps, path, where))
    ordered, order_notes = order_questions(phases, options.seed)
    shown, shown_notes = shown_questions(moments, options.seed)
    notes.update(order_notes)
    notes.update(shown_notes)
    return Dataset("plm", source.split, (*ordered, *shown, *questions), source.files, notes)


def _phases(row: dict[str, Any], fps: float, path: Path, where: str, notes: Counter[str]) -> list[Caption]:
    row = require(row, {"total_frames": Number, "dense_captions": Rows}, path, where)
    subject = f"{row['video']}#{row.get('masklet_id', row['uid'])}"
    captions = []
    for place, phase in enumerate(row["dense_captions"]):
        phase = require(phase, {"start_frame": Number, "end_frame": Number, "caption": Text}, path, where)
        if phase["caption"].strip().casefold().startswith(ABSENT):
            notes["phases_out_of_frame_left_out"] += 1
            continue
        captions.append(_caption(f"{row['uid']}_{place}", row, phase, subject, fps, path, where))
    return captions


def _moment(row: dict[str, Any], fps: float, path: Path, where: str) -> Caption:
    numbers = dict.fromkeys(("total_frames", "start_frame", "end_frame"), Number)
    row = require(row, {**numbers, "caption": Text}, path, where)
    return _caption(str(row["uid"]), row, row, str(row["video"]), fps, path, where)


def _caption(
    id_: str, row: dict[str, Any], moment: dict[str, Any], recording: str, fps: float, path: Path, where: str
) -> Caption:
    return Caption(
        id=id_,
        video=str(row["video"]),
        recording=recording,
        text=" ".join(str(moment["caption"]).split()),
        spans=(frames_to_span(moment["start_frame"], moment["end_frame"], fps, path, where),),
        duration_s=_frames(row["total_frames"], path, where) / fps,
    )


def frames_to_span(start_frame: Any, end_frame: Any, fps: float, path: Path, where: str) -> Span:
    """Return the time on screen of frames start..end, both inside; a reversed pair stays reversed."""
    start, end = _frames(start_frame, path, where), _frames(end_frame, path, where)
    return Span(start / fps, (end + 1) / fps) if end >= start else Span((start + 1) / fps, end / fps)


def _frames(value: Any, path: Path, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1 != 0:
        raise DataError(path, where, f"a frame must be a whole number, not {value!r}")
    return int(value)


def _two_options(row: dict[str, Any], path: Path, where: str) -> Question:
    row = require(row, {"question": Text, "answer_idx": Number}, path, where)
    written = row["options"]
    if isinstance(written, dict) and all(isinstance(key, str) for key in written):
        written = [written[key] for key in sorted(written)]
    listed = typed(written, Options, "options", path, where)
    labels = option_labels(len(listed))
    right = _frames(row["answer_idx"], path, where)
    if not 0 <= right < len(labels):
        raise DataError(path, where, f"answer_idx {right} is none of the {len(labels)} options")
    return Question(
        id=str(row["uid"]),
        video=str(row["video"]),
        question=row["question"],
        options=listed,
        answer=labels[right],
        spans=(),
        estimate_s=USUAL_CLIP_S,
    )


BENCHMARK = Benchmark(
    name="plm",
    about="PLM-Video: training data, what one subject does when",
    splits={
        name: (f"plm_*{name}*.jsonl", f"plm_*{name}*.parquet", f"*/plm_*{name}*.jsonl", f"*/plm_*{name}*.parquet")
        for name in ("train", "val", "test")
    },
    default_split="train",
    read=_read,
    measure=moment_measures,
    headline=("R1@0.3", "R1@0.5", "R1@0.7", "mIoU", "Acc@QA"),
)
BENCHMARKS = (BENCHMARK,)
