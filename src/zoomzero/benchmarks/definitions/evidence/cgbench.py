"""CG-Bench: questions on long videos (5 to 8 options), with the intervals that hold the clue.

`cgbench_mini.json` / `cgbench.json`: a list of qid, video_uid, question, choices, right_answer (letter),
clue_intervals, duration, domain, sub_category.

Source: CG-Bench/CG-Bench, run/utils.py; open-compass/VLMEvalKit, vlmeval/dataset/utils/cgbench.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, accuracy
from zoomzero.benchmarks.metrics import FloatArray, Measure, interval_iou
from zoomzero.data.annotation import Dataset, Question, read_label, read_rows, read_spans, require
from zoomzero.data.values import Id, Options, Rows, Seconds, Text

COLUMNS = {
    "qid": Id,
    "video_uid": Id,
    "question": Text,
    "choices": Options,
    "right_answer": Text,
    "clue_intervals": Rows,
    "duration": Seconds,
    "domain": Id,
    "sub_category": Id,
}
THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    questions = [_question(row, path, f"row {n}") for n, row in enumerate(read_rows(path), 1)]
    return Dataset("cgbench", source.split, tuple(questions), (path,))


def _question(row: dict[str, Any], path: Path, where: str) -> Question:
    row = require(row, COLUMNS, path, where)
    choices, duration_s = row["choices"], row["duration"]
    return Question(
        id=row["qid"],
        video=f"{row['video_uid']}.mp4",
        question=row["question"],
        options=choices,
        answer=read_label(row["right_answer"], len(choices), path, where),
        spans=read_spans(row["clue_intervals"], path, where),
        duration_s=duration_s,
        groups={
            "domain": (row["domain"],),
            "sub_category": (row["sub_category"],),
            "duration": (_minutes(duration_s),),
        },
    )


def _minutes(duration_s: float) -> str:
    """Return the ten minutes a video falls in, ends included: `10-20 min`."""
    for low in range(0, 60, 10):
        if duration_s <= (low + 10) * 60:
            return f"{low:02}-{low + 10} min"
    return "over 60 min"


def _measure(pairs: Pairs) -> list[Measure]:
    """Score percent; what cannot be read is left out of the official averages, each for itself."""
    ious = pairs.span_values(interval_iou)
    spans, answers = pairs.grounded, pairs.answered
    at_least, above = _recall(ious, inclusive=True), _recall(ious, inclusive=False)
    return [
        accuracy(pairs, "long-acc", answers),
        Measure("mIoU", ious, spans),
        Measure("rec@IoU", at_least, spans),
        Measure("acc@IoU", pairs.right * at_least, spans & answers),
        Measure("rec@IoU>", above, spans, in_tables=False),
        Measure("acc@IoU>", pairs.right * above, spans & answers, in_tables=False),
    ]


def _recall(ious: FloatArray, inclusive: bool) -> FloatArray:
    """Return (n,) the share of the thresholds an IoU reaches; VLMEvalKit wants it above them (not inclusive)."""
    hits = [(ious >= t) if inclusive else (ious > t) for t in THRESHOLDS]
    return sum((hit.astype(float) for hit in hits), start=0.0 * ious) / len(THRESHOLDS)


BENCHMARK = Benchmark(
    name="cgbench",
    about="CG-Bench: long videos, clue intervals",
    splits={"mini": ("cgbench_mini.json",), "full": ("cgbench.json",)},
    default_split="mini",
    read=_read,
    measure=_measure,
    groups=("sub_category", "domain", "duration"),
    headline=("long-acc", "mIoU", "rec@IoU", "acc@IoU"),
)
BENCHMARKS = (BENCHMARK,)
