"""The network of a checkpoint: on which device, in which number type, and its weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.find import check_head, one_line, read_json
from zoomzero.policy.local.checkpoint.placing import check_room, place
from zoomzero.policy.local.checkpoint.quantised import (
    check_quantised,
    check_quantize,
    is_unpacked,
    load_arguments,
    on_the_fly,
)
from zoomzero.policy.local.families import Family
from zoomzero.policy.local.machine import best_device, best_dtype
from zoomzero.policy.local.memory import memory_named, out_of_memory
from zoomzero.policy.quiet import quiet


def stored_parameters(where: Path) -> int:
    """Return about how many parameters a checkpoint's files hold, from their sizes: two bytes each."""
    return sum(path.stat().st_size for path in where.glob("*.safetensors")) // 2


def pick_device(model: str, device: str) -> torch.device:
    """Return the device a setting names; `auto` takes a CUDA GPU, then Apple's, then the CPU."""
    if device == "auto":
        return torch.device(best_device(torch.cuda.is_available(), torch.backends.mps.is_available()))
    try:
        target = torch.device(device)
    except RuntimeError as error:
        raise ModelError(model, f"unknown device {device}", "use auto, cpu, cuda or cuda:N") from error
    if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
        raise ModelError(model, f"there is no {device} here", "use --device cpu or install a CUDA build of torch")
    if target.type == "mps" and not torch.backends.mps.is_available():
        raise ModelError(model, "there is no Apple GPU here", "use --device cpu")
    return target


def pick_dtype(model: str, dtype: str, device: torch.device, parameters: int = 0) -> torch.dtype:
    """Return the number type a setting names; `auto` takes `machine.best_dtype`.

    Args:
        model: what the user called it.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        device: where the model will be.
        parameters: of the model.

    Raises:
        ModelError: an unknown type.
    """
    named = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if dtype == "auto":
        capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
        return best_dtype(device.type, capability, parameters)
    if dtype not in named:
        raise ModelError(model, f"unknown dtype {dtype}", f"use auto, {', '.join(named)}")
    return named[dtype]


def load_network(
    model: str,
    where: Path,
    family: type[Family],
    dtype: torch.dtype,
    device: torch.device,
    *,
    quantize: str | None = None,
    spread: bool = False,
) -> Any:
    """Load the weights onto the device, safetensors only and no code from the checkpoint.

    Args:
        model: what the user called it.
        where: its directory.
        family: its class.
        dtype: number type of weights that are not quantised.
        device: where to.
        quantize: `4bit` or `8bit` for matrices of a plain checkpoint; None: as they are.
        spread: put layers on further GPUs when one does not take them all.

    Raises:
        ModelError: weights are missing, damaged or of other shapes than the config says.
        OutOfMemory: the memory does not take them.
    """
    if not any(where.glob("*.safetensors")):
        raise ModelError(
            model, "has no .safetensors weights", "convert it with save_pretrained(safe_serialization=True)"
        )
    with quiet():  # the import itself warns about what is not installed
        network_class = family.network_class()
    again = "download the checkpoint again, or fix config.json"
    config = read_json(model, where / "config.json")
    method = check_quantised(model, config)
    check_quantize(model, quantize, config)
    packed = load_arguments(model, config, where, network_class, device) | on_the_fly(quantize, device)
    again = "use a GPU its package serves, or the checkpoint it was made from" if method else again
    unpacked = is_unpacked(config, device)
    placed = place(where, family, device, dtype, quantize, spread=spread, unpacked=unpacked)
    check_room(model, where, device, dtype, quantize, placed, unpacked=unpacked)
    less = "use --quantize 4bit, several GPUs with --device auto, or a smaller model"
    with quiet(), memory_named(model, device, "while its weights are loaded", less):
        try:
            network, info = network_class.from_pretrained(
                where,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **placed,
                **packed,
            )
        except SafetensorError as error:
            raise ModelError(model, f"weights are damaged ({one_line(error)})", "download them again") from error
        except ImportError as error:
            fix = "install it, or use the checkpoint it was made from"
            raise ModelError(model, f"needs a package that is missing ({one_line(error)})", fix) from error
        except (
            OSError,
            RuntimeError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            StrictDataclassError,
        ) as error:
            if out_of_memory(error):
                raise
            raise ModelError(model, f"cannot be loaded ({one_line(error)})", again) from error
    if len(placed.get("device_map", ())) > 1:  # the tower lies on one GPU, and is given tensors that stay on the host
        from accelerate.hooks import remove_hook_from_module

        remove_hook_from_module(family.core(network).visual, recurse=True)
    if "sliding_attention" in getattr(network.config.text_config, "layer_types", ()):
        raise ModelError(model, "sliding-window attention is not supported", "set use_sliding_window to false")
    if unpacked:
        network.to(dtype)  # what was not quantised may have come in another type
    missing = sorted(info["missing_keys"])
    if missing == ["lm_head.weight"]:
        check_head(model, config, ())
    if missing:
        raise ModelError(model, f"{len(missing)} weights are missing, first {missing[0]}", again)
    if method is None and (over := sorted(filter(_BLOCK.search, info["unexpected_keys"]))):
        raise ModelError(model, f"{len(over)} weights have no place in config.json's network, first {over[0]}", again)
    return network


_BLOCK = re.compile(r"\b(layers|blocks)\.\d+\.")  # other leftovers, such as a reward model's head, are not used
