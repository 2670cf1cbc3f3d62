"""Merging refuses what does not fit: one line that names the file and the fix, and nothing is left behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from merge_parts import save_adapter, save_shards, write_shards
from safetensors.torch import load_file, save_file
from sft_models import save_checkpoint

from zoomzero.errors import ConfigError, ModelError
from zoomzero.policy.local.load import load_policy
from zoomzero.train.merge import merge


@pytest.fixture(scope="module")
def adapter(family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(family_checkpoints["qwen3_vl"], tmp_path_factory.mktemp("adapter"))


@pytest.fixture(scope="module")
def shards(family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_shards(family_checkpoints["qwen3_vl"], tmp_path_factory.mktemp("run"))


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
    (tmp_path / "young").mkdir()
    (tmp_path / "young" / "run.json").write_text("{}")
    refused(ModelError, r"a run's directory .*go on with the run \(--resume\)", str(tmp_path / "young"), out)
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
