"""Quantised checkpoints are refused in one line where nothing reads them."""

import json
import shutil
from importlib.util import find_spec

import pytest
import torch

from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint import quantised
from zoomzero.policy.local.load import load_policy

MISSING = {"awq": "gptqmodel", "gptq": "gptqmodel", "bitsandbytes": "bitsandbytes", "compressed-tensors": "compressed-"}


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


def test_quantising_on_the_fly(checkpoints):
    with pytest.raises(ModelError, match="--quantize 3bit is unknown"):
        load_policy(checkpoints["qwen3_vl"], quantize="3bit")
    if find_spec("bitsandbytes") is None:
        with pytest.raises(ModelError, match="pip install bitsandbytes"):
            load_policy(checkpoints["qwen3_vl"], quantize="4bit")


def test_fp8_is_computed_in_one_type_without_a_gpu():
    arguments = quantised.load_arguments("fp8", torch.device("cpu"))
    assert arguments["quantization_config"].dequantize
    assert quantised.load_arguments("fp8", torch.device("cuda")) == {}
    assert quantised.load_arguments(None, torch.device("cpu")) == {}
