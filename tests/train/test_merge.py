"""Merging: adapters, FSDP shards and plain checkpoints keep their logits; what does not fit is one line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sft_models import FAMILIES, SETTINGS, make_clip, save_checkpoint
from torch import Tensor

from zoomzero.config import load_model_settings
from zoomzero.errors import ConfigError, ModelError
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


def adapted(base: Path, targets: str, **changes: Any) -> QwenPolicy:
    """A policy with a random adapter that changes its answers."""
    from peft import LoraConfig, get_peft_model

    policy = load_policy(base, device="cpu", dtype="float32")
    config = LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False, **changes)
    torch.manual_seed(3)
    policy.model = get_peft_model(policy.model, config).eval()
    return policy


ALL = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


@pytest.fixture(scope="module")
def adapter(family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter of the small Qwen3-VL, saved as the trainer saves it."""
    where = tmp_path_factory.mktemp("adapter")
    adapted(family_checkpoints["qwen3_vl"], ALL).model.save_pretrained(where)
    return where


def write_shards(where: Path, state: dict[str, Any]) -> Path:
    """Write a sharded checkpoint as accelerate does, in this process."""
    import torch.distributed.checkpoint as dcp

    where.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": state}, storage_writer=dcp.FileSystemWriter(where), no_dist=True)
    return where


@pytest.fixture(scope="module")
def shards(family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's directory with `checkpoint-4` of the small Qwen3-VL, its weights under the trainer's wrapper."""
    run = tmp_path_factory.mktemp("run")
    state = load_policy(family_checkpoints["qwen3_vl"], device="cpu").model.state_dict()
    write_shards(run / "checkpoint-4" / "pytorch_model_fsdp_0", {f"model.{k}": v for k, v in state.items()})
    (run / "run.json").write_text(json.dumps({"model": str(family_checkpoints["qwen3_vl"])}))
    return run


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


# --- what does not fit -----------------------------------------------------------------------------------------


def refused(kind: type[Exception], message: str, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(kind, match=message) as raised:
        merge(*args, **kwargs)
    assert "\n" not in str(raised.value)


def test_out_must_be_empty_and_stays_away_when_something_fails(adapter: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    refused(ConfigError, "--out: .*full is there and not empty; choose another", str(adapter), tmp_path / "full")
    refused(ConfigError, "--dtype: 'int8' is unknown; use bfloat16", str(adapter), tmp_path / "out", dtype="int8")
    (tmp_path / "empty").mkdir()
    torn = tmp_path / "torn"
    shutil.copytree(shards / "checkpoint-4", torn)
    (part,) = torn.rglob("*.distcp")
    os.truncate(part, part.stat().st_size // 2)
    base = json.loads((shards / "run.json").read_text())["model"]
    refused(ModelError, "a shard cannot be read .*; copy the whole", str(torn), tmp_path / "empty", base=base)
    part.unlink()
    refused(ModelError, "a shard cannot be read", str(torn), tmp_path / "empty", base=base)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full", "torn"]
    assert list((tmp_path / "empty").iterdir()) == []
    merge(str(adapter), tmp_path / "empty")  # an empty directory is taken
    assert (tmp_path / "empty" / "config.json").is_file()


def test_what_is_no_checkpoint(shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (tmp_path / "nothing").mkdir()
    refused(ModelError, "holds no adapter, no FSDP shards and no weights", str(tmp_path / "nothing"), out)
    refused(ModelError, r"a run's directory .*give one of its checkpoints: .*checkpoint-4", str(shards), out)
    refused(ModelError, "no such directory", str(tmp_path / "absent"), out)
    (tmp_path / "nothing" / "pytorch_model_fsdp.bin").write_bytes(b"")
    refused(ModelError, r"pickled weights \(\.bin\), which are not read; save with", str(tmp_path / "nothing"), out)


def test_the_base_must_be_known_and_there(adapter: Path, shards: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    lost = tmp_path / "lost"
    shutil.copytree(adapter, lost)
    config = json.loads((lost / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "/gone/model"
    (lost / "adapter_config.json").write_text(json.dumps(config))
    refused(ConfigError, r"--base: .*trained from /gone/model, which is not here .*with --base", str(lost), out)
    config["base_model_name_or_path"] = None
    (lost / "adapter_config.json").write_text(json.dumps(config))
    refused(ConfigError, "--base: .* does not name the model it was trained from; name it", str(lost), out)
    refused(ModelError, "model /gone/too: no such directory", str(lost), out, base="/gone/too")
    shutil.copytree(shards / "checkpoint-4", tmp_path / "a" / "b")
    refused(ConfigError, "--base: .* does not name the model", str(tmp_path / "a" / "b"), out)


def test_another_familys_base_is_refused(
    adapter: Path, shards: Path, family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    other, own = str(family_checkpoints["qwen2_5_vl"]), str(family_checkpoints["qwen3_vl"])
    out = tmp_path / "out"
    lacks = r"its shards lack \d+ of the base model's \d+ tensors, first model\.\S+; name the checkpoint"
    refused(ModelError, lacks, str(shards / "checkpoint-4"), out, base=other)
    refused(ModelError, r"is an adapter of Qwen3VL\w+, not of Qwen2_5_VL\w+; give", str(adapter), out, base=other)
    refused(ConfigError, "--base: .* is a whole checkpoint already", own, out, base=other)


def test_shapes_that_do_not_fit(adapter: Path, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sft_models

    monkeypatch.setitem(sft_models.TEXT, "intermediate_size", 72)
    wider = save_checkpoint(tmp_path / "wider", "qwen3_vl")
    shapes = r"\d+ tensors have other shapes than the base model's, first \S+: 64 x 48 instead of 72 x 48"
    refused(ModelError, shapes, str(shards / "checkpoint-4"), tmp_path / "out", base=str(wider))
    refused(ModelError, "adapter does not fit the base model", str(adapter), tmp_path / "out", base=str(wider))


def test_adapters_that_are_not_whole(adapter: Path, tmp_path: Path) -> None:
    torn = tmp_path / "torn"
    shutil.copytree(adapter, torn)
    weights = load_file(torn / "adapter_model.safetensors")
    del weights[next(iter(weights))]
    save_file(weights, torn / "adapter_model.safetensors")
    refused(
        ModelError, "1 of its tensors and the base model's do not match, first base_model", str(torn), tmp_path / "o"
    )
    (torn / "adapter_model.safetensors").write_bytes(b"\x00" * 100)
    refused(ModelError, "adapter does not fit the base model|is damaged", str(torn), tmp_path / "o")
    (torn / "adapter_model.safetensors").unlink()
    refused(ModelError, "adapter", str(torn), tmp_path / "o")
    (torn / "adapter_config.json").write_text("{")
    refused(ModelError, "adapter_config.json is damaged", str(torn), tmp_path / "o")


def test_adapters_of_another_kind(adapter: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(adapter, other)
    config = json.loads((other / "adapter_config.json").read_text())
    kept = {key: config[key] for key in ("base_model_name_or_path", "target_modules")}
    (other / "adapter_config.json").write_text(json.dumps({**kept, "peft_type": "IA3", "feedforward_modules": []}))
    refused(ModelError, "is a IA3 adapter; only LoRA", str(other), tmp_path / "o")


def test_shards_of_adapters_and_of_two_models(family_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    base = family_checkpoints["qwen3_vl"]
    state = load_policy(base, device="cpu").model.state_dict()
    two = write_shards(tmp_path / "two", {**state, **{f"model.{k}": v for k, v in state.items()}})
    refused(ModelError, "both are model.*; save one model", str(two), tmp_path / "o", base=str(base))
    lora = write_shards(tmp_path / "lora", {"base_model.model.x.lora_A.default.weight": torch.ones(2, 2)})
    refused(ModelError, "its shards hold an adapter that is not merged", str(lora), tmp_path / "o", base=str(base))


class Evil:
    """What a pickle can do when it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def test_metadata_that_would_run_code_are_not_loaded(
    shards: Path, family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(shards / "checkpoint-4", bad)
    (metadata,) = bad.rglob(".metadata")
    base = str(family_checkpoints["qwen3_vl"])
    for content in (pickle.dumps(Evil(tmp_path / "ran")), b"junk", b"", metadata.read_bytes()[:200]):
        metadata.write_bytes(content)
        refused(ModelError, r"\.metadata is damaged or not torch's", str(bad), tmp_path / "o", base=base)
    assert not (tmp_path / "ran").exists()
