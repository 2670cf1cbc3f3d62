"""Two processes make one's updates in every way of training, and wait for each other when one draws more.

In supervised runs the two compute their activations again and see 8 tokens' logits at a time; the one does neither.
`test_grpo_distributed.py` has reinforcement learning on all weights.
"""

from __future__ import annotations

import copy
import json
import math
import signal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sft_models import TWO_ROWS
from trainer_runs import Moment, log_rows, run, write_settings

from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine.sharded import forget_weights

ZERO3 = Path(__file__).resolve().parents[3] / "examples" / "launch" / "zero3.json"
NEEDS_DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="DeepSpeed is not installed")
ADAPTERS = {"lora": {"rank": 4, "alpha": 8}}
SAVING = {"gradient_checkpointing": True, "head_chunk": 8}
# One update on one batch of rollouts.
ONE = {
    "steps": 1,
    "train_batch_size": 4,
    "mini_batch_size": 4,
    "learning_rate": 1e-3,
    "rollout": {"filter": {"enabled": False}, "controls": 0, "max_new_tokens": 24},
}
# Sums over rows come in another order, so float32 gradients differ in their last bits, and AdamW makes a whole step of
# the least of them. A gradient that is lost is off by the size of the move itself, one counted twice by its norm.
SAME_MOVE = 1e-2


def write_supervised(folder: Path, model: Path, examples: Path, changes: dict[str, Any]) -> Path:
    """Two updates of four samples, which one process packs into two rows and two processes into one each."""
    folder.mkdir()
    values = {
        "model": str(model),
        "out": str(folder / "run"),
        "examples": str(examples),
        "steps": 2,
        "save_every": 2,
        "validation": {"examples": str(examples), "limit": 3, "every": 2},
    }
    path = folder / "settings.json"
    path.write_text(json.dumps(TWO_ROWS | values | changes), encoding="utf-8")
    return path


def logged(folder: Path) -> list[float]:
    """Losses and gradient norms of both updates."""
    log = json.loads((folder / "run" / "checkpoint-2" / "trainer_state.json").read_text())["log_history"]
    return [row[name] for row in log if "loss" in row for name in ("loss", "grad_norm")]


def size(tensors: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(value.double().square().sum()) for value in tensors.values()))


@pytest.mark.parametrize(
    "changes",
    [
        {"fsdp": True},
        pytest.param(ADAPTERS, marks=pytest.mark.slow),
        pytest.param({"train_only": "all"}, marks=pytest.mark.slow),
        pytest.param({**ADAPTERS, "fsdp": True}, marks=pytest.mark.slow),
        pytest.param({"trainer": {"deepspeed": str(ZERO3)}}, marks=[pytest.mark.slow, NEEDS_DEEPSPEED]),
    ],
    ids=["sharded", "adapters", "vision", "sharded-adapters", "deepspeed"],
)
def test_supervised(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    model, folders = family_checkpoints["qwen3_vl"], (tmp_path / "alone", tmp_path / "together")
    plain = {name: value for name, value in changes.items() if name not in ("fsdp", "trainer")}
    one, two = (
        write_supervised(folder, model, small_world, given)
        for folder, given in zip(folders, (plain, changes | SAVING), strict=True)
    )
    run("sft", one, folder=folders[0]).check()
    run("sft", two, folder=folders[1], processes=2).check()
    name = "adapter_model.safetensors" if "lora" in changes else "model.safetensors"
    wanted, found = (load_file(folder / "run" / "checkpoint-2" / name) for folder in folders)
    start = load_file(model / name) if "lora" not in changes else {}  # B of an adapter starts at 0
    moved = {key: value - start.get(key, 0) for key, value in wanted.items() if "lora_A" not in key}
    assert size(moved) > 1e-3
    assert any("visual" in key and value.any() for key, value in moved.items()) is ("train_only" in changes)
    assert wanted.keys() == found.keys()
    assert size({key: found[key] - wanted[key] for key in wanted}) < SAME_MOVE * size(moved)
    assert logged(folders[1]) == pytest.approx(logged(folders[0]), rel=1e-3)
    assert len(logged(folders[0])) == 4
    texts = [(folder / "run" / "validation.jsonl").read_text() for folder in folders]
    rows = [[json.loads(line) | {"minutes": 0} for line in text.splitlines()] for text in texts]
    assert [row["step"] for row in rows[0]] == [0, 2]
    assert rows[0] == rows[1], "shared questions, in shards asked of a copy"
    assert (folders[1] / "run" / name).is_file(), "the finished model, or its adapter"


def test_curriculum(small_world: Path, tmp_path: Path) -> None:
    """Of random weights, guided; the tower learns alone, rests, and learns on. Each process draws its own samples."""
    reads = {"pictures": 2, "clips": 3, "shortest_s": 6, "longest_s": 12, "questions": 2, "lookups": 1, "zooms": 2}
    values = {
        "model": "random",
        "vision": {"steps": 2, "small": 4, "crop": 2, "large": 2, "measure_every": 1},
        "stages": [{"steps": 1, **reads}, {"steps": 1, "train_vision": True, **reads}],
        "optimizer": "muon",
        "learning_rate": 1e-3,
        "guidance": 0.3,
        "threads": 2,
        "bf16": False,
        "save_every": 2,
        "log_every": 1,
        "validation": {"examples": str(small_world), "limit": 3, "every": 2},
    }
    folders = (tmp_path / "alone", tmp_path / "together")
    for processes, folder in enumerate(folders, start=1):
        folder.mkdir()
        path = folder / "settings.json"
        path.write_text(json.dumps(values | {"out": str(folder / "run")}), encoding="utf-8")
        run("sft", path, folder=folder, processes=processes).check()
    wanted, found = (load_file(folder / "run" / "checkpoint-2" / "model.safetensors") for folder in folders)
    start = load_file(folders[0] / "run" / "start" / "model.safetensors")
    moved = {name: value - start[name] for name, value in wanted.items()}
    assert any("visual" in name and value.any() for name, value in moved.items())
    assert size({name: found[name] - wanted[name] for name in wanted}) < SAME_MOVE * size(moved)
    assert logged(folders[1]) == pytest.approx(logged(folders[0]), rel=1e-3)


def weights_after(folder: Path, small_world: Path, changes: dict[str, Any], processes: int) -> dict[str, torch.Tensor]:
    folder.mkdir()
    run("train", write_settings(folder, small_world, ONE | changes), folder=folder, processes=processes).check()
    name = "adapter_model.safetensors" if "lora" in changes else "model.safetensors"
    return load_file(folder / "run" / "checkpoint-1" / name)


@pytest.mark.parametrize(
    "changes",
    [
        ADAPTERS,
        pytest.param({"train_vision": True}, marks=pytest.mark.slow),
        pytest.param({**ADAPTERS, "fsdp": True}, marks=pytest.mark.slow),
    ],
    ids=["lora", "vision", "sharded-lora"],
)
def test_reinforced(small_world: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    plain = {name: value for name, value in changes.items() if name != "fsdp"}
    alone = weights_after(tmp_path / "alone", small_world, plain, processes=1)
    together = weights_after(tmp_path / "together", small_world, changes, processes=2)
    # B of an adapter starts at 0
    start = {} if "lora" in changes else load_policy("tiny", device="cpu", dtype="float32").model.state_dict()
    moved = {name: value - start.get(name, 0) for name, value in alone.items() if "lora_A" not in name}
    assert size(moved) > 1e-3
    assert any("visual" in name and value.any() for name, value in moved.items()) is ("train_vision" in changes)
    assert alone.keys() == together.keys()
    assert size({name: together[name] - alone[name] for name in alone}) < SAME_MOVE * size(moved)


def test_processes_that_drop_different_groups_wait_for_each_other(small_world: Path, tmp_path: Path) -> None:
    """The filter lets almost nothing pass, so the processes draw anew a different number of times."""
    rules = {"max_tries": 3, "low": 0.4, "high": 0.6}
    changes = {"steps": 2, "mini_batch_size": 2, "rollout": {**ONE["rollout"], "filter": rules}}
    settings = write_settings(tmp_path, small_world, ONE | changes)
    run("train", settings, folder=tmp_path, processes=2).check()
    rows = [row for row in log_rows(tmp_path / "run") if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2]
    assert rows[0]["filter/dropped"] + rows[0]["filter/filled"] > 0


def test_resume_with_features_on_disk(small_world: Path, tmp_path: Path) -> None:
    """What was kept in float16 is read after the kill: the run goes on, its numbers equal to float16's precision."""
    changes = {**ONE, "steps": 3, "train_batch_size": 2, "mini_batch_size": 2}
    logs = []
    for name, kill in (("straight", None), ("killed", Moment("update", nth=2))):
        folder = tmp_path / name
        folder.mkdir()
        data = {"feature_cache_dir": str(folder / "features"), "examples": [str(small_world)]}
        settings = write_settings(folder, small_world, {**changes, "data": data})
        ended = run("train", settings, folder=folder, kill=kill)
        if kill is not None:
            assert ended.codes == (-signal.SIGKILL,)
            run("train", settings, "--resume", folder=folder).check()
        logs.append([row for row in log_rows(folder / "run") if "loss" in row])
        assert any((folder / "features").rglob("*.safetensors"))
    straight, resumed = logs
    assert [row["step"] for row in resumed] == [row["step"] for row in straight] == [1, 2, 3]
    assert straight[0] == resumed[0], "nothing was read back before the kill"
    assert json.loads((tmp_path / "killed" / "run" / "training.json").read_text())["steps"] == 3


def test_forgotten_weights_take_no_memory_and_keep_apart(family_policies: dict[str, Any]) -> None:
    """accelerate tells weights apart by their addresses; those that are shared (head and embeddings) stay so."""
    model = copy.deepcopy(family_policies["qwen3_vl"].model)
    shapes = {name: weight.shape for name, weight in model.named_parameters()}
    forget_weights(model)
    weights = dict(model.named_parameters())
    assert {name: weight.shape for name, weight in weights.items()} == shapes
    assert len({weight.data_ptr() for weight in weights.values()}) == len(weights)
    assert sum(weight.untyped_storage().nbytes() for weight in weights.values()) == 4 * len(weights)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.to("meta").get_parameter("lm_head.weight").is_contiguous()
