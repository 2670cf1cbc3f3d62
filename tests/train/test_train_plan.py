"""The memory planner: real models' parameters, bytes worked by hand, and what its advice does."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_runs import grpo_settings
from sft_models import FAMILIES, make_samples

from zoomzero.config import ModelSettings, PassSettings
from zoomzero.errors import ModelError
from zoomzero.train.engine.loading import add_adapter
from zoomzero.train.engine.sft import SFTLoss
from zoomzero.train.engine.sft_samples import pack_sft_samples
from zoomzero.train.plan import GIB, MemoryPlan, Sizes, advice, measure_model, plan_memory, plan_text
from zoomzero.train.settings import LoraSettings, SftSettings

# 1000 numbers in the text model (100 of them ends), 200 in the tower; LoRA of rank r learns 50 r.
SIZES = Sizes(1000, 200, 100, 50, layers=3, width=8, inner=16, heads_width=8, kv_width=4, vocabulary=32, levels=1)
ASKED = ModelSettings(coarse=PassSettings(max_tokens=100))  # and 400 tokens of text
ROW = {"row_tokens": 1000, "head_chunk": 10, "rollout": {"max_new_tokens": 50, "prompts_at_once": 3}}
MEMORY = 1e6


def planned(changes: dict[str, Any], gpus: int = 1) -> MemoryPlan:
    settings = grpo_settings(ROW | {"dtype": "bfloat16"} | changes)
    return plan_memory(settings, SIZES, ASKED, gpus=gpus, memory=MEMORY)


def test_all_weights_by_hand() -> None:
    plan = planned({})
    assert plan.always == {"weights": 4 * 1200, "optimizer": 8 * 1000, "reference": 2 * 1200}
    assert plan.update["gradients"] == 4 * 1000
    # float32 without checkpointing: each of 3 layers keeps 4 x (4 x 8 + 3 x 8 + 2 x 4 + 4 x 16) + 8 x 8 bytes a token,
    # the last norm 4 x 2 x 8
    assert plan.update["activations of a row"] == 1000 * (3 * (4 * 128 + 64) + 64)
    assert plan.update["gradients inside a layer"] == 1000 * 4 * 3 * 16
    # Qwen3 norms queries and keys: 4 x 2 x (8 + 4) more
    normed = plan_memory(grpo_settings(ROW), replace(SIZES, head_norms=True), ASKED, gpus=1, memory=MEMORY)
    assert normed.update["activations of a row"] == 1000 * (3 * (4 * 152 + 64) + 64)
    # the logits of 10 tokens, 3 x 4 x 10 x 32, come before and are fewer; of all 1000 they are more
    assert "logits of a chunk" not in plan.update
    wide = planned({"head_chunk": 1000}).update
    assert wide["logits of a chunk"] == 3 * 4 * 1000 * 32
    assert "gradients inside a layer" not in wide
    # 3 prompts of 500 tokens with 2 completions of 50, keys and values of 4 numbers in 3 layers, 2 bytes
    assert plan.rollouts["keys and values"] == 3 * 600 * 2 * 4 * 3 * 2
    assert plan.peak == sum(plan.always.values()) + sum(plan.update.values())


def test_checkpointing_keeps_the_inputs_of_layers() -> None:
    plan = planned({"gradient_checkpointing": True})
    assert plan.update["activations of a row"] == 1000 * (4 * 8 * 3 + 4 * 128 + 64 + 64)


def test_adapters_by_hand() -> None:
    plan = planned({"lora": {"rank": 4}})
    assert plan.always == {"weights": 2 * 1200 + 4 * 200, "optimizer": 8 * 200}, "the reference is the adapter off"
    assert plan.update["gradients"] == 4 * 200
    # the norms' own weights do not learn: each of 3 layers keeps 4 x (2 x 8 + 3 x 8 + 2 x 4 + 4 x 16) + 8 x 8 bytes a
    # token, the last norm 4 x 8
    assert plan.update["activations of a row"] == 1000 * (3 * (4 * 112 + 64) + 32)


def test_shards_by_hand() -> None:
    plan = planned({"fsdp": True}, gpus=4)
    assert plan.always["weights"] == 4 * 1200 / 4
    assert plan.always["optimizer"] == 8 * 1000 / 4
    assert plan.always["copy that draws rollouts"] == plan.always["reference"] == 2 * 1200
    assert plan.update["gradients"] == 4 * 1000 / 4
    assert plan.update["weights gathered for a layer"] == 4 * (2 * 300 + 100)
    assert plan.update["gradients of embeddings and head"] == 4 * 100


def test_supervised_runs_by_hand() -> None:
    """A sample is at most the zoom's 2048 visual tokens and 400 of text; a row holds two. Nothing is drawn."""
    values = {"model": "tiny", "out": "o", "examples": "e", "steps": 1, "samples_per_row": 2, "bf16": False}
    values |= {"dtype": "bfloat16", "gradient_checkpointing": False, "train_only": "text", "head_chunk": 10}
    settings = SftSettings.model_validate(values)
    plan = plan_memory(settings, SIZES, ASKED, gpus=1, memory=MEMORY)
    assert plan.always == {"weights": 4 * 1200, "optimizer": 8 * 1000}
    assert plan.update["activations of a row"] == 2 * 2448 * (3 * 576 + 64)
    assert plan.peak == sum(plan.always.values()) + sum(plan.update.values())
    assert plan.rollouts == {}
    assert "while drawing" not in plan_text(settings, plan)
    assert {"samples_per_row = 1", "row_tokens = 8192"} <= set(advice(settings, plan))
    watched = {"validation": {"examples": "e"}, "fsdp": True}
    shards = plan_memory(SftSettings.model_validate(values | watched), SIZES, ASKED, gpus=4, memory=MEMORY)
    assert shards.always == {
        "weights": 4 * 1200 / 4,
        "optimizer": 8 * 1000 / 4,
        "whole vision tower": 2 * 200,
        "copy that is validated": 2 * 1200,
    }
    few = SftSettings.model_validate(values | {"row_tokens": 3000})
    assert plan_memory(few, SIZES, ASKED, gpus=1, memory=MEMORY).update["activations of a row"] == 3000 * (3 * 576 + 64)


def test_replicas_carry_gradients_twice() -> None:
    assert planned({}, gpus=2).update["buckets that gradients travel in"] == 4 * 1000
    assert "buckets that gradients travel in" not in planned({}).update


def test_what_nobody_asks_is_not_there() -> None:
    plan = planned({"objective": {"loss": {"beta": 0.0}}, "rollout": {**ROW["rollout"], "verifier": "policy"}})
    assert "reference" not in plan.always
    away = planned({"offload_reference": True})
    assert "reference" not in away.always
    assert away.rollouts["reference, visiting"] == 2 * 1200


def test_advice_makes_it_smaller_and_ends_when_it_fits() -> None:
    changes: dict[str, Any] = {}
    settings = grpo_settings(ROW | {"dtype": "bfloat16"})
    plan = plan_memory(settings, SIZES, ASKED, gpus=2, memory=40e3)
    first = advice(settings, plan)
    assert not plan.fits
    assert "gradient_checkpointing = true" in first
    for line, value in (("gradient_checkpointing = true", {"gradient_checkpointing": True}), ("fsdp", {"fsdp": True})):
        assert any(text.startswith(line) for text in first)
        changes |= value
        smaller = plan_memory(grpo_settings(ROW | {"dtype": "bfloat16"} | changes), SIZES, ASKED, gpus=2, memory=40e3)
        assert smaller.peak < plan.peak
        plan = smaller
    room = plan_memory(settings, SIZES, ASKED, gpus=2, memory=1e9)
    assert room.fits
    assert advice(settings, room) == []
    assert plan_text(settings, room).splitlines()[-1] == "it fits"


@pytest.mark.parametrize("lora", [None, {"rank": 2}], ids=["weights", "adapters"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_row_keeps_is_what_autograd_saves(
    family_checkpoints: dict[str, Path], family_policies: dict[str, Any], family: str, lora: dict[str, int] | None
) -> None:
    """Bytes of all that is saved for the backward pass, within 15 %: a CPU also spreads keys and values over heads."""
    policy = family_policies[family]
    packed = pack_sft_samples(make_samples(family), policy.builder, policy.end_of_turn)
    model = copy.deepcopy(policy.model).train().requires_grad_(True)
    model.model.visual.requires_grad_(False)
    if lora is not None:
        model = add_adapter(model, LoraSettings(**lora))
    weights = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    saved: dict[int, torch.Tensor] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in weights:
            saved[place] = tensor  # held, so that its place is not given to another
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        SFTLoss(model)(packed)["loss"]
    values = {"model": "tiny", "out": "o", "examples": "e", "steps": 1, "bf16": False, "gradient_checkpointing": False}
    settings = SftSettings.model_validate(values | {"train_only": "text", "row_tokens": packed.tokens, "lora": lora})
    asked = ModelSettings(coarse=PassSettings(max_tokens=1), zoom=PassSettings(max_tokens=1))
    sizes = measure_model(str(family_checkpoints[family]))
    plan = plan_memory(settings, sizes, asked, gpus=1, memory=MEMORY, text_tokens=packed.tokens)
    kept = [tensor for tensor in saved.values() if tensor.shape[-1:] != (sizes.vocabulary,)]  # not logits
    measured = sum(tensor.untyped_storage().nbytes() for tensor in kept)
    assert plan.update["activations of a row"] == pytest.approx(measured, rel=0.15)


def test_parameters_of_the_embedded_model_are_those_it_has(tiny_policy: Any) -> None:
    sizes = measure_model("tiny")
    model = tiny_policy.model
    assert sizes.total == sum(weight.numel() for weight in model.parameters())
    assert sizes.vision == sum(weight.numel() for weight in model.model.visual.parameters())


@pytest.mark.parametrize(
    ("name", "total", "vision"),
    [("Qwen2.5-VL-7B-Instruct", 8_292_166_656, 676_550_144), ("Qwen3-VL-8B-Instruct", 8_767_123_696, 576_388_336)],
)
def test_real_models(shared: Path, name: str, total: int, vision: int) -> None:
    """Replicas of all weights do not fit into 80 GB; eight shards do."""
    sizes = measure_model(str(shared / "checkpoints" / name))
    assert (sizes.total, sizes.vision) == (total, vision)
    changes = {"bf16": True, "dtype": "bfloat16", "gradient_checkpointing": True, "rollout": {"num_generations": 8}}
    for fsdp in (False, True):
        settings = grpo_settings(changes | {"fsdp": fsdp})
        assert plan_memory(settings, sizes, ModelSettings(), gpus=8, memory=80 * GIB).fits is fsdp


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such directory"):
        measure_model(str(tmp_path / "none"))


def test_a_configuration_that_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="its configuration cannot be read"):
        measure_model(str(tmp_path))
