"""Miniatures of every benchmark in its official format, written for a test."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from made_choices import longvideobench, lvbench, mcq, mlvu, videomme, videomme_v2
from made_files import FRUIT, write_json, write_lines

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
