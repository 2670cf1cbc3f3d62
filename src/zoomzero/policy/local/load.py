"""Find, check and load a checkpoint: `load_policy("tiny" | directory | hub id)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, load_settings
from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.adapters import find_base, is_adapter, merged
from zoomzero.policy.local.checkpoint.find import check_family, find, read_json
from zoomzero.policy.local.checkpoint.network import load_network, pick_device, pick_dtype, stored_parameters
from zoomzero.policy.local.checkpoint.quantised import check_quantised
from zoomzero.policy.local.checkpoint.words import (
    check_special_tokens,
    load_codec,
    load_template,
    make_family,
    stop_tokens,
)
from zoomzero.policy.local.families import family_of
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.quiet import quiet

__all__ = [
    "check_family",
    "find",
    "load_codec",
    "load_network",
    "load_policy",
    "make_family",
    "prepare",
    "quiet",
    "read_json",
    "settings_file",
    "settle_threads",
]

SMALL_MODEL_PARAMETERS = 100_000_000


def load_policy(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    settings: ModelSettings | None = None,
    adapter: str | Path | None = None,
    quantize: str | None = None,
) -> QwenPolicy:
    """Load a checkpoint of a known family (`families`).

    Args:
        model: `tiny` (shipped with the package), a local directory, or a hub id such as
            `Qwen/Qwen3-VL-2B-Instruct`.
        device: `auto` (a GPU when there is one), `cpu`, `cuda`, `cuda:1`, ...
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        revision: branch, tag or commit on the hub.
        settings: how it is asked: what its prompts look like depends on them; by default the checkpoint's own.
        adapter: directory or hub id of a LoRA adapter that is added to the weights. `model` itself may be one: then
            the base it names is loaded.
        quantize: `4bit` or `8bit`: round the text model's matrices while they are loaded (needs bitsandbytes).

    Raises:
        ModelError: it cannot be found, is not whole, or is of a family that is not supported.
    """
    name = str(model)
    where = find(name, revision)
    added = None if adapter is None else find(str(adapter))
    if is_adapter(where):
        if added is not None:
            raise ModelError(name, "is an adapter itself", "give its base as --model, or leave --adapter out")
        added, where = where, find_base(name, where)
    if settings is None:
        path = settings_file(where, added)
        settings = load_settings(ModelSettings, path)
    config = read_json(name, where / "config.json")
    family = check_family(name, config)
    codec = load_codec(name, where)
    target = pick_device(name, device)
    number = pick_dtype(name, dtype, target, stored_parameters(where))
    network = load_network(name, where, family, number, target, quantize=quantize)
    if added is not None:
        if quantize or check_quantised(name, config):
            raise ModelError(str(adapter or model), "cannot be added to quantised weights", "use the plain base model")
        network = merged(str(adapter or model), added, network, number)
    network.eval().requires_grad_(False)
    prepare(network)
    check_special_tokens(name, family, network.config, codec)
    made = make_family(name, where, family, network.config, {"text_after_time": settings.text_after_time})
    template = load_template(name, where, made, settings.think)
    builder = PromptBuilder(made, codec, template, network.config.video_token_id)
    return QwenPolicy(name, network, builder, stop_tokens(name, where, network, codec))


def settings_file(where: Path, adapter: Path | None = None) -> Path | None:
    """Return the file that says how a checkpoint wants to be asked, None when there is none.

    Args:
        where: the checkpoint's directory, or an adapter's.
        adapter: directory of an adapter that is added to it; what lies there comes first.
    """
    places = [place for place in (adapter, where) if place is not None]
    if is_adapter(where):
        places.append(find_base(str(where), where))
    return next((place / MODEL_SETTINGS_FILE for place in places if (place / MODEL_SETTINGS_FILE).is_file()), None)


def settle_threads(policy: QwenPolicy, processes: int = 1) -> None:
    """Choose torch's threads for a model on the CPU: one for a small model, else a fair share of the cores.

    A small model loses more to waiting threads than it gains (docs/policy.md).

    Args:
        policy: the model.
        processes: models that run side by side on this machine.
    """
    if policy.device.type != "cpu":
        return
    if sum(p.numel() for p in policy.model.parameters()) < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    elif processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def prepare(model: Any) -> Any:
    """Give a transformers model of a known family the project's attention (text and vision) and return it.

    The model keeps working through its own `forward` and `generate`.
    """
    family_of(model).prepare(model)
    return model
