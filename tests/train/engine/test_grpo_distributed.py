"""Two processes make the updates of one: replicated (DDP) and sharded (FSDP2), killed and resumed on the way."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from trainer_runs import Moment, log_rows, run, write_settings

from zoomzero.policy.base import Turn
from zoomzero.policy.local.load import load_policy
from zoomzero.train.rollouts.record import read_groups

# The first two updates share a batch of rollouts, the third draws anew: with the weights that two updates made.
# The credit's statistics go over the batch, so over both processes.
STEPS = {
    "save_every": 1,
    "keep": 3,
    # hot and more than two, for the model is sure of these questions and groups of equal rollouts teach nothing
    "rollout": {"filter": {"enabled": False}, "temperature": 2.0, "num_generations": 4},
    "objective": {"credit": {"estimator": "gdpo_select"}},
}
KILLED = Moment("update", nth=2)
# Sums over rows come in another order, so float32 numbers differ in their last bits; weights of 0.1 that moved by 1e-5
# keep 3 digits of the move. A lost gradient, or one counted twice, is off by the size of the move itself.
SAME_MOVE = 1e-3


@pytest.fixture(scope="module")
def changes(small_world: Path) -> dict[str, Any]:
    """What makes the runs of this file. Three held-out examples do not come out even on two processes."""
    return STEPS | {"validation": {"examples": str(small_world), "limit": 3, "every": 3}}


@pytest.fixture(scope="module")
def alone(small_world: Path, changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    run("train", write_settings(folder, small_world, changes), folder=folder).check()
    return folder / "run"


@pytest.fixture(scope="module", params=["replicated", "sharded"])
def together(
    request: pytest.FixtureRequest, small_world: Path, changes: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The run of two processes, the first of which is killed between the second update and its checkpoint."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = write_settings(folder, small_world, changes | {"fsdp": request.param == "sharded"})
    killed = run("train", settings, folder=folder, processes=2, kill=KILLED)
    assert killed.codes[0] == -signal.SIGKILL
    run("train", settings, "--resume", folder=folder, processes=2).check()
    return folder / "run"


def moved(run_folder: Path, step: int) -> dict[str, torch.Tensor]:
    """How far the weights of a checkpoint are from the start's."""
    start = load_policy("tiny", device="cpu", dtype="float32").model.state_dict()
    weights = load_file(run_folder / f"checkpoint-{step}" / "model.safetensors")
    return {name: (value.double() - start[name].double()) for name, value in weights.items()}


def size(tensors: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(value.square().sum()) for value in tensors.values()))


@pytest.mark.parametrize("step", [1, 2, 3])
def test_weights_move_as_they_do_alone(alone: Path, together: Path, step: int) -> None:
    wanted, found = moved(alone, step), moved(together, step)
    assert wanted.keys() == found.keys()
    assert size(wanted) > 1e-3
    assert size({name: found[name] - wanted[name] for name in wanted}) < SAME_MOVE * size(wanted)


def test_rollouts_are_those_of_one_process(alone: Path, together: Path) -> None:
    """Also after updates: sharded runs draw from a copy that must have taken the new weights."""
    wanted = {group.index: group for group in read_groups(alone / "rollouts.jsonl")}
    shares = [list(read_groups(together / name)) for name in ("rollouts.jsonl", "rollouts.1.jsonl")]
    assert [[group.index for group in share] for share in shares] == [[0, 2, 4, 6], [1, 3, 5, 7]]
    for group in (group for share in shares for group in share):
        own = wanted.pop(group.index)
        assert (group.example, group.step) == (own.example, own.step)
        assert [rollout.text for rollout in group.rollouts] == [rollout.text for rollout in own.rollouts]
        assert [rollout.rewards for rollout in group.rollouts] == [rollout.rewards for rollout in own.rollouts]
    assert not wanted


def test_logs_are_those_of_one_process(alone: Path, together: Path) -> None:
    """Losses, gradient norms, rewards and validation are pooled."""
    wanted, found = log_rows(alone), log_rows(together)
    assert [row["step"] for row in found] == [row["step"] for row in wanted] == [0, 1, 2, 3, 3, 3]
    assert any(abs(row.get("loss", 0.0)) > 1e-3 for row in wanted)
    for own, other in zip(found, wanted, strict=True):
        own, other = (
            {name: value for name, value in row.items() if not name.startswith("zoom/")}  # controls are a process's own
            for row in (own, other)
        )
        assert own == pytest.approx(other, rel=1e-3, abs=1e-6)


def test_checkpoints_are_models_like_any_other(alone: Path, together: Path) -> None:
    """The finished one too: read by the product, it says what the one of one process says."""
    chat = [Turn("user", ("Which symbol is on the red circle?",))]
    for name in ("checkpoint-3", "."):
        logits = []
        for folder in (alone, together):
            policy = load_policy(folder / name, device="cpu", dtype="float32")
            (scores,) = policy.score_tokens(policy.read(chat), ["<answer>A</answer>"], end=True)
            logits.append(torch.tensor(scores))
        torch.testing.assert_close(*logits, rtol=0, atol=1e-4)
    assert json.loads((together / "training.json").read_text())["steps"] == 3


def test_weights_are_written_once(together: Path) -> None:
    """accelerate would add a second copy to every sharded checkpoint."""
    names = {path.name for path in (together / "checkpoint-3").iterdir() if path.stat().st_size > 10**6}
    assert names in ({"model.safetensors", "optimizer.pt"}, {"model.safetensors", "optimizer.bin"})


def test_sharded_in_bfloat16(family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path) -> None:
    """The other family. Log-probabilities leave the sharded model in float32."""
    changes = {"model": str(family_checkpoints["qwen2_5_vl"]), "bf16": True, "fsdp": True, "steps": 1}
    changes |= {"rollout": {"filter": {"enabled": False}, "max_new_tokens": 8, "controls": 0}}
    settings = write_settings(tmp_path, small_world, changes)
    run("train", settings, folder=tmp_path, processes=2).check()
    state = json.loads((tmp_path / "run" / "checkpoint-1" / "grpo_state_1.json").read_text())
    values = torch.tensor([rollout["old_log_probs"] for group in state["pending"] for rollout in group["rollouts"]])
    assert values.numel() == 16
    assert (values != values.bfloat16().float()).float().mean() > 0.9
    load_policy(tmp_path / "run" / "checkpoint-1", device="cpu")
