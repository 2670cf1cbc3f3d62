"""LoRA adapters: the base model they name, and adding them to its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.find import find, find_words, read_json
from zoomzero.policy.local.checkpoint.quantised import check_quantize
from zoomzero.policy.quiet import quiet


@dataclass(frozen=True, slots=True)
class Found:
    """Where a model's files are: a checkpoint's directory, and that of an adapter which is added to it."""

    where: Path
    adapter: Path | None = None


def find_both(
    model: str, adapter: str | None = None, revision: str | None = None, quantize: str | None = None
) -> Found:
    """Return where a model's files are, fetched from the hub if need be.

    Args:
        model: a checkpoint, or an adapter, whose base is found by the name it gives.
        adapter: one to add to the checkpoint.
        revision: of the model on the hub.
        quantize: as `load_policy` takes it; what cannot be rounded is refused before its weights are fetched.

    Raises:
        ModelError: one of them is not there, or is not what it should be.
    """
    if quantize is not None:
        words = find_words(model, revision)
        if is_adapter(words) or adapter is not None:
            fix = "make a checkpoint of it (zoomzero merge), or leave --quantize out"
            raise ModelError(adapter or model, "is an adapter, which cannot be added to rounded weights", fix)
        check_quantize(model, quantize, read_json(model, words / "config.json"))
    where = find(model, revision)
    if is_adapter(where):
        if adapter is not None:
            raise ModelError(model, "is an adapter itself", "give its base as --model, or leave --adapter out")
        return Found(find_base(model, where), where)
    if adapter is None:
        return Found(where)
    added = find(adapter)
    if not (added / "adapter_config.json").is_file():
        raise ModelError(adapter, "is no adapter: it has no adapter_config.json", "give it as --model")
    return Found(where, added)


def find_whole(model: str) -> Path:
    """Return the directory of a checkpoint that is no adapter: what training starts from.

    Raises:
        ModelError: there is none, or it is an adapter.
    """
    where = find(model)
    if is_adapter(where):
        fix = f"make a checkpoint of it: zoomzero merge {model} --out DIR"
        raise ModelError(model, "is an adapter, and training starts from a whole checkpoint", fix)
    return where


def changed_weights(where: Path) -> list[str]:
    """Return the names of the base model's weights that adding an adapter changes.

    Args:
        where: the adapter's directory.
    """
    from safetensors import safe_open

    with safe_open(where / "adapter_model.safetensors", framework="pt") as file:
        keys = [key.removeprefix("base_model.model.") for key in file.keys()]  # noqa: SIM118 (not a dictionary)
    return sorted({f"{key.partition('.lora_')[0]}.weight" if ".lora_" in key else key for key in keys})


def is_adapter(where: Path) -> bool:
    """Return whether a directory holds an adapter and no model of its own."""
    return (where / "adapter_config.json").is_file() and not (where / "config.json").is_file()


def adapter_base(checkpoint: str, where: Path) -> str | None:
    """Return the base model an adapter names.

    Raises:
        ModelError: what it names is no name.
    """
    named = read_json(checkpoint, where / "adapter_config.json").get("base_model_name_or_path")
    if named is not None and not isinstance(named, str):
        reason = "adapter_config.json names a base model that is no text"
        raise ModelError(checkpoint, reason, "correct base_model_name_or_path, or copy the adapter again")
    return named


def find_base(checkpoint: str, where: Path) -> Path:
    """Return the directory of an adapter's base model.

    Raises:
        ModelError: it names none, or one that is not here.
    """
    named, fix = adapter_base(checkpoint, where), f"name the base: --model BASE --adapter {checkpoint}"
    if not named:
        raise ModelError(checkpoint, "is an adapter that does not name its base model", fix)
    try:
        return find(named)
    except ModelError as error:
        raise ModelError(checkpoint, f"is an adapter of {named}, which is not here ({error.reason})", fix) from error


def merged(checkpoint: str, where: Path, model: Any, dtype: torch.dtype) -> Any:
    """Return the model with an adapter added to its weights, each matrix in float32 and then in `dtype`.

    Args:
        checkpoint: what the user called the adapter.
        where: its directory.
        model: the base model.
        dtype: number type of its weights.

    Raises:
        ModelError: it does not fit the base model, is damaged, or is no LoRA adapter.
    """
    from peft import PeftConfig, PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer

    fix = "give the adapter of this base model, or name its own with --base"
    with _one_line(checkpoint, "adapter does not fit the base model", fix), _calm():
        config = PeftConfig.from_pretrained(str(where))
        if str(config.peft_type.value) != "LORA":
            raise ModelError(checkpoint, f"is a {config.peft_type.value} adapter", "only LoRA adapters can be merged")
        trained = (config.auto_mapping or {}).get("base_model_class", type(model).__name__)
        if trained != type(model).__name__:
            raise ModelError(checkpoint, f"is an adapter of {trained}, not of {type(model).__name__}", fix)
        wrapped = PeftModel.from_pretrained(model, str(where))
    _check_whole(checkpoint, where, wrapped)
    with _one_line(checkpoint, "adapter cannot be added", "train it again, or take an earlier checkpoint"), _calm():
        for layer in [one for one in wrapped.modules() if isinstance(one, BaseTunerLayer)]:
            held = layer.get_base_layer().float()
            layer.merge(safe_merge=True)
            held.to(dtype)
        return wrapped.merge_and_unload()


def _check_whole(checkpoint: str, where: Path, wrapped: Any) -> None:
    """Check that every tensor of the adapter's file found its place, and every place its tensor."""
    from peft import get_peft_model_state_dict
    from safetensors import SafetensorError, safe_open

    path = where / "adapter_model.safetensors"
    if not path.is_file():
        raise ModelError(checkpoint, "has no adapter_model.safetensors", "save the adapter with safe_serialization")
    try:
        with safe_open(path, framework="pt") as file:
            held = set(file.keys())
    except SafetensorError as error:
        raise ModelError(checkpoint, f"adapter_model.safetensors is damaged ({error})", "copy it again") from error
    with _calm():
        wanted = set(get_peft_model_state_dict(wrapped))
    if odd := sorted(held ^ wanted):
        reason = f"{len(odd)} of its tensors and the base model's do not match, first {odd[0]}"
        raise ModelError(checkpoint, reason, "give the adapter of this base model, or name its own with --base")


@contextmanager
def _one_line(checkpoint: str, reason: str, fix: str) -> Iterator[None]:
    """Turn what peft raises for files that do not fit into one line."""
    from safetensors import SafetensorError

    try:
        yield
    except (RuntimeError, ValueError, TypeError, AttributeError, LookupError, OSError, SafetensorError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        detail = (lines[1] if len(lines) > 1 else lines[0] if lines else type(error).__name__)[:200]
        raise ModelError(checkpoint, f"{reason} ({detail})", fix) from error


@contextmanager
def _calm() -> Iterator[None]:
    """Keep libraries' warnings from the screen; what matters in them is checked."""
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
