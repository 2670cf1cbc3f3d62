"""Miniatures of the benchmarks with options and no evidence: Video-MME, its second version, MLVU, LongVideoBench, ...

Source of the formats: the readers in zoomzero/benchmarks/definitions/choice.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Sequence
from typing import Any

from zoomzero.errors import ConfigError
from zoomzero.prompts import option_labels
from zoomzero.world.miniatures.material import Film, Format, Layout, as_json, as_lines, label, with_options
from zoomzero.world.questions import Question
from zoomzero.world.render import SIZE
from zoomzero.world.write import FPS

MME_QUESTIONS = 3
MME_KINDS = {
    "symbol": "OCR Problems",
    "order": "Temporal Perception",
    "count": "Counting Problem",
    "last": "Object Recognition",
}
MLVU_KINDS = {  # file, question_type, first part of the video's name
    "symbol": ("2_needle", "findNeedle", "needle"),
    "order": ("5_order", "order", "order"),
    "count": ("4_count", "count", "count"),
    "last": ("1_plotQA", "plotQA", "movie101"),
}
LV_KINDS = {
    "symbol": ["key information retrieval"],
    "order": ["event understanding", "temporal grounding"],
    "count": ["summarization"],
    "last": ["entity recognition"],
}
MME_DOMAINS = (("Knowledge", "Astronomy"), ("Life Record", "Daily Life"), ("Film & Television", "Animation"))

GROUP = 4  # questions of Video-MME-v2 on each video
V2_OPTIONS = 8
V2_STRUCTURES = ("", "[1, 2, 3, 4]", "[1, [2, 3], 4]", "[[1, 2], 3, 4]")  # the first: a relevance group
V2_HEADS = (("Perception", "Recognition"), ("Temporal", "Order"), ("Reasoning", "Counting"))
LONG_KINDS = {"symbol": "S2A", "order": "E3E", "count": "SSS", "last": "SOS"}
LONG_GROUPS = ((15, 15), (60, 60), (600, 600), (float("inf"), 3600))  # up to so many seconds, and the group's name


# --- Video-MME ------------------------------------------------------------------------------------------


def _videomme(films: Sequence[Film]) -> Layout:
    """Lay out the release's parquet file: three questions for each video, options with their letters."""
    rows: list[dict[str, Any]] = []
    for one in films:
        domain, sub_category = MME_DOMAINS[one.index % len(MME_DOMAINS)]
        for place, question in enumerate(one.questions[:MME_QUESTIONS], 1):
            row = {
                "video_id": f"{one.index + 1:03d}",
                "duration": one.kind,
                "domain": domain,
                "sub_category": sub_category,
                "url": "",
                "videoID": one.name,
                "question_id": f"{one.index + 1:03d}-{place}",
                "task_type": MME_KINDS[question.kind],
                "question": question.text,
                "options": [f"{letter}. {text}" for letter, text in zip("ABCD", question.options, strict=True)],
                "answer": label(question),
            }
            rows.append(row)
    files = {"videomme/test-00000-of-00001.parquet": _parquet(rows)}
    return Layout(files, tuple(f"{one.name}.mp4" for one in films), len(rows))


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    try:
        arrow, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError as error:
        fix = "install it with `pip install pyarrow`"
        raise ConfigError("--as", "videomme is a parquet file, which needs pyarrow", fix) from error
    buffer = io.BytesIO()
    parquet.write_table(arrow.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


# --- Video-MME-v2 ---------------------------------------------------------------------------------------


def _videomme_v2(films: Sequence[Film]) -> Layout:
    """Lay out the release's rows: four questions of eight options on each video; the last row states the group."""
    rows: list[dict[str, Any]] = []
    for one in films:
        structure = V2_STRUCTURES[one.index % len(V2_STRUCTURES)]
        second, third = V2_HEADS[one.index % len(V2_HEADS)]
        for place in range(GROUP):
            question = with_options(one, place % len(one.questions), V2_OPTIONS)
            last = place == GROUP - 1
            row = {
                "video_id": f"{one.index + 1:03d}",
                "question_id": f"{one.index + 1:03d}-{place + 1}",
                "group_type": "logic" if structure else "relevance",
                "group_structure": structure or "[1, 2, 3, 4]",
                "question": question.text,
                "options": _lettered(question),
                "answer": label(question),
                "level": one.index % 3 + 1 if last else None,
                "second_head": second if last else None,
                "third_head": third if last else None,
            }
            rows.append(row)
    files = {"test.jsonl": as_lines(rows)}
    return Layout(files, tuple(f"{one.index + 1:03d}.mp4" for one in films), len(rows))


def _lettered(question: Question) -> str:
    labels = option_labels(len(question.options))
    return "\n".join(f"{letter}. {text}" for letter, text in zip(labels, question.options, strict=True))


# --- MLVU -----------------------------------------------------------------------------------------------


def _mlvu(films: Sequence[Film]) -> Layout:
    """Lay out one file and one folder of videos for each task; every video has one question."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    videos = []
    for one in films:
        question = one.questions[0]
        file, task, stem = MLVU_KINDS[question.kind]
        name = f"{stem}_{one.number}.mp4"
        videos.append(f"{file}/{name}")
        row = {
            "video": name,
            "duration": one.scene.duration_s,
            "question": question.text,
            "candidates": list(question.options),
            "answer": question.options[question.answer],
            "question_type": task,
        }
        tasks.setdefault(file, []).append(row)
    files = {f"json/{file}.json": as_json(rows) for file, rows in sorted(tasks.items())}
    return Layout(files, tuple(videos), len(films))


# --- LongVideoBench -------------------------------------------------------------------------------------


def _longvideobench(films: Sequence[Film]) -> Layout:
    """Lay out lvb_val.json: four or five candidates, the right one by its place from 0."""
    rows: list[dict[str, Any]] = []
    for one in films:
        duration_s = one.scene.duration_s
        for place in range(len(one.questions)):
            question = with_options(one, place, 4 + place % 2)
            row = {
                "video_id": one.name,
                "id": f"{one.name}_{place}",
                "question": question.text,
                "candidates": list(question.options),
                "correct_choice": question.answer,
                "topic_category": "Animation",
                "question_category": LONG_KINDS[question.kind],
                "level": "L1-Perception" if question.kind == "symbol" else "L2-Relation",
                "video_path": f"{one.name}.mp4",
                "subtitle_path": f"{one.name}_en.json",
                "duration_group": next(name for most, name in LONG_GROUPS if duration_s <= most),
                "starting_timestamp_for_subtitles": 0,
                "duration": duration_s,
            }
            rows.append(row)
    return Layout({"lvb_val.json": as_json(rows)}, tuple(f"{one.name}.mp4" for one in films), len(rows))


# --- LVBench --------------------------------------------------------------------------------------------


def _lvbench(films: Sequence[Film]) -> Layout:
    """Lay out video_info.meta.jsonl: options inside the question, one time reference for each."""
    rows: list[dict[str, Any]] = []
    entries = 0
    for one in films:
        qa = []
        for question in one.grounded:
            options = "".join(f"\n({letter}) {text}" for letter, text in zip("ABCD", question.options, strict=True))
            entry = {
                "uid": str(entries),
                "question": question.text + options,
                "answer": label(question),
                "question_type": LV_KINDS[question.kind],
                "time_reference": "-".join(_clock(seconds) for seconds in question.spans[0]),
            }
            qa.append(entry)
            entries += 1
        size = {"width": SIZE, "height": SIZE}
        info = {"duration_minutes": max(1, round(one.scene.duration_s / 60)), "fps": FPS, "resolution": size}
        rows.append({"key": one.name, "type": "cartoon", "video_info": info, "qa": qa})
    files = {"video_info.meta.jsonl": as_lines(rows)}
    return Layout(files, tuple(f"{one.name}.mp4" for one in films), entries)


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"


# --- any file of questions ------------------------------------------------------------------------------


def _mcq(films: Sequence[Film]) -> Layout:
    """Lay out questions.jsonl, the plainest form: id, video, question, options, answer, category."""
    rows = [
        {
            "id": f"{one.name}-{place}",
            "video": f"{one.name}.mp4",
            "question": question.text,
            "options": list(question.options),
            "answer": label(question),
            "category": question.kind,
        }
        for one in films
        for place, question in enumerate(one.questions)
    ]
    return Layout({"questions.jsonl": as_lines(rows)}, tuple(f"{one.name}.mp4" for one in films), len(rows))


FORMATS = {
    "videomme": Format("test", _videomme),
    "videomme-v2": Format("test", _videomme_v2),
    "longvideobench": Format("val", _longvideobench),
    "mlvu": Format("dev", _mlvu),
    "lvbench": Format("test", _lvbench),
    "mcq": Format("test", _mcq),
}
