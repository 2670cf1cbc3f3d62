"""Foreign data: every value has a type, odd files end in one line, and nothing becomes another value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoomzero.benchmarks.definitions.base import ReadOptions
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.predictions import read_predictions
from zoomzero.config import ModelSettings, load_settings
from zoomzero.data.annotation import Dataset, Question, read_json, read_rows
from zoomzero.data.example import read_examples
from zoomzero.data.values import Id, Options, as_type, read_spans
from zoomzero.errors import ConfigError, DataError
from zoomzero.files import parse_json
from zoomzero.spans import Span

HEAD = "video_id,frame_count,width,height,question,answer,qid,type,a0,a1,a2,a3,a4\n"
TRUTH = '{"v1": {"duration": 58, "location": {"0": [[45, 54]]}, "fps": 8}}'
RX = {"qid": "anet_val0", "vid": "v1", "duration": 58, "question": "Which?", "options": ["H", "M", "P", "T"]}
RX |= {"ans": "B", "span": [45, 54]}
QV = {"qid": 1, "query": "q", "duration": 150, "vid": "x_0.0_150.0", "relevant_clip_ids": [0]}
QV |= {"saliency_scores": [[1, 2, 3]], "relevant_windows": [[0, 2]]}


def load(name: str, folder: Path, **files: str) -> Dataset:
    for file, text in files.items():
        (folder / file.replace("__", ".")).write_text(text, encoding="utf-8")
    return benchmark(name).load(folder, None, ReadOptions())


def refused(name: str, folder: Path, **files: str) -> str:
    with pytest.raises(DataError) as error:
        load(name, folder, **files)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


@pytest.mark.parametrize(
    "written", ["what is\u2028shown?", '"what is\nshown?"', '"what is \r\n shown?"', "what is\x0bshown?"]
)
def test_line_ends_in_a_table_cut_no_row(written: str, tmp_path: Path) -> None:
    data = load("nextgqa", tmp_path, test__csv=f"{HEAD}v1,464,1,1,{written},M,0,TC,H,M,P,X,T\n", gsub_test__json=TRUTH)
    assert [(one.question, one.options, one.answer) for one in data.questions] == [
        ("what is shown?", tuple("HMPXT"), "B")
    ]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("v1,464,1,1,what?,M,0,TC,H,M,P,X", "fields"),
        ("v1,464,1,1,what?,M,0,TC,H,M,P,X,T,Z", "fields"),
        (f"v1,464,1,1,{'x' * 200_000},M,0,TC,H,M,P,X,T", "field larger"),
    ],
)
def test_damaged_tables_are_one_line(row: str, words: str, tmp_path: Path) -> None:
    assert words in refused("nextgqa", tmp_path, test__csv=f"{HEAD}{row}\n", gsub_test__json=TRUTH)


@pytest.mark.parametrize(
    "truth", [TRUTH.replace("54", "9" * 400), TRUTH.replace("54", '"x"'), "[]", '{"v1": []}', "null"]
)
def test_damaged_truth_is_one_line(truth: str, tmp_path: Path) -> None:
    row = "v1,464,1,1,what?,M,0,TC,H,M,P,X,T"
    assert "gsub_test.json" in refused("nextgqa", tmp_path, test__csv=f"{HEAD}{row}\n", gsub_test__json=truth)


def test_options_may_be_an_object_of_labels(tmp_path: Path) -> None:
    options = {"B": "M", "A": "H", "C": "P", "D": "T"}
    data = load("rextime", tmp_path, rextime_val__json=json.dumps([{**RX, "options": options}]))
    assert data.questions[0].options == ("H", "M", "P", "T")
    reason = refused("rextime", tmp_path, rextime_val__json=json.dumps([{**RX, "options": {"x": "H", "y": "M"}}]))
    assert "options must be a list of texts, or an object with the keys A, B, .." in reason


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("rextime", "rextime_val__json", [{**RX, "span": "45-54"}]),
        ("rextime", "rextime_val__json", [{**RX, "span": ["4554"]}]),
        ("rextime", "rextime_val__json", [{**RX, "question": None}]),
        ("rextime", "rextime_val__json", [{**RX, "options": None}]),
        ("rextime", "rextime_val__json", [{**RX, "qid": ["x"]}]),
        ("rextime", "rextime_val__json", [{**RX, "duration": True}]),
        ("qvhighlights", "highlight_val_release__jsonl", {**QV, "saliency_scores": None}),
        ("qvhighlights", "highlight_val_release__jsonl", {**QV, "relevant_clip_ids": {"0": 1}}),
        ("qvhighlights", "highlight_val_release__jsonl", {**QV, "saliency_scores": [[1, None, 3]]}),
        ("qvhighlights", "highlight_val_release__jsonl", {**QV, "duration": 1e300}),
        ("activitynet", "val_1__json", {"v_1": {"duration": 9, "timestamps": [[0, 5]], "sentences": "a"}}),
        ("lvbench", "video_info.meta__jsonl", {"key": "k", "qa": None}),
        ("lvbench", "video_info.meta__jsonl", {"key": "k", "qa": ["x"]}),
        (
            "mlvu",
            "1_plotQA__json",
            [
                dict.fromkeys(("video", "question", "answer", "question_type"), "a")
                | {"duration": [], "candidates": ["a"]}
            ],
        ),
    ],
)
def test_values_of_other_types_are_one_line(name: str, file: str, row: Any, tmp_path: Path) -> None:
    assert file.split("__")[0] in refused(name, tmp_path, **{file: json.dumps(row)})


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "9" * 5000, '["\\ud800"]'], ids=["lists", "objects", "digits", "half"]
)
def test_json_that_cannot_be_taken_is_one_line_everywhere(text: str, tmp_path: Path) -> None:
    for suffix in (".json", ".jsonl"):
        path = tmp_path / f"a{suffix}"
        path.write_text(text)
        for read in (read_rows, read_json, read_examples, lambda one: read_predictions([one], [])):
            with pytest.raises(DataError) as error:
                read(path)
            assert len(str(error.value)) < 400
    with pytest.raises(ConfigError):
        load_settings(ModelSettings, tmp_path / "a.json")
    deep = tmp_path / "a.toml"
    deep.write_text("a = " + "[" * 100_000)
    with pytest.raises(ConfigError, match="nested too deeply"):
        load_settings(ModelSettings, deep)


def test_whole_characters_in_json_stay() -> None:
    assert parse_json('"\\ud83d\\ude00"') == "😀"


def test_predictions_that_are_no_numbers_are_counted(tmp_path: Path) -> None:
    asked = [Question(f"q{i}", "v", "?", ("a", "b"), "B", (Span(1, 2),), 30.0) for i in range(2)]
    path = tmp_path / "p.jsonl"
    path.write_text(
        '{"id":"q0","answer":"B","spans":[[1,' + "9" * 400 + "],[NaN,2],[1,2]]}\n"
        '{"qid":"q1","pred_relevant_windows":[[0,2,0.5]],"pred_saliency_scores":[NaN,1,2]}\n'
    )
    found = read_predictions([path], asked)
    assert (found.rows["q0"].answer, found.rows["q0"].spans) == ("B", ((1.0, 2.0),))
    assert found.rows["q1"].saliency == ()
    assert {name: count for name, count in found.faults.items() if count} == {"bad_spans": 2, "bad_saliency": 1}
    path.write_text('{"id": ["q0"], "answer": "B"}\n')
    with pytest.raises(DataError, match="an id must be a text or a number"):
        read_predictions([path], asked)


def test_types() -> None:
    assert as_type(Id, 5) == "5"
    assert as_type(Options, ["a", 2, True]) == ("a", "2", "True")
    with pytest.raises(ValueError, match="must have at most 1000 characters"):
        as_type(Id, "x\0")
    assert read_spans([[1, "2.5"]], Path("a"), "row 1") == ((1.0, 2.5),)
    for value in ("12", ["12"], [[1, 2, 3]], [[True, 2]], {"a": 1}, None, [[1, None]]):
        with pytest.raises(DataError, match="spans must be"):
            read_spans(value, Path("a"), "row 1")


def test_an_error_is_one_line_whatever_is_in_the_name(tmp_path: Path) -> None:
    assert str(DataError("a\nb", "c\u2028d", "e\x0bf")) == "a b: c d: e f"


NEW = {"video": "v", "question": "?", "answer": "a", "question_id": "1"}
LONG = {"id": "1", "video_path": "v.mp4", "question": "?", "duration": 9, "duration_group": 15}
LONG |= {"question_category": "c", "candidates": ["a", "b"], "correct_choice": 0}


@pytest.mark.parametrize(
    ("name", "file", "row"),
    [
        ("timelens", "charades-timelens.json", {"v": {"duration": 9, "spans": [[0, 1]], "queries": [None]}}),
        ("timelens", "charades-timelens.json", {"v": None}),
        ("charades", "charades_sta_test.json", [{"video": "v", "caption": 3, "timestamp": [0, 1]}]),
        ("charades", "charades_sta_test.json", [{"video": "v", "caption": "c", "timestamp": "01"}]),
        ("longvideobench", "lvb_val.json", [LONG | {"candidates": ["a", None]}]),
        ("longvideobench", "lvb_val.json", [LONG | {"duration": "9" * 400}]),
        ("longvideobench", "lvb_val.json", [LONG | {"level": {"a": 1}}]),
        ("videozerobench", "VideoZeroBench_a.json", [NEW | {"question": ["?"]}]),
        ("videozerobench", "VideoZeroBench_a.json", [NEW | {"evidence_windows": "[" * 50_000}]),
        ("mcq", "questions.json", [{"video": "v", "question": "?", "options": "[" * 50_000}]),
        ("mcq", "questions.json", [{"video": "v", "question": "?", "options": ["a", "b"], "answer": "9" * 5000}]),
        ("mcq", "questions.json", [{"video": "v", "question": {"a": 1}}]),
    ],
)
def test_the_newer_benchmarks_refuse_in_one_line_too(name: str, file: str, row: Any, tmp_path: Path) -> None:
    assert file in refused(name, tmp_path, **{file: json.dumps(row)})


@pytest.mark.parametrize("box", [[0, 0, 1, "x"], [0, 0, 1, 1e308], [0, 0, 1, None]])
def test_boxes_that_cannot_be_told_are_one_line(box: list[Any], tmp_path: Path) -> None:
    row = NEW | {"evidence_boxes": [{"time": 1, "box": box}]}
    (tmp_path / "VideoZeroBench_a.json").write_text(json.dumps([row]))
    with pytest.raises(DataError, match="row 1: box must"):
        benchmark("videozerobench").load(tmp_path, "level-1")


def test_options_in_lines_of_one_cell(tmp_path: Path) -> None:
    data = load("mcq", tmp_path, questions__csv='video,question,options,answer\nv,What?,"A. x\nB. y",B\n')
    assert (data.questions[0].options, data.questions[0].answer) == (("x", "y"), "B")
