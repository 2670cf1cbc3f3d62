"""Miniatures of the data sets that caption moments: TimeLens-Bench, Charades-STA, QVHighlights, ActivityNet, PLM-Video.

The readers of the last three ask about captions with captions of other videos as wrong options
(`zoomzero/data/captions.py`), so sentences are chosen that are true in one film only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from zoomzero.spans import Span
from zoomzero.world.miniatures.material import (
    Film,
    Format,
    Layout,
    Moment,
    as_json,
    as_lines,
    describe,
    moments_of_its_own,
    plain,
)
from zoomzero.world.scenes import Event

CLIP_S = 2  # QVHighlights rates clips of this length
QUERIES = 2  # for each film
SENTENCES = 5  # an event, three others as wrong options, and the one before it
PLM_FPS = 6  # SA-V's annotation grid; the films themselves run at another rate, as SA-V's do


def _timelens(films: Sequence[Film]) -> Layout:
    """Lay out charades-timelens.json: each film's appearances that can be told by their looks, a span for each."""
    table: dict[str, dict[str, Any]] = {}
    for one in films:
        events = _unlike(one)
        table[one.name] = {
            "duration": plain(one.scene.duration_s),
            "spans": [[plain(event.start_s), plain(event.end_s)] for event in events],
            "queries": [f"A {describe(event)} is on screen." for event in events],
        }
    entries = sum(len(row["spans"]) for row in table.values())
    return Layout(
        {"charades-timelens.json": as_json(table)}, tuple(f"charades/{video}.mp4" for video in table), entries
    )


def _charades(films: Sequence[Film]) -> Layout:
    """Lay out charades_sta_test.txt and the table with the videos' lengths."""
    lines = [
        f"{one.name} {plain(event.start_s)} {plain(event.end_s)}##a {describe(event)} is on screen."
        for one in films
        for event in _unlike(one)
    ]
    lengths = "".join(f"{one.name},{plain(one.scene.duration_s)}\n" for one in films)
    files = {
        "charades_sta_test.txt": "".join(f"{line}\n" for line in lines).encode(),
        "Charades_v1_test.csv": f"id,length\n{lengths}".encode(),
    }
    return Layout(files, tuple(f"{one.name}.mp4" for one in films), len(lines))


def _unlike(one: Film) -> list[Event]:
    """Return a film's appearances whose description is true of no other one in it, the first few."""
    told = Counter(describe(event) for event in one.scene.events)
    return [event for event in one.scene.events if told[describe(event)] == 1][:SENTENCES]


def _qvhighlights(films: Sequence[Film]) -> Layout:
    """Lay out highlight_val_release.jsonl: clips cut from recordings, two films to a recording."""
    rows: list[dict[str, Any]] = []
    videos = []
    for one, moments in zip(films, moments_of_its_own(films), strict=True):
        vid = _clip_name(films, one)
        videos.append(f"{vid}.mp4")
        duration_s = int(one.scene.duration_s)
        for moment in moments[:: max(1, -(-len(moments) // QUERIES))][:QUERIES]:
            ids, scores = _saliency(moment.span, duration_s)
            row = {
                "qid": len(rows) + 1,
                "query": moment.text,
                "duration": duration_s,
                "vid": vid,
                "relevant_clip_ids": ids,
                "saliency_scores": scores,
                "relevant_windows": [[plain(moment.span.start_s), plain(moment.span.end_s)]],
            }
            rows.append(row)
    return Layout({"highlight_val_release.jsonl": as_lines(rows)}, tuple(videos), len(rows))


def _clip_name(films: Sequence[Film], one: Film) -> str:
    """Return `<recording>_<start>_<end>`; an odd film goes on where the one before it ends."""
    first = films[one.index - one.index % 2]
    start_s = 0.0 if first is one else first.scene.duration_s
    return f"{first.name}_{start_s}_{start_s + one.scene.duration_s}"


def _saliency(span: Span, duration_s: int) -> tuple[list[int], list[list[int]]]:
    """Return the 2 s clips a window touches and three annotators' ratings: higher where it fills the clip."""
    ids, scores = [], []
    for clip in range(duration_s // CLIP_S):
        inside = min(span.end_s, (clip + 1) * CLIP_S) - max(span.start_s, clip * CLIP_S)
        if inside > 0:
            ids.append(clip)
            scores.append([4, 4, 3] if inside == CLIP_S else [2, 3, 2])
    return ids, scores


def _activitynet(films: Sequence[Film]) -> Layout:
    """Lay out train.json: each film's first events, none left out between them, a sentence each."""
    table: dict[str, dict[str, Any]] = {}
    for one in films:
        events = one.scene.events[:SENTENCES]
        table[f"v_{one.name}"] = {
            "duration": plain(one.scene.duration_s),
            "timestamps": [[plain(event.start_s), plain(event.end_s)] for event in events],
            "sentences": [f"A {describe(event)} appears." for event in events],
        }
    entries = sum(len(row["timestamps"]) for row in table.values())
    return Layout({"train.json": as_json(table)}, tuple(f"{video}.mp4" for video in table), entries)


def _plm(films: Sequence[Film]) -> Layout:
    """Lay out an object's phases (RDCap), a captioned moment (RCap) and a two-option question (FGQA) for each film."""
    phases: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    questions: list[dict[str, Any]] = []
    n_phases = 0
    videos = tuple(f"sav_{one.number}.mp4" for one in films)
    for one, video, moments in zip(films, videos, moments_of_its_own(films), strict=True):
        total_frames = int(one.scene.duration_s * PLM_FPS)
        common = {"video": video, "masklet_id": 0, "total_frames": total_frames}
        if subject := _subject(one, moments):
            n_phases += len(subject)
            phases.append({"uid": len(phases), **common, "dense_captions": _dense(subject, total_frames)})
        if moments:
            moment = moments[len(moments) // 2]
            first, last = _frames(moment.span)
            row = {"caption": moment.text, "start_frame": first, "end_frame": last}
            captions.append({"uid": len(captions), **common, **row})
        questions.append(_two_options(one, video, len(questions)))
    tables = {"rdcap": phases, "rcap": captions, "fgqa": questions}
    files = {f"{name}/plm_{name}_train.jsonl": as_lines(rows) for name, rows in tables.items() if rows}
    return Layout(files, videos, n_phases + len(captions) + len(questions))


def _subject(one: Film, moments: Sequence[Moment]) -> list[Moment]:
    """Return the moments that begin with one object: the one that appears most often, if all its appearances do."""
    by_kind: dict[int, list[Moment]] = {}
    for moment in moments:
        by_kind.setdefault(moment.first.kind, []).append(moment)
    complete = [phases for kind, phases in by_kind.items() if len(phases) == len(one.scene.events_of(kind))]
    most = max(complete, key=len, default=[])
    return most if len(most) > 1 else []


def _dense(subject: Sequence[Moment], total_frames: int) -> list[dict[str, Any]]:
    """Return the phases of an object that cover all frames; it is out of frame between its appearances."""
    phases: list[dict[str, Any]] = []
    at = 0
    for moment in subject:
        first, last = _frames(moment.first.span)
        if first > at:
            phases.append({"start_frame": at, "end_frame": first - 1, "caption": "Out of frame."})
        phases.append({"start_frame": first, "end_frame": last, "caption": moment.text})
        at = last + 1
    if at < total_frames:
        phases.append({"start_frame": at, "end_frame": total_frames - 1, "caption": "Out of frame."})
    return phases


def _frames(span: Span) -> tuple[int, int]:
    """Return the first and last frame on the grid that show a span."""
    return int(span.start_s * PLM_FPS), int(span.end_s * PLM_FPS) - 1


def _two_options(one: Film, video: str, uid: int) -> dict[str, Any]:
    question = one.questions[0]
    right = question.options[question.answer]
    wrong = question.options[(question.answer + 1) % len(question.options)]
    options = [right, wrong] if one.index % 2 else [wrong, right]
    return {
        "uid": f"fgqa_{uid}",
        "qa_id": f"fgqa_{uid}",
        "video": video,
        "question": question.text,
        "answer": right,
        "options": {f"option_{i}": text for i, text in enumerate(options)},
        "answer_idx": options.index(right),
    }


FORMATS = {
    "timelens": Format("charades", _timelens),
    "charades": Format("test", _charades),
    "qvhighlights": Format("val", _qvhighlights, least=2),
    "activitynet": Format("train", _activitynet),
    "plm": Format("train", _plm, least=2),
}
