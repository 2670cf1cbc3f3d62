from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import COSTS, DIRECT, FEW, ZOOM, found_in, only_set, row, write_questions, write_run

from zoomzero.benchmarks.wilson import wilson
from zoomzero.errors import ConfigError, DataError
from zoomzero.pages.evaluation.page import evaluation_page
from zoomzero.pages.evaluation.runs import read_runs
from zoomzero.pages.evaluation.scores import (
    DURATION_EDGES_S,
    DURATION_LABELS,
    compared_pairs,
    comparison,
    duration_label,
    group_tables,
    histogram,
    score_entry,
)

# --- numbers --------------------------------------------------------------------------------------------


def test_scores_worked_by_hand(run: Path) -> None:
    found = only_set(run)
    direct, zoom = (score_entry(found, entry, FEW) for entry in found.entries)
    # zoom: q1 right with IoU 1; q2 wrong, [5, 15] on [0, 10]: IoU 5/15, IoP 5/10; q3 failed; q4 right without a span
    assert zoom.accuracy.value == 50
    assert zoom.miou.value == pytest.approx((1 + 1 / 3) / 4 * 100)
    assert zoom.miop.value == pytest.approx((1 + 1 / 2) / 4 * 100)
    assert zoom.acc_gqa.value == 25
    assert (zoom.chosen, zoom.counted, zoom.failed, zoom.unread, zoom.skipped) == (4, 4, 1, 0, 0)
    assert zoom.costs == {name: pytest.approx(value) for name, value in COSTS.items()}  # the failed one cost nothing
    assert zoom.accuracy.low is None  # one video: every draw is the same, which says nothing
    assert (direct.miou, direct.miop, direct.acc_gqa, direct.hit, direct.gap) == (None,) * 5


def test_all_right_is_not_certain(run: Path) -> None:
    found = only_set(run)
    direct = score_entry(found, found.entries[0], FEW)
    assert direct.accuracy.value == 100
    assert (direct.accuracy.low, direct.accuracy.high) == tuple(100 * edge for edge in wilson(1.0, 2))  # two videos


def test_evidence_is_averaged_where_it_was_measured(tmp_path: Path, data: Path) -> None:
    rows = [
        row("q1", "A", evidence={"hit": 0.5, "gap": 1}),
        row("q2", "A", evidence={"hit": 1.0, "gap": -1}),
        row("q3", "A", evidence={"hit": None, "gap": 1}),
        row("q4", "A"),
    ]
    found = only_set(write_run(tmp_path / "run", data, {"zoom": rows}))
    scores = score_entry(found, found.entries[0], FEW)
    assert scores.hit.value == 75
    assert scores.gap.value == pytest.approx(100 / 3)


def test_histogram_worked_by_hand(run: Path) -> None:
    direct, zoom = (histogram(entry) for entry in only_set(run).entries)
    assert direct is None
    assert (zoom.without_span, zoom.apart, zoom.n) == (2, 0, 4)
    assert zoom.bins == (0, 0, 0, 1, 0, 0, 0, 0, 0, 1)  # 1/3 and 1


def test_groups_worked_by_hand(run: Path) -> None:
    (table,) = group_tables(only_set(run), FEW)
    assert table.name == "video length"
    assert [(one.value, one.n, one.counted) for one in table.rows] == [
        ("1 to 2 min", 2, (2, 2)),
        ("5 to 10 min", 2, (2, 2)),
    ]
    assert [[cell.value for cell in one.accuracy] for one in table.rows] == [[100, 50], [100, 50]]
    assert [one.miou[1].value for one in table.rows] == pytest.approx([(1 + 1 / 3) / 2 * 100, 0])
    assert [one.miou[0] for one in table.rows] == [None, None]


@given(st.floats(0.01, 1e6))
def test_a_length_has_one_label(length_s: float) -> None:
    label = duration_label(length_s)
    place = DURATION_LABELS.index(label)
    low = (0.0, *DURATION_EDGES_S)[place]
    high = (*DURATION_EDGES_S, float("inf"))[place]
    assert low <= length_s < high


def test_no_length_is_unknown() -> None:
    assert duration_label(0.0) == duration_label(float("nan")) == "unknown"


# --- comparing ------------------------------------------------------------------------------------------


def test_modes_are_compared_on_the_same_questions(run: Path) -> None:
    found = only_set(run)
    ((first, second),) = compared_pairs(found.entries)
    told = comparison(found, first, second, FEW)
    assert (told.first, told.second, told.n) == ("zoom", "direct", 4)
    assert (told.gained, told.lost) == (0, 2)  # q2 and q3
    assert set(told.differences) == {"Acc@QA"}
    assert told.differences["Acc@QA"].value == -50


def test_runs_are_compared_mode_by_mode_where_both_have_answered(tmp_path: Path, data: Path, run: Path) -> None:
    other = write_run(tmp_path / "other", data, {"zoom": [row("q2", "B", [[0, 10]]), row("q3", "B")]})
    found = only_set(run, other)
    pairs = compared_pairs(found.entries)
    assert [(one.name, two.name) for one, two in pairs] == [("zoom R2", "zoom R1"), ("zoom R1", "direct R1")]
    told = comparison(found, *pairs[0], FEW)
    assert (told.n, told.gained, told.lost) == (2, 1, 0)  # q2 gained; q3 failed there and is wrong here
    assert told.differences["Acc@QA"].value == 50
    assert told.differences["mIoU"].value == pytest.approx((1 - 1 / 3) / 2 * 100)
    low, high = told.differences["mIoU"].interval
    assert low <= told.differences["mIoU"].value <= high


def test_runs_without_a_common_mode_are_compared_with_the_first(tmp_path: Path, data: Path, run: Path) -> None:
    other = write_run(tmp_path / "other", data, {"search": ZOOM, "coarse": ZOOM})
    pairs = compared_pairs(only_set(run, other).entries)
    assert [(one.name, two.name) for one, two in pairs] == [
        ("search R2", "direct R1"),
        ("coarse R2", "direct R1"),
        ("zoom R1", "direct R1"),
        ("coarse R2", "search R2"),
    ]


def test_modes_are_also_compared_with_the_first_that_names_spans(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"direct": DIRECT, "coarse": ZOOM, "zoom": ZOOM})
    pairs = compared_pairs(only_set(run).entries)
    assert [(one.name, two.name) for one, two in pairs] == [
        ("coarse", "direct"),
        ("zoom", "direct"),
        ("zoom", "coarse"),
    ]


# --- what a reader must know ----------------------------------------------------------------------------


def test_a_clean_run_has_no_warnings(run: Path) -> None:
    assert found_in(run).warnings == ()


def test_a_half_finished_run_is_scored_on_what_is_done(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM[:2], "search": ()})
    with (run / "predictions.zoom.jsonl").open("a") as file:
        file.write('{"id": "q3", "answ')
    found = found_in(run)
    zoom, search = found.sections[0].scores
    assert (zoom.counted, zoom.chosen, zoom.accuracy.value) == (2, 4, 50)
    assert (search.counted, search.accuracy) == (0, None)
    assert found.warnings == (
        "zoom: 2 of 4 questions are done. Its numbers are over those and will change.",
        "search: not begun, 4 questions to answer.",
    )
    assert "not begun" in evaluation_page(found)


def test_questions_without_a_video_count_zero(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM[:2]}, missing_videos=["b.mp4"])
    found = found_in(run)
    (zoom,) = found.sections[0].scores
    assert (zoom.counted, zoom.skipped, zoom.accuracy.value) == (4, 2, 25)
    assert found.warnings == ("zoom: 2 questions were never asked, as their videos were not there; they count 0.",)
    assert [(one.n, one.reason) for one in found.failures] == [
        (2, "VIDEO: was not there when the run began, so it was never asked")
    ]


def test_a_limit_is_the_runs_own(tmp_path: Path, data: Path) -> None:
    from zoomzero.benchmarks.definitions.registry import benchmark
    from zoomzero.benchmarks.runner.planning import choose

    asked = {one.id for one in choose(benchmark("examples").load(data), 2, None).questions}
    rows = [one for one in DIRECT if one["id"] in asked]
    sessions = [{"asked": {"limit": 2, "only": None}}]
    run = write_run(tmp_path / "run", data, {"direct": rows}, sessions=sessions, dataset={"files": {}, "n": 2})
    found = found_in(run)
    assert found.warnings == ()
    assert (found.sections[0].questions, found.sections[0].scores[0].chosen) == (2, 2)
    assert {one["id"] for one in found.questions["questions"]} == asked


def test_ids_that_are_not_known_any_more(tmp_path: Path, data: Path) -> None:
    sessions = [{"asked": {"limit": None, "only": "gone.txt"}}]
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM[:3]}, sessions=sessions, dataset={"files": {}, "n": 3})
    found = found_in(run)
    assert found.sections[0].scores[0].chosen == 3
    assert found.warnings[0].startswith("it asked the ids in gone.txt, which cannot be read any more")


def test_settings_that_differ_are_named(tmp_path: Path, data: Path, run: Path) -> None:
    same = write_run(tmp_path / "same", data, {"zoom": ZOOM})
    assert found_in(run, same).warnings == ()
    settings = {"widen_s": 2.5, "zoom": {"fps": 2.0}}
    other = write_run(tmp_path / "other", data, {"zoom": ZOOM}, settings=settings, machine={"cores": 64})
    found = found_in(run, other)
    assert found.warnings == (
        "R1 and R2 differ in widen_s (0.5, 2.5), zoom.fps (1.0, 2.0): a difference between them is the effect of all "
        "of it together.",
        "R1 and R2 ran on another machine: their seconds do not compare.",
    )
    differ = {one.name for one in found.facts.settings if one.differs}
    assert differ == {"widen_s", "zoom.fps"}


def test_other_questions_under_the_same_name_are_not_compared(tmp_path: Path, run: Path) -> None:
    data = write_questions(tmp_path / "new", text="Who is it")
    found = found_in(run, write_run(tmp_path / "other", data, {"zoom": ZOOM}))
    assert [section.name for section in found.sections] == ["examples test (R1)", "examples test (R2)"]
    assert [len(section.comparisons) for section in found.sections] == [1, 0]
    assert found.warnings == (
        "R1 and R2 have different questions under the same name (examples test): they are not compared.",
    )


def test_annotation_that_has_gone_or_moved(tmp_path: Path, data: Path, run: Path) -> None:
    moved = data.rename(tmp_path / "moved")
    with pytest.raises(
        DataError, match=r"run.json: data: the annotation cannot be read .*; put it back, or say with"
    ) as e:
        read_runs([run])
    assert "\n" not in str(e.value)
    assert read_runs([run], moved)[0].entries[1].counted.sum() == 4


def test_annotation_that_has_changed(tmp_path: Path, data: Path) -> None:
    files = {str(data / "examples.jsonl"): "0" * 64}
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM}, dataset={"files": files, "n": 4})
    assert found_in(run).warnings == (
        "examples.jsonl changed since it ran: its answers are judged by another annotation than it was asked.",
    )


def test_rows_of_unknown_questions_are_told(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"zoom": [*ZOOM, {**ZOOM[0], "id": "q9"}]})
    found = found_in(run)
    assert found.sections[0].scores[0].accuracy.value == 50
    assert "1 of its rows" in found.warnings[0]


@pytest.mark.parametrize(
    ("name", "broken", "complaint"),
    [
        ("run.json", "{}", "lacks benchmark, split, data, modes, dataset"),
        ("run.json", "[", "cannot be read"),
        ("predictions.zoom.jsonl", f"{json.dumps(ZOOM[0])}\n{{nonsense}}\n", "line 2: is no row \\(is not JSON"),
        ("predictions.zoom.jsonl", '{"id": "q1"}\n', "line 1: is no row \\(answer Field required"),
        (
            "predictions.zoom.jsonl",
            json.dumps(ZOOM[0] | {"spans": [[1, "x"]]}) + "\n",
            "spans.0.1 must be a valid number",
        ),
        ("predictions.zoom.jsonl", json.dumps(ZOOM[0] | {"costs": {}}) + "\n", "costs lacks visual_tokens"),
        ("predictions.zoom.jsonl", f"{json.dumps(ZOOM[0])}\n{json.dumps(ZOOM[0])}\n", "answered on line 1 already"),
    ],
)
def test_damaged_files_are_named(run: Path, name: str, broken: str, complaint: str) -> None:
    (run / name).write_text(broken)
    with pytest.raises(DataError, match=complaint):
        read_runs([run])


def test_no_run_or_one_run_twice(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run is given"):
        read_runs([])
    with pytest.raises(ConfigError, match="is given twice"):
        read_runs([run, run.parent / "." / run.name])
    with pytest.raises(DataError, match="give the --out of a `zoomzero eval`"):
        read_runs([tmp_path])
