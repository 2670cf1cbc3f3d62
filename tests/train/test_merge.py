"""Merging: adapters, FSDP shards and plain checkpoints keep their logits."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_parts import ALL, adapted, save_adapter, save_shards, write_shards
from safetensors.torch import load_file
from sft_models import FAMILIES, SETTINGS, make_clip
from torch import Tensor

from zoomzero.config import load_model_settings
from zoomzero.policy.base import Turn
from zoomzero.policy.local import save
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.train import merge as merging
from zoomzero.train.engine.shards import plain_name
from zoomzero.train.merge import merge

CLOSE = 1e-5
FILES = {"config.json", "generation_config.json", "merge.json", "model.safetensors", "tokenizer.json", "zoomzero.json"}
FILES |= {"tokenizer_config.json"}


def logits_of(policy: QwenPolicy, family: str) -> Tensor:
    """The logits at every token of an answer to a clip, (T, V)."""
    prompt = policy.prompt([Turn("user", (make_clip(family, 6), "Question: Which symbol is on the red circle?"))])
    suffix = torch.tensor(policy.builder.codec.encode("<answer>B</answer>\n<glue>[(1.0, 2.5)]</glue>"))
    with torch.inference_mode():
        states = packed.packed_states(policy.model, [prompt], [[suffix]])
        return packed.head(policy.model)(states.states).float()


def weights_of(base: Path) -> dict[str, Tensor]:
    """A checkpoint's weights by the names transformers gives them in memory, tied ones left out."""
    model = load_policy(base, device="cpu", dtype="float32").model
    return {name: value for name, value in model.state_dict().items() if name not in save.tied_names(model)}


@pytest.fixture(scope="module")
def adapter(family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(family_checkpoints["qwen3_vl"], tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def shards(family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_shards(family_checkpoints["qwen3_vl"], tmp_path_factory.mktemp("run"))


# --- adapters ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_merged_adapter_gives_the_adapters_logits(
    family: str, family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    base = family_checkpoints[family]
    policy = adapted(base, ALL)
    wanted = logits_of(policy, family)
    before = logits_of(load_policy(base, device="cpu"), family)
    assert (wanted - before).abs().max() > 0.1, "the adapter does something"
    policy.model.save_pretrained(tmp_path / "adapter")
    record = merge(str(tmp_path / "adapter"), tmp_path / "out", dtype="float32")
    assert (record.kind, record.base, record.left_out) == ("adapter", str(base), ())
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    merged = load_policy(tmp_path / "out", device="cpu")
    torch.testing.assert_close(logits_of(merged, family), wanted, rtol=0, atol=CLOSE)
    assert load_model_settings(tmp_path / "out") == SETTINGS
    assert record.parameters == sum(p.numel() for p in merged.model.parameters())
    assert set(load_file(tmp_path / "out" / "model.safetensors")) == set(weights_of(base))


@pytest.mark.parametrize(
    "changes",
    [
        {"use_rslora": True},
        {"use_dora": True},
        {"modules_to_save": ["norm"]},
        {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 3}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_other_kinds_of_low_rank_adapters(
    changes: dict[str, Any], family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    policy = adapted(family_checkpoints["qwen3_vl"], ALL, **changes)
    for name, parameter in policy.model.named_parameters():
        if "modules_to_save" in name:
            parameter.data += 0.3
    wanted = logits_of(policy, "qwen3_vl")
    policy.model.save_pretrained(tmp_path / "adapter")
    merge(str(tmp_path / "adapter"), tmp_path / "out", dtype="float32")
    found = logits_of(load_policy(tmp_path / "out", device="cpu"), "qwen3_vl")
    torch.testing.assert_close(found, wanted, rtol=0, atol=CLOSE)


def test_a_half_precision_base_is_added_to_in_float32(
    family_checkpoints: dict[str, Path], adapter: Path, tmp_path: Path
) -> None:
    """One rounding, of the sum: not one of the base's bfloat16, one of the adapter's and one of their sum."""
    merge(str(family_checkpoints["qwen3_vl"]), tmp_path / "half", dtype="bfloat16")
    merge(str(adapter), tmp_path / "out", dtype="bfloat16", base=str(tmp_path / "half"))
    name = "model.language_model.layers.0.self_attn.q_proj.weight"
    base = load_file(tmp_path / "half" / "model.safetensors")[name]
    lora = load_file(adapter / "adapter_model.safetensors")
    key = f"base_model.model.{name.removesuffix('.weight')}.lora_{{}}.weight"
    exact = base.float() + lora[key.format("B")] @ lora[key.format("A")] * 4.0  # alpha 16 over rank 4
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")[name], exact.bfloat16())


def test_transformers_reads_what_is_merged(adapter: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForImageTextToText

    merge(str(adapter), tmp_path / "out")
    model, info = AutoModelForImageTextToText.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.dtype == torch.bfloat16  # what the configuration says, and servers go by
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == config["text_config"]["dtype"] == "bfloat16"
    assert config["architectures"] == ["Qwen3VLForConditionalGeneration"]


def test_settings_and_records_beside_an_adapter_are_kept(adapter: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(adapter, own)
    (own / "zoomzero.json").write_text(SETTINGS.model_copy(update={"widen_s": 3.25}).model_dump_json())
    (own / "training.json").write_text('{"data": {"splits": {"made": {"train": 1}}}}')
    merge(str(own), tmp_path / "out")
    assert load_model_settings(tmp_path / "out").widen_s == 3.25
    assert json.loads((tmp_path / "out" / "training.json").read_text())["data"]["splits"]["made"] == {"train": 1}


# --- shards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "rename",
    [
        lambda name: name,
        lambda name: f"model.{name}",
        lambda name: f"_orig_mod.model.{name}",
        lambda name: f"module.model.{name.replace('layers.1.', 'layers.1._checkpoint_wrapped_module.')}",
    ],
    ids=["bare", "wrapper", "compiled", "wrapped layers"],
)
def test_shards_give_the_models_logits(
    family: str, rename: Callable[[str], str], family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    base, policy = family_checkpoints[family], load_policy(family_checkpoints[family], device="cpu")
    for parameter in policy.model.parameters():
        parameter.data *= 1.05  # a trained model is not its base
    wanted = logits_of(policy, family)
    state = {rename(name): value for name, value in policy.model.state_dict().items()}
    where = write_shards(tmp_path / "checkpoint-9" / "pytorch_model_fsdp_0", state)
    for given in (where.parent, where):
        out = tmp_path / f"out of {given.name}"
        record = merge(str(given), out, dtype="float32", base=str(base))
        assert (record.kind, record.left_out) == ("shards", ())
        assert {path.name for path in out.iterdir()} == FILES
        found = logits_of(load_policy(out, device="cpu"), family)
        torch.testing.assert_close(found, wanted, rtol=0, atol=CLOSE)


def test_the_base_of_shards_is_known_from_their_run(
    shards: Path, family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    record = merge(str(shards / "checkpoint-4"), tmp_path / "out", dtype="float32")
    assert record.base == str(family_checkpoints["qwen3_vl"])
    merged, plain = (load_file(where / "model.safetensors") for where in (tmp_path / "out", Path(record.base)))
    assert merged.keys() == plain.keys()
    assert all(torch.equal(merged[name], plain[name]) for name in plain)


def test_tensors_that_are_not_the_models_are_left_out_and_named(
    family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    state = load_policy(family_checkpoints["qwen3_vl"], device="cpu").model.state_dict()
    where = write_shards(tmp_path / "checkpoint-1", {**state, "scale": torch.ones(2), "steps": 4})
    record = merge(str(where), tmp_path / "out", base=str(family_checkpoints["qwen3_vl"]))
    assert record.left_out == ("model.scale",)


def test_names_under_wrappers() -> None:
    known = dict.fromkeys(["model.a.w", "a.b"])
    assert plain_name("model.model.model.a.w", known) == "model.a.w"
    assert plain_name("module._orig_mod.model.a._fsdp_wrapped_module.w", known) == "model.a.w"
    assert plain_name("model.a.b", known) == "a.b"
    assert plain_name("reference.model.a.w", known) is None
    assert plain_name("model.a", known) is None


# --- plain checkpoints, and how they are written ---------------------------------------------------------------


def test_a_plain_checkpoint_changes_its_number_type_alone(family_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    base = family_checkpoints["qwen2_5_vl"]
    said: list[str] = []
    record = merge(str(base), tmp_path / "out", dtype="float16", say=said.append)
    assert record.kind == "plain"
    old, new = weights_of(base), load_file(tmp_path / "out" / "model.safetensors")
    assert old.keys() == new.keys()
    assert all(torch.equal(new[name], old[name].half()) for name in old)
    assert said[0].startswith("loading")
    assert said[-1] == "writing 0 M weights"


def test_large_weights_go_into_several_files(
    family_checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = family_checkpoints["qwen3_vl"]
    monkeypatch.setattr(merging, "MOST_BYTES", 150_000)
    merge(str(base), tmp_path / "out", dtype="float32")
    parts = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(parts) > 2
    assert parts[0].name == f"model-00001-of-{len(parts):05}.safetensors"
    assert all(sum(t.numel() * 4 for t in load_file(part).values()) <= 150_000 for part in parts)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    old = load_file(base / "model.safetensors")
    assert index["metadata"]["total_size"] == sum(value.numel() * 4 for value in old.values())
    assert {name: load_file(tmp_path / "out" / file)[name].sum() for name, file in index["weight_map"].items()} == {
        name: value.sum() for name, value in old.items()
    }
    found = logits_of(load_policy(tmp_path / "out", device="cpu"), "qwen3_vl")
    assert torch.equal(found, logits_of(load_policy(base, device="cpu"), "qwen3_vl"))


def test_a_tensor_larger_than_a_file_has_one_of_its_own(tmp_path: Path) -> None:
    pairs = [("a", torch.zeros(4)), ("b", torch.zeros(100)), ("c", torch.zeros(4)), ("d", torch.arange(3))]
    save.write_weights(tmp_path, pairs, torch.float16, most_bytes=50)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert [index["weight_map"][name][6:11] for name in "abcd"] == ["00001", "00002", "00003", "00003"]
    assert load_file(tmp_path / index["weight_map"]["d"])["d"].dtype == torch.int64  # whole numbers stay
    assert not list(tmp_path.glob("*.partial"))
