"""A run from random weights: it learns to see, follows its stages, is watched, and goes on after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import TrainerCallback

from zoomzero.config import load_model_settings
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine import sft, sft_trainer, vision
from zoomzero.train.engine.optimizers import Muon
from zoomzero.train.engine.sft import StageCallback, train
from zoomzero.train.settings import SftSettings
from zoomzero.world.curriculum import Stage
from zoomzero.world.start import TINY_SETTINGS, write_start

STAGES = [
    {"steps": 2, "pictures": 1, "clips": 1, "shortest_s": 4, "longest_s": 6, "questions": 0},
    {"steps": 1, "closeups": 1, "train_vision": True},
]
SEES = {"steps": 2, "small": 2, "crop": 1, "large": 1, "measure_every": 1, "draw_ahead": False}


class Killed(Exception):
    """Stands for whatever ends a run in the middle."""


class KillAt(TrainerCallback):
    """Ends the run after a step, as a power cut would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


def settings_of(out: Path, examples: Path, **changes: Any) -> SftSettings:
    values = {
        "model": "random",
        "out": str(out),
        "vision": SEES,
        "stages": STAGES,
        "optimizer": "muon",
        "learning_rate": 1e-3,
        "schedule": "warmup_stable_decay",
        "decay": 0.5,
        "warmup_steps": 1,
        "bf16": False,
        "save_every": 1,
        "keep": 3,
        "log_every": 1,
        "seed": 3,
        "validation": {"examples": str(examples), "limit": 1, "every": 2},
    }
    return SftSettings.model_validate(values | changes)


@pytest.fixture(autouse=True)
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "_HELD_OUT_PAIRS", 2)


@pytest.fixture(scope="module")
def straight(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    out = tmp_path_factory.mktemp("random") / "run"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(vision, "_HELD_OUT_PAIRS", 2)
        train(settings_of(out, small_world))
    return out


def rows_of(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "minutes"} for row in rows]


def took_an_hour(path: Path) -> None:
    """Let a checkpoint say that its run had taken an hour."""
    state = json.loads(path.read_text())
    state["stateful_callbacks"]["RunClock"]["attributes"]["minutes"] += 60
    path.write_text(json.dumps(state))


def tower_of(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.partition("visual.")[2]: value for name, value in weights.items() if "visual." in name}


def test_start_is_the_untrained_embedded_model(straight: Path, tmp_path: Path) -> None:
    write_start(tmp_path / "start", seed=3)
    mine, theirs = (load_file(p / "start" / "model.safetensors") for p in (straight, tmp_path))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_tower_learns_first_rests_and_learns_on_where_its_stage_says(straight: Path) -> None:
    """The weights of each checkpoint against those that learning to see left behind."""
    seen = torch.load(straight / "vision.pt", weights_only=True)["model"]
    seen = {name.removeprefix("tower."): value for name, value in seen.items() if name.startswith("tower.")}
    start = tower_of(load_file(straight / "start" / "model.safetensors"))
    assert not torch.equal(start["blocks.0.attn.qkv.weight"], seen["blocks.0.attn.qkv.weight"])
    at = [load_file(straight / f"checkpoint-{step}" / "model.safetensors") for step in (1, 2, 3)]
    for weights in at[:2]:
        tower = tower_of(weights)
        assert tower
        assert all(torch.equal(value, seen[name]) for name, value in tower.items()), "it rests in the first stage"
    last = tower_of(at[2])
    assert not torch.equal(last["blocks.0.attn.qkv.weight"], seen["blocks.0.attn.qkv.weight"])
    text = "model.language_model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(at[0][text], at[1][text]), "the text model learns all along"


def test_run_leaves_a_model_and_says_how_it_came_about(straight: Path) -> None:
    assert load_model_settings(straight) == TINY_SETTINGS
    assert load_policy(straight, device="cpu").geometry.factor == 32
    record = json.loads((straight / "training.json").read_text())
    assert record["steps"] == 3
    assert record["settings"]["model"] == "random"
    assert [row["step"] for row in rows_of(straight / "vision.jsonl")] == [1, 2]
    last = rows_of(straight / "vision.jsonl")[-1]
    data = {name: value for name, value in record["data"].items() if name != "vision_minutes"}
    assert data == {"world_seed": 1} | {f"vision_{name}": value for name, value in last.items()}


def test_run_is_watched_at_its_start_every_so_often_and_at_its_end(straight: Path) -> None:
    rows = rows_of(straight / "validation.jsonl")
    assert [row["step"] for row in rows] == [0, 2, 3]
    for row in rows:
        assert set(row) == {"step", "accuracy", "coarse_accuracy", "miou", "format"}
        assert all(0 <= value <= 1 for name, value in row.items() if name != "step")


def test_optimizer_and_schedule_are_those_asked_for(straight: Path) -> None:
    """Warm-up in step 1, the full rate, then a fall over half of the three steps (2) to a hundredth."""
    state = torch.load(straight / "checkpoint-3" / "optimizer.pt", weights_only=True)
    assert [group["orthogonal"] for group in state["param_groups"]] == [True, False]
    assert [group["weight_decay"] for group in state["param_groups"]] == [0.02, 0.0]
    log = json.loads((straight / "checkpoint-3" / "trainer_state.json").read_text())["log_history"]
    rates = [row["learning_rate"] for row in log if "learning_rate" in row]
    assert len(rates) == 3
    assert max(rates) == pytest.approx(1e-3)
    assert rates[-1] < 0.6e-3


def test_rates_stand_in_place_of_a_schedule_over_a_kill(small_world: Path, tmp_path: Path) -> None:
    out, changes = tmp_path / "run", {"vision": None, "rates": [[0, 0.2], [1, 1.0], [3, 0.0]]}
    with pytest.raises(Killed):
        train(settings_of(out, small_world, **changes), callbacks=[KillAt(2)])
    train(settings_of(out, small_world, **changes), resume=True)
    log = json.loads((out / "checkpoint-3" / "trainer_state.json").read_text())["log_history"]
    assert [row["learning_rate"] for row in log if "learning_rate" in row] == pytest.approx([2e-4, 1e-3, 5e-4])


def test_killed_run_goes_on_as_if_nothing_had_happened(straight: Path, small_world: Path, tmp_path: Path) -> None:
    """Killed in step 2, before its checkpoint: tower, optimizer, curriculum and log go on from step 1."""
    out = tmp_path / "run"
    with pytest.raises(Killed):
        train(settings_of(out, small_world), callbacks=[KillAt(2)])
    assert [p.name for p in out.glob("checkpoint-*")] == ["checkpoint-1"]
    took_an_hour(out / "checkpoint-1" / "trainer_state.json")
    train(settings_of(out, small_world), resume=True)
    mine, theirs = (load_file(p / "model.safetensors") for p in (out, straight))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    mine, theirs = (torch.load(p / "checkpoint-3" / "optimizer.pt", weights_only=True) for p in (out, straight))
    for index, state in theirs["state"].items():
        assert all(torch.equal(value, mine["state"][index][name]) for name, value in state.items())
    assert rows_of(out / "validation.jsonl") == rows_of(straight / "validation.jsonl")
    assert rows_of(out / "vision.jsonl") == rows_of(straight / "vision.jsonl")
    record = json.loads((out / "training.json").read_text())
    assert 60 <= record["minutes"] < 120, "of both sittings"
    last = json.loads((out / "validation.jsonl").read_text().splitlines()[-1])
    assert 60 <= last["minutes"] <= record["minutes"]
    data = record["data"]
    assert data.keys() == json.loads((straight / "training.json").read_text())["data"].keys()


def test_run_killed_while_learning_to_see_goes_on_there(
    straight: Path, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, keep = tmp_path / "run", vision._keep

    def killed(*arguments: Any) -> None:
        keep(*arguments)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(vision, "_keep", killed)
        with pytest.raises(Killed):
            train(settings_of(out, small_world))
    assert [row["step"] for row in rows_of(out / "vision.jsonl")] == [1]
    monkeypatch.setattr(sft.HeldOut, "on_step_end", lambda *arguments, **more: None)
    train(settings_of(out, small_world), resume=True)
    mine, theirs = (load_file(p / "model.safetensors") for p in (out, straight))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_samples_drawn_ahead_are_the_same(straight: Path, small_world: Path, tmp_path: Path) -> None:
    """Drawn in a process of its own, and unwatched: neither touches what is learned."""
    out = tmp_path / "run"
    train(settings_of(out, small_world, draw_ahead=1, validation={}))
    mine, theirs = (load_file(p / "model.safetensors") for p in (out, straight))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
    assert not (out / "validation.jsonl").exists()


def test_tower_follows_the_stage_of_the_step() -> None:
    tower = nn.Linear(2, 2)
    callback = StageCallback(tower, [Stage(2, clips=1), Stage(1, clips=1, train_vision=True), Stage(1, zooms=1)])
    learns = []
    for step in range(5):
        callback.on_step_begin(None, type("State", (), {"global_step": step}), None)
        learns.append({p.requires_grad for p in tower.parameters()})
    assert learns == [{False}, {False}, {True}, {False}, {False}]


def test_optimizer_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers asks for it again when it resumes; a second Muon would forget the first one's momentum."""
    trainer = sft.SftTrainer.__new__(sft.SftTrainer)
    trainer.settings, trainer.optimizer, trainer.model = SimpleNamespace(optimizer="muon"), None, nn.Linear(3, 3)
    trainer.args = type("Arguments", (), {"learning_rate": 0.1, "weight_decay": 0.0})
    monkeypatch.setattr(sft_trainer.PolicyTrainer, "create_optimizer", lambda self, *rest: self.optimizer)
    first = trainer.create_optimizer()
    assert isinstance(first, Muon)
    assert trainer.create_optimizer() is first
