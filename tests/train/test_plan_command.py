"""`zoomzero plan` as a user meets it: what it reads, its exit codes, what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli_runner import EMBEDDED, Run

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
EXAMPLES = CONFIGS / "sft-examples.toml"


def gib(shown: str, what: str) -> float:
    (line,) = [line for line in shown.splitlines() if line.startswith(what)]
    return float(line.removeprefix(what).split()[0])


def test_a_run_that_fits_and_one_that_does_not(zoom: Run) -> None:
    fits = zoom("plan", EXAMPLES, "--gpus", 2, "--memory", 8)
    assert (fits.code, fits.err) == (0, "")
    assert fits.out.splitlines()[0] == "each of 2 processes, GiB"
    assert fits.out.splitlines()[-1] == "it fits"
    tight = zoom("plan", EXAMPLES, "--memory", 0.1, "--set", "ask.coarse.max_tokens=4096")
    assert tight.code == 1
    assert "it does not fit; what helps most first:" in tight.out


def test_frames_are_those_the_checkpoint_asks_for(zoom: Run, tmp_path: Path) -> None:
    """A row of two samples holds their visual tokens and 400 of text each: 2 x 500 against 2 x 8,400, 17 to 1."""
    (tmp_path / "config.json").write_bytes((EMBEDDED / "config.json").read_bytes())
    shown = []
    for tokens in (100, 8000):
        look = {"max_tokens": tokens, "min_frame_tokens": 1, "max_frame_tokens": 1}
        (tmp_path / "zoomzero.json").write_text(json.dumps({"coarse": look, "zoom": look}))
        shown.append(zoom("plan", EXAMPLES, "--set", f"model={tmp_path}", "--set", "row_tokens=99999"))
    few, many = (gib(one.out, "    activations of a row") for one in shown)
    assert few == pytest.approx(many / 16.8, abs=0.01)


def test_what_is_refused_is_one_line(zoom: Run, tmp_path: Path) -> None:
    odd = zoom("plan", EXAMPLES, "--gpus", 3)
    assert odd.code == 2
    assert odd.complaint.startswith("samples_per_row x rows_per_step: 4 samples cannot be shared by 3 processes; ")
    alone = zoom("plan", CONFIGS / "world-cpu.toml", "--set", "fsdp=true")
    assert alone.complaint.startswith("fsdp: one process has nobody to share with; ")
    gone = zoom("plan", EXAMPLES, "--set", f"model={tmp_path / 'none'}")
    assert gone.complaint.endswith(
        "none: no such directory; give `tiny`, a local directory, or a hub id like Qwen/Qwen3-VL-2B-Instruct"
    )
    assert zoom("plan", tmp_path / "none.toml").complaint.endswith("give a .toml or .json file that exists")
