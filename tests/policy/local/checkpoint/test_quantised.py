"""Quantised checkpoints: refused in one line where nothing reads them, else answering as what they stand for."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch
from policy_models import make_clip
from safetensors.torch import load_file, save_file
from transformers import Qwen3VLForConditionalGeneration

from zoomzero.errors import ModelError
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.checkpoint import quantised
from zoomzero.policy.local.load import load_policy

MISSING = {"awq": "gptqmodel", "gptq": "optimum", "bitsandbytes": "bitsandbytes", "compressed-tensors": "compressed-"}


@pytest.mark.parametrize("method", MISSING)
def test_the_missing_package_is_named(checkpoints, tmp_path, method, monkeypatch):
    monkeypatch.setattr(quantised, "find_spec", lambda name: None)
    where = shutil.copytree(checkpoints["qwen3_vl"], tmp_path / "x")
    config = json.loads((where / "config.json").read_text()) | {"quantization_config": {"quant_method": method}}
    (where / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=rf"{method}.*{MISSING[method]}.*pip install") as caught:
        load_policy(where)
    assert "\n" not in str(caught.value)


def test_real_configurations(shared):
    where = shared / "checkpoints"
    if not where.is_dir():
        pytest.skip("needs ../shared/checkpoints (metadata of real checkpoints)")
    methods = {p.parent.name: quantised.quant_method(json.loads(p.read_text())) for p in where.glob("*/config.json")}
    assert methods["Qwen3.6-27B-AWQ"] == "awq"
    assert methods["olmOCR-2-7B-1025-FP8"] == "compressed-tensors"
    assert methods["Qwen3.5-9B-MLX-8bit"] == "mlx"
    assert methods["Qwen3-VL-8B-Instruct"] is None


def test_every_package_of_a_method_is_asked_for(checkpoints, monkeypatch):
    """GPTQ needs two: the second is named when the first is there."""
    config = {"quantization_config": {"quant_method": "gptq"}}
    for missing in ("optimum", "gptqmodel"):
        monkeypatch.setattr(quantised, "find_spec", lambda name, missing=missing: None if name == missing else True)
        with pytest.raises(ModelError, match=f"the package {missing} that reads it is missing"):
            quantised.check_quantised("x", config)


def test_quantising_on_the_fly(checkpoints, monkeypatch):
    with pytest.raises(ModelError, match="--quantize 3bit is unknown"):
        load_policy(checkpoints["qwen3_vl"], quantize="3bit")
    with pytest.raises(ModelError, match="has experts, which --quantize cannot round"):
        load_policy(checkpoints["qwen3_vl_moe"], quantize="4bit")
    with pytest.raises(ModelError, match=r"is quantised already \(awq\); leave --quantize out"):
        quantised.check_quantize("x", "4bit", {"quantization_config": {"quant_method": "awq"}})
    monkeypatch.setattr(quantised, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'bitsandbytes>=0\.46\.1'"):
        load_policy(checkpoints["qwen3_vl"], quantize="4bit")


@pytest.mark.skipif(find_spec("bitsandbytes") is None, reason="needs bitsandbytes: pip install bitsandbytes")
@pytest.mark.parametrize(("bits", "near", "kind"), [("4bit", 1.0, "Linear4bit"), ("8bit", 0.1, "Linear8bitLt")])
@pytest.mark.parametrize("family", ["qwen3_vl", "qwen2_5_vl", "qwen3_5"])
def test_rounded_weights_answer_nearly_the_same(checkpoints, policies, bits, near, kind, family, capfd):
    turns, texts = [Turn("user", (make_clip(family), "which symbol is on the red circle"))], ["A", "B", "red"]
    plain = policies[family].score(policies[family].read(turns), texts)
    policy = load_policy(checkpoints[family], device="cpu", quantize=bits)
    layers = policy.model.model.language_model.layers
    assert {type(m).__name__ for m in layers.modules() if hasattr(m, "in_features")} == {kind}
    assert not any(type(m).__name__ == kind for m in policy.model.model.visual.modules())
    context = policy.read(turns)
    assert policy.score(context, texts) == pytest.approx(plain, abs=near)
    assert len(policy.generate(context, 2, Sampling(max_tokens=3))) == 2
    assert "MatMul8bitLt" not in "".join(capfd.readouterr())


def rounded(tensor, block=128):
    """FP8 blocks and their scales, as `quant_method: fp8` stores them."""
    rows, columns = (-(-side // block) for side in tensor.shape)
    padded = torch.zeros(rows * block, columns * block)
    padded[: tensor.shape[0], : tensor.shape[1]] = tensor
    blocks = padded.view(rows, block, columns, block)
    scale = blocks.abs().amax((1, 3), keepdim=True).clamp(min=1e-6) / 448
    held = (blocks / scale).view(rows * block, columns * block)[: tensor.shape[0], : tensor.shape[1]]
    return held.to(torch.float8_e4m3fn), scale.view(rows, columns)


@pytest.mark.parametrize("dtype", ["auto", "bfloat16"])
def test_an_fp8_checkpoint_answers_on_a_cpu(checkpoints, policies, tmp_path, dtype):
    """Every weight is in one number type, and answers are near those of the checkpoint it was made from."""
    where = shutil.copytree(checkpoints["qwen3_vl"], tmp_path / "fp8")
    weights, held = load_file(where / "model.safetensors"), {}
    for name, value in weights.items():
        if ".layers." in name and value.ndim == 2:
            held[name], held[f"{name}_scale_inv"] = rounded(value)
        else:
            held[name] = value.to(torch.bfloat16)
    save_file(held, where / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((where / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "fp8",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["model.visual", "lm_head"],
    }
    (where / "config.json").write_text(json.dumps(config))
    policy = load_policy(where, device="cpu", dtype=dtype)
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32 if dtype == "auto" else torch.bfloat16}
    turns, texts = [Turn("user", (make_clip("qwen3_vl"), "which symbol is on the red circle"))], ["A", "B", "red"]
    plain = policies["qwen3_vl"].score(policies["qwen3_vl"].read(turns), texts)
    assert policy.score(policy.read(turns), texts) == pytest.approx(plain, abs=1.0)


def test_where_fp8_stays_fp8(checkpoints, monkeypatch):
    """On GPUs that multiply it, where the kernels are installed; elsewhere it is turned into the model's type."""
    gpu, where, network = torch.device("cuda", 0), checkpoints["qwen3_vl"], Qwen3VLForConditionalGeneration
    fp8 = {"quantization_config": {"quant_method": "fp8"}}
    for device, ability in ((torch.device("cpu"), None), (gpu, (8, 6)), (torch.device("mps"), None)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, ability=ability: ability)
        told = quantised.load_arguments("x", fp8, where, network, device)["config"].quantization_config
        assert told == {"quant_method": "fp8", "dequantize": True}
        assert quantised.is_unpacked(fp8, device)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(quantised, "find_spec", lambda name: True)
    told = quantised.load_arguments("x", fp8, where, network, gpu)["config"].quantization_config
    assert told == {"quant_method": "fp8"}
    monkeypatch.setattr(quantised, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match="the package kernels that reads it is missing"):
        quantised.load_arguments("x", fp8, where, network, gpu)
    assert quantised.load_arguments("x", {}, where, network, gpu) == {}


def test_what_compressed_tensors_packs_is_unpacked_but_for_fast_fp8(monkeypatch):
    def packed(kind, bits):
        weights = {"type": kind, "num_bits": bits}
        return {
            "quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": weights}}}
        }

    cpu, gpu = torch.device("cpu"), torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    asked = [(packed(*what), device) for what in (("float", 8), ("int", 4)) for device in (cpu, gpu)]
    assert [quantised.is_unpacked(config, device) for config, device in asked] == [True, False, True, True]


# --- four bits in groups, as the packages' makers store them ----------------------------------------------------------

GROUP = 32  # columns that share a scale


def in_int32(values):
    """8 numbers of 4 bits in the last axis as one int32."""
    whole = (values.to(torch.int64) << 4 * torch.arange(8)).sum(-1)
    return torch.where(whole >= 2**31, whole - 2**32, whole).to(torch.int32)


def in_groups(weight):
    """A matrix (out, in) as numbers around 8 (in, out), scales (groups, out), and what they stand for (out, in)."""
    grouped = weight.float().unflatten(1, (-1, GROUP))
    scale = (grouped.abs().amax(2, keepdim=True).clamp(min=1e-6) / 7).half().float()
    numbers = (grouped / scale).round().clamp(-8, 7)
    return numbers.flatten(1).T + 8, scale.squeeze(2).T.contiguous(), (numbers * scale).flatten(1)


def as_gptq(codes, scales):
    zeros = torch.full((*scales.shape[:1], scales.shape[1] // 8, 8), 7)  # one less than the zero, as its makers do
    return {
        "qweight": in_int32(codes.unflatten(0, (-1, 8)).transpose(1, 2)),
        "qzeros": in_int32(zeros),
        "scales": scales.half(),
        "g_idx": (torch.arange(len(codes)) // GROUP).to(torch.int32),
    }


def as_awq(codes, scales):
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    return {
        "qweight": in_int32(codes.unflatten(1, (-1, 8))[..., order]),
        "qzeros": in_int32(torch.full((len(scales), scales.shape[1] // 8, 8), 8)),
        "scales": scales.half(),
    }


def as_compressed(codes, scales):
    return {
        "weight_packed": in_int32(codes.T.unflatten(1, (-1, 8))),
        "weight_scale": scales.T.contiguous(),
        "weight_shape": torch.tensor(codes.T.shape),
    }


FOUR_BITS = {"bits": 4, "group_size": GROUP}
WEIGHTS = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": GROUP}
STORED = {
    "gptq": (as_gptq, {**FOUR_BITS, "sym": True, "desc_act": False, "checkpoint_format": "gptq"}),
    # named as in Qwen3.6-27B-AWQ: the tower is `visual`, though its path begins with `model.`
    "awq": (as_awq, {**FOUR_BITS, "version": "gemm", "zero_point": True, "modules_to_not_convert": ["visual"]}),
    "compressed-tensors": (
        as_compressed,
        {
            "format": "pack-quantized",
            "quantization_status": "compressed",
            "ignore": ["lm_head", "re:.*visual.*"],
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": WEIGHTS}},
        },
    ),
}


@pytest.mark.parametrize("method", STORED)
def test_packed_checkpoints_answer_as_what_they_stand_for(checkpoints, tmp_path, method):
    """Run where the method's package is installed (`pip install gptqmodel optimum compressed-tensors`)."""
    packages = quantised.PACKAGES[method]
    if any(find_spec(package) is None for package in packages):
        pytest.skip(f"needs {' and '.join(packages.values())}")
    pack, words = STORED[method]
    where = {name: shutil.copytree(checkpoints["qwen3_vl"], tmp_path / name) for name in ("packed", "rounded")}
    held, near = {}, {}
    for name, value in load_file(where["rounded"] / "model.safetensors").items():
        if ".language_model.layers." in name and name.endswith("proj.weight"):
            codes, scales, near[name] = in_groups(value)
            held |= {name.removesuffix("weight") + part: tensor for part, tensor in pack(codes, scales).items()}
        else:
            held[name] = near[name] = value
    for name, weights in (("packed", held), ("rounded", near)):
        save_file({k: v.contiguous() for k, v in weights.items()}, where[name] / "model.safetensors", {"format": "pt"})
    config = json.loads((where["packed"] / "config.json").read_text())
    config["quantization_config"] = {"quant_method": method, **words}
    (where["packed"] / "config.json").write_text(json.dumps(config))
    turns, texts = [Turn("user", (make_clip("qwen3_vl"), "which symbol is on the red circle"))], ["A", "B", "red"]
    policies = [load_policy(where[name], device="cpu", dtype="float32") for name in ("packed", "rounded")]
    packed, plain = (policy.score(policy.read(turns), texts) for policy in policies)
    assert packed == pytest.approx(plain, abs=1e-3)
    drawn = [p.generate(p.read(turns), 1, Sampling(max_tokens=6))[0].text for p in policies]
    assert drawn[0] == drawn[1]
