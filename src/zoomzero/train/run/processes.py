"""Several processes of one run: how they meet and what they tell each other. One process alone needs none of it."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from zoomzero.errors import ConfigError

if TYPE_CHECKING:
    from zoomzero.train.engine_settings import EngineSettings

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


def place_among() -> tuple[int, int]:
    """Return this process's number, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def share_threads(threads: int, *, waited_for: bool = False) -> None:
    """Give this process its share of a run's CPU threads.

    Args:
        threads: of all its processes on this machine; 0 leaves torch's choice.
        waited_for: the others wait meanwhile, so it gets all.
    """
    if threads:
        sharing = 1 if waited_for else int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        torch.set_num_threads(max(1, threads // sharing))


def gather(value: Any) -> list[Any]:
    """Return every process's value (anything that pickles), in order."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def check_processes(settings: EngineSettings, processes: int) -> None:
    """Refuse a number of processes that a run's settings do not fit.

    Args:
        settings: of the run.
        processes: that make it.

    Raises:
        ConfigError: it does not come out even, or there is nobody to share weights with.
    """
    for name, count in settings.shared_out.items():
        if count % processes:
            fix = f"choose a multiple of {processes}, or start another number of processes"
            raise ConfigError(name, f"{count} {settings.SHARED} cannot be shared by {processes} processes", fix)
    if settings.fsdp and processes == 1:
        raise ConfigError(
            "fsdp", "one process has nobody to share with", "start several with torchrun, or set it to false"
        )
