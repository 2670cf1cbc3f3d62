"""VideoZeroBench: hard questions answered in words, on long videos; right counts only with the moments that show it.

`VideoZeroBench_500_v0.tsv` or `.json`: question_id, video, question, answer, language, evidence_windows
([{"start", "end"}]), evidence_boxes ([{"time", "box": [x1, y1, x2, y2]}], shares of the frame). Lists are JSON text in
the table. The levels differ in what is told with the question, so each is a split of the same file:

    level-3   the question alone; with the predicted spans it also gives level 4: right AND temporal IoU > 0.3
    level-2   the moments are told        level-1   the moments and the boxes are told

Level 5 (boxes) is not measured here: nothing in this project predicts boxes.

Source: marinero4972/VideoZeroBench, eval/VLMEvalKit-lite/vlmeval/dataset/VideoBench/videozerobench.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source
from zoomzero.benchmarks.metrics import Measure
from zoomzero.data.annotation import Dataset, Question, read_rows, read_spans, require
from zoomzero.data.values import Id, Labels, Number, Text, Words, as_id, listed_as, shown, typed
from zoomzero.errors import DataError
from zoomzero.files import parse_json
from zoomzero.spans import Span, iou

COLUMNS = {"video": Id, "question": Text, "answer": Words}
Share = Annotated[Number, Field(ge=-1000, le=1000)]  # of the frame; a corner may lie outside
BOX = {"time": Number, "box": listed_as(Share)}
LEVELS = ("level-3", "level-2", "level-1")
LEAST_IOU = 0.3
USUAL_S = 600.0
QUOTES = " \t\r\n\"'“”‘’"
FENCE = re.compile(r"```(?:json|python|bash|text)?\s*\n(.*?)\n```", re.IGNORECASE | re.DOTALL)
TAGGED = re.compile(r"<answer>\s*(.*?)\s*</answer>", re.IGNORECASE | re.DOTALL)
GROUPS = ("language", "domain", "category")


def _read(source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    questions = [_question(row, source.split, path, f"row {n}") for n, row in enumerate(read_rows(path), 1)]
    return Dataset("videozerobench", source.split, tuple(questions), (path,))


def _question(row: dict[str, Any], level: str, path: Path, where: str) -> Question:
    row = require(row, COLUMNS, path, where)
    id_ = next((row[name] for name in ("question_id", "id", "index") if row.get(name) not in (None, "")), None)
    if id_ is None:
        raise DataError(path, where, "lacks a question_id")
    windows = [(one.get("start"), one.get("end")) for one in _objects(row, "evidence_windows", path, where)]
    spans = read_spans([pair for pair in windows if None not in pair], path, where)
    abilities = row.get("annotation_capabilities")
    groups: dict[str, tuple[str, ...]] = {"level": (level,)}
    groups |= {name: (typed(row[name], Id, name, path, where),) for name in GROUPS if row.get(name)}
    if abilities:
        listed = _list(abilities, "annotation_capabilities", path, where)
        groups["capability"] = typed(listed, Labels, "annotation_capabilities", path, where)
    told = _moments(spans) if level in ("level-1", "level-2") else ""
    told += _boxes(_objects(row, "evidence_boxes", path, where), path, where) if level == "level-1" else ""
    return Question(
        id=as_id(id_, path, where),
        video=row["video"],
        question=row["question"].strip() + told,
        options=(),
        answer=row["answer"].strip(),
        spans=tuple(span for span in spans if span.end_s > span.start_s),
        estimate_s=USUAL_S,
        groups=groups,
        in_words=True,
    )


def _list(value: Any, name: str, path: Path, where: str) -> list[Any]:
    """Return a list that may be written as JSON text; nothing at all is an empty one."""
    if isinstance(value, str):
        try:
            value = parse_json(value) if value.strip() else []
        except ValueError as error:
            raise DataError(path, where, f"{name} is not JSON ({error})") from error
    if value is None:
        return []
    if not isinstance(value, list):
        raise DataError(path, where, f"{name} must be a list, not {shown(value)}")
    return value


def _objects(row: dict[str, Any], name: str, path: Path, where: str) -> list[dict[str, Any]]:
    listed = _list(row.get(name), name, path, where)
    if not all(isinstance(one, dict) for one in listed):
        raise DataError(path, where, f"{name} must be a list of objects")
    return listed


def _moments(spans: tuple[Span, ...]) -> str:
    """Return the sentence that tells the moments, empty when there are none."""
    if not spans:
        return ""
    return f" The answer is seen at {', '.join(f'{s.start_s:.2f} to {s.end_s:.2f} seconds' for s in spans)}."


def _boxes(boxes: list[dict[str, Any]], path: Path, where: str) -> str:
    """Return the sentence that tells the boxes, in thousandths of the frame as Qwen-VL counts them."""
    told = []
    for one in boxes:
        corners = one.get("box")
        if one.get("time") is not None and isinstance(corners, list) and len(corners) == 4:
            box = require(one, BOX, path, where)
            told.append(f"{[int(1000 * x) for x in box['box']]} at {box['time']:.2f} seconds")
    return f" Look at the boxes {', '.join(told)} (0 to 1000, from the left and the top)." if told else ""


def official_answer(response: str, question: Question) -> str:
    """Return the annotated answer when the official evaluator takes the response for it, else what it has read.

    Numbers must be the same text; with Latin letters case does not count; a colour (`色`) may be part of the annotated
    one, and a vehicle (`车`) part of the response.

    Source: marinero4972/VideoZeroBench, videozerobench.py (`is_correct`).
    """
    tagged = TAGGED.search(response)
    said, true = _plain(tagged[1] if tagged else response), _plain(question.answer)
    if not true:
        return said
    if true.isdecimal() and true.isascii():
        same = said == true
    elif re.search("[A-Za-z]", true):
        same = said.lower() == true.lower()
    elif "色" in true:
        same = bool(said) and said in true
    elif true == "车":
        same = true in said
    else:
        same = said == true
    return question.answer if same else said


def _plain(text: str) -> str:
    """Return a text without a code fence, quotes and full stops around it."""
    fenced = FENCE.search(text)
    return (fenced[1] if fenced else text).strip().lstrip(QUOTES).rstrip(QUOTES + ".。")


def _measure(pairs: Pairs) -> list[Measure]:
    """Score every question, those without a row as wrong: the official evaluator divides by all of them."""
    all_ = np.ones(len(pairs.questions), dtype=bool)
    seen = np.array([bool(question.spans) for question in pairs.questions], dtype=bool)
    ious = pairs.span_values(lambda truths, predicted: iou([s for s in predicted if s.end_s > s.start_s], truths))
    level = pairs.questions[0].groups["level"][0] if pairs.questions else LEVELS[0]
    measures = [Measure(f"{level.capitalize()}_acc", pairs.right, all_, also=("Acc@QA",))]
    if level == "level-3":
        grounded = pairs.right * (ious > LEAST_IOU)
        measures.append(Measure("Level-4_score", grounded, all_))
        measures.append(Measure("Level-4_mean_tIoU", ious, all_, seen))
    return measures


BENCHMARKS = (
    Benchmark(
        name="videozerobench",
        about="VideoZeroBench: answers in words and the moments that show them, levels 1 to 4",
        splits=dict.fromkeys(LEVELS, ("VideoZeroBench_*.tsv", "VideoZeroBench_*.json")),
        default_split="level-3",
        read=_read,
        measure=_measure,
        groups=("capability", *GROUPS),
        response_rule=official_answer,
    ),
)
