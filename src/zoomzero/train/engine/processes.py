"""Several processes of one run: how they meet and what they tell each other. One process alone needs none of it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# The first process writes a world's videos while the others wait, and rollouts take as long as they take.
PATIENCE = timedelta(hours=2)


def join_processes() -> Any:
    """Meet the processes that torchrun started and return accelerate's `PartialState`: this process among all.

    Weights travel between GPUs, what is logged and saved between CPUs, so both ways are opened.
    """
    from accelerate import PartialState

    on_gpu = torch.cuda.is_available()
    if not on_gpu:
        os.environ.setdefault("ACCELERATE_TORCH_DEVICE", "cpu")  # not cpu:0, which optimizer states cannot be loaded to
    ways = {"backend": "cuda:nccl,cpu:gloo"} if on_gpu and "LOCAL_RANK" in os.environ else {}
    return PartialState(cpu=not on_gpu, timeout=PATIENCE, **ways)


def leave_processes() -> None:
    """Part from the other processes at the end of a run."""
    if dist.is_initialized():
        dist.destroy_process_group()


def is_first() -> bool:
    """Return whether this is the process that speaks for all."""
    return not dist.is_initialized() or dist.get_rank() == 0


def gather(value: Any) -> list[Any]:
    """Return every process's value (anything that pickles), in order."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found
