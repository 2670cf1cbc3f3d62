"""A few rows of every benchmark that asks with options alone, in the official layout (made up)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from made_files import FRUIT, write_json, write_lines

V2_LETTERS = "ABCDEFGH"


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


def mcq(folder: Path) -> Path:
    rows = [
        {"id": "1", "video": "a", "question": "What?", "options": FRUIT[:2], "answer": 1, "category": "x"},
        {"id": "2", "video": "b.mkv", "question": "What?", "options": {"A": "yes", "B": "no"}, "answer": "A"},
    ]
    write_lines(folder / "questions.jsonl", rows)
    return folder
