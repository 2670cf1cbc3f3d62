"""A LoRA directory as a model, and an adapter on a base that is named."""

import json
import shutil

import pytest
import torch
from policy_models import make_clip

from zoomzero.errors import ModelError
from zoomzero.policy.base import Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.checkpoint.adapters import find_whole
from zoomzero.policy.local.families import family_of
from zoomzero.policy.local.load import BaseModel, load_policy, settings_file

TURNS = [Turn("user", (make_clip("qwen3_vl"), "which symbol is on the red circle"))]


@pytest.fixture(scope="module")
def adapter(checkpoints, tmp_path_factory):
    """An adapter with random weights, saved by peft, and the logits of its model before it was merged."""
    from peft import LoraConfig, get_peft_model

    policy = load_policy(checkpoints["qwen3_vl"], device="cpu")
    config = LoraConfig(r=2, target_modules=family_of(policy.model).lora_targets)
    policy.model = get_peft_model(policy.model, config).eval()
    generator = torch.Generator().manual_seed(0)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data = 0.1 * torch.randn(weight.shape, generator=generator)
    where = tmp_path_factory.mktemp("adapter")
    policy.model.save_pretrained(where)
    config = json.loads((where / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(checkpoints["qwen3_vl"])
    (where / "adapter_config.json").write_text(json.dumps(config))
    return where, logits(policy)


def logits(policy):
    return packed.head(policy.model)(policy.read(TURNS).state.last_hidden)


def test_an_adapter_is_a_model(adapter, checkpoints):
    where, expected = adapter
    for policy in (load_policy(where), load_policy(checkpoints["qwen3_vl"], adapter=where)):
        torch.testing.assert_close(logits(policy), expected, atol=1e-4, rtol=1e-4)
    assert (logits(load_policy(checkpoints["qwen3_vl"])) - expected).abs().max() > 1e-2


def test_several_adapters_on_one_base(adapter, checkpoints, tmp_path, monkeypatch):
    """The base is read once; with one adapter after the other, and none, it gives bit for bit what each gives alone."""
    from safetensors.torch import load_file, save_file

    other = shutil.copytree(adapter[0], tmp_path / "other")
    weights = load_file(other / "adapter_model.safetensors")
    save_file({name: -0.5 * value for name, value in weights.items()}, other / "adapter_model.safetensors")
    order = [adapter[0], None, other, adapter[0], None]
    alone = {one: logits(load_policy(checkpoints["qwen3_vl"], adapter=one)) for one in dict.fromkeys(order)}
    base = BaseModel(checkpoints["qwen3_vl"])
    monkeypatch.setattr("zoomzero.policy.local.load.load_network", None)
    for one in order:
        assert torch.equal(logits(base.policy(one)), alone[one])
    assert not torch.equal(alone[other], alone[adapter[0]])


def test_settings_lie_with_the_adapter_or_with_its_base(adapter, checkpoints, tmp_path):
    own = shutil.copytree(adapter[0], tmp_path / "own")
    assert settings_file(own) == checkpoints["qwen3_vl"] / "zoomzero.json"
    (own / "zoomzero.json").write_text("{}")
    assert settings_file(own) == own / "zoomzero.json"
    assert settings_file(checkpoints["qwen3_vl"], own) == own / "zoomzero.json"


def test_wrong_uses(adapter, checkpoints, tmp_path):
    where = shutil.copytree(adapter[0], tmp_path / "lost")
    config = json.loads((where / "adapter_config.json").read_text())
    (where / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "/no/such"}))
    with pytest.raises(ModelError, match=r"is an adapter of /no/such, which is not here .*--model BASE --adapter"):
        load_policy(where)
    with pytest.raises(ModelError, match="is an adapter itself"):
        load_policy(adapter[0], adapter=adapter[0])
    with pytest.raises(ModelError, match="is an adapter of Qwen3VL"):
        load_policy(checkpoints["qwen2_5_vl"], adapter=adapter[0])
    with pytest.raises(ModelError, match=r"is no adapter: it has no adapter_config.json; give it as --model"):
        load_policy(checkpoints["qwen3_vl"], adapter=checkpoints["qwen2_5_vl"])
    with pytest.raises(ModelError, match=r"training starts from a whole checkpoint; make a checkpoint of it: .* merge"):
        find_whole(str(adapter[0]))
    config = json.loads((checkpoints["qwen3_vl"] / "config.json").read_text())
    quantised = shutil.copytree(checkpoints["qwen3_vl"], tmp_path / "quantised")
    (quantised / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "fp8"}}))
    with pytest.raises(ModelError, match="cannot be added to quantised weights; use the plain base model"):
        load_policy(quantised, adapter=adapter[0])
