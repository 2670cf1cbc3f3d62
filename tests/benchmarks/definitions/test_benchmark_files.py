"""Every benchmark on a miniature in its official format; NExT-GQA, ReXTime and CG-Bench in detail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from made_benchmarks import MINIATURES, cgbench, nextgqa, rextime, rextime_without_options
from made_choices import mlvu
from made_files import by_id, scored, write_json

from zoomzero.benchmarks.definitions.registry import BENCHMARKS, benchmark
from zoomzero.data.annotation import Question
from zoomzero.errors import ConfigError, DataError
from zoomzero.spans import Span

# The others have several true spans where one is predicted, or a reversed one.
ONE_TRUE_SPAN = (
    *("nextqa", "rextime", "cgbench", "videomme", "videomme-v2", "longvideobench", "lvbench", "mcq", "plm"),
    *("timelens", "charades"),
)
WITHOUT_ANSWERS = ("timelens", "charades")


# --- every benchmark --------------------------------------------------------------------------------------


def test_each_benchmark_has_a_miniature() -> None:
    assert set(MINIATURES) == set(BENCHMARKS)


@pytest.mark.parametrize("name", MINIATURES)
def test_the_truth_scores_full_marks(name: str, tmp_path: Path) -> None:
    folder = MINIATURES[name](tmp_path / name)
    questions = benchmark(name).load(folder).questions
    rows = [
        {"id": q.id, "answer": q.answer, "spans": [sorted(span) for span in q.spans]}
        for q in questions
        if q.answer or not q.options  # MLVU has one whose answer is none of its options
    ]
    report = scored(name, folder, *rows)
    assert report.counts["n"] == len(questions) > 1
    assert report.counts["unparsed"] == report.counts["failed"] == 0
    if name == "mlvu":
        assert (report.official.values["plotQA"], report.official.values["micro"]) == (100, 75)
        return
    assert report.union.values.get("Acc@QA", 100) == 100
    assert ("Acc@QA" in report.union.values) == (name not in WITHOUT_ANSWERS)
    if name in ONE_TRUE_SPAN:
        assert set(report.strict.values.values()) == {100.0}, report.strict.values


@pytest.mark.parametrize("name", MINIATURES)
def test_silence_scores_nothing(name: str, tmp_path: Path) -> None:
    folder = MINIATURES[name](tmp_path / name)
    first = benchmark(name).load(folder).questions[0]
    report = scored(name, folder, {"id": first.id, "answer": None, "spans": []})
    assert report.counts["missing"] == report.counts["n"] - 1
    assert report.counts["unparsed"] == 1
    assert set(report.strict.values.values()) == {0.0}
    assert set(report.union.values.values()) <= {0.0}
    assert all(value == 0 for value in report.official.values.values())


@pytest.mark.parametrize("name", MINIATURES)
def test_a_folder_without_the_annotation(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no .* in this folder"):
        benchmark(name).load(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        benchmark(name).load(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=f"{name} has no split 'best'; choose from"):
        benchmark(name).load(tmp_path, "best")


def test_an_unknown_benchmark() -> None:
    with pytest.raises(ConfigError, match="is no benchmark; choose from nextgqa, nextqa, rextime"):
        benchmark("imagenet")


@pytest.mark.parametrize(
    ("name", "make", "file", "column"),
    [
        ("rextime", rextime, "rextime_val.json", "ans"),
        ("cgbench", cgbench, "cgbench_mini.json", "clue_intervals"),
        ("mlvu", mlvu, "1_plotQA.json", "question_type"),
    ],
)
def test_a_wrong_column_is_named(
    name: str, make: Callable[[Path], Path], file: str, column: str, tmp_path: Path
) -> None:
    path = make(tmp_path) / file
    rows = json.loads(path.read_text())
    rows[1]["other"] = rows[1].pop(column)
    write_json(path, rows)
    with pytest.raises(DataError, match=rf"{file}: row 2: lacks {column} \(it has"):
        benchmark(name).load(tmp_path)


def test_one_file_instead_of_the_folder(tmp_path: Path) -> None:
    nextgqa(tmp_path)
    dataset = benchmark("nextgqa").load(tmp_path / "val.csv")
    assert (dataset.split, len(dataset.questions)) == ("val", 4)


def test_the_only_split_there_is_taken_and_a_missing_one_named(tmp_path: Path) -> None:
    nextgqa(tmp_path)
    assert benchmark("nextgqa").load(tmp_path).split == "val"
    with pytest.raises(DataError, match=r"split test: there is no test\.csv in this folder; it has val"):
        benchmark("nextgqa").load(tmp_path, "test")


# --- NExT-GQA ---------------------------------------------------------------------------------------------


def test_nextgqa_questions(tmp_path: Path) -> None:
    questions = by_id("nextgqa", nextgqa(tmp_path))
    assert list(questions) == ["11_0", "11_1", "22_0", "22_7"]
    one = questions["11_1"]
    assert (one.video, one.answer, one.duration_s) == ("1001/11.mp4", "C", 30.0)
    assert one.spans == (Span(0, 5), Span(20, 31))  # as annotated: past the end
    assert one.groups == {"type": ("TN",)}  # previous counts with next
    assert questions["22_7"].right == {"D", "E"}
    assert questions["11_0"].right == {"B"}


def test_nextgqa_definitions(tmp_path: Path) -> None:
    report = scored(
        "nextgqa",
        nextgqa(tmp_path / "d"),
        {"id": "11_0", "answer": "B", "spans": [[12, 16]]},  # IoU .4, IoP 1, right
        {"id": "11_1", "answer": "A", "spans": [[0, 2], [18, 20]]},  # one span (0, 20): IoU .25, IoP .25; wrong
        {"id": "22_0", "answer": None, "spans": [], "error": "v: cannot open"},
    )
    assert report.counts == {"n": 4, "missing": 1, "unparsed": 0, "failed": 1, "without_spans": 0}
    official, strict, union = report.official.values, report.strict.values, report.union.values
    assert official["mIoU"] == pytest.approx(100 * (0.4 + 0.25) / 2)
    assert official["mIoP"] == pytest.approx(100 * (1 + 0.25) / 2)
    assert (official["IoU@0.3"], official["IoU@0.5"], official["IoP@0.5"]) == (50, 0, 50)
    assert (official["Acc@GQA"], official["Acc@QA"]) == (50, 50)
    assert strict["mIoU"] == pytest.approx(official["mIoU"] / 2)
    assert (strict["Acc@GQA"], strict["Acc@QA"]) == (25, 25)
    # as sets: (0, 2) u (18, 20) against (0, 5) u (20, 31) is IoU 2/18, IoP 2/4
    assert union["mIoU"] == pytest.approx(100 * (0.4 + 2 / 18) / 4)
    assert union["mIoP"] == pytest.approx(100 * (1 + 0.5) / 4)
    assert report.tables["type"]["TN"].n == 2
    assert report.tables["type"]["TN"].official["mIoU"] == pytest.approx(25)
    assert report.tables["type"]["TN"].strict["mIoU"] == pytest.approx(12.5)


def test_nextgqa_either_of_two_equal_options_is_right(tmp_path: Path) -> None:
    for letter, accuracy in (("D", 100), ("E", 100), ("A", 0)):
        report = scored("nextgqa", nextgqa(tmp_path / "d"), {"id": "22_7", "answer": letter, "spans": [[10, 20]]})
        assert report.official.values["Acc@GQA"] == accuracy
        assert report.notes["right_answer_twice"] == 1


def test_grounding_alone_has_no_official_accuracy(tmp_path: Path) -> None:
    report = scored("nextgqa", nextgqa(tmp_path / "d"), {"id": "11_0", "spans": [[10, 20]]})
    assert "Acc@GQA" not in report.official.values
    assert report.official.values["mIoU"] == 100
    assert report.strict.values["Acc@GQA"] == 0


def test_an_answer_without_spans_counts_for_accuracy_alone(tmp_path: Path) -> None:
    rows = ({"id": "11_0", "answer": "B", "spans": [[10, 20]]}, {"id": "22_0", "answer": "B", "spans": []})
    report = scored("nextgqa", nextgqa(tmp_path / "d"), *rows)
    assert report.counts["without_spans"] == 1
    assert (report.official.values["Acc@GQA"], report.official.values["Acc@QA"]) == (100, 50)


def test_nextgqa_without_its_grounding_is_nextqa(tmp_path: Path) -> None:
    (nextgqa(tmp_path) / "gsub_val.json").unlink()
    with pytest.raises(DataError, match=r"gsub_val\.json.*`nextqa`"):
        benchmark("nextgqa").load(tmp_path)
    assert by_id("nextqa", tmp_path)["11_0"].spans == ()


def test_nextgqa_question_without_a_location(tmp_path: Path) -> None:
    folder = nextgqa(tmp_path)
    write_json(folder / "gsub_val.json", {"11": {"duration": 30, "location": {"0": [[1, 2]]}}})
    with pytest.raises(DataError, match="video 11: has no duration and location of question 1"):
        benchmark("nextgqa").load(folder)


# --- ReXTime ----------------------------------------------------------------------------------------------


def test_rextime_definitions(tmp_path: Path) -> None:
    report = scored(
        "rextime",
        rextime(tmp_path / "d"),
        {"qid": "anet_val1", "pred_relevant_windows": [[10, 14], [10, 20]], "ans": "B"},  # the first window: IoU .4
        {"qid": "qvh_val2", "pred_relevant_windows": [[140, 151]], "ans": "A"},
    )
    values = report.official.values
    assert values["MR-mIoU"] == pytest.approx(70.0)
    assert (values["R1@0.3"], values["R1@0.5"]) == (100, 50)
    assert values["VQA"] == 50
    assert (values["VQA,mIoU@0.3"], values["VQA,mIoU@0.5"]) == (50, 0)
    assert report.union.values["mIoU"] == pytest.approx(100.0)  # both windows together
    assert {value: row.n for value, row in report.tables["category"].items()} == {"means_end": 1, "sequential": 1}


def test_rextime_in_the_evaluators_form(tmp_path: Path) -> None:
    folder = rextime_without_options(tmp_path / "d")
    question = by_id("rextime", folder)["anet_val1"]
    assert (question.options, question.answer, question.right) == ((), "C", {"C"})
    report = scored("rextime", folder, {"id": "anet_val1", "answer": "C", "spans": [[1, 1]]})
    assert (report.official.values["VQA"], report.official.values["MR-mIoU"]) == (100, 0)  # a point truth has no IoU
    assert scored("rextime", folder, {"id": "anet_val1", "answer": "E"}).faults["out_of_range_answers"] == 1


# --- CG-Bench ---------------------------------------------------------------------------------------------


def test_cgbench_definitions(tmp_path: Path) -> None:
    report = scored(
        "cgbench",
        cgbench(tmp_path / "d"),
        {"id": 14, "answer": "G", "spans": [[8, 12], [10, 16]]},  # merged (8, 16): 8 of 20 s
        {"id": 15, "answer": "B", "spans": [[0, 5]]},  # .5
    )
    values = report.official.values
    assert values["mIoU"] == pytest.approx(45)
    assert values["long-acc"] == 50
    assert values["rec@IoU"] == pytest.approx(100 * (4 / 5 + 5 / 5) / 2)  # reaches .4; reaches .5
    assert values["rec@IoU>"] == pytest.approx(100 * (3 / 5 + 4 / 5) / 2)
    assert values["acc@IoU"] == pytest.approx(100 * 4 / 5 / 2)
    assert set(report.tables["duration"]) == {"00-10 min", "over 60 min"}


def test_cgbench_leaves_each_unread_half_out_for_itself(tmp_path: Path) -> None:
    rows = ({"id": 14, "answer": "G", "spans": []}, {"id": 15, "answer": "?", "spans": [[0, 10]]})
    report = scored("cgbench", cgbench(tmp_path / "d"), *rows)
    assert (report.official.values["long-acc"], report.official.values["mIoU"]) == (100, 100)
    assert "acc@IoU" not in report.official.values
    strict = report.strict.values
    assert (strict["long-acc"], strict["mIoU"], strict["acc@IoU"]) == (50, 50, 0)


def test_cgbench_letter_beyond_the_choices(tmp_path: Path) -> None:
    path = cgbench(tmp_path) / "cgbench_mini.json"
    rows = json.loads(path.read_text())
    rows[1]["right_answer"] = "F"
    write_json(path, rows)
    with pytest.raises(DataError, match=r"row 2: the right answer 'F' is none of A\.\.E"):
        benchmark("cgbench").load(tmp_path)


# --- questions ---------------------------------------------------------------------------------------------


def test_an_id_twice_in_the_annotation(tmp_path: Path) -> None:
    path = rextime(tmp_path) / "rextime_val.json"
    rows = json.loads(path.read_text())
    rows[1]["qid"] = rows[0]["qid"]
    write_json(path, rows)
    with pytest.raises(DataError, match="anet_val1: the annotation has this id twice"):
        benchmark("rextime").load(tmp_path)


def test_right_needs_the_very_same_text() -> None:
    question = Question("1", "v", "?", ("Red", "red", "Red"), "A", ())
    assert question.right == {"A", "C"}
    assert replace(question, answer="").right == frozenset()
