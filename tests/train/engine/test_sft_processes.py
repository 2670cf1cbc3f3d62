"""Supervised fine-tuning on two processes makes one's updates: replicated and in shards, all weights or adapters.

The two compute what is left of their activations again and see 8 tokens' logits at a time; the one does neither.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trainer_runs import run

ADAPTERS = {"lora": {"rank": 4, "alpha": 8}}
SAVING = {"gradient_checkpointing": True, "head_chunk": 8}
SAME_MOVE = 1e-3  # sums over rows come in another order, so float32 numbers differ in their last bits


def write(folder: Path, model: Path, examples: Path, changes: dict[str, Any]) -> Path:
    """Two updates of four samples, which one process packs into two rows and two processes into one each."""
    folder.mkdir()
    values = {
        "model": str(model),
        "out": str(folder / "run"),
        "examples": str(examples),
        "steps": 2,
        "samples_per_row": 2,
        "rows_per_step": 2,
        "learning_rate": 1e-3,
        "schedule": "constant",
        "warmup_steps": 0,
        "train_only": "text",
        "gradient_checkpointing": False,
        "bf16": False,
        "log_every": 1,
        "save_every": 2,
        "threads": 1,
        "validation": {"examples": str(examples), "limit": 3, "every": 2},
    }
    path = folder / "settings.json"
    path.write_text(json.dumps(values | changes), encoding="utf-8")
    return path


def losses(folder: Path) -> list[float]:
    log = json.loads((folder / "run" / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    return [row["loss"] for row in log if "loss" in row]


def size(tensors: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(value.double().square().sum()) for value in tensors.values()))


@pytest.mark.parametrize(
    "changes",
    [{"fsdp": True}, ADAPTERS, {"train_only": "all"}, {**ADAPTERS, "fsdp": True}],
    ids=["sharded", "adapters", "vision", "sharded-adapters"],
)
def test_two_are_one(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model, folders = family_checkpoints["qwen3_vl"], (tmp_path / "alone", tmp_path / "together")
    plain = {name: value for name, value in changes.items() if name != "fsdp"}
    run("sft", write(folders[0], model, small_world, plain), folder=folders[0]).check()
    run("sft", write(folders[1], model, small_world, changes | SAVING), folder=folders[1], processes=2).check()
    name = "adapter_model.safetensors" if "lora" in changes else "model.safetensors"
    wanted, found = (load_file(folder / "run" / "checkpoint-2" / name) for folder in folders)
    start = load_file(model / name) if "lora" not in changes else {}  # B of an adapter starts at 0
    moved = {key: value - start.get(key, 0) for key, value in wanted.items() if "lora_A" not in key}
    assert size(moved) > 1e-3
    assert any("visual" in key and value.any() for key, value in moved.items()) is ("train_only" in changes)
    assert wanted.keys() == found.keys()
    assert size({key: found[key] - wanted[key] for key in wanted}) < SAME_MOVE * size(moved)
    assert losses(folders[1]) == pytest.approx(losses(folders[0]), rel=1e-4)
    rows = [json.loads((folder / "run" / "validation.jsonl").read_text()) for folder in folders]
    assert [{key: value for key, value in row.items() if key != "minutes"} for row in rows][1]["step"] == 2
    assert {**rows[0], "minutes": 0} == {**rows[1], "minutes": 0}, "shared questions, in shards asked of a copy"
    assert (folders[1] / "run" / name).is_file(), "the finished model, or its adapter"
