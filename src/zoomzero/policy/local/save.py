"""Write a checkpoint that `load_policy`, transformers and any server can read."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings
from zoomzero.files import write_whole
from zoomzero.policy.local.families import family_of

COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "generation_config.json",
)


def save_checkpoint(
    model: Any,
    source: Path,
    directory: Path,
    *,
    settings: ModelSettings,
    dtype: torch.dtype = torch.float32,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a plain checkpoint directory.

    Args:
        model: the transformers model.
        source: the checkpoint it came from: tokenizer, templates and processor settings are taken from there.
        directory: where to; made when missing.
        settings: how the model wants to be asked.
        dtype: number type of the weights on disk.
        weights: by name, where the model's own are only a part of them (sharded training).
    """
    directory.mkdir(parents=True, exist_ok=True)
    tied = tied_names(model)
    whole = model.state_dict() if weights is None else weights
    own = ((name, value) for name, value in whole.items() if name not in tied)
    write_weights(directory, as_released(model, own), dtype)
    write_companions(model, source, directory, settings=settings, dtype=dtype)


def as_released(model: Any, weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Yield weights as the released checkpoints of a model's family store them.

    Args:
        model: whose weights they are; only its configuration is looked at.
        weights: (name, tensor) pairs, named as in the model.
    """
    family = family_of(model)
    return ((name, family.stored(name, value)) for name, value in weights)


def tied_names(model: Any) -> frozenset[str]:
    """Return the names of weights that are others' and so are not written."""
    return frozenset(getattr(model, "all_tied_weights_keys", None) or ())


def write_weights(
    directory: Path, weights: Iterable[tuple[str, Tensor]], dtype: torch.dtype, *, most_bytes: int | None = None
) -> None:
    """Write tensors as `model.safetensors`, complete or not at all.

    Args:
        directory: where to; it is there.
        weights: (name, tensor) pairs, taken one after the other.
        dtype: number type on disk; whole numbers stay as they are.
        most_bytes: size of one file; more goes into numbered files with an index. None: one file, whatever its size.
    """
    parts: list[tuple[Path, list[str]]] = []
    held: dict[str, Tensor] = {}
    room = total = 0

    def flush() -> None:
        partial = directory / f"model-{len(parts) + 1:05}.partial"
        with system_errors(partial):
            save_file(held, partial, metadata={"format": "pt"})
        partial.chmod(0o644)  # safetensors writes files only their owner can read
        parts.append((partial, list(held)))
        held.clear()

    for name, value in weights:
        tensor = value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        size = tensor.numel() * tensor.element_size()
        if most_bytes is not None and held and size > room:
            flush()
        room = (room if held else most_bytes or 0) - size
        total += size
        held[name] = tensor
    flush()
    if len(parts) == 1:
        parts[0][0].replace(directory / "model.safetensors")
        return
    index: dict[str, str] = {}
    for number, (partial, names) in enumerate(parts, 1):
        final = f"model-{number:05}-of-{len(parts):05}.safetensors"
        partial.replace(directory / final)
        index |= dict.fromkeys(names, final)
    content = {"metadata": {"total_size": total}, "weight_map": index}
    write_whole(directory / "model.safetensors.index.json", json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def system_errors(path: Path) -> Iterator[None]:
    """Raise what safetensors and torch make of a failed write as the `OSError` it was.

    Args:
        path: what is written: a file, which is removed then, since a full disk needs its room; or a folder.
    """
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        told = re.search(r"os error (\d+)", str(error))
        if told is None and "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        full = shutil.disk_usage(path.parent).free < 1 << 20
        number = int(told[1]) if told else errno.ENOSPC if full else errno.EIO
        with contextlib.suppress(OSError):
            path.unlink()
        raise OSError(number, os.strerror(number), str(path)) from error


def write_companions(model: Any, source: Path, directory: Path, *, settings: ModelSettings, dtype: torch.dtype) -> None:
    """Write what lies beside the weights: configuration, tokenizer, templates, how the model wants to be asked.

    Args:
        model: the transformers model; only its configuration and class are looked at.
        source, directory, settings: see `save_checkpoint`.
        dtype: number type of the weights on disk, which the configuration tells servers.
    """
    config = model.config.__class__.from_dict(model.config.to_dict())
    config.architectures = [type(model).__name__]
    for part in (config, config.text_config, config.vision_config):
        part.dtype = dtype
    write_whole(directory / "config.json", config.to_json_string())
    for name in COPIED:
        if (source / name).is_file() and source.resolve() != directory.resolve():
            write_whole(directory / name, (source / name).read_bytes())
    write_whole(directory / MODEL_SETTINGS_FILE, settings.model_dump_json(indent=1) + "\n")
