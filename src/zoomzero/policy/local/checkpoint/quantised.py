"""Quantised checkpoints: which package reads them, said before anything is downloaded or loaded."""

from __future__ import annotations

import logging
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from zoomzero.errors import ModelError

# quant_method of config.json -> importable packages and what to install for them; FP8: see `fp8_package`
PACKAGES: dict[str, dict[str, str]] = {
    "awq": {"gptqmodel": "gptqmodel"},
    "gptq": {"optimum": "optimum", "gptqmodel": "gptqmodel"},
    "auto-round": {"auto_round": "auto-round"},
    "bitsandbytes": {"bitsandbytes": "bitsandbytes"},
    "compressed-tensors": {"compressed_tensors": "compressed-tensors"},
    "torchao": {"torchao": "torchao"},
    "fp8": {},
}
BITSANDBYTES = "bitsandbytes>=0.46.1"  # what --quantize needs
FP8_FROM = (8, 9)  # compute capability of the first GPUs that multiply FP8 numbers
_LEFT_OUT = ("modules_to_not_convert", "llm_int8_skip_modules")  # where a checkpoint lists what is not quantised


def quant_method(config: dict[str, Any]) -> str | None:
    """Return how a checkpoint's weights are quantised, as its config.json says; None for plain ones."""
    if "quantization" in config:  # its own word, written twice
        return "mlx"
    held = _quantisation(config)
    if not held:
        return None
    if not isinstance(held, dict):
        return "unknown"
    return str(held.get("quant_method", "bitsandbytes" if "load_in_4bit" in held else "unknown"))


def _quantisation(config: dict[str, Any]) -> Any:
    """Return what a checkpoint's config.json says about its quantisation."""
    text = config.get("text_config")
    return config.get("quantization_config") or (text.get("quantization_config") if isinstance(text, dict) else None)


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
    if (package := missing_package(config)) is not None:
        raise _missing(model, method, package)
    return method


def missing_package(config: dict[str, Any]) -> str | None:
    """Return what must be installed before a checkpoint's quantised weights can be read, None when nothing."""
    needed = PACKAGES.get(quant_method(config) or "", {})
    return next((install for package, install in needed.items() if find_spec(package) is None), None)


def _missing(model: str, method: str, package: str) -> ModelError:
    fix = f"run `pip install {package}`, or use the checkpoint it was made from"
    return ModelError(model, f"is quantised ({method}), and the package {package} that reads it is missing", fix)


def is_unpacked(config: dict[str, Any], device: torch.device) -> bool:
    """Return whether a checkpoint's quantised weights are turned into the model's number type while they are loaded.

    FP8 weights are where no fast FP8 product is: on a CPU, Apple's GPUs and GPUs before Ada. A model in two number
    types would fail in its vision tower. What else compressed-tensors packs is unpacked everywhere: transformers would
    do so in the model's own first call, which packed rows go around.

    Args:
        config: its config.json.
        device: where the model will be.
    """
    fast = device.type == "cuda" and torch.cuda.get_device_capability(device) >= FP8_FROM
    method = quant_method(config)
    return (method == "fp8" and not fast) or (method == "compressed-tensors" and not (fast and is_fp8(config)))


def load_arguments(
    model: str, config: dict[str, Any], where: Path, network_class: Any, device: torch.device
) -> dict[str, Any]:
    """Return what loading needs to be told of a checkpoint's quantised weights on a device; nothing for plain ones.

    Names of modules that are not quantised count wherever they stand in a path: AWQ's tools and vLLM read the list so,
    and write `visual` for `model.visual`; transformers looks at a path's beginning and end alone, and would expect the
    tower's weights packed.

    Args:
        model: what the user called it.
        config: its config.json.
        where: its directory.
        network_class: that transformers builds.
        device: where the model will be.

    Raises:
        ModelError: a GPU that multiplies FP8 numbers, without the package its kernels come in.
    """
    method, unpacked = quant_method(config), is_unpacked(config, device)
    if method is None:
        return {}
    if method == "fp8" and not unpacked and find_spec("kernels") is None:
        raise _missing(model, method, "kernels")
    read = network_class.config_class.from_pretrained(where)
    read.quantization_config = told = dict(_quantisation(config))
    for key in _LEFT_OUT:
        if names := told.get(key):
            told[key] = [*names, *(rf".*\b{re.escape(name)}" for name in names)]
    if unpacked:
        told["dequantize"] = True
    elif method == "compressed-tensors":
        told["use_optimized_inference"] = True  # its products in FP8, not unpacked in the first call
    return {"config": read}


def is_fp8(config: dict[str, Any]) -> bool:
    """Return whether everything that compressed-tensors packed in a checkpoint is FP8 numbers."""
    held = _quantisation(config)
    groups = held.get("config_groups", {}) if isinstance(held, dict) else {}
    weights = [group.get("weights") or {} for group in groups.values()]
    return bool(weights) and all(one.get("type") == "float" and one.get("num_bits") == 8 for one in weights)


def check_quantize(model: str, bits: str | None, config: dict[str, Any]) -> None:
    """Check that a checkpoint's matrices can be rounded while they are loaded.

    Args:
        model: what the user called it.
        bits: `4bit`, `8bit` or None.
        config: its config.json.

    Raises:
        ModelError: an unknown wish, a checkpoint whose matrices cannot be, or bitsandbytes is missing.
    """
    if bits is None:
        return
    if bits not in ("4bit", "8bit"):
        raise ModelError(model, f"--quantize {bits} is unknown", "use 4bit or 8bit")
    if method := quant_method(config):
        raise ModelError(model, f"is quantised already ({method})", "leave --quantize out")
    if has_experts(config):
        fix = "use a checkpoint that is quantised already (FP8, AWQ, compressed-tensors)"
        raise ModelError(model, "has experts, which --quantize cannot round", fix)
    if find_spec("bitsandbytes") is None:
        fix = f"run `pip install '{BITSANDBYTES}'`, or leave --quantize out"
        raise ModelError(model, "--quantize needs the package bitsandbytes, which is missing", fix)


def has_experts(config: dict[str, Any]) -> bool:
    """Return whether a checkpoint's perceptrons are experts behind a router."""
    text = config.get("text_config") or {}
    return bool(text.get("num_experts") or text.get("num_local_experts"))  # as released, and as transformers saves it


def on_the_fly(bits: str | None, device: torch.device) -> dict[str, Any]:
    """Return what loading needs to be told to quantise a plain checkpoint's matrices.

    Args:
        bits: `4bit`, `8bit` or None.
        device: where the model will be.
    """
    if bits is None:
        return {}
    from transformers import BitsAndBytesConfig

    # each of its 8-bit products says that it rounds its input
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)

    # the vision tower is small and feels rounding most
    kept = ["model.visual", "lm_head"]  # names are matched from their beginning
    compute = torch.float16 if device.type == "cuda" and not torch.cuda.is_bf16_supported() else torch.bfloat16
    if bits == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=kept)}
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute, llm_int8_skip_modules=kept
        )
    }
