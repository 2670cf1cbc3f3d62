"""QVHighlights, ActivityNet, Video-MME, MLVU, LVBench and PLM on miniatures in their official formats."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
from made_benchmarks import activitynet, plm, qvhighlights
from made_choices import lvbench, mlvu, videomme, videomme_rows
from made_files import FEW, by_id, scored, write_json, write_lines

from zoomzero.benchmarks.definitions.base import ReadOptions
from zoomzero.benchmarks.definitions.choice.videomme import official_letter
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.scoring.score import score
from zoomzero.data.annotation import Question
from zoomzero.errors import DataError
from zoomzero.spans import Span

# --- QVHighlights -----------------------------------------------------------------------------------------


def test_qvhighlights_definitions(tmp_path: Path) -> None:
    saliency = [9, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    report = scored(
        "qvhighlights",
        qvhighlights(tmp_path / "d"),
        {"qid": 1, "pred_relevant_windows": [[10, 20, 0.1], [0, 8, 0.9]], "pred_saliency_scores": saliency},
        {"qid": 4, "pred_relevant_windows": [[0, 15, 0.5]], "pred_saliency_scores": [1.0]},
    )
    values = report.official.values
    # R1 takes the window written first, mAP the best score: 0 and .75; 1 and (.75 reaches 6 of 10 thresholds)
    assert (values["MR-full-R1@0.5"], values["MR-full-R1@0.7"]) == (50, 50)
    assert values["MR-full-mAP"] == pytest.approx(100 * (1 + 0.6) / 2)
    assert values["MR-full-mAP@0.75"] == 100
    # lengths: (0, 8) is short, (0, 20) is middle; nothing is long
    assert values["MR-short-mAP"] == 100
    assert values["MR-middle-mAP"] == pytest.approx(60)
    assert "MR-long-mAP" not in values
    assert report.strict.values["MR-short-mAP"] == pytest.approx(25)  # queries 1, 2, 3, 5 have a short window
    assert report.strict.values["MR-full-mAP"] == pytest.approx(100 * 1.6 / 5)
    # annotators gave 4, 3, 2: all three find clips 0-3 fair, one very good; all clips of query 4 are relevant
    assert values["HL-min-Fair-mAP"] == pytest.approx(100)
    assert values["HL-min-VeryGood-mAP"] == pytest.approx(100 / 3)
    assert values["HL-min-VeryGood-Hit1"] == 100


def test_qvhighlights_options_come_from_other_clips_of_the_recording(tmp_path: Path) -> None:
    questions = by_id("qvhighlights", qvhighlights(tmp_path))
    first = questions["1"]
    assert "a cat sleeps" in first.options
    assert "a man sits" not in first.options  # true in the same clip
    assert first.options[first.labels.index(first.answer)] == "a dog runs"
    assert len(set(first.options)) == 4
    assert len(first.saliency) == 10
    assert first.saliency[3] == (4, 3, 2)
    assert first.saliency[4] == (0, 0, 0)


def test_qvhighlights_clip_beyond_the_video(tmp_path: Path) -> None:
    row = {
        "qid": 1,
        "query": "q",
        "duration": 20,
        "vid": "r_0_20",
        "relevant_windows": [[0, 2]],
        "relevant_clip_ids": [10],
        "saliency_scores": [[1, 1, 1]],
    }
    write_lines(tmp_path / "highlight_val_release.jsonl", [row])
    with pytest.raises(DataError, match="line 1: relevant_clip_ids"):
        benchmark("qvhighlights").load(tmp_path)


# --- the others -------------------------------------------------------------------------------------------


def test_activitynet_questions(tmp_path: Path) -> None:
    dataset = benchmark("activitynet").load(activitynet(tmp_path))
    questions = {question.id: question for question in dataset.questions}
    assert list(questions) == ["v_a_0", "v_a_1", "v_a_2", "v_b_0", "v_b_1"]
    assert dataset.notes["left_out_unclear_order"] == 2  # v_c: both start at 3 s
    assert questions["v_a_1"].question == 'What happens right after this in the video: "He wakes."?'
    assert "He wakes." not in questions["v_a_1"].options
    assert {"He eats.", "He leaves."} < set(questions["v_a_1"].options)
    assert {"He wakes.", "He eats.", "He leaves."} < set(questions["v_a_0"].options)
    assert questions["v_b_0"].spans == (Span(9, 5),)  # as annotated: reversed


def test_another_seed_draws_other_options(tmp_path: Path) -> None:
    activitynet(tmp_path)
    options = [
        [q.options for q in benchmark("activitynet").load(tmp_path, options=ReadOptions(seed=seed)).questions]
        for seed in (0, 0, 1)
    ]
    assert options[0] == options[1] != options[2]


def test_activitynet_with_a_sentence_too_many(tmp_path: Path) -> None:
    write_json(tmp_path / "train.json", {"v": {"duration": 9, "timestamps": [[1, 2]], "sentences": ["a", "b"]}})
    with pytest.raises(DataError, match="v: has 1 timestamps for 2 sentences"):
        benchmark("activitynet").load(tmp_path)


def test_videomme_measures(tmp_path: Path) -> None:
    report = scored(
        "videomme",
        videomme(tmp_path / "d"),
        {"id": "001-1", "answer": "C"},
        {"id": "001-2", "answer": "I cannot say"},
        {"id": "700-1", "answer": "A"},
    )
    assert report.counts["unparsed"] == 1
    assert report.official.values["Overall"] == 50  # what is not read is dropped
    assert report.strict.values["Overall"] == pytest.approx(100 / 3)
    assert (report.official.values["short"], report.official.values["long"]) == (100, 0)
    assert "medium" not in report.official.values
    assert report.tables["task_type"]["OCR Problems"].strict == {"Overall": 50}


def test_videomme_options_lose_their_letters(tmp_path: Path) -> None:
    question = by_id("videomme", videomme(tmp_path))["001-1"]
    assert question.options == ("Apples.", "Bread.", "Cheese.", "Dates.")
    assert question.video == "fF.mp4"


def test_videomme_official_file_is_annotation_and_submission(tmp_path: Path) -> None:
    official = [
        {
            "video_id": "001",
            "duration_category": "short",
            "video_category": "Knowledge",
            "video_subcategory": "Law",
            "questions": [
                {
                    "question_id": "001-1",
                    "task_type": "OCR Problems",
                    "question": "What?",
                    "choices": ["A. x", "B. y", "C. z", "D. w"],
                    "answer": "B",
                    "response": response,
                }
            ],
        }
        for response in ["The answer is B"]
    ]
    path = write_json(tmp_path / "output_test_template.json", official)
    report = score("videomme", path, [path], draws=FEW)
    assert report.official.values["Overall"] == 100


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("B", "B"),
        ("The best answer is C.", "C"),
        ("The answer is A", "A"),
        ("Because it is D", "B"),  # the first capital A to D, even of a word
        ("none of them", ""),
        ("", ""),
    ],
)
def test_videomme_official_letter(response: str, letter: str) -> None:
    assert official_letter(response, Question("1", "v", "?", ("a",), "A", ())) == letter


def test_videomme_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(videomme_rows()), tmp_path / "test-00000-of-00001.parquet")
    from_parquet = benchmark("videomme").load(tmp_path).questions
    assert from_parquet == benchmark("videomme").load(videomme(tmp_path / "lines")).questions
    (tmp_path / "test-00000-of-00001.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="is not a readable parquet file"):
        benchmark("videomme").load(tmp_path)


def test_parquet_without_pyarrow_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test-0.parquet").write_bytes(b"PAR1")

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(DataError, match=r"need pyarrow.*pip install pyarrow"):
        benchmark("videomme").load(tmp_path)


def test_mlvu_measures(tmp_path: Path) -> None:
    folder = mlvu(tmp_path / "d")
    dataset = benchmark("mlvu").load(folder)
    assert [q.id for q in dataset.questions] == ["plotQA_0", "plotQA_1", "count_0", "count_1"]
    assert dataset.questions[0].video == "1_plotQA/m1.mp4"
    assert dataset.notes == {"generation_questions_left_out": 1}
    report = scored(
        "mlvu",
        folder,
        {"id": "plotQA_0", "answer": "B"},
        {"id": "plotQA_1", "answer": "B"},  # the second of two equal options
        {"id": "count_0", "answer": "A"},
    )
    values = report.official.values
    assert (values["plotQA"], values["count"]) == (100, 0)
    assert values["M-Avg"] == 50
    assert values["micro"] == 50  # the question without a right option counts, asked or not
    assert report.notes["right_answer_not_among_options"] == 1
    without = scored("mlvu", folder, {"id": "plotQA_0", "answer": "B"}, {"id": "count_0", "answer": "D"})
    assert without.official.values["M-Avg"] == pytest.approx((100 + 50) / 2)
    assert without.official.values["micro"] == pytest.approx(200 / 3)


def test_lvbench_measures(tmp_path: Path) -> None:
    folder = lvbench(tmp_path / "d")
    questions = by_id("lvbench", folder)
    assert (questions["7"].question, questions["7"].options) == ("What is it?", ("one", "two", "three", "four"))
    assert questions["7"].spans == (Span(65, 70),)
    assert questions["8"].spans == (Span(3723, 3729),)
    report = score("lvbench", folder, [write_json(tmp_path / "answers.json", {"7": "D", "8": "B"})], draws=FEW)
    values = report.official.values
    assert (values["Overall"], values["acc"]) == (50, 50)
    assert (values["Rea"], values["Sum"], values["reasoning"]) == (50, 100, 50)  # question 7 counts in both types
    assert "KIR" not in values
    one = score("lvbench", folder, [write_json(tmp_path / "one.json", {"7": "D"})], draws=FEW)
    assert (one.official.values["Overall"], one.strict.values["Overall"]) == (100, 50)


def test_lvbench_options_that_are_not_lettered_in_order(tmp_path: Path) -> None:
    folder = lvbench(tmp_path)
    path = folder / "video_info.meta.jsonl"
    path.write_text(path.read_text().replace("(B) two", "(X) two"))
    dataset = benchmark("lvbench").load(folder)
    assert dataset.notes["options_not_found"] == 2
    assert dataset.questions[0].options == ()


def test_plm_frames_become_seconds(tmp_path: Path) -> None:
    dataset = benchmark("plm").load(plm(tmp_path))
    questions = {question.id: question for question in dataset.questions}
    assert questions["3_1"].spans == (Span(12 / 6, 30 / 6),)  # frames 12..29, both inside, at 6 fps
    assert questions["3_1"].duration_s == 10.0
    assert questions["3_2"].question == 'What happens right after this in the video: "She walks in."?'
    assert "3_0" not in questions
    assert dataset.notes["phases_out_of_frame_left_out"] == 1
    assert questions["10"].spans == (Span(1.0, 2.0),)
    assert (questions["q1"].options, questions["q1"].answer) == (("left", "right"), "B")
    at_24 = by_id("plm", tmp_path, options=ReadOptions(fps=24.0))
    assert at_24["10"].spans == (Span(6 / 24, 12 / 24),)


def test_plm_ids_of_several_files_are_told_apart(tmp_path: Path) -> None:
    plm(tmp_path)
    (tmp_path / "plm_more_train.jsonl").write_text((tmp_path / "plm_mixed_train.jsonl").read_text())
    ids = [question.id for question in benchmark("plm").load(tmp_path).questions]
    assert len(set(ids)) == len(ids)
    assert {"plm_mixed_train:10", "plm_more_train:10"} < set(ids)
