"""What suits a machine: device, number types, attention kernel. Pure functions of what the machine is."""

from __future__ import annotations

from typing import Literal

import torch

Kernel = Literal["cpu", "flash", "efficient", "plain"]
Capability = tuple[int, int]  # of a CUDA device: (7, 5) is Turing, (8, 0) and later are Ampere and its followers

AMPERE: Capability = (8, 0)
LARGE_ON_A_CPU = 1_000_000_000  # parameters above which `auto` keeps bfloat16 on a CPU
WIDEST_HEAD = 256  # that the fused kernels of a GPU take


def best_device(cuda: bool, mps: bool) -> str:
    """Return the kind of device `auto` takes: a CUDA GPU, then Apple's, then the CPU."""
    return "cuda" if cuda else "mps" if mps else "cpu"


def best_dtype(device: str, capability: Capability | None = None, parameters: int = 0) -> torch.dtype:
    """Return the number type `auto` takes: half precision where it is fast or memory is short.

    Args:
        device: its kind.
        capability: of a CUDA device; those before Ampere only imitate bfloat16.
        parameters: of the model; on a CPU large ones stay in bfloat16 (7B in float32 are 33 GB).
    """
    if device == "cuda":
        return torch.bfloat16 if capability is not None and capability >= AMPERE else torch.float16
    if device == "mps":
        return torch.float16
    return torch.bfloat16 if parameters > LARGE_ON_A_CPU else torch.float32


def drawing_dtype(device: str) -> torch.dtype:
    """Return the number type that probabilities are summed in: the running sum of 150,000 of them must not drift."""
    return torch.float32 if device == "mps" else torch.float64  # Apple's GPUs have no float64


def attention_kernel(device: str, capability: Capability | None, dtype: torch.dtype, width: int) -> Kernel:
    """Return the fused attention that also gives its log-sum-exp.

    Args:
        device: its kind.
        capability: of a CUDA device.
        dtype: of queries, keys and values.
        width: of a head.

    Returns:
        `cpu` torch's own there; `flash` half precision from Ampere on; `efficient` the memory-efficient kernel, for
        float32 and for float16 on older GPUs; `plain` where there is none: ordinary steps, with all scores in memory.
    """
    half = dtype in (torch.bfloat16, torch.float16)
    if device == "cpu":
        return "cpu" if half or dtype in (torch.float32, torch.float64) else "plain"
    if device != "cuda" or capability is None or width % 8 or width > WIDEST_HEAD:
        return "plain"
    if capability >= AMPERE and half:
        return "flash"
    return "efficient" if dtype in (torch.float32, torch.float16) else "plain"
