"""Whole runs on a real vLLM: rollouts whose weights follow, and an evaluation in whose middle the server is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zoomzero.benchmarks.runner.run import read_rows
from zoomzero.config import PassSettings
from zoomzero.policy.remote.client import Client
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.train.rollouts.publish import reload_weights
from zoomzero.train.settings import GrpoSettings

pytestmark = pytest.mark.server
pytest.importorskip("openai")
PASS = PassSettings(fps=0.25, max_tokens=64, max_frames=8, min_frame_tokens=4)
ASK = {"style": "brief", "score_options_as": "letter", "coarse": PASS.model_dump(), "max_new_tokens": 24}
QUESTIONS = 32


@pytest.fixture
def own_weights(vllm: Any) -> Iterator[None]:
    """The server has its own weights again afterwards."""
    yield
    reload_weights(Client(ServerSettings(url=vllm.url, model="small")), vllm.checkpoint)


@pytest.mark.parametrize("lora", [None, {"rank": 4, "alpha": 8}])
def test_rollouts_are_drawn_with_the_weights_that_are_trained(
    vllm: Any, own_weights: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], lora: Any
) -> None:
    """Two batches; between them the weights move far, and the server's log-probabilities with them."""
    from zoomzero.train.engine.build import train

    world = {"kind": "short", "count": 4, "seed": 77, "folder": str(tmp_path / "world")}
    values = {
        "model": str(vllm.checkpoint),
        "out": str(tmp_path / "run"),
        "steps": 4,
        "train_batch_size": 2,
        "mini_batch_size": 1,
        "learning_rate": 3e-3,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "lora": lora,
        "ask": ASK,
        "data": {"world": world},
        "objective": {"loss": {"beta": 0.0}},
        "rollout": {
            "num_generations": 4,
            "max_new_tokens": 24,
            "verifier": "off",
            "filter": {"enabled": False},
            "server": {"url": vllm.url, "model": "small"},
        },
    }
    train(GrpoSettings.model_validate(values))
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    gaps = [row["server/gap_max"] for row in rows if "server/gap_max" in row]
    assert len(gaps) == 2
    assert max(gaps) < 1e-3
    assert "equal within 0.001" in capsys.readouterr().err
    groups = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").read_text().splitlines()]
    assert [one["drawn_at"] for group in groups for one in group["rollouts"]] == [0] * 8 + [2] * 8


def evaluate(url: str, out: Path, world: Path) -> subprocess.Popen[bytes]:
    """Start an evaluation of 32 questions, 8 at a time."""
    command = [sys.executable, "-m", "zoomzero", "eval", "world-short", "--count", QUESTIONS, "--data", world]
    command += ["--out", out, "--model", f"{url}#small", "--mode", "coarse", "--concurrency", 8]
    command += ["--resamples", 50, "--max-failed", 1, "--set", "server.retries=0"]
    for name, value in {"style": "brief", "max_new_tokens": 24, **PASS.model_dump()}.items():
        command += ["--set", f"{name if name in ASK else f'coarse.{name}'}={value}"]
    return subprocess.Popen([str(one) for one in command], env=os.environ | {"OMP_NUM_THREADS": "1"})


def test_an_evaluation_goes_on_after_the_server_was_killed(vllm: Any, tmp_path: Path) -> None:
    if vllm.process is None:
        pytest.skip("the server was started by hand")
    out, world = tmp_path / "run", tmp_path / "world"
    with evaluate(vllm.url, out, world) as running:
        while running.poll() is None and len(rows_of(out)) < 5:
            time.sleep(0.05)
        vllm.kill()
        running.wait(600)
    failed = [row for row in rows_of(out) if row["failed"]]
    assert failed
    assert all("cannot be reached" in row["failed"] for row in failed)
    vllm.start()
    with evaluate(vllm.url, out, world) as running:
        assert running.wait(900) == 0
    rows = rows_of(out)
    assert len(rows) == QUESTIONS
    assert not [row for row in rows if row["failed"]]


def rows_of(out: Path) -> list[dict[str, Any]]:
    return list(read_rows(out, "coarse")) if list(out.rglob("*.jsonl")) else []
