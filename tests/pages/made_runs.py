"""Run folders written by hand: four questions about two videos; the tests work out what the answers score."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.scoring.score import BootstrapSettings
from zoomzero.pages.evaluation.page import Evaluation, evaluate_runs
from zoomzero.pages.evaluation.runs import QuestionSet, read_runs

COSTS = {
    "visual_tokens": 100,
    "prefill_tokens": 150,
    "generated_tokens": 20,
    "frames": 8,
    "decoded_frames": 16,
    "decode_seconds": 0.1,
    "seconds": 0.5,
}
# id, right option, true span, video, its length in seconds
QUESTIONS = (
    ("q1", "A", [10, 20], "a.mp4", 100.0),
    ("q2", "B", [0, 10], "a.mp4", 100.0),
    ("q3", "A", [50, 60], "b.mp4", 400.0),
    ("q4", "B", [10, 30], "b.mp4", 400.0),
)
GONE = "cannot open: no such file; check the path"


def write_questions(folder: Path, text: str = "What is it", **changes: Any) -> Path:
    """Write the questions as an `examples` benchmark."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "id": id_,
            "video": video,
            "question": f"{text}, {id_}?",
            "options": ["apple", "banana"],
            "answer": right,
            "spans": [span],
            "duration_s": length_s,
            "source": "hand",
            "split": "test",
        }
        | changes
        for id_, right, span, video, length_s in QUESTIONS
    ]
    (folder / "examples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def row(id_: str, answer: str | None, spans: Sequence[Sequence[float]] = (), **values: Any) -> dict[str, Any]:
    """Return an answered row; keyword arguments replace its values."""
    video, length_s = next((video, length) for name, _, _, video, length in QUESTIONS if name == id_)
    one = {
        "name": "coarse",
        "spans": [[0.0, length_s]],
        "found": [list(span) for span in spans],
        "option": answer,
        "answer": answer,
        "confidence": 0.5,
        "seconds": 0.25,
        "visual_tokens": 60,
        "frames": 4,
        "text": "<answer>",
        "problems": [],
    }
    plain: dict[str, Any] = {
        "id": id_,
        "answer": answer,
        "said": None,
        "spans": [list(span) for span in spans],
        "confidence": 0.75,
        "failed": None,
        "video": f"/videos/{video}",
        "duration_s": length_s,
        "costs": COSTS,
        "reason": "the most certain",
        "notes": [],
        "passes": [one],
        "evidence": {"hit": None, "gap": None},
        "seconds": 0.6,
    }
    return plain | values


def failed(id_: str) -> dict[str, Any]:
    """Return the row of a question whose video cannot be opened."""
    video = row(id_, None)["video"]
    return row(id_, None, failed=f"{video}: {GONE}", costs={}, passes=[], duration_s=None, confidence=0.0)


ZOOM = (row("q1", "A", [[10, 20]]), row("q2", "A", [[5, 15]]), failed("q3"), row("q4", "B"))
DIRECT = tuple(row(id_, right) for id_, right, *_ in QUESTIONS)


def write_run(folder: Path, data: Path, modes: dict[str, Sequence[dict[str, Any]]], **record: Any) -> Path:
    """Write a run as `zoomzero eval` does; keyword arguments replace values of its run.json."""
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "benchmark": "examples",
        "split": "test",
        "data": str(data),
        "videos": str(data),
        "model": "tiny",
        "model_hash": "0123456789abcdef",
        "modes": list(modes),
        "settings": {"widen_s": 0.5, "zoom": {"fps": 1.0}},
        "settings_hash": "aaaabbbbcccc",
        "code": {"zoomzero": "0.1.0", "commit": "c0ffee", "source_hash": "feedbeef"},
        "source_hash": "feedbeef",
        "dataset": {"files": {}, "n": 4},
        "seed": 0,
        "machine": {"system": "Linux", "cores": 2},
        "sessions": [{"asked": {"limit": None, "only": None}}],
    }
    (folder / "run.json").write_text(json.dumps(values | record), encoding="utf-8")
    for mode, rows in modes.items():
        text = "".join(json.dumps({**one, "mode": mode}) + "\n" for one in rows)
        (folder / f"predictions.{mode}.jsonl").write_text(text, encoding="utf-8")
    return folder


FEW = BootstrapSettings(resamples=50)


def found_in(*folders: Path, **options: Any) -> Evaluation:
    """Return what the report over these runs shows, with few draws."""
    return evaluate_runs(folders, folders[0].parent, draws=FEW, **options)


def only_set(*folders: Path) -> QuestionSet:
    """Return the one set of questions of these runs."""
    (found,) = read_runs(folders)
    return found
