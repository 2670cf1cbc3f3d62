"""The table of modes by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.runner.evaluate import asking_time
from zoomzero.benchmarks.scoring.costs import COST_NAMES
from zoomzero.benchmarks.scoring.score import BootstrapSettings
from zoomzero.benchmarks.scoring.summary import summarise, table_text
from zoomzero.data.annotation import Dataset, Question
from zoomzero.spans import Span

FEW = BootstrapSettings(resamples=50)
BENCH = benchmark("world-short")
COUNTS = ("n", "failed", "missing", "unparsed")


def question(i: int) -> Question:
    return Question(f"q{i}", f"v{i}.mp4", "?", ("x", "y"), "A", (Span(10, 20),), 60.0, groups={"kind": ("symbol",)})


def row(
    i: int, mode: str, answer: str | None, spans: list[list[float]], seconds: float, **evidence: Any
) -> dict[str, Any]:
    return {
        "id": f"q{i}",
        "mode": mode,
        "answer": answer,
        "spans": spans,
        "failed": None,
        "costs": dict.fromkeys(COST_NAMES, 10) | {"seconds": seconds},
        "evidence": {"hit": None, "gap": None} | evidence,
    }


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    file = tmp_path_factory.mktemp("summary") / "examples.jsonl"
    file.write_text("")
    return Dataset("world-short", "test", tuple(question(i) for i in range(4)), (Path(file),))


@pytest.fixture(scope="module")
def summary(dataset: Dataset) -> dict[str, Any]:
    failed = row(2, "zoom", None, [], 0.0) | {"failed": "no such file", "costs": {}}
    rows = {
        "direct": [row(i, "direct", "B", [], 1.0) for i in range(4)],
        "zoom": [
            row(0, "zoom", "A", [[10, 20]], 2.0, hit=1.0, gap=1),
            row(1, "zoom", "B", [[15, 25]], 4.0, hit=0.5, gap=-1),
            failed,  # and q3 is missing
            row(9, "zoom", "B", [], 100.0),  # a question that is not asked now
        ],
        "search": [],
    }
    by_id = {mode: {one["id"]: one for one in found} for mode, found in rows.items()}
    return summarise(BENCH, dataset, by_id, draws=FEW)


def test_failed_and_missing_count_as_wrong_and_cost_nothing_known(summary: dict[str, Any]) -> None:
    assert summary["n"] == 4
    assert list(summary["modes"]) == ["direct", "zoom"]  # nothing was asked in search
    zoom = summary["modes"]["zoom"]
    assert (zoom["n"], zoom["missing"], zoom["failed"], zoom["unparsed"]) == (4, 1, 1, 0)
    assert zoom["union"]["Acc@QA"] == 25.0
    assert zoom["union"]["mIoU"] == pytest.approx(100 * (1 + 1 / 3) / 4)
    assert zoom["costs"]["seconds"] == 3.0
    assert zoom["by"]["kind"]["symbol"]["n"] == 4
    assert zoom["faults"]["unknown_ids"] == 0


def test_evidence_is_averaged_over_the_questions_that_have_it(summary: dict[str, Any]) -> None:
    evidence = summary["modes"]["zoom"]["evidence"]
    assert (evidence["hit"], evidence["hit_n"]) == (0.75, 2)
    assert (evidence["gap"], evidence["gap_n"]) == (0.0, 2)
    low, high = evidence["gap_interval"]
    assert -1 <= low < 0 < high <= 1
    assert summary["modes"]["direct"]["evidence"] == {
        "hit": None,
        "hit_interval": None,
        "hit_n": 0,
        "gap": None,
        "gap_interval": None,
        "gap_n": 0,
    }


def test_the_table_has_a_line_a_mode(summary: dict[str, Any]) -> None:
    direct, zoom = summary["table"]
    assert (direct["mode"], direct["accuracy"], direct["miou"], direct["miou_interval"]) == ("direct", 0.0, None, None)
    assert (zoom["accuracy"], zoom["acc_gqa"], zoom["seconds"], zoom["visual_tokens"]) == (25.0, 25.0, 3.0, 10)
    assert (zoom["n"], zoom["failed"], zoom["missing"]) == (4, 1, 1)
    assert zoom["accuracy_interval"][0] <= 25 <= zoom["accuracy_interval"][1]


def test_modes_are_compared_on_the_same_questions(summary: dict[str, Any]) -> None:
    (pair,) = summary["differences"]
    assert pair == "zoom - direct"
    assert summary["differences"][pair]["union Acc@QA"]["value"] == 25.0


def test_the_text_shows_official_measures_first_then_costs(summary: dict[str, Any]) -> None:
    lines = table_text(summary).splitlines()
    official, costs = lines[:3], lines[4:7]
    assert lines[3] == ""
    assert official[0].split() == ["official", *("Acc@GQA", "Acc@QA", "mIoU", "mIoP"), *COUNTS]
    assert official[1].split()[:3] == ["direct", "-", "0.0"], "direct is not asked for spans"
    assert official[2].split()[:2] == ["zoom", "25.0"]
    assert official[2].split()[-4:] == ["4", "1", "1", "0"]
    names = ["strict", "accuracy", "mIoU", "visual", "read", "written", "frames", "seconds", "hit", "gap"]
    assert costs[0].split() == names
    assert costs[1].split()[:2] == ["direct", "0.0"]
    assert costs[2].split()[-7:] == ["10", "10", "10", "10", "3.00", "0.75", "0.00"]
    assert lines[7].startswith("zoom - direct: Acc@QA +25.0 [")
    assert "mIoU" not in lines[7]  # direct names no spans to compare with


def test_two_right_answers_are_no_certainty(dataset: Dataset) -> None:
    """Both right is 100 %, but the interval of two videos is wide: Wilson's for 2 of 2 is 34 to 100."""
    two = Dataset("world-short", "test", dataset.questions[:2], dataset.files)
    rows = {"zoom": {f"q{i}": row(i, "zoom", "A", [[10, 20]], 1.0) for i in range(2)}}
    text = table_text(summarise(BENCH, two, rows, draws=FEW))
    assert "100.0 [34.2, 100.0]" in text
    assert "[100.0, 100.0]" not in text


def test_the_text_ends_with_how_busy_the_models_were(summary: dict[str, Any]) -> None:
    sessions = [
        {"started": "a", "rows": 3, "models": 2, "seconds": 10.0, "answering_seconds": 19.0},
        {"started": "b"},  # nothing was left to ask
    ]
    asking = asking_time(sessions)
    assert asking == {"rows": 3, "models": 2, "seconds": 10.0, "answering_seconds": 19.0, "busy": 0.95, "served": False}
    text = table_text(summary | {"asking": asking})
    assert text.endswith("\n\n3 answers in 10.0 s, 2 models busy 95.0 % of it")
    assert asking_time(sessions[1:]) is None
    text = table_text(summary | {"asking": asking_time(sessions, served=True)})
    assert text.endswith("\n\n3 answers in 10.0 s, at most 2 videos at once")


def test_nothing_asked_is_an_empty_table(dataset: Dataset) -> None:
    assert summarise(BENCH, dataset, {"zoom": {}}, draws=FEW)["table"] == []
