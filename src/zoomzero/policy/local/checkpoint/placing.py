"""Where a checkpoint's weights go: one device, or layers spread over several GPUs; and whether there is room."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from zoomzero.policy.local.families import Family
from zoomzero.policy.local.memory import OutOfMemory

ROOM = 0.85  # share of a GPU's free memory that weights may take: the rest is for contexts and work
STEPS = 20  # how finely an even share of the GPUs is looked for
BITS = {"4bit": 4.5, "8bit": 8.0}  # of a weight that is rounded while it is loaded, with its scales
LAYER = re.compile(r"(?<!mtp)\.layers\.(\d+)\.")
MEMINFO = Path("/proc/meminfo")


def weight_bytes(
    where: Path, dtype: torch.dtype, quantize: str | None = None, *, unpacked: bool = False
) -> tuple[float, list[float]]:
    """Return what a checkpoint's weights will take, in bytes: all that is no text layer, and every text layer.

    Only the files' headers are read.

    Args:
        where: its directory.
        dtype: number type that floating-point weights get.
        quantize: as `load_policy` takes it.
        unpacked: quantised weights are turned into `dtype` while they are loaded.
    """
    rest, layers = 0.0, dict[int, float]()
    for path in sorted(where.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118 (not a dictionary)
                    held = file.get_slice(name)
                    count = 1
                    for side in held.get_shape():
                        count *= side
                    found, matrix = LAYER.search(name), len(held.get_shape()) > 1
                    stored, wish = held.get_dtype(), quantize if found and matrix else None
                    size = count * _bytes_of(stored, dtype, wish, unpacked=unpacked)
                    if found:
                        layers[int(found[1])] = layers.get(int(found[1]), 0.0) + size
                    else:
                        rest += size
        except SafetensorError:
            continue  # loading says what is wrong with it
    return rest, [layers[i] for i in sorted(layers)]


def _bytes_of(stored: str, dtype: torch.dtype, quantize: str | None, *, unpacked: bool) -> float:
    """Return the bytes a stored number takes once it is loaded."""
    if quantize is not None:
        return BITS.get(quantize, 16.0) / 8
    if stored in ("F16", "BF16", "F32", "F64"):
        return float(dtype.itemsize)
    if unpacked and not stored.endswith("64"):
        return float(dtype.itemsize) * (8 if stored.endswith("32") else 1)  # eight numbers of 4 bits, or one of 8
    return 4.0 if stored in ("I32", "U32") else 8.0 if stored in ("I64", "U64") else 1.0


def spread_layers(rest: float, layers: Sequence[float], free: Sequence[float]) -> list[int] | None:
    """Return the GPU of each layer, the GPUs filled to an even share of what is free; None when they do not take them.

    Args:
        rest: bytes of all that is no layer; it goes to the first GPU.
        layers: bytes of each layer.
        free: bytes free on each GPU.
    """
    for step in range(1, STEPS + 1):
        share, cards, card = ROOM * step / STEPS, [], 0
        left = share * free[0] - rest
        for size in layers:
            while card < len(free) and size > left:
                card += 1
                left = share * free[card] if card < len(free) else 0.0
            cards.append(card)
            left -= size
        if rest <= share * free[0] and (not cards or cards[-1] < len(free)):
            return cards
    return None


def place(
    where: Path,
    family: type[Family],
    device: torch.device,
    dtype: torch.dtype,
    quantize: str | None,
    *,
    spread: bool,
    unpacked: bool = False,
) -> dict[str, Any]:
    """Return what loading needs to be told of where weights go.

    Args:
        where: the checkpoint's directory.
        family: its class.
        device: where to.
        dtype: number type of the weights.
        quantize: as `load_policy` takes it.
        spread: put layers on further GPUs when one does not take them all.
        unpacked: as for `weight_bytes`.
    """
    if device.type == "cpu":
        return {}
    if spread and device.type == "cuda" and (count := torch.cuda.device_count()) > 1:
        free = [float(torch.cuda.mem_get_info(i)[0]) for i in range(count)]
        rest, layers = weight_bytes(where, dtype, quantize, unpacked=unpacked)
        cards = spread_layers(rest, layers, free) if rest + sum(layers) > ROOM * free[0] else None
        if cards is not None:
            return {"device_map": device_map(family, cards)}
    return {"device_map": {"": device}}  # straight to the GPU, not by way of RAM


def device_map(family: type[Family], cards: Sequence[int | str]) -> dict[str, int | str]:
    """Return where every part of a network goes: text layers as told, all else to where the first layer is.

    Args:
        family: of the network.
        cards: for each text layer, its GPU.
    """
    home: int | str = cards[0] if isinstance(cards[0], str) else 0
    return dict.fromkeys(family.parts, home) | {f"{family.text_layers}.{i}": card for i, card in enumerate(cards)}


def check_room(
    model: str,
    where: Path,
    device: torch.device,
    dtype: torch.dtype,
    quantize: str | None,
    placed: dict[str, Any],
    *,
    unpacked: bool = False,
) -> None:
    """Refuse weights that one device has no room for, before they are loaded.

    Args:
        model: what the user called it.
        where, device, dtype, quantize, unpacked: as for `place`.
        placed: what `place` gave.

    Raises:
        OutOfMemory: its weights take more than is free.
    """
    free = _free(device)
    if free is None or len(placed.get("device_map", "1")) > 1:
        return
    rest, layers = weight_bytes(where, dtype, quantize, unpacked=unpacked)
    if (needed := rest + sum(layers)) <= free:
        return
    less = [] if quantize or unpacked else ["--quantize 4bit"]
    if device.type == "cpu" and dtype == torch.float32:
        less.append("--dtype bfloat16")
    if device.type == "cuda":
        less.append("several GPUs with --device auto")
    kind = quantize or str(dtype).removeprefix("torch.")
    reason = f"its weights take {needed / 2**30:.1f} GiB in {kind}, and {free / 2**30:.1f} GiB are free on {device}"
    raise OutOfMemory(model, reason, f"use {', '.join([*less, 'or a smaller model'])}")


def _free(device: torch.device) -> float | None:
    """Return the bytes that are free on a device, None where nobody tells."""
    if device.type == "cuda":
        return float(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu" or not MEMINFO.is_file():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text(encoding="ascii").splitlines() if ":" in line)
    return 1024.0 * sum(int(lines[name].split()[0]) for name in ("MemAvailable", "SwapFree") if name in lines)
