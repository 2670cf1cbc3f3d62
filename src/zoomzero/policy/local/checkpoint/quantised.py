"""Quantised checkpoints: which package reads them, said before anything is downloaded or loaded."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from zoomzero.errors import ModelError

# quant_method of config.json -> importable package, what to install; fp8 needs nothing beyond a GPU
PACKAGES = {
    "awq": ("gptqmodel", "gptqmodel"),
    "gptq": ("gptqmodel", "gptqmodel"),
    "auto-round": ("auto_round", "auto-round"),
    "bitsandbytes": ("bitsandbytes", "bitsandbytes"),
    "compressed-tensors": ("compressed_tensors", "compressed-tensors"),
    "torchao": ("torchao", "torchao"),
    "fp8": (None, ""),
}


def quant_method(config: dict[str, Any]) -> str | None:
    """Return how a checkpoint's weights are quantised, as its config.json says; None for plain ones."""
    if "quantization" in config:  # its own word, written twice
        return "mlx"
    text = config.get("text_config")
    held = config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)
    if not held:
        return None
    if not isinstance(held, dict):
        return "unknown"
    return str(held.get("quant_method", "bitsandbytes" if "load_in_4bit" in held else "unknown"))


def check_quantised(model: str, config: dict[str, Any]) -> str | None:
    """Return a checkpoint's quant method once it was found that it can be read here.

    Raises:
        ModelError: its package is missing, or nothing here reads it.
    """
    method = quant_method(config)
    if method is None:
        return None
    if method == "mlx":
        fix = "use the checkpoint it was made from, or one in AWQ, GPTQ, FP8 or compressed-tensors"
        raise ModelError(model, "is quantised for Apple's MLX, which is not read here", fix)
    if method not in PACKAGES:
        raise ModelError(model, f"is quantised by {method}, which is not read here", f"use {', '.join(PACKAGES)}")
    package, install = PACKAGES[method]
    if package is not None and find_spec(package) is None:
        fix = f"run `pip install {install}`, or use the checkpoint it was made from"
        raise ModelError(model, f"is quantised ({method}), and the package {install} that reads it is missing", fix)
    return method


def load_arguments(method: str | None, device: torch.device) -> dict[str, Any]:
    """Return what loading needs to be told of quantised weights on a device.

    FP8 weights on anything but a GPU are turned into the number type everything else has: there is no fast FP8 product,
    and a model in two number types fails in its vision tower.
    """
    if method != "fp8" or device.type == "cuda":
        return {}
    from transformers import FineGrainedFP8Config

    return {"quantization_config": FineGrainedFP8Config(dequantize=True)}


def on_the_fly(model: str, bits: str | None, device: torch.device) -> dict[str, Any]:
    """Return what loading needs to be told to quantise a plain checkpoint's matrices.

    Args:
        model: what the user called it.
        bits: `4bit`, `8bit` or None.
        device: where the model will be.

    Raises:
        ModelError: an unknown wish, or bitsandbytes is missing.
    """
    if bits is None:
        return {}
    if bits not in ("4bit", "8bit"):
        raise ModelError(model, f"--quantize {bits} is unknown", "use 4bit or 8bit")
    if find_spec("bitsandbytes") is None:
        fix = "run `pip install bitsandbytes`, or leave --quantize out"
        raise ModelError(model, "--quantize needs the package bitsandbytes, which is missing", fix)
    from transformers import BitsAndBytesConfig

    # the vision tower is small and feels rounding most
    kept = ["visual", "lm_head"]
    compute = torch.float16 if device.type == "cuda" and not torch.cuda.is_bf16_supported() else torch.bfloat16
    if bits == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute, llm_int8_skip_modules=kept
        )
    }
