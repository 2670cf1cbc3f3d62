"""The recipes for grounding: a supervised start, then reinforcement learning from it; every number has a source."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from zoomzero.config import read_settings

FOLDER = Path(__file__).parents[2] / "configs" / "grounding"
FILES = sorted(FOLDER.glob("*.toml"))
MODELS = {
    "qwen3-vl-2b": "Qwen/Qwen3-VL-2B-Instruct",
    "qwen3-vl-4b": "Qwen/Qwen3-VL-4B-Instruct",
    "qwen3-vl-8b": "Qwen/Qwen3-VL-8B-Instruct",
    "qwen3.5-2b": "Qwen/Qwen3.5-2B",
    "qwen3.5-9b": "Qwen/Qwen3.5-9B",
}


def both(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the supervised and the reinforcement file of a model say."""
    return read_settings(str(FOLDER / f"{name}-sft.toml")), read_settings(str(FOLDER / f"{name}.toml"))


def test_every_model_has_both_files() -> None:
    assert sorted(path.stem for path in FILES) == sorted([*MODELS, *(f"{name}-sft" for name in MODELS)])


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_number_says_where_it_comes_from(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    numbers = [line for line in lines if re.match(r"\w+ = [\[\d]", line) and not re.match(r'\w+ = \["', line)]
    assert len(numbers) >= 10
    for line in numbers:
        source = line.partition("#")[2]
        assert re.match(r" (ours|the paper|TimeLens2|at most; TimeLens2|early stop|orders what)", source), line


@pytest.mark.parametrize("name", MODELS)
def test_reinforcement_starts_from_the_supervised_model(name: str) -> None:
    start, run = both(name)
    assert start["model"] == MODELS[name]
    if "lora" in start:  # adapters are merged between the two
        text = (FOLDER / f"{name}-sft.toml").read_text(encoding="utf-8")
        assert f"zoomzero merge {start['out']} --out {run['model']}" in text
    else:
        assert run["model"] == start["out"]
    assert start["ask"] == run["ask"] == {"think": False, "coarse": {"fps": 2.0, "max_tokens": 4096}}
    assert ("lora" in start, "fsdp" in start) == ("lora" in run, "fsdp" in run)
    assert start["data"]["evaluation"] == run["data"]["evaluation"], "nothing that is measured on is learned from"


@pytest.mark.parametrize("name", MODELS)
def test_what_the_field_has_found_is_in_the_recipe(name: str) -> None:
    _, run = both(name)
    assert run["data"]["difficulty"] == [f"{file}.filter.json" for file in run["data"]["examples"]]
    assert run["validation"]["patience"] * run["validation"]["every"] < run["steps"], "a plateau can end the run"
    text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
    assert f"zoomzero eval examples --data data/test.jsonl --videos videos --model {MODELS[name]} " in text
    assert f"zoomzero filter data/sound.jsonl --out {run['data']['examples'][0]} --model {run['model']} " in text
