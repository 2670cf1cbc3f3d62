"""Adapters and shards to merge."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch

from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.qwen import QwenPolicy

ALL = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def adapted(base: Path, targets: str, **changes: Any) -> QwenPolicy:
    """A policy with a random adapter that changes its answers."""
    from peft import LoraConfig, get_peft_model

    policy = load_policy(base, device="cpu", dtype="float32")
    config = LoraConfig(r=4, lora_alpha=16, target_modules=targets, init_lora_weights=False, **changes)
    torch.manual_seed(3)
    policy.model = get_peft_model(policy.model, config).eval()
    return policy


def save_adapter(base: Path, where: Path) -> Path:
    """Save an adapter as the trainer saves it."""
    adapted(base, ALL).model.save_pretrained(where)
    return where


def write_shards(where: Path, state: dict[str, Any]) -> Path:
    """Write a sharded checkpoint as accelerate does, in this process."""
    import torch.distributed.checkpoint as dcp

    where.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": state}, storage_writer=dcp.FileSystemWriter(where), no_dist=True)
    return where


def save_shards(base: Path, run: Path) -> Path:
    """Write a run's directory with `checkpoint-4`, its weights under the trainer's wrapper."""
    state = load_policy(base, device="cpu").model.state_dict()
    write_shards(run / "checkpoint-4" / "pytorch_model_fsdp_0", {f"model.{k}": v for k, v in state.items()})
    (run / "run.json").write_text(json.dumps({"model": str(base)}))
    return run
