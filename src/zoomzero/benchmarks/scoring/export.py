"""Writing predictions in the form each official evaluator takes. `predictions.py` reads every one of them back.

    nextgqa       DIR/<split>_ground.json, DIR/<split>-res.json     code/TempGQA/eval_ground.py
    nextqa        {"<video>_<qid>": {"prediction": 2, "answer": 1}}  eval_mc.py
    rextime       {"qid", "pred_relevant_windows", "ans"} a line     evaluation/rextime_eval.py
    qvhighlights  {"qid", "query", "vid", "pred_relevant_windows", "pred_saliency_scores"} a line   standalone_eval
    cgbench       DIR/cg_annotations/<qid>.json, as its runner leaves them (run/utils.py), and DIR/predictions.jsonl
    videomme      [{"video_id", .., "questions": [{"question_id", .., "response"}]}]   evaluation/eval_your_results.py
    mlvu          [{"question_id", "question_type", "option"}]       the test set's server
    lvbench       {"<uid>": "A"}                                     lvbench/metrics/compute_accuracy.py
    longvideobench  {"<id>": "A"}                                    the test set's server

Rows that report an error are left out: no official form has a word for them. What a form cannot hold is counted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.base import ReadOptions
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.metrics import interval_iou
from zoomzero.benchmarks.predictions import Prediction, read_predictions
from zoomzero.data.annotation import Dataset, Question
from zoomzero.errors import ConfigError, DataError
from zoomzero.files import write_whole
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

CG_RUN = "zoomzero_export_0_False_False_False"  # model, size, segments, subtitles, their times, frame times
CHANGES = ("failed", "spans_joined", "scores_by_rank", "answers_left_out", "spans_left_out")
Row = tuple[Question, Prediction]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    `rows` of `n` questions are in the files. `counts`: missing, failed (left out), unparsed (no readable answer) and
    without_spans, as `score` counts them. `faults`: see `predictions`. `changes`: what the form could not hold.
    """

    benchmark: str
    split: str
    files: tuple[Path, ...]
    n: int
    rows: int
    counts: dict[str, int]
    faults: dict[str, int]
    changes: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        named = {"benchmark": self.benchmark, "split": self.split, "files": [str(path) for path in self.files]}
        return {**named, "n": self.n, "rows": self.rows, **self.counts, "changes": self.changes, "faults": self.faults}

    def text(self) -> str:
        """Return lines for the terminal."""
        counts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in self.counts.items())
        lines = [f"{self.benchmark} {self.split}: {self.rows} of {self.n} questions, {counts}"]
        for title, found in (("in the predictions", self.faults), ("changed", self.changes)):
            if said := [f"{count} {name.replace('_', ' ')}" for name, count in found.items() if count]:
                lines.append(f"{title}: {', '.join(said)}")
        shown = self.files[:2] if len(self.files) > 3 else self.files
        more = f" and {len(self.files) - len(shown)} more" if len(shown) < len(self.files) else ""
        return "\n".join([*lines, ", ".join(map(str, shown)) + more])


def export(
    name: str,
    data: str | Path,
    predictions: Sequence[str | Path],
    out: str | Path,
    split: str | None = None,
    options: ReadOptions | None = None,
) -> Exported:
    """Write predictions in the form of a benchmark's official evaluator, complete or not at all.

    Args:
        name: the benchmark.
        data: folder or file of its annotation.
        predictions: one file, or several that complete each other, in any form `score` reads.
        out: the file to write; the folder for nextgqa and cgbench.
        split: see `Benchmark.load`.
        options: how annotation is read where it leaves something open.

    Raises:
        ConfigError: no such benchmark or split, it has no evaluator, or `out` is of the wrong kind.
        DataError: annotation or predictions that cannot be read, or no row to write.
    """
    bench = benchmark(name)
    if name not in WRITERS:
        fix = f"choose from {', '.join(WRITERS)}, or score the file as it is"
        raise ConfigError(name, "has no official evaluator to export to", fix)
    dataset = bench.load(data, split, options)
    out = _check_out(name, Path(out).expanduser(), predictions)
    found = read_predictions(predictions, dataset.questions, bench.response_rule)
    known = [(question, found.rows[question.id]) for question in dataset.questions if question.id in found.rows]
    rows = [(question, row) for question, row in known if not row.failed]
    if not rows:
        raise DataError(predictions[0], "file", f"all {len(known)} rows report an error; nothing is left to export")
    changes = Counter(dict.fromkeys(CHANGES, 0))
    changes["failed"] = len(known) - len(rows)
    contents = WRITERS[name](dataset, rows, changes)
    paths = [out / path if path else out for path in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, content)
    counts = {
        "missing": len(dataset.questions) - len(known),
        "failed": changes.pop("failed"),
        "unparsed": sum(row.answer is None if bench.scores_answers else not row.spans for _, row in rows),
        "without_spans": sum(not row.spans for _, row in rows),
    }
    return Exported(
        name, dataset.split, tuple(paths), len(dataset.questions), len(rows), counts, dict(found.faults), dict(changes)
    )


def _check_out(name: str, out: Path, predictions: Sequence[str | Path]) -> Path:
    """Refuse an output of the wrong kind, or one that would overwrite what is read."""
    folder = name in FOLDERS
    if folder and out.exists() and not out.is_dir():
        raise ConfigError("--out", f"{out} is a file, and {name} is exported to several", "give a directory")
    if not folder and out.is_dir():
        raise ConfigError("--out", f"{out} is a directory", "give the name of a file")
    if any(out.resolve() == Path(path).expanduser().resolve() for path in predictions):
        raise ConfigError("--out", f"{out} is the predictions file itself", "give another name")
    return out


# --- forms ----------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def _lines(rows: Iterable[Any]) -> str:
    return "".join(map(_json, rows))


def _place(question: Question, label: str | None) -> int | None:
    """Return an option's index."""
    return question.labels.index(label) if label in question.labels else None


def _number(id_: str) -> int | str:
    """Return an id as the annotation writes it: a number where it is one."""
    return int(id_) if id_.isdecimal() else id_


def _windows(row: Prediction) -> list[list[float]]:
    if not row.scores:
        return [list(span) for span in row.spans]
    return [[*span, score] for span, score in zip(row.spans, row.scores, strict=True)]


def _nextgqa(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    """One span each: from the start of the first predicted one to the end of the last, as the evaluator reads them."""
    ground = {}
    for question, row in rows:
        if row.spans:
            ground[question.id] = list(Span(row.spans[0].start_s, row.spans[-1].end_s))
            changes["spans_joined"] += len(row.spans) > 1
    contents = {f"{dataset.split}-res.json": _answers(rows)}
    if ground:
        contents[f"{dataset.split}_ground.json"] = _json(ground)
    return contents


def _answers(rows: Sequence[Row]) -> str:
    """Return NExT-QA's form; an answer nobody could read is null, which equals no answer."""
    return _json(
        {
            question.id: {"prediction": _place(question, row.answer), "answer": _place(question, question.answer)}
            for question, row in rows
        }
    )


def _nextqa(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    changes["spans_left_out"] += sum(bool(row.spans) for _, row in rows)
    return {"": _answers(rows)}


def _rextime(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    """Leave a key out where no row has anything for it: then the evaluator scores the other alone."""
    grounded, answered = any(row.spans for _, row in rows), any(row.answer for _, row in rows)
    written = []
    for question, row in rows:
        values: dict[str, Any] = {"qid": question.id}
        if grounded or not answered:
            values["pred_relevant_windows"] = _windows(row)
        if answered:
            values["ans"] = row.answer
        written.append(values)
    return {"": _lines(written)}


def _qvhighlights(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    """Give windows without scores the reciprocal of their place, which keeps their order."""
    written = []
    for question, row in rows:
        windows = _windows(row)
        if row.spans and not row.scores:
            changes["scores_by_rank"] += 1
            windows = [[*window, round(1 / place, 6)] for place, window in enumerate(windows, 1)]
        changes["answers_left_out"] += row.answer is not None
        values: dict[str, Any] = {
            "qid": _number(question.id),
            "query": question.options[question.labels.index(question.answer)],
            "vid": question.video.removesuffix(".mp4"),
            "pred_relevant_windows": windows,
        }
        if row.saliency:
            values["pred_saliency_scores"] = list(row.saliency)
        written.append(values)
    return {"": _lines(written)}


def _cgbench(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    """Write what the official runner stores beside a question: 0 or 1, and the IoU; nothing where it read nothing."""
    contents = {}
    for question, row in rows:
        results: dict[str, dict[str, float]] = {}
        if row.answer is not None:
            results[f"long_acc_{CG_RUN}"] = {"version": 0, "result": int(row.answer == question.answer)}
        if row.spans:
            results[f"miou_{CG_RUN}"] = {"version": 0, "result": interval_iou(question.spans, row.spans)}
        record = {
            "qid": _number(question.id),
            "video_uid": question.video.removesuffix(".mp4"),
            "question": question.question,
            "answer": question.options[question.labels.index(question.answer)],
            "choices": list(question.options),
            "right_answer": question.answer,
            "clue_intervals": [list(span) for span in question.spans],
            "version": 0,
            "results": results,
        }
        contents[f"cg_annotations/{question.id}.json"] = _json(record)
    ours = ({"qid": _number(q.id), "ans": row.answer, "pred_relevant_windows": _windows(row)} for q, row in rows)
    return {"predictions.jsonl": _lines(ours), **contents}


def _videomme(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    videos: dict[str, dict[str, Any]] = {}
    for question, row in rows:
        video_id = question.id.rsplit("-", 1)[0]
        (duration,), (domain,), (sub,), (task,) = (
            question.groups[group] for group in ("duration", "domain", "sub_category", "task_type")
        )
        common = {"video_id": video_id, "duration_category": duration, "video_category": domain}
        entry = videos.setdefault(video_id, {**common, "video_subcategory": sub, "missing": False, "questions": []})
        labels = option_labels(len(question.options))
        values = {
            "question_id": question.id,
            "task_type": task,
            "question": question.question,
            "choices": [f"{letter}. {text}" for letter, text in zip(labels, question.options, strict=True)],
            "answer": question.answer,
            "response": row.answer or "",
        }
        entry["questions"].append(values)
        changes["spans_left_out"] += bool(row.spans)
    return {"": _json(list(videos.values()))}


def _mlvu(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    changes["spans_left_out"] += sum(bool(row.spans) for _, row in rows)
    written = [
        {"question_id": question.id, "question_type": question.groups["task"][0], "option": row.answer or ""}
        for question, row in rows
    ]
    return {"": _json(written)}


def _letters(dataset: Dataset, rows: Sequence[Row], changes: Counter[str]) -> dict[str, str]:
    changes["spans_left_out"] += sum(bool(row.spans) for _, row in rows)
    return {"": _json({question.id: row.answer or "" for question, row in rows})}


# Each returns contents by path below --out; the empty path is --out itself.
WRITERS: Mapping[str, Callable[[Dataset, Sequence[Row], Counter[str]], dict[str, str]]] = {
    "nextgqa": _nextgqa,
    "nextqa": _nextqa,
    "rextime": _rextime,
    "qvhighlights": _qvhighlights,
    "cgbench": _cgbench,
    "videomme": _videomme,
    "mlvu": _mlvu,
    "lvbench": _letters,
    "longvideobench": _letters,
}
FOLDERS = ("nextgqa", "cgbench")
