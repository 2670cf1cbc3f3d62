"""Miniatures of every benchmark in its official format, written for a test."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.scoring.score import BootstrapSettings, Report, score
from zoomzero.data.annotation import Question

FEW = BootstrapSettings(resamples=20)

COLUMNS = (
    "video_id",
    "frame_count",
    "width",
    "height",
    "question",
    "answer",
    "qid",
    "type",
    "a0",
    "a1",
    "a2",
    "a3",
    "a4",
)
FRUIT = ["apple", "banana", "cherry", "date", "elder"]


def write_json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def scored(name: str, folder: Path, *rows: dict[str, Any]) -> Report:
    """Score these rows, written beside the folder."""
    return score(name, folder, [write_lines(folder.parent / "run.jsonl", rows)], draws=FEW)


def by_id(name: str, folder: Path, **kwargs: Any) -> dict[str, Question]:
    return {question.id: question for question in benchmark(name).load(folder, **kwargs).questions}


def nextgqa(folder: Path) -> Path:
    """Four questions on two videos; the right answers are B, C, A, and D or E (two equal options)."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        ("11", "banana", "0", "CW", FRUIT),
        ("11", "cherry", "1", "TP", FRUIT),
        ("22", "apple", "0", "CH", FRUIT),
        ("22", "same", "7", "TN", ["apple", "banana", "cherry", "same", "same"]),
    ]
    with (folder / "val.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for video, answer, qid, kind, options in rows:
            writer.writerow([video, 900, 640, 480, f"what, {qid}?", answer, qid, kind, *options])
    truth = {
        "11": {"duration": 30, "location": {"0": [[10, 20]], "1": [[0.0, 5.0], [20, 31]]}, "fps": 29.97},
        "22": {"duration": 40, "location": {"0": [[-0.5, 8]], "7": [[10, 20]]}, "fps": 29.97},
    }
    write_json(folder / "gsub_val.json", truth)
    write_json(folder / "map_vid_vidorID.json", {"11": "1001/11", "22": "1002/22"})
    return folder


def rextime(folder: Path) -> Path:
    rows = [
        {
            "qid": "anet_val1",
            "vid": "v_a",
            "duration": 100.0,
            "question": "What then?",
            "options": FRUIT[:4],
            "ans": "B",
            "span": [10, 20],
            "answer": "From <s0> to <e0>, <option>.",
            "category": "sequential",
        },
        {
            "qid": "qvh_val2",
            "vid": "b_0.0_150.0",
            "duration": 150,
            "question": "Why?",
            "options": FRUIT[:4],
            "ans": "D",
            "span": [140, 151],
            "answer": "From <s0> to <e0>, <option>.",
            "category": "means_end",
        },
    ]
    write_json(folder / "rextime_val.json", rows)
    return folder


def rextime_without_options(folder: Path) -> Path:
    rows = [{"qid": "anet_val1", "query": "?", "duration": 9.5, "vid": "v_a", "relevant_windows": [[1, 1]], "ans": "C"}]
    write_lines(folder / "rextime_val.jsonl", rows)
    return folder


def cgbench(folder: Path) -> Path:
    common = {"question": "Which?", "answer": "?", "domain": "News", "sub_category": "Hallucination"}
    rows = [
        {
            **common,
            "qid": 14,
            "video_uid": "x",
            "choices": [*FRUIT, "fig", "grape"],
            "right_answer": "G",
            "clue_intervals": [[8, 18], [100, 110]],
            "duration": 600,
        },
        {
            **common,
            "qid": 15,
            "video_uid": "y",
            "choices": FRUIT,
            "right_answer": "A",
            "clue_intervals": [[0, 10]],
            "duration": 4000,
        },
    ]
    write_json(folder / "cgbench_mini.json", rows)
    return folder


def qvhighlights(folder: Path) -> Path:
    """Two clips of recording `r` (one with two captions) and one of `s`; clips of 20 s have ten 2 s parts."""
    rows = [
        _highlight(1, "r_0.0_20.0", "a dog runs", [[0, 8]], [0, 1, 2, 3]),
        _highlight(2, "r_0.0_20.0", "a man sits", [[10, 20]], [5, 6, 7, 8, 9]),
        _highlight(3, "r_20.0_40.0", "a cat sleeps", [[2, 4], [8, 12]], [1, 4, 5]),
        _highlight(4, "s_0.0_20.0", "a bus stops", [[0, 20]], list(range(10))),
        _highlight(5, "t_0.0_20.0", "a kite flies", [[4, 6]], [2]),
    ]
    write_lines(folder / "highlight_val_release.jsonl", rows)
    return folder


def _highlight(qid: int, vid: str, query: str, windows: list[list[int]], clips: list[int]) -> dict[str, Any]:
    return {
        "qid": qid,
        "query": query,
        "duration": 20,
        "vid": vid,
        "relevant_windows": windows,
        "relevant_clip_ids": clips,
        "saliency_scores": [[4, 3, 2] for _ in clips],
    }


def activitynet(folder: Path) -> Path:
    table = {
        "v_a": {
            "duration": 60.0,
            "timestamps": [[0, 10], [10, 30], [30, 61]],
            "sentences": ["He wakes.", " He eats.", "He leaves."],
        },
        "v_b": {"duration": 20.0, "timestamps": [[9, 5], [12, 20]], "sentences": ["A car waits.", "It drives off."]},
        "v_c": {"duration": 20.0, "timestamps": [[3, 5], [3, 9]], "sentences": ["A bell rings.", "Birds fly."]},
    }
    write_json(folder / "train.json", table)
    return folder


def videomme_rows() -> list[dict[str, Any]]:
    options = ["A. Apples.", "B. Bread.", "C. Cheese.", "D. Dates."]
    common = {"domain": "Knowledge", "sub_category": "Law", "url": "u", "question": "What?", "options": options}
    return [
        {
            **common,
            "video_id": "001",
            "videoID": "fF",
            "question_id": "001-1",
            "duration": "short",
            "task_type": "OCR Problems",
            "answer": "C",
        },
        {
            **common,
            "video_id": "001",
            "videoID": "fF",
            "question_id": "001-2",
            "duration": "short",
            "task_type": "Counting Problem",
            "answer": "A",
        },
        {
            **common,
            "video_id": "700",
            "videoID": "gG",
            "question_id": "700-1",
            "duration": "long",
            "task_type": "OCR Problems",
            "answer": "D",
        },
    ]


def videomme(folder: Path) -> Path:
    write_lines(folder / "videomme.jsonl", videomme_rows())
    return folder


def mlvu(folder: Path) -> Path:
    def row(video: str, kind: str, answer: str, candidates: list[str]) -> dict[str, Any]:
        return {
            "video": video,
            "duration": 300.5,
            "question": "What colour?",
            "candidates": candidates,
            "answer": answer,
            "question_type": kind,
        }

    colours = ["Red", "Green", "Blue", "Grey"]
    write_json(
        folder / "1_plotQA.json",
        [row("m1.mp4", "plotQA", "Green", colours), row("m2.mp4", "plotQA", "Red", ["Red", "Red", "Blue", "Grey"])],
    )
    write_json(
        folder / "4_count.json",
        [row("c1.mp4", "count", "4", ["1", "2", "3", "4"]), row("c2.mp4", "count", "seven", ["1", "2", "3", "4"])],
    )
    open_ended = {
        "video": "s.mp4",
        "duration": 9.0,
        "question": "Sum up.",
        "answer": "All.",
        "question_type": "summary",
    }
    write_json(folder / "9_summary.json", [open_ended])
    return folder


def lvbench(folder: Path) -> Path:
    def qa(uid: str, answer: str, types: list[str], when: str) -> dict[str, Any]:
        question = "What is it?\n(A) one\n(B) two\n(C) three\n(D) four"
        return {"uid": uid, "question": question, "answer": answer, "question_type": types, "time_reference": when}

    rows = [
        {
            "key": "vidA",
            "type": "sport",
            "video_info": {"duration_minutes": 61},
            "qa": [
                qa("7", "D", ["reasoning", "summarization"], "01:05-01:10"),
                qa("8", "A", ["reasoning"], "01:02:03-01:02:09"),
            ],
        }
    ]
    write_lines(folder / "video_info.meta.jsonl", rows)
    return folder


def plm(folder: Path) -> Path:
    dense = {
        "uid": 3,
        "video": "sav_1.mp4",
        "masklet_id": 0,
        "total_frames": 60,
        "dense_captions": [
            {"start_frame": 0, "end_frame": 11, "caption": "Out of frame."},
            {"start_frame": 12, "end_frame": 29, "caption": "She walks in."},
            {"start_frame": 30, "end_frame": 59, "caption": "She sits down."},
        ],
    }
    other = {
        **dense,
        "uid": 4,
        "video": "sav_2.mp4",
        "dense_captions": [
            {"start_frame": 0, "end_frame": 9, "caption": "It rolls."},
            {"start_frame": 10, "end_frame": 59, "caption": "It stops."},
        ],
    }
    moments = [
        {
            "uid": i,
            "video": f"sav_{i}.mp4",
            "masklet_id": 1,
            "total_frames": 48,
            "start_frame": 6,
            "end_frame": 11,
            "caption": f"Event {i}.",
        }
        for i in range(10, 15)
    ]
    two = {
        "uid": "q1",
        "video": "clip.mp4",
        "question": "Which hand?",
        "answer": "right",
        "options": {"option_0": "left", "option_1": "right"},
        "answer_idx": 1,
    }
    write_lines(folder / "plm_mixed_train.jsonl", [dense, other, *moments, two])
    return folder


def world(folder: Path) -> Path:
    """Examples of the procedural world, without its videos."""
    kinds = ("symbol", "order", "count")
    rows = [
        {
            "id": f"short-0-{i:05d}-{kind}",
            "video": f"videos/{i}.mp4",
            "question": "Which symbol is on the red circle?",
            "options": ["E", "H", "M", "T"],
            "answer": "BCA"[i],
            "spans": [[5.0 * i, 5.0 * i + 4.0]],
            "duration_s": 60.0,
            "source": "world-short",
            "split": "test",
        }
        for i, kind in enumerate(kinds)
    ]
    write_lines(folder / "examples.jsonl", rows)
    return folder


def timelens(folder: Path) -> Path:
    table = {
        "3MSZA": {"duration": 30.9, "spans": [[24.3, 30.4], [0, 6.0]], "queries": [" He  sits. ", "A door opens"]},
        "x": {"duration": 20, "spans": [[5, 15]], "queries": ["He eats."]},
    }
    write_json(folder / "charades-timelens.json", table)
    return folder


def charades(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ("3MSZA 24.3 30.4##person turn a light on.", "3MSZA 0.0 6.0##person opens a door.", "X1 5 15##a man eats.")
    (folder / "charades_sta_test.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "Charades_v1_test.csv").write_text("id,subject,length\n3MSZA,P,30.96\n")
    return folder


V2_LETTERS = "ABCDEFGH"


def videomme_v2(folder: Path) -> Path:
    """Four groups of four questions, one of each kind; option A is right everywhere."""
    kinds = (("relevance", "None"), ("logic", "[1, 2, 3, 4]"), ("logic", "[1, [2, 3], 4]"), ("logic", "[[1, 2], 3, 4]"))
    rows = [
        {
            "video_id": f"00{video}",
            "question_id": f"00{video}-{place}",
            "group_type": kind,
            "group_structure": structure,
            "question": "What?",
            "options": "\n".join(f"{letter}. thing {letter}" for letter in V2_LETTERS),
            "answer": "A",
            "level": video % 3 + 1 if place == 4 else None,
            "second_head": "Order" if place == 4 else None,
            "third_head": None,
        }
        for video, (kind, structure) in enumerate(kinds)
        for place in (1, 2, 3, 4)
    ]
    write_lines(folder / "test.jsonl", rows)
    return folder


def longvideobench(folder: Path) -> Path:
    def row(id_: str, group: int, right: int, candidates: list[str]) -> dict[str, Any]:
        return {
            "id": id_,
            "video_path": f"{id_}.mp4",
            "question": "What?",
            "candidates": candidates,
            "correct_choice": right,
            "duration": group - 1.5,
            "duration_group": group,
            "question_category": "S2E",
            "level": "L1-Perception",
        }

    rows = [row("a", 15, 4, FRUIT), row("b", 3600, 0, FRUIT[:4]), row("c", 3600, 1, FRUIT[:4])]
    write_json(folder / "lvb_val.json", rows)
    return folder


def videozerobench(folder: Path) -> Path:
    columns = ("question_id", "video", "question", "answer", "evidence_windows", "evidence_boxes", "language")
    box = [{"time": 12, "box": [0.25, 0.5, 0.75, 1.0]}]
    rows = [
        ("q1", "a.mp4", "How many?", "3", [{"start": 10, "end": 20}], box, "en"),
        ("q2", "a.mp4", 'What does "he" say?', "Hello", [{"start": 0, "end": 5}, {"start": 30, "end": 35}], [], "en"),
        ("q3", "b.mp4", "什么颜色？", "红色", [], [], "cn"),
        ("q4", "b.mp4", "Which letter?", "B", [{"start": 1, "end": 3}], [], "en"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "VideoZeroBench_500_v0.tsv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([*row[:4], json.dumps(row[4]), json.dumps(row[5]), row[6]] for row in rows)
    return folder


def mcq(folder: Path) -> Path:
    rows = [
        {"id": "1", "video": "a", "question": "What?", "options": FRUIT[:2], "answer": 1, "category": "x"},
        {"id": "2", "video": "b.mkv", "question": "What?", "options": {"A": "yes", "B": "no"}, "answer": "A"},
    ]
    write_lines(folder / "questions.jsonl", rows)
    return folder


MINIATURES: dict[str, Callable[[Path], Path]] = {
    "nextgqa": nextgqa,
    "nextqa": nextgqa,
    "rextime": rextime,
    "cgbench": cgbench,
    "qvhighlights": qvhighlights,
    "activitynet": activitynet,
    "videomme": videomme,
    "mlvu": mlvu,
    "lvbench": lvbench,
    "plm": plm,
    "timelens": timelens,
    "charades": charades,
    "videomme-v2": videomme_v2,
    "longvideobench": longvideobench,
    "videozerobench": videozerobench,
    "mcq": mcq,
    "world-short": world,
    "world-long": world,
    "examples": world,
}
