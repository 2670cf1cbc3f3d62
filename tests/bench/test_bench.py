"""The measuring scripts run, in small, and what they print follows from what they measured."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def step() -> Any:
    sys.path.insert(0, str(BENCH))
    try:
        return __import__("step")
    finally:
        sys.path.remove(str(BENCH))


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCH / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=BENCH.parent)


@pytest.mark.parametrize("family", ["qwen3_vl", pytest.param("qwen3_5", marks=pytest.mark.slow)])
def test_a_step_is_measured_in_every_way(step: Any, family: str) -> None:
    case = step.Case(family, "tiny", prefix=128, zoom=64, rows=2, length=6, checkpointing=True)
    result = step.run(case, step.torch.device("cpu"), rounds=1, seconds=0.0)
    assert result["rounds"] == 1
    assert max(result["differences"].values()) < 1e-4, "both ways compute the same"
    for phase, ways in result["phases"].items():
        for numbers in ways.values():
            assert 0 < numbers["low_s"] <= numbers["median_s"] <= numbers["high_s"], phase
        assert result["least_s"][phase] > 0
    lines = step.table(result).splitlines()
    (row,) = [line for line in lines if line.startswith("| log-probs |")]
    numbers = result["phases"]["log-probs"]
    ratio = numbers["usual"]["median_s"] / numbers["ours"]["median_s"]
    assert f"| {ratio:.1f} |" in row


def test_the_devices_limits_by_hand(step: Any) -> None:
    """Weights that are read once a step: 3B of 2 bytes at 3 TB/s take 2 ms, and a prefix of 8,192 tokens adds 5 %."""
    case = step.Case("qwen2_5_vl", "3b", 8192, 2048, 8, 256, True)
    policy = step.make_policy("qwen2_5_vl", "3b", step.torch.device("meta"), step.torch.bfloat16)
    least = step.limits(case, policy, {"flops": 790e12, "bytes": 3e12})
    assert least["decode"] / 256 == pytest.approx(2.15e-3, rel=0.05)
    # 2 x 2.8e9 weights x 8,208 tokens at 790 TFLOP/s, and the attention
    assert least["prefill"] == pytest.approx(0.070, rel=0.05)
    assert least["log-probs"] == pytest.approx(least["vision tower"] + least["log-probs, features kept"])


def test_an_answer_is_measured_and_drawn(tmp_path: Path) -> None:
    out, svg = tmp_path / "lengths.json", tmp_path / "lengths.svg"
    done = run(
        *("answer.py", "--minutes", "0.5", "--modes", "coarse", "divide", "--runs", "1", "--folder", str(tmp_path)),
        *("--out", str(out), "--svg", str(svg)),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(out.read_text())["rows"]
    assert [row["mode"] for row in rows] == ["coarse", "divide"]
    assert all(row["seconds"] > 0 and row["memory_mb"] > 100 for row in rows)
    points = re.findall(r"<use [^>]*fill: var\(--(coarse|window)\)", svg.read_text())
    assert sorted(points) == ["coarse"] * 3 + ["window"] * 3, "seconds, memory and the key, for each mode"


@pytest.mark.slow
def test_waiting_for_video_is_measured(tmp_path: Path) -> None:
    small = ["data.world.count=4", "data.world.folder=" + str(tmp_path / "worlds"), "validation.world.count=1"]
    small += [
        "validation.world.folder=" + str(tmp_path / "worlds"),
        "rollout.num_generations=2",
        "rollout.max_new_tokens=24",
    ]
    small += ["train_batch_size=2", "mini_batch_size=2"]
    done = run(
        *("pipeline.py", "--batches", "1", "--parts", "2", "--runs", str(tmp_path / "runs")),
        *("--out", str(tmp_path / "waiting.json"), *(part for one in small for part in ("--set", one))),
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "waiting.json").read_text())["rows"]
    assert [row["way"] for row in rows] == ["when needed", "in the background"]
    for row in rows:
        assert 0 <= row["waiting_share"] < 1
        assert row["update_s"] == pytest.approx(sum(row["phases_s"].values()))
    assert rows[0]["waiting_share"] > 0


def test_every_arm_of_the_ablation_is_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings that hold, no two alike, each reward, loss and credit in one of them."""
    from zoomzero.config import flatten
    from zoomzero.train.settings import load_grpo_settings

    monkeypatch.syspath_prepend(str(BENCH))
    import ablation

    config = str(BENCH.parent / "configs" / "world-cpu.toml")
    arms = {arm: flatten(load_grpo_settings(config, changes).model_dump()) for arm, changes in ablation.ARMS.items()}
    # plain GRPO with the default credit is "both": that arm says what the file says
    assert len({json.dumps(values, sort_keys=True) for values in arms.values()}) == len(arms)
    found = {(name, str(value)) for values in arms.values() for name, value in values.items()}
    for name in ("wasserstein", "precision_iou"):
        assert (f"objective.reward.weights.{name}", "1.0") in found
    for name, value in (("loss.loss_type", "cispo"), ("loss.loss_type", "sapo"), ("reward.consensus", "True")):
        assert (f"objective.{name}", value) in found
    assert {("objective.credit.estimator", name) for name in ("grpo", "select", "gdpo_select")} <= found


@pytest.mark.parametrize(
    ("page", "results"),
    [("guides/ablation.md", ["ablation"]), ("embedded-model.md", ["embedded-short", "embedded-long"])],
)
def test_pages_show_the_tables_that_are_printed(page: str, results: list[str]) -> None:
    docs = BENCH.parent / "docs"
    files = [str(docs / "results" / f"{name}.json") for name in results]
    command = [sys.executable, str(BENCH / "figures" / "tables.py"), *files]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [line for line in printed if line.startswith("| ")]
    assert len(rows) > 20
    shown = (docs / page).read_text(encoding="utf-8").splitlines()
    assert [row for row in rows if row not in shown] == []
