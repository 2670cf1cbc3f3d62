"""Find, check and load a checkpoint: `load_policy("tiny" | directory | hub id)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from zoomzero.policy.local.checkpoint.find import check_family, find, read_json
from zoomzero.policy.local.checkpoint.network import load_network, pick_device, pick_dtype, quiet
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
    "settle_threads",
]

SMALL_MODEL_PARAMETERS = 100_000_000


def load_policy(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    text_after_time: bool = False,
) -> QwenPolicy:
    """Load a checkpoint of a known family (`families`).

    Args:
        model: `tiny` (shipped with the package), a local directory, or a hub id such as
            `Qwen/Qwen3-VL-2B-Instruct`.
        device: `auto` (a GPU when there is one), `cpu`, `cuda`, `cuda:1`, ...
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        revision: branch, tag or commit on the hub.
        text_after_time: Qwen2.5-VL only: place text after a video as the released checkpoints were trained
            (and transformers did up to 5.2) instead of as the installed `get_rope_index` does.

    Raises:
        ModelError: it cannot be found, is not whole, or is of a family that is not supported.
    """
    name = str(model)
    where = find(name, revision)
    config = read_json(name, where / "config.json")
    family = check_family(name, config)
    codec = load_codec(name, where)
    target = pick_device(name, device)
    network = load_network(name, where, family, pick_dtype(name, dtype, target), target)
    network.eval().requires_grad_(False)
    prepare(network)
    check_special_tokens(name, family, network.config, codec)
    made = make_family(name, where, family, network.config, {"text_after_time": text_after_time})
    builder = PromptBuilder(made, codec, load_template(name, where, made), network.config.video_token_id)
    return QwenPolicy(name, network, builder, stop_tokens(name, where, network, codec))


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
