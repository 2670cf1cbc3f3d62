"""Miniatures of the benchmarks that want the answer and its moments: NExT-GQA, ReXTime, CG-Bench, VideoZeroBench.

Source of the formats: the readers in zoomzero/benchmarks/definitions/evidence.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from zoomzero.spans import Span
from zoomzero.world.miniatures.material import Film, Format, Layout, as_json, label, plain, with_options
from zoomzero.world.questions import Question
from zoomzero.world.render import SIZE
from zoomzero.world.write import FPS

CSV_COLUMNS = ("video_id", "frame_count", "width", "height", "question", "answer", "qid", "type")
CG_OPTIONS = (5, 6, 7, 8)
CG_KINDS = {
    "symbol": "Text Perception",
    "order": "Time Cognition",
    "count": "Event Perception",
    "last": "Hallucination",
}
CG_DOMAINS = ("Art & Culture", "GUI")
ZERO_KINDS = {
    "symbol": ["text recognition"],
    "order": ["temporal reasoning"],
    "count": ["counting"],
    "last": ["temporal reasoning", "object recognition"],
}


def _pairs(spans: Sequence[Span]) -> list[list[float]]:
    return [[plain(span.start_s), plain(span.end_s)] for span in spans]


# --- NExT-GQA -------------------------------------------------------------------------------------------


def _nextgqa(films: Sequence[Film]) -> Layout:
    """Lay out test.csv, gsub_test.json and the map from video ids to paths; five options."""
    rows: list[tuple[Any, ...]] = []
    truth: dict[str, Any] = {}
    for one in films:
        duration_s = one.scene.duration_s
        location = {}
        for place in range(len(one.questions)):
            question = with_options(one, place, 5)
            right = question.options[question.answer]
            shape = (round(duration_s * FPS), SIZE, SIZE)
            rows.append((one.number, *shape, question.text, right, place, _next_type(question), *question.options))
            location[str(place)] = _pairs(question.spans)
        truth[one.number] = {"duration": plain(duration_s), "location": location, "fps": FPS}
    paths = {one.number: f"{one.index % 1200:04d}/{one.number}" for one in films}
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow((*CSV_COLUMNS, *(f"a{i}" for i in range(5))))
    writer.writerows(rows)
    files = {
        "test.csv": table.getvalue().encode(),
        "gsub_test.json": as_json(truth),
        "map_vid_vidorID.json": as_json(paths),
    }
    return Layout(files, tuple(f"{path}.mp4" for path in paths.values()), len(rows))


def _next_type(question: Question) -> str:
    if question.kind == "order":
        return "TN" if "next after" in question.text else "TP"
    return {"symbol": "TC", "count": "CH", "last": "TC"}[question.kind]


# --- ReXTime --------------------------------------------------------------------------------------------


def _rextime(films: Sequence[Film]) -> Layout:
    """Lay out rextime_val.json: one span for each question, videos named as those of its two sources in turn."""
    rows: list[dict[str, Any]] = []
    videos = []
    for one in films:
        duration_s = plain(one.scene.duration_s)
        short, source = (("anet", "activitynet_val"), ("qvh", "qvhighlights_val"))[one.index % 2]
        vid = f"v_{one.name}" if short == "anet" else f"{one.name}_0.0_{float(duration_s)}"
        videos.append(f"{vid}.mp4")
        for question in one.grounded:
            row = {
                "qid": f"{short}_val{len(rows)}",
                "source": source,
                "vid": vid,
                "duration": duration_s,
                "category": "means_end" if question.kind == "symbol" else "sequential",
                "question": question.text,
                "options": list(question.options),
                "answer": "From <s0> to <e0>, <option>.",
                "ans": label(question),
                "span": _pairs(question.spans)[0],
            }
            rows.append(row)
    return Layout({"rextime_val.json": as_json(rows)}, tuple(videos), len(rows))


# --- CG-Bench -------------------------------------------------------------------------------------------


def _cgbench(films: Sequence[Film]) -> Layout:
    """Lay out cgbench_mini.json: five to eight options, several clue intervals."""
    rows: list[dict[str, Any]] = []
    for one in films:
        for place in range(len(one.questions)):
            question = with_options(one, place, CG_OPTIONS[len(rows) % len(CG_OPTIONS)])
            row = {
                "qid": len(rows),
                "video_uid": one.name,
                "question": question.text,
                "answer": question.options[question.answer],
                "choices": list(question.options),
                "right_answer": label(question),
                "clue_intervals": _pairs(question.spans),
                "domain": CG_DOMAINS[one.index % len(CG_DOMAINS)],
                "sub_category": CG_KINDS[question.kind],
                "duration": plain(one.scene.duration_s),
            }
            rows.append(row)
    return Layout({"cgbench_mini.json": as_json(rows)}, tuple(f"{one.name}.mp4" for one in films), len(rows))


# --- VideoZeroBench -------------------------------------------------------------------------------------


def _videozerobench(films: Sequence[Film]) -> Layout:
    """Lay out the table: questions answered in words, moments and boxes as JSON text.

    The boxes are the whole frame: where an object is drawn is not the scene's to say.
    """
    columns = (
        "question_id",
        "video",
        "question",
        "answer",
        "language",
        "annotation_capabilities",
        "evidence_windows",
        "evidence_boxes",
    )
    rows: list[dict[str, Any]] = []
    for one in films:
        for question in one.questions:
            windows = [{"start": plain(span.start_s), "end": plain(span.end_s)} for span in question.spans]
            boxes = [{"time": plain(span.start_s), "box": [0, 0, 1, 1]} for span in question.spans]
            row = {
                "question_id": f"q{len(rows):03d}",
                "video": f"{one.name}.mp4",
                "question": question.text,
                "answer": question.options[question.answer],
                "language": "en",
                "annotation_capabilities": _text(ZERO_KINDS[question.kind]),
                "evidence_windows": _text(windows),
                "evidence_boxes": _text(boxes),
            }
            rows.append(row)
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    files = {"VideoZeroBench_500_v0.tsv": table.getvalue().encode()}
    return Layout(files, tuple(f"{one.name}.mp4" for one in films), len(rows))


def _text(value: Any) -> str:
    return as_json(value).decode().strip()


FORMATS = {
    "nextgqa": Format("test", _nextgqa),
    "rextime": Format("val", _rextime),
    "cgbench": Format("mini", _cgbench),
    "videozerobench": Format("level-3", _videozerobench),
}
