"""The example launch files: they parse, and what they start takes their arguments."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from zoomzero.config import load_settings
from zoomzero.train.settings import GrpoSettings, SftSettings, load_grpo_settings

HOME = Path(__file__).resolve().parents[3]
FILES = sorted((HOME / "examples" / "launch").glob("*.sh"))
PROCESSES = {"single-gpu": 1, "8-gpus-ddp": 8, "8-gpus-fsdp": 8, "8-gpus-zero3": 8, "slurm-2-nodes": 16}

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


def launch(file: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*variables.pop("PATH", "").split(), str(Path(sys.executable).parent), os.environ["PATH"]])
    names = {**os.environ, "PATH": path, "GPUS": "1", **variables}
    command = ["bash", str(file), *arguments]
    return subprocess.run(command, cwd=HOME, env=names, capture_output=True, text=True, timeout=120, check=False)


def test_all_are_looked_at() -> None:
    assert {file.stem for file in FILES} == PROCESSES.keys()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_syntax(file: Path) -> None:
    checked = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_settings_fit_the_number_of_processes(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    (config,) = set(re.findall(r"CONFIG:-([^}]+)", text))
    commands = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    changes = re.findall(r"--set ([\w.]+=[\w.]+)", commands)
    settings: GrpoSettings | SftSettings
    if "COMMAND:-sft" in commands:
        settings = load_settings(SftSettings, HOME / config, changes)
        shared = [settings.samples_per_step]
    else:
        settings = load_grpo_settings(str(HOME / config), changes)
        shared = [settings.train_batch_size, settings.mini_batch_size]
    assert [count % PROCESSES[file.stem] for count in shared] == [0] * len(shared)
    assert settings.fsdp == ("fsdp=true" in commands)


def test_what_was_not_tried_says_so() -> None:
    """DeepSpeed's settings are JSON it can read, with the weights gathered for checkpoints."""
    text = (HOME / "examples" / "launch" / "8-gpus-zero3.sh").read_text(encoding="utf-8")
    assert "UNTESTED on GPUs" in text
    given = json.loads((HOME / "examples" / "launch" / "zero3.json").read_text(encoding="utf-8"))
    assert given["zero_optimization"]["stage"] == 3
    assert given["zero_optimization"]["stage3_gather_16bit_weights_on_model_save"] is True


def test_one_process() -> None:
    done = launch(HOME / "examples" / "launch" / "single-gpu.sh", "--help")
    assert done.returncode == 0, done.stderr
    assert "Train with Zoom-Zero" in done.stdout


def test_torchrun_under_slurm(tmp_path: Path) -> None:
    """With Slurm's two commands replaced by what they come down to on one node."""
    for name, line in (("scontrol", "echo localhost"), ("srun", 'exec "$@"')):
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{line}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "run.json").write_text("{}")
    told = {"SLURM_JOB_NAME": "zoomzero", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "localhost", "SLURM_NNODES": "1"}
    file = HOME / "examples" / "launch" / "slurm-2-nodes.sh"
    done = launch(file, "--help", PATH=str(tmp_path), OUT=str(tmp_path), PORT="0", **told)
    assert done.returncode == 0, done.stderr
    assert "Train with Zoom-Zero" in done.stdout
