"""Exports: what each official evaluator would be handed, and that it scores as the predictions did."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_benchmarks as made
import made_choices as choices
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_files import FEW, write_json, write_lines

from cli_runner import Run, make_runner
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.scoring.export import WRITERS, Exported, export
from zoomzero.benchmarks.scoring.score import Report, score
from zoomzero.errors import ConfigError, DataError

MAKERS: dict[str, Callable[[Path], Path]] = {
    "nextgqa": made.nextgqa,
    "nextqa": made.nextgqa,
    "rextime": made.rextime,
    "qvhighlights": made.qvhighlights,
    "cgbench": made.cgbench,
    "videomme": choices.videomme,
    "mlvu": choices.mlvu,
    "lvbench": choices.lvbench,
    "longvideobench": choices.longvideobench,
}
FOLDERS = {"nextgqa", "cgbench"}
Rows = list[dict[str, Any]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    return make_runner(monkeypatch, capfd)


def exported(name: str, folder: Path, rows: Rows) -> Exported:
    """Export hand-made rows on the made benchmark."""
    data = MAKERS[name](folder / "data")
    out = folder / ("out" if name in FOLDERS else "out.json")
    return export(name, data, [write_lines(folder / "run.jsonl", rows)], out)


def read_back(done: Exported) -> list[Path]:
    """The files `score` reads: all but CG-Bench's records, which hold no answers."""
    return [path for path in done.files if path.parent.name != "cg_annotations"]


def content(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# --- the forms ------------------------------------------------------------------------------------------


def test_there_is_one_for_every_official_evaluator() -> None:
    assert set(WRITERS) == set(MAKERS)


def test_nextgqa_gets_one_span_and_the_options_index(tmp_path: Path) -> None:
    rows = [
        {"id": "11_0", "answer": "B", "spans": [[10, 20]]},
        {"id": "11_1", "answer": "A", "spans": [[1, 2], [7.5, 9]]},
        {"id": "22_0", "answer": None, "spans": []},
        {"id": "22_7", "answer": None, "spans": [], "error": "cannot open"},
    ]
    done = exported("nextgqa", tmp_path, rows)
    assert [path.relative_to(tmp_path / "out").as_posix() for path in done.files] == [
        "val-res.json",
        "val_ground.json",
    ]
    assert content(tmp_path / "out" / "val_ground.json") == {"11_0": [10, 20], "11_1": [1, 9]}
    assert content(tmp_path / "out" / "val-res.json") == {
        "11_0": {"prediction": 1, "answer": 1},
        "11_1": {"prediction": 0, "answer": 2},
        "22_0": {"prediction": None, "answer": 0},
    }
    assert (done.n, done.rows, done.changes["spans_joined"]) == (4, 3, 1)
    assert done.counts == {"missing": 0, "failed": 1, "unparsed": 1, "without_spans": 1}


def test_nextqa_gets_the_answers_alone(tmp_path: Path) -> None:
    done = exported("nextqa", tmp_path, [{"id": "22_0", "answer": "E", "spans": [[0, 1]]}])
    assert content(tmp_path / "out.json") == {"22_0": {"prediction": 4, "answer": 0}}
    assert done.changes["spans_left_out"] == 1


def test_rextime_gets_a_line_each(tmp_path: Path) -> None:
    rows = [{"id": "qvh_val2", "answer": "D", "spans": [[140, 150], [1, 2]]}, {"id": "anet_val1", "answer": "A"}]
    exported("rextime", tmp_path, rows)
    assert lines(tmp_path / "out.json") == [
        {"qid": "anet_val1", "pred_relevant_windows": [], "ans": "A"},
        {"qid": "qvh_val2", "pred_relevant_windows": [[140, 150], [1, 2]], "ans": "D"},
    ]


def test_rextime_leaves_out_what_no_row_has(tmp_path: Path) -> None:
    """Its evaluator scores answers alone, or windows alone, by which key the first row has."""
    exported("rextime", tmp_path / "a", [{"id": "anet_val1", "answer": "B"}])
    assert lines(tmp_path / "a" / "out.json") == [{"qid": "anet_val1", "ans": "B"}]
    exported("rextime", tmp_path / "b", [{"id": "anet_val1", "spans": [[1, 2]]}])
    assert lines(tmp_path / "b" / "out.json") == [{"qid": "anet_val1", "pred_relevant_windows": [[1, 2]]}]


def test_qvhighlights_gets_scored_windows_and_saliency(tmp_path: Path) -> None:
    rows = [
        {"qid": 1, "pred_relevant_windows": [[0, 8, 0.25], [2, 4, 0.5]], "pred_saliency_scores": [0.5] * 10},
        {"id": "3", "answer": "A", "spans": [[8, 12], [2, 4], [0, 2]]},
    ]
    done = exported("qvhighlights", tmp_path, rows)
    assert lines(tmp_path / "out.json") == [
        {
            "qid": 1,
            "query": "a dog runs",
            "vid": "r_0.0_20.0",
            "pred_relevant_windows": [[0, 8, 0.25], [2, 4, 0.5]],
            "pred_saliency_scores": [0.5] * 10,
        },
        {
            "qid": 3,
            "query": "a cat sleeps",
            "vid": "r_20.0_40.0",
            "pred_relevant_windows": [[8, 12, 1], [2, 4, 0.5], [0, 2, 0.333333]],
        },
    ]
    assert {name: count for name, count in done.changes.items() if count} == {
        "scores_by_rank": 1,
        "answers_left_out": 1,
    }


def test_cgbench_gets_what_its_runner_stores(tmp_path: Path) -> None:
    """IoU by hand: [8, 18] and [100, 110] against [10, 20]: 8 s shared of 22 s."""
    done = exported(
        "cgbench", tmp_path, [{"id": "14", "answer": "G", "spans": [[10, 20]]}, {"id": "15", "answer": "B"}]
    )
    record = content(tmp_path / "out" / "cg_annotations" / "14.json")
    assert (record["qid"], record["right_answer"], record["answer"], record["version"]) == (14, "G", "grape", 0)
    (accuracy, iou) = record["results"].items()
    assert accuracy == ("long_acc_zoomzero_export_0_False_False_False", {"version": 0, "result": 1})
    assert iou[1]["result"] == pytest.approx(8 / 22)
    other = content(tmp_path / "out" / "cg_annotations" / "15.json")["results"]
    assert [result["result"] for result in other.values()] == [0], "no interval was given, so there is no IoU"
    assert len(done.files) == 3


def test_cgbench_records_average_to_the_official_numbers(tmp_path: Path) -> None:
    rows = [
        {"id": "14", "answer": "G", "spans": [[10, 20], [15, 30]]},
        {"id": "15", "answer": "C", "spans": [[5, 1]]},
    ]
    done = exported("cgbench", tmp_path, rows)
    report = score("cgbench", tmp_path / "data", [tmp_path / "run.jsonl"], draws=FEW)
    records = [content(path)["results"] for path in done.files if path.parent.name == "cg_annotations"]
    stored = {
        task: [value["result"] for one in records for key, value in one.items() if key.startswith(task)]
        for task in ("long_acc", "miou")
    }
    assert 50 * sum(stored["long_acc"]) == report.official.values["long-acc"]  # fractions there, percent here
    assert 50 * sum(stored["miou"]) == pytest.approx(report.official.values["mIoU"])


def test_videomme_gets_the_template_filled_in(tmp_path: Path) -> None:
    rows = [{"id": "001-2", "answer": "D"}, {"id": "001-1", "answer": "C"}, {"id": "700-1", "answer": None}]
    exported("videomme", tmp_path, rows)
    first, second = content(tmp_path / "out.json")
    assert {key: value for key, value in first.items() if key != "questions"} == {
        "video_id": "001",
        "duration_category": "short",
        "video_category": "Knowledge",
        "video_subcategory": "Law",
        "missing": False,
    }
    assert first["questions"][0] == {
        "question_id": "001-1",
        "task_type": "OCR Problems",
        "question": "What?",
        "choices": ["A. Apples.", "B. Bread.", "C. Cheese.", "D. Dates."],
        "answer": "C",
        "response": "C",
    }
    assert [q["response"] for entry in (first, second) for q in entry["questions"]] == ["C", "D", ""]


def test_mlvu_and_lvbench_get_letters(tmp_path: Path) -> None:
    exported("mlvu", tmp_path / "mlvu", [{"id": "count_1", "answer": "B"}, {"id": "plotQA_0", "answer": "?"}])
    assert content(tmp_path / "mlvu" / "out.json") == [
        {"question_id": "plotQA_0", "question_type": "plotQA", "option": ""},
        {"question_id": "count_1", "question_type": "count", "option": "B"},
    ]
    exported("lvbench", tmp_path / "lvbench", [{"id": "8", "answer": "D", "spans": [[1, 2]]}])
    assert content(tmp_path / "lvbench" / "out.json") == {"8": "D"}


# --- the same numbers -----------------------------------------------------------------------------------


def known_ids(name: str, folder: Path) -> list[str]:
    return [question.id for question in benchmark(name).load(MAKERS[name](folder)).questions]


NUMBERS = st.one_of(st.integers(-2, 40).map(float), st.floats(0, 40), st.just(math.nan))
SAID = {
    "answer": st.sampled_from(["A", "B", "C", "D", "Z", "mumble", None]),
    "spans": st.lists(st.lists(NUMBERS, min_size=2, max_size=2), max_size=3),
}
ROW = st.one_of(
    st.fixed_dictionaries(SAID),
    st.fixed_dictionaries({**SAID, "pred_saliency_scores": st.lists(st.floats(-1, 1), max_size=12)}),
    st.fixed_dictionaries({**SAID, "error": st.just("cannot open")}),
)


def same(ours: Report, theirs: Report, done: Exported) -> None:
    """The official and the strict numbers are equal; the union's too where the form holds all spans and answers."""
    answers_lost = ours.benchmark == "qvhighlights"
    for name in ("official", "strict", *(() if any(done.changes.values()) else ("union",))):
        a, b = (getattr(report, name).values for report in (ours, theirs))
        wanted = {key: value for key, value in a.items() if not (answers_lost and key == "Acc@QA")}
        assert b == pytest.approx(wanted), name
    counts = dict(ours.counts)
    counts["missing"] += counts["failed"]
    counts["failed"] = 0
    if ours.benchmark in ("nextqa", "videomme", "mlvu", "lvbench", "longvideobench"):
        counts["without_spans"] = theirs.counts["without_spans"]
    assert theirs.counts == counts


@pytest.mark.parametrize("name", sorted(MAKERS))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_scores_of_an_export_are_those_of_the_predictions(
    name: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(name)
    ids = data.draw(st.lists(st.sampled_from(known_ids(name, folder / "data")), unique=True, min_size=1))
    rows = [{"id": id_, **data.draw(ROW)} for id_ in ids]
    if all("error" in row for row in rows):
        with pytest.raises(DataError, match="report an error"):
            exported(name, folder, rows)
        return
    done = exported(name, folder, rows)
    ours = score(name, folder / "data", [folder / "run.jsonl"], draws=FEW)
    theirs = score(name, folder / "data", read_back(done), draws=FEW)
    same(ours, theirs, done)
    assert done.counts == {key: ours.counts[key] for key in done.counts}
    assert done.faults == ours.faults


def test_official_submissions_come_out_as_they_went_in(tmp_path: Path, shared: Path) -> None:
    """NExT-GQA's evaluator was run on these predictions: exporting them again must not change one."""
    golden = content(shared / "data" / "golden" / "nextgqa_val_golden.json")
    halves = [
        write_json(tmp_path / f"{half}.json", {key: golden[half][key] for key in golden[half]})
        for half in ("pred_ground", "pred_qa")
    ]
    done = export("nextgqa", shared / "data" / "nextgqa", halves, tmp_path / "out", split="val")
    assert content(tmp_path / "out" / "val_ground.json") == golden["pred_ground"]
    written = content(tmp_path / "out" / "val-res.json")
    assert {id_: row["prediction"] for id_, row in written.items()} == {
        id_: row["prediction"] for id_, row in golden["pred_qa"].items()
    }
    assert done.counts["missing"] == 0
    sample = shared / "data" / "qvhighlights" / "sample_val_preds.jsonl"
    export("qvhighlights", shared / "data" / "qvhighlights", [sample], tmp_path / "q.jsonl", split="val")
    before = {row["qid"]: (row["pred_relevant_windows"], row["pred_saliency_scores"]) for row in lines(sample)}
    after = {
        row["qid"]: (row["pred_relevant_windows"], row["pred_saliency_scores"]) for row in lines(tmp_path / "q.jsonl")
    }
    assert after.keys() <= before.keys()
    assert len(after) > 1500
    assert all(after[qid] == before[qid] for qid in after)


# --- faults ---------------------------------------------------------------------------------------------


def test_faults_are_said_as_score_says_them(cli: Run, tmp_path: Path) -> None:
    data = made.rextime(tmp_path / "data")
    text = (
        '{"id": "anet_val1", "answer": "Q", "spans": [[NaN, 4], [9, 3], [5, 5], [1, 400]]}\n'
        '{"id": "anet_val999", "answer": "A"}\n'
        '{"id": "qvh_val2", "ans'
    )
    run = tmp_path / "run.jsonl"
    run.write_text(text)
    arguments = ("rextime", "--data", data, "--predictions", run)
    ran = cli("export", *arguments, "--out", tmp_path / "out.jsonl")
    said = "1 half written lines, 1 unknown ids, 1 out of range answers, 1 bad spans, 1 reversed spans"
    assert ran.code == 0
    assert ran.out.splitlines() == [
        "rextime val: 1 of 2 questions, 1 missing, 0 failed, 1 unparsed, 0 without spans",
        f"in the predictions: {said}, 1 point spans, 1 spans past end",
        str(tmp_path / "out.jsonl"),
    ]
    assert f"in the predictions: {said}" in cli("score", *arguments).out
    assert lines(tmp_path / "out.jsonl") == [
        {"qid": "anet_val1", "pred_relevant_windows": [[9, 3], [5, 5], [1, 400]]},
    ]


def test_json_gives_the_same_counts(cli: Run, tmp_path: Path) -> None:
    data = choices.lvbench(tmp_path / "data")
    run = write_lines(tmp_path / "run.jsonl", [{"id": "7", "answer": "D", "spans": [[0, 1]]}])
    ran = cli("export", "lvbench", "--data", data, "--predictions", run, "--out", tmp_path / "o.json", "--json")
    said = json.loads(ran.out)
    assert (said["n"], said["rows"], said["missing"], said["unparsed"]) == (2, 1, 1, 0)
    assert said["files"] == [str(tmp_path / "o.json")]
    assert said["changes"]["spans_left_out"] == 1
    assert said["faults"]["unknown_ids"] == 0


def test_a_repeated_id_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2.*was answered at line 1"):
        exported("mlvu", tmp_path, [{"id": "count_0", "answer": "A"}, {"id": "count_0", "answer": "B"}])
    assert not (tmp_path / "out.json").exists()


@pytest.mark.parametrize(
    ("name", "out", "says"),
    [
        ("activitynet", "o.json", "activitynet: has no official evaluator to export to; choose from nextgqa"),
        ("imagenet", "o.json", "imagenet: is no benchmark"),
        ("lvbench", "", "--out: .* is a directory; give the name of a file"),
        ("lvbench", "run.jsonl", "--out: .* is the predictions file itself; give another name"),
        ("cgbench", "run.jsonl", "--out: .* is a file, and cgbench is exported to several; give a directory"),
    ],
)
def test_wrong_use_is_named_before_anything_is_written(tmp_path: Path, name: str, out: str, says: str) -> None:
    data = made.cgbench(choices.lvbench(made.activitynet(tmp_path / "data")))
    run = write_lines(tmp_path / "run.jsonl", [{"id": "7", "answer": "A"}])
    before = run.read_bytes()
    with pytest.raises(ConfigError, match=says):
        export(name, data, [run], tmp_path / out)
    assert run.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "run.jsonl"]
