"""TimeLens-Bench, Charades-STA, Video-MME-v2, LongVideoBench, VideoZeroBench and any file of questions, by hand."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from made_benchmarks import charades, timelens, videozerobench
from made_choices import longvideobench, mcq, videomme_v2
from made_files import FRUIT, by_id, scored, write_json, write_lines

from zoomzero.benchmarks.definitions.choice.letters import first_capital, without_letters
from zoomzero.benchmarks.definitions.choice.mcq import read_answer, read_options
from zoomzero.benchmarks.definitions.choice.videomme_v2 import CHAIN, FORK_FIRST, FORK_LATE, RELEVANCE, group_worth
from zoomzero.benchmarks.definitions.evidence.videozerobench import official_answer
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.data.annotation import Question
from zoomzero.errors import DataError
from zoomzero.spans import Span

# --- moments: TimeLens-Bench, Charades-STA ----------------------------------------------------------------


def test_timelens_asks_for_the_moment_of_a_cleaned_sentence(tmp_path: Path) -> None:
    questions = by_id("timelens", timelens(tmp_path))
    assert list(questions) == ["3MSZA_0", "3MSZA_1", "x_0"]
    first = questions["3MSZA_0"]
    assert first.question == 'When does this happen in the video: "He sits"?'
    assert (first.video, first.spans, first.options, first.duration_s) == (
        "charades/3MSZA.mp4",
        (Span(24.3, 30.4),),
        (),
        30.9,
    )


@pytest.mark.parametrize(("name", "make", "last"), [("timelens", timelens, "x_0"), ("charades", charades, "X1_0")])
def test_the_first_window_is_scored_and_silence_is_zero(name: str, make: Any, last: str, tmp_path: Path) -> None:
    report = scored(
        name,
        make(tmp_path / "d"),
        {"id": "3MSZA_1", "spans": [[2, 8], [0, 6]]},  # 4 of 8 s: IoU .5, whatever the second window is
        {"id": last, "spans": []},  # nothing readable: counts, as 0
    )
    official, strict = report.official.values, report.strict.values
    assert (official["R1@0.3"], official["R1@0.5"], official["R1@0.7"]) == (50, 50, 0)
    assert official["mIoU"] == pytest.approx(25)
    assert strict["mIoU"] == pytest.approx(50 / 3)
    assert report.union.values["mIoU"] == pytest.approx(100 * (6 / 8) / 3)  # as sets: 6 of 8 s
    assert report.counts["unparsed"] == 1
    assert "Acc@QA" not in report.union.values, "there is nothing to answer"


def test_charades_lines_and_the_table_of_lengths(tmp_path: Path) -> None:
    questions = by_id("charades", charades(tmp_path))
    assert list(questions) == ["3MSZA_0", "3MSZA_1", "X1_0"]
    assert questions["3MSZA_0"].question == 'When does this happen in the video: "person turn a light on"?'
    assert (questions["3MSZA_0"].duration_s, questions["X1_0"].duration_s, questions["X1_0"].estimate_s) == (
        30.96,
        0,
        30,
    )


def test_charades_as_rows(tmp_path: Path) -> None:
    write_lines(
        tmp_path / "charades_sta_test.jsonl",
        [{"video": "3MSZA.mp4", "caption": "person turn a light on.", "timestamp": [24.3, 30.4]}],
    )
    (one,) = benchmark("charades").load(tmp_path).questions
    assert (one.id, one.video, one.spans) == ("3MSZA_0", "3MSZA.mp4", (Span(24.3, 30.4),))


@pytest.mark.parametrize("line", ["3MSZA 24.3 30.4 no mark", "3MSZA 24.3##a", "3MSZA a b##c"])
def test_a_line_that_is_none(line: str, tmp_path: Path) -> None:
    (tmp_path / "charades_sta_test.txt").write_text(f"X 0 1##fine\n{line}\n")
    with pytest.raises(DataError, match=r"charades_sta_test\.txt: line 2: "):
        benchmark("charades").load(tmp_path)


def test_timelens_needs_a_span_for_each_query(tmp_path: Path) -> None:
    write_json(tmp_path / "charades-timelens.json", {"v": {"duration": 9, "spans": [[0, 1]], "queries": ["a", "b"]}})
    with pytest.raises(DataError, match="v: must have one span for each query, not 1"):
        benchmark("timelens").load(tmp_path)


# --- Video-MME-v2 -----------------------------------------------------------------------------------------

R, W = True, False


@pytest.mark.parametrize(
    ("kind", "right", "worth"),
    [
        (RELEVANCE, (W, R, W, W), 1 / 16),
        (RELEVANCE, (R, W, R, R), 9 / 16),
        (CHAIN, (R, R, W, R), 4 / 16),  # the chain ends at the first wrong answer
        (CHAIN, (W, R, R, R), 0),
        (CHAIN, (R, R, R, R), 1),
        (FORK_LATE, (R, W, W, R), 1 / 12),
        (FORK_LATE, (R, W, R, R), 4 / 12),  # 1 and 3: the other branch
        (FORK_LATE, (R, R, W, R), 4 / 12),
        (FORK_LATE, (R, R, R, W), 7 / 12),
        (FORK_LATE, (W, W, R, R), 0),
        (FORK_FIRST, (W, R, R, R), 1 / 10),  # 2 alone: the other branch, and no further
        (FORK_FIRST, (R, W, R, R), 1 / 10),
        (FORK_FIRST, (R, R, W, R), 2 / 10),
        (FORK_FIRST, (R, R, R, W), 5 / 10),
        (FORK_FIRST, (W, W, R, R), 0),
    ],
)
def test_what_a_group_is_worth(kind: str, right: tuple[bool, ...], worth: float) -> None:
    assert group_worth(kind, right) == pytest.approx(worth)


def test_videomme_v2_scores_groups(tmp_path: Path) -> None:
    answers = {0: "AABB", 1: "AAAA", 2: "ABAB", 3: "BAAA"}  # 2 of 4; all; 1 and 3 (fork); 2 first (fork)
    rows = [
        {"id": f"00{video}-{place}", "answer": letter}
        for video, letters in answers.items()
        for place, letter in enumerate(letters, 1)
    ]
    folder = videomme_v2(tmp_path / "d")
    report = scored("videomme-v2", folder, *rows)
    worth = [4 / 16, 1, 4 / 12, 1 / 10]
    official = report.official.values
    assert official["total"] == pytest.approx(100 * sum(worth) / 4)
    assert official["relevance_score"] == pytest.approx(25)
    assert official["relevance_linear_score"] == pytest.approx(50)
    assert official["logic_score"] == pytest.approx(100 * sum(worth[1:]) / 3)
    assert official["level_1"] == pytest.approx(100 * (worth[0] + worth[3]) / 2)
    assert official["Acc@QA"] == pytest.approx(100 * 11 / 16)
    assert report.tables["group_type"]["logic"].official["total"] == pytest.approx(official["logic_score"])
    report = scored("videomme-v2", folder, *rows[1:])  # a group with a row missing is not whole
    assert report.official.values["total"] == pytest.approx(100 * sum(worth[1:]) / 3)
    assert report.strict.values["total"] == pytest.approx(100 * (1 / 16 + sum(worth[1:])) / 4)


def test_videomme_v2_questions(tmp_path: Path) -> None:
    questions = by_id("videomme-v2", videomme_v2(tmp_path))
    one = questions["002-1"]
    assert one.options[:2] == ("thing A", "thing B")
    assert (len(one.options), one.answer, one.video) == (8, "A", "002.mp4")
    assert one.groups["level"] == ("3",), "stated in the group's last row"
    assert one.groups["scored_as"] == (FORK_LATE,)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_type": "other"}, "a group scored as 'other' is unknown"),
        ({"group_type": "logic", "group_structure": "[4]"}, r"'logic \[4\]' is unknown"),
        ({"group_type": "logic", "group_structure": "x"}, "is no list"),
        ({"question_id": "000-x"}, "must end in its place"),
        ({"answer": "I"}, "is none of A..H"),
    ],
)
def test_videomme_v2_says_what_is_wrong(change: dict[str, str], message: str, tmp_path: Path) -> None:
    path = videomme_v2(tmp_path) / "test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[3] |= change
    write_lines(path, rows)
    with pytest.raises(DataError, match=message):
        benchmark("videomme-v2").load(tmp_path)


def test_first_capital_and_letters_of_options() -> None:
    assert first_capital("Final Answer: G.", ("Final Answer:",), "ABCDEFGH") == "G"
    assert first_capital("because it is", (), "ABC") == ""
    assert without_letters(["A. x", "B) y"]) == ("x", "y")
    assert without_letters(["A. x", "y"]) == ("A. x", "y")


# --- LongVideoBench ---------------------------------------------------------------------------------------


def test_longvideobench_by_length(tmp_path: Path) -> None:
    folder = longvideobench(tmp_path / "d")
    questions = by_id("longvideobench", folder)
    assert (questions["a"].answer, questions["b"].answer) == ("E", "A")
    report = scored(
        "longvideobench",
        folder,
        {"question_id": "a", "response": "The best answer is E. A book"},
        {"question_id": "b", "response": "none"},  # the evaluator would guess
        {"id": "c", "answer": "B"},
    )
    official = report.official.values
    assert official["Overall"] == official["lvb_acc"] == pytest.approx(200 / 3)
    assert (official["8-15 s"], official["15-60 min"]) == (100, 50)
    assert report.counts["unparsed"] == 1


def test_longvideobench_without_answers_and_as_columns(tmp_path: Path) -> None:
    rows = json.loads((longvideobench(tmp_path) / "lvb_val.json").read_text())
    for row in rows:
        candidates = row.pop("candidates") + ["N/A"] * 5
        row |= {f"option{i}": candidates[i] for i in range(5)}
        row.pop("correct_choice")
    write_json(tmp_path / "lvb_test_wo_gt.json", rows)
    questions = by_id("longvideobench", tmp_path, split="test")
    assert [len(one.options) for one in questions.values()] == [5, 4, 4]
    assert {one.answer for one in questions.values()} == {""}
    write_json(tmp_path / "lvb_val.json", [rows[0] | {"correct_choice": 5}])
    with pytest.raises(DataError, match="row 1: correct_choice 5 is none of the 5 options, counted from 0"):
        benchmark("longvideobench").load(tmp_path)


# --- VideoZeroBench ---------------------------------------------------------------------------------------


def test_videozerobench_levels_tell_more(tmp_path: Path) -> None:
    folder = videozerobench(tmp_path)
    plain, timed, boxed = (by_id("videozerobench", folder, split=f"level-{n}") for n in (3, 2, 1))
    assert plain["q1"].question == "How many?"
    assert timed["q1"].question == "How many? The answer is seen at 10.00 to 20.00 seconds."
    assert boxed["q1"].question == (
        "How many? The answer is seen at 10.00 to 20.00 seconds. "
        "Look at the boxes [250, 500, 750, 1000] at 12.00 seconds (0 to 1000, from the left and the top)."
    )
    assert plain["q2"].question == 'What does "he" say?'
    assert plain["q2"].spans == (Span(0, 5), Span(30, 35))
    assert timed["q3"].question == "什么颜色？"  # no moments are annotated
    assert all(one.in_words and not one.options for one in plain.values())


def test_videozerobench_wants_the_answer_and_the_evidence(tmp_path: Path) -> None:
    folder = videozerobench(tmp_path / "d")
    report = scored(
        "videozerobench",
        folder,
        {"id": "q1", "answer": "3.", "spans": [[10, 14]]},  # right, IoU .4: level 4
        {"id": "q2", "answer": '"hello"', "spans": [[0, 3]]},  # right, IoU .3: not above .3
        {"id": "q4", "answer": "A", "spans": [[1, 3]]},  # wrong, IoU 1; q3 is missing
    )
    official = report.official.values
    assert official["Level-3_acc"] == 50
    assert official["Level-4_score"] == 25
    assert official["Level-4_mean_tIoU"] == pytest.approx(100 * (0.4 + 0.3 + 1) / 3)  # q3 has no moments
    assert official == report.strict.values, "the official evaluator divides by all questions"
    assert report.union.values["Acc@QA"] == 50


def test_videozerobench_told_levels_have_one_measure(tmp_path: Path) -> None:
    from zoomzero.benchmarks.scoring.score import score

    folder = videozerobench(tmp_path / "d")
    rows = write_lines(tmp_path / "p.jsonl", [{"id": "q4", "answer": "b"}])
    official = score("videozerobench", folder, [rows], "level-2").official.values
    assert official == {"Level-2_acc": 25, "Acc@QA": 25}


@pytest.mark.parametrize(
    ("true", "said", "same"),
    [
        ("3", "3.", True),
        ("3", "3 people", False),
        ("3", "03", False),
        ("Hello", "<think>x</think><answer> hello </answer>", True),
        ("Hello", "```\nHELLO\n```", True),
        ("红色", "红", True),
        ("红色", "", False),
        ("车", "一辆车", True),
        ("12:30", "12:30。", True),
        ("12:30", "12.30", False),
    ],
)
def test_videozerobench_reads_answers_as_its_evaluator(true: str, said: str, same: bool) -> None:
    question = Question("q", "v.mp4", "?", (), true, (), in_words=True)
    assert (official_answer(said, question) == true) == same


def test_videozerobench_broken_cells(tmp_path: Path) -> None:
    path = videozerobench(tmp_path) / "VideoZeroBench_500_v0.tsv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    for cell, message in (("[{", "evidence_windows is not JSON"), ("[1]", "must be a list of objects")):
        write_json(tmp_path / "VideoZeroBench_500_v0.json", [rows[0] | {"evidence_windows": cell}])
        with pytest.raises(DataError, match=message):
            benchmark("videozerobench").load(tmp_path / "VideoZeroBench_500_v0.json")


# --- any file of questions --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "options"),
    [
        ({"options": ["A. x", "B. y"]}, ("x", "y")),
        ({"choices": {"B": "y", "A": "x"}}, ("x", "y")),
        ({"candidates": '["x", "y"]'}, ("x", "y")),
        ({"options": "A. x\nB. y\n"}, ("x", "y")),
        ({"option 0": "x", "option 1": "y", "option 2": "N/A"}, ("x", "y")),
        ({"a0": "x", "a1": "y", "a2": ""}, ("x", "y")),
        ({"A": "x", "B": "y", "C": None}, ("x", "y")),
        ({"answer_choice_0": "x", "answer_choice_1": 2}, ("x", "2")),
        ({}, ()),
    ],
)
def test_mcq_options_in_every_form(row: dict[str, Any], options: tuple[str, ...], tmp_path: Path) -> None:
    assert read_options(row, tmp_path, "row 1") == options


@pytest.mark.parametrize(
    ("written", "label"),
    [("B", "B"), ("b", "B"), ("(C)", "C"), (0, "A"), ("2", "C"), ("banana", "B"), (None, ""), ("cherry", "C")],
)
def test_mcq_answers_in_every_form(written: Any, label: str, tmp_path: Path) -> None:
    assert read_answer(written, FRUIT, tmp_path, "row 1") == label


def test_mcq_from_csv_with_what_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "questions.csv").write_text(
        "qid,video_id,question,option0,option1,answer,task_type,spans\n"
        '7,abc,What?,yes,no,1,OCR,"[[1, 2.5]]"\n'
        "8,abc,And then?,,,he leaves,Order,\n"
        "9,d.webm,Unknown?,yes,no,,OCR,\n"
    )
    questions = by_id("mcq", tmp_path)
    assert (questions["7"].video, questions["7"].answer, questions["7"].spans) == ("abc.mp4", "B", (Span(1, 2.5),))
    assert (questions["8"].answer, questions["8"].in_words, questions["8"].options) == ("he leaves", True, ())
    assert (questions["9"].answer, questions["9"].video) == ("", "d.webm")
    report = scored("mcq", tmp_path, {"id": "7", "answer": "B"}, {"id": "8", "answer": "He leaves."})
    assert report.official.values["Acc@QA"] == 100
    assert report.strict.values["Acc@QA"] == 100, "a question without a known answer is in no accuracy"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"video": "a", "question": "?", "options": ["x"]}, "has one option"),
        ({"video": "a", "question": "?", "options": ["x", "y"], "answer": "z"}, "the answer 'z' is no letter A..B"),
        ({"question": "?"}, "row 1: has no video: no column video, video_path"),
        ({"video": "a"}, "row 1: has no question"),
        ({"video": "a", "question": "?", "options": [["x"], "y"]}, "options must hold texts only"),
        ({"video": "a", "question": "?", "spans": "1-2"}, "must be a list written as JSON"),
    ],
)
def test_mcq_says_what_is_wrong(row: dict[str, Any], message: str, tmp_path: Path) -> None:
    write_lines(tmp_path / "questions.jsonl", [row])
    with pytest.raises(DataError, match=message):
        benchmark("mcq").load(tmp_path)


def test_mcq_takes_the_file_it_is_given(tmp_path: Path) -> None:
    path = mcq(tmp_path) / "questions.jsonl"
    path = path.rename(tmp_path / "mine.jsonl")
    assert list(by_id("mcq", path)) == ["1", "2"]
