"""The official evaluators' own numbers, to the digits they printed, and every real annotation file."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.scoring.score import BootstrapSettings, score, score_dataset
from zoomzero.data.convert import write_converted
from zoomzero.data.example import read_examples

FEW = BootstrapSettings(resamples=10)


@pytest.fixture(scope="module")
def data(shared: Path) -> Path:
    return shared / "data"


def as_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_nextgqa_val(data: Path, tmp_path: Path) -> None:
    golden = json.loads((data / "golden/nextgqa_val_golden.json").read_text())
    report = score("nextgqa", data / "nextgqa", [data / "golden/nextgqa_val_golden.json"], "val", draws=FEW)
    assert report.counts["n"] == golden["n"]
    for name, value in golden["official_full"].items():
        assert round(report.official.values[name], 8) == value, name
        assert report.strict.values[name] == report.official.values[name]
    assert report.official.values["Acc@QA"] == pytest.approx(golden["Acc@QA"], abs=1e-10)


def test_nextgqa_val_with_missing_predictions(data: Path, tmp_path: Path) -> None:
    golden = json.loads((data / "golden/nextgqa_val_golden.json").read_text())
    assert golden["missing_rule"] == "sum(map(ord,key))%10==0"
    kept = [key for key in golden["pred_ground"] if sum(map(ord, key)) % 10]
    rows = [
        {"id": key, "answer": "ABCDE"[golden["pred_qa"][key]["prediction"]], "spans": [golden["pred_ground"][key]]}
        for key in kept
    ]
    report = score("nextgqa", data / "nextgqa", [as_lines(tmp_path / "p.jsonl", rows)], "val", draws=FEW)
    assert report.counts["missing"] == golden["n"] - len(kept)
    for name, value in golden["official_with_10pct_missing"].items():
        assert round(report.official.values[name], 8) == value, name
        assert report.strict.values[name] == pytest.approx(value * len(kept) / golden["n"], abs=1e-7)


def test_rextime_val(data: Path) -> None:
    golden = json.loads((data / "golden/rextime_val_golden.json").read_text())["official"]
    values = score("rextime", data / "rextime", [data / "golden/rextime_val_golden.json"], draws=FEW).official.values
    assert round(values["MR-mIoU"], 2) == golden["full"]["MR-mIoU"]
    assert {t: round(values[f"MR-R1@{t}"], 2) for t in golden["full"]["MR-R1"]} == golden["full"]["MR-R1"]
    assert values["VQA"] == pytest.approx(100 * golden["VQA"], abs=1e-12)  # its evaluator prints fractions
    for name, value in golden["full"]["VQA,mIoU"].items():
        assert values[name] == pytest.approx(100 * value, abs=1e-12)


def test_qvhighlights_val(data: Path) -> None:
    folder = data / "qvhighlights"
    golden = json.loads((folder / "sample_val_preds_metrics_raw.json").read_text())
    values = score("qvhighlights", folder, [folder / "sample_val_preds.jsonl"], draws=FEW).official.values
    assert {name: float(f"{values[name]:.2f}") for name in golden["brief"]} == golden["brief"]
    for lengths in ("full", "long", "middle", "short"):
        for kind in ("mAP", "R1"):
            for t, value in golden[lengths][f"MR-{kind}"].items():
                name = f"MR-{lengths}-{kind}" + ("" if t == "average" else f"@{t}")
                assert float(f"{values[name]:.2f}") == value, name


# Examples, then what the conversion states about the files as released.
REAL = [
    ("nextgqa", "nextgqa", "val", 3358, {"clipped_spans": 3, "duplicate_options": 1}),
    ("nextgqa", "nextgqa", "test", 5553, {"negative_starts": 36, "duplicate_options": 3}),
    ("nextqa", "nextqa", "val", 4996, {"without_spans": 4996, "durations_estimated": 4996, "duplicate_options": 3}),
    ("nextqa", "nextqa", "test", 8564, {"without_spans": 8564, "durations_estimated": 8564, "duplicate_options": 8}),
    (
        "rextime",
        "rextime",
        "val",
        921,
        {"clipped_spans": 4, "empty_spans": 2, "without_spans": 2, "without_options": 921},
    ),
    ("cgbench", "cgbench", "mini", 3000, {"duplicate_options": 5}),
    ("qvhighlights", "qvhighlights", "val", 1550, {}),
    ("qvhighlights", "qvhighlights", "test", 1542, {}),
    ("qvhighlights", "qvhighlights", "train", 7218, {}),
    ("activitynet", "activitynet_captions", "val_1", 16873, {"clipped_spans": 128}),
    ("activitynet", "activitynet_captions", "val_2", 16122, {"clipped_spans": 102}),
    (
        "mlvu",
        "mlvu",
        "dev",
        2173,
        {"without_spans": 2173, "duplicate_options": 16, "empty_options": 4, "answer_not_among_options": 2},
    ),
]


@pytest.mark.parametrize(
    ("name", "folder", "split", "n", "stated"), REAL, ids=lambda x: str(x) if isinstance(x, str) else ""
)
def test_real_annotation_converts_and_scores(
    name: str, folder: str, split: str, n: int, stated: dict[str, int], data: Path, tmp_path: Path
) -> None:
    dataset = benchmark(name).load(data / folder, split)
    manifest = write_converted(dataset, tmp_path / "examples.jsonl")
    assert manifest.examples == n
    assert {key: count for key, count in manifest.repairs.items() if count} == stated
    examples = read_examples(tmp_path / "examples.jsonl")
    assert len(examples) == n
    rows = [{"id": e.id, "answer": "A", "spans": [[0, e.duration_s / 2]]} for e in examples[:200]]
    report = score_dataset(benchmark(name), dataset, [as_lines(tmp_path / "p.jsonl", rows)], draws=FEW)
    assert report.counts["n"] == len(dataset.questions)
    assert report.counts["missing"] == len(dataset.questions) - 200
    assert 0 < max(report.strict.values.values()) < 100


def test_scoring_the_largest_grounded_test_set_is_fast(data: Path, tmp_path: Path) -> None:
    questions = benchmark("nextgqa").load(data / "nextgqa", "test").questions
    rows = [{"id": q.id, "answer": "C", "spans": [[1, q.duration_s - 1], [3, 4]]} for q in questions]
    path = as_lines(tmp_path / "p.jsonl", rows)
    started = time.process_time()
    report = score("nextgqa", data / "nextgqa", [path], "test")
    assert time.process_time() - started < 5
    assert (report.counts["n"], report.notes["right_answer_twice"]) == (5553, 1)
    assert all(low <= report.official.values[name] <= high for name, (low, high) in report.official.intervals.items())
