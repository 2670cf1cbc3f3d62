"""The questions and answers of the evaluation report as data: embedded once, drawn by the page on demand. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.benchmarks.runner.run import Row
from zoomzero.benchmarks.scoring.costs import CLOSE_PASSES
from zoomzero.data.annotation import Question
from zoomzero.pages import timeline
from zoomzero.pages.evaluation.runs import Entry, QuestionSet
from zoomzero.pages.evaluation.scores import durations_s, entry_measures, group_masks
from zoomzero.pages.media import relative_url
from zoomzero.pages.text import one_line
from zoomzero.prompts import PROBLEMS, option_labels
from zoomzero.spans import merge

TEXT_BUDGET = 8_000_000  # characters the models' own words may take in a page
TEXT_LIMITS = (4000, 2000, 1000, 500, 250, 0)  # of one pass; the first that fits the budget is taken
VIDEO = "VIDEO"  # stands for the video's path in a failure's reason, so that equal failures are one line
SKIPPED = f"{VIDEO}: was not there when the run began, so it was never asked"
UNREAD = "No answer could be read from the model's reply"


@dataclass(frozen=True, slots=True)
class Failure:
    """One reason why answers are missing: how many, of which entries. `place` is what the page calls it."""

    reason: str
    n: int
    entries: tuple[str, ...]
    place: int


class _Names:
    """Texts that occur often, each kept once."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}

    def place(self, text: str) -> int:
        """Return where a text stands, adding it when it is new."""
        return self.places.setdefault(text, len(self.places))


def failures(sets: Sequence[QuestionSet]) -> tuple[Failure, ...]:
    """Return why answers are missing, the most frequent reason first."""
    counted: dict[str, list[str]] = {}
    for found in sets:
        for entry in found.entries:
            for reason in _reasons(entry):
                counted.setdefault(reason, []).append(entry.name)
    by_count = sorted(counted.items(), key=lambda one: -len(one[1]))
    return tuple(
        Failure(reason, len(names), tuple(dict.fromkeys(names)), place)
        for place, (reason, names) in enumerate(by_count)
    )


def _reasons(entry: Entry) -> Iterator[str]:
    for i, question in enumerate(entry.pairs.questions):
        reason = failure_reason(entry, i, question)
        if reason is not None:
            yield reason


def failure_reason(entry: Entry, i: int, question: Question) -> str | None:
    """Return why an answer is missing, None when it is there or not due yet."""
    if entry.skipped[i]:
        return SKIPPED
    row = entry.rows.get(question.id)
    if row is None:
        return None
    if row["failed"] is not None:
        reason = str(row["failed"])
        for name in filter(None, (row.get("video"), question.video)):
            reason = reason.replace(name, VIDEO)
        return one_line(reason)
    return UNREAD if question.options and row["answer"] is None else None


def question_data(sets: Sequence[QuestionSet], page_folder: Path) -> dict[str, Any]:
    """Return everything the page shows of questions, as JSON values.

    What repeats (videos, groups, reasons of failures) is kept once and referred to by its place.

    Args:
        sets: what was read.
        page_folder: where the page will lie; links to videos are relative to it.
    """
    videos, groups = _Names(), _Names()
    reasons = {one.reason: one.place for one in failures(sets)}
    links: dict[int, str] = {}
    limit = text_limit([row for found in sets for entry in found.entries for row in entry.rows.values()])
    questions: list[dict[str, Any]] = []
    entries: list[dict[str, Any]] = []
    for number, found in enumerate(sets):
        first = len(entries)
        entries += [
            {"name": one.name, "kind": timeline.kind_of(one.mode), "mark": found.mark(one)} for one in found.entries
        ]
        lengths, masks = durations_s(found), group_masks(found)
        ious = [entry_measures(entry).get("mIoU") for entry in found.entries]
        for i, question in enumerate(found.questions):
            answers = [
                {"entry": first + place, **_answer(entry, i, question, reasons, limit)}
                | ({} if measure is None or not measure.mask("strict")[i] else {"iou": _round(measure.values[i], 3)})
                for place, (entry, measure) in enumerate(zip(found.entries, ious, strict=True))
                if entry.counted[i]
            ]
            if not answers:
                continue
            file = next((r["video"] for e in found.entries if (r := e.rows.get(question.id)) and r.get("video")), "")
            video = videos.place(file or question.video)
            if file and video not in links:
                links[video] = relative_url(Path(file), page_folder)
            held = [groups.place(f"{g}: {v}") for g, table in masks.items() for v, mask in table.items() if mask[i]]
            questions.append(_question(question, number, float(lengths[i]), video, held) | {"answers": answers})
    return {
        "entries": entries,
        "sets": [found.name for found in sets],
        "groups": list(groups.places),
        "failures": list(reasons),
        "videos": [[Path(name).name or name, links.get(place, "")] for place, name in enumerate(videos.places)],
        "problems": PROBLEMS,
        "axis": {"steps_s": timeline.STEPS_S, "max_ticks": timeline.MAX_TICKS},
        "kinds": timeline.KINDS,
        "text_limit": limit,
        "questions": questions,
    }


def text_limit(rows: Sequence[Row]) -> int:
    """Return to how many characters a pass's words are cut, so that a page of many rows stays light."""
    lengths = np.array([len(one.get("text") or "") for row in rows for one in row["passes"]], dtype=np.int64)
    return next(limit for limit in TEXT_LIMITS if np.minimum(lengths, limit).sum() <= TEXT_BUDGET or not limit)


def _question(question: Question, number: int, length_s: float, video: int, groups: list[int]) -> dict[str, Any]:
    return {
        "id": question.id,
        "set": number,
        "text": question.question,
        "options": list(question.options),
        "labels": list(option_labels(len(question.options))),
        "right": sorted(question.right),
        "spans": _spans(question.spans),
        "length": _round(length_s, 2) if length_s else None,
        "video": video,
        "groups": groups,
    }


def _answer(entry: Entry, i: int, question: Question, reasons: dict[str, int], limit: int) -> dict[str, Any]:
    """Return one answer as the page needs it; what there is not is left out."""
    reason = failure_reason(entry, i, question)
    row = entry.rows.get(question.id)
    failed = row is None or row["failed"] is not None
    out: dict[str, Any] = {"result": _result(entry, i, question, failed, reason)}
    if reason is not None:
        out["failure"] = reasons[reason]
    if row is None or failed:
        return out
    evidence = row.get("evidence") or {}
    close = [span for one in row["passes"] if one["name"].startswith(CLOSE_PASSES) for span in one["spans"]]
    out |= {
        "answer": entry.pairs.rows[i].answer,  # type: ignore[union-attr]
        "said": None if row["answer"] is not None else row.get("said"),
        "confidence": _round(row.get("confidence"), 3),
        "spans": _spans(row["spans"]),
        "close": _spans(close),
        "tokens": _round(row["costs"].get("visual_tokens"), 0),
        "seconds": _round(row["costs"].get("seconds"), 2),
        "why": row.get("reason") or None,
        "notes": row.get("notes") or None,
        "hit": _round(evidence.get("hit"), 3),
        "gap": evidence.get("gap"),
        "passes": [_pass(one, limit) for one in row["passes"]],
    }
    return {name: value for name, value in out.items() if value is not None}


def _result(entry: Entry, i: int, question: Question, failed: bool, reason: str | None) -> str:
    if failed:
        return "failed"
    if reason is not None:
        return "unread"
    if not question.right:
        return "unjudged"
    return "right" if entry.pairs.right[i] > 0 else "wrong"


def _pass(one: Row, limit: int) -> list[Any]:
    """Return a pass: name, looked at, found, said, confidence, seconds, visual tokens, frames, words, problems."""
    text = one.get("text") or ""
    return [
        one["name"],
        _spans(one["spans"]),
        _spans(one["found"]),
        one.get("option") or one.get("answer") or "",
        _round(one.get("confidence"), 3),
        _round(one.get("seconds"), 2),
        one.get("visual_tokens"),
        one.get("frames"),
        text if len(text) <= limit else text[:limit] + "…",
        one.get("problems") or [],
    ]


def _spans(spans: Sequence[Sequence[float]]) -> list[list[float]]:
    if not spans:
        return []
    union = spans if len(spans) == 1 and spans[0][0] < spans[0][1] else merge(spans)  # most have one, which is a union
    return [[_whole(round(start, 2)), _whole(round(end, 2))] for start, end in union]


def _round(value: Any, digits: int) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    return _whole(round(float(value), digits))


def _whole(value: float) -> float:
    """Return 12 for 12.0: shorter as JSON."""
    return int(value) if value == int(value) else value
