"""A run that is killed and resumed is the run that never was: losses, rollouts and weights, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from trainer_runs import Moment, Running, log_rows, run, write_settings

from zoomzero.train.run.directory import last_checkpoint

# Two updates from every batch of rollouts, so that every other checkpoint holds rollouts still to be learned from;
# dropped groups are replaced, held-out examples are asked.
STEPS = {
    "steps": 4,
    "train_batch_size": 2,
    "mini_batch_size": 1,
    "learning_rate": 1e-4,
    "rollout": {"filter": {"max_tries": 2}, "controls": 1},
}
# In the order in which they come in the life of one run, each met by the process that goes on from the one before.
MOMENTS = (
    Moment("phase", "zoom"),  # the first rollouts, before there is any checkpoint
    Moment("rename", "checkpoint-1/model.safetensors"),
    Moment("phase", "backward", 2),  # in the middle of a batch of rollouts
    Moment("update", nth=2),  # between an update and its checkpoint
    Moment("open", "checkpoint-2/trainer_state.json"),  # all of a checkpoint is there but what says so
    Moment("phase", "generate"),  # the second batch of rollouts
    Moment("rename", "run/model.safetensors"),  # after the last checkpoint, before the finished model
)


@pytest.fixture(scope="module")
def changes(small_world: Path) -> dict[str, Any]:
    """What makes the runs of this file."""
    return STEPS | {"validation": {"examples": str(small_world), "limit": 1, "every": 2}}


@pytest.fixture(scope="module")
def straight(small_world: Path, changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run's folder."""
    folder = tmp_path_factory.mktemp("straight")
    run("train", write_settings(folder, small_world, changes), folder=folder).check()
    return folder / "run"


def assert_same_run(found: Path, wanted: Path, weights: str = "model.safetensors") -> None:
    assert log_rows(found) == log_rows(wanted)
    assert (found / "rollouts.jsonl").read_bytes() == (wanted / "rollouts.jsonl").read_bytes()
    own, other = load_file(found / weights), load_file(wanted / weights)
    assert own.keys() == other.keys()
    assert all(own[name].equal(other[name]) for name in own)
    assert {path.name for path in found.iterdir()} == {path.name for path in wanted.iterdir()}
    assert json.loads((found / "training.json").read_text())["steps"] == STEPS["steps"]


def test_straight_run_learns_something(straight: Path) -> None:
    """Otherwise equal runs would mean nothing."""
    rows = log_rows(straight)
    assert [row["step"] for row in rows] == [0, 1, 2, 2, 3, 4, 4, 4]
    assert sum(row.get("loss", 0.0) != 0.0 for row in rows) >= 2
    first, last = (load_file(straight / f"checkpoint-{step}" / "model.safetensors") for step in (3, 4))
    assert any(not first[name].equal(last[name]) for name in first)


def test_killed_again_and_again(straight: Path, small_world: Path, changes: dict[str, Any], tmp_path: Path) -> None:
    settings = write_settings(tmp_path, small_world, changes)
    resume: tuple[str, ...] = ()
    for moment in MOMENTS:
        run("train", settings, *resume, folder=tmp_path, kill=moment).check(-signal.SIGKILL)
        assert not (tmp_path / "run" / "training.json").exists()
        resume = ("--resume",)
    run("train", settings, "--resume", folder=tmp_path).check()
    assert_same_run(tmp_path / "run", straight)


def test_killed_from_outside(straight: Path, small_world: Path, changes: dict[str, Any], tmp_path: Path) -> None:
    """The command itself, killed as soon as rollouts are written down; a second kill finds nothing to go on from."""
    settings = write_settings(tmp_path, small_world, changes)
    command = [sys.executable, "-m", "zoomzero", "train", str(settings)]
    with subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None and not (tmp_path / "run" / "rollouts.jsonl").exists():
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert last_checkpoint(tmp_path / "run") is None
    run("train", settings, "--resume", folder=tmp_path).check()
    assert_same_run(tmp_path / "run", straight)


def test_finished_run_that_is_resumed_stays_as_it_is(
    straight: Path, small_world: Path, changes: dict[str, Any]
) -> None:
    before = log_rows(straight), (straight / "model.safetensors").read_bytes()
    run("train", straight.parent / "settings.json", "--resume", folder=straight.parent).check()
    assert (log_rows(straight), (straight / "model.safetensors").read_bytes()) == before


def test_interrupted_by_hand(straight: Path, small_world: Path, changes: dict[str, Any], tmp_path: Path) -> None:
    settings = write_settings(tmp_path, small_world, changes)
    running = Running("train", settings, folder=tmp_path)
    while running.processes[0].is_alive() and last_checkpoint(tmp_path / "run") is None:
        time.sleep(0.01)
    running.interrupt()
    (screen,) = running.end().check(130).screens
    assert screen.splitlines()[-1] == "zoomzero: interrupted"
    assert "run is kept; the same command with --resume goes on from its last checkpoint" in screen.splitlines()[-2]
    assert "Traceback" not in screen
    run("train", settings, "--resume", folder=tmp_path).check()
    assert_same_run(tmp_path / "run", straight)


def test_adapters(small_world: Path, tmp_path: Path) -> None:
    """LoRA with dropout: its random numbers go on where they were. A checkpoint lies between two lines of the log."""
    changes = STEPS | {"lora": {"rank": 4, "alpha": 8.0, "dropout": 0.1}, "save_every": 2, "log_every": 3}
    folders = [tmp_path / name for name in ("killed", "straight")]
    for folder in folders:
        folder.mkdir()
    killed, straight = (write_settings(folder, small_world, changes) for folder in folders)
    run("train", killed, folder=folders[0], kill=Moment("update", nth=4)).check(-signal.SIGKILL)
    run("train", killed, "--resume", folder=folders[0]).check()
    run("train", straight, folder=folders[1]).check()
    assert_same_run(folders[0] / "run", folders[1] / "run", "adapter_model.safetensors")
    weights = load_file(folders[1] / "run" / "adapter_model.safetensors")
    assert any(float(value.abs().max()) > 0 for name, value in weights.items() if "lora_B" in name)  # B starts at 0
