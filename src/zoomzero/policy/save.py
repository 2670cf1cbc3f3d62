"""Write a checkpoint that `load_policy`, transformers and any server can read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings

COPIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "generation_config.json",
)


def save_checkpoint(
    model: Any, source: Path, directory: Path, *, settings: ModelSettings, dtype: torch.dtype = torch.float32
) -> None:
    """Write a plain checkpoint directory.

    Args:
        model: the transformers model.
        source: the checkpoint it came from: tokenizer, templates and processor settings are taken from there.
        directory: where to; made when missing.
        settings: how the model wants to be asked.
        dtype: number type of the weights on disk.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tied = set(getattr(model, "all_tied_weights_keys", None) or ())
    weights = {
        name: value.detach().to("cpu", dtype if value.is_floating_point() else value.dtype).contiguous()
        for name, value in model.state_dict().items()
        if name not in tied
    }
    partial = directory / "model.safetensors.partial"
    save_file(weights, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors writes files only their owner can read
    partial.replace(directory / "model.safetensors")
    config = model.config.__class__.from_dict(model.config.to_dict())
    config.architectures = [type(model).__name__]
    config.save_pretrained(directory)
    for name in COPIED:
        if (source / name).is_file() and source.resolve() != directory.resolve():
            shutil.copyfile(source / name, directory / name)
    (directory / MODEL_SETTINGS_FILE).write_text(settings.model_dump_json(indent=1) + "\n", encoding="utf-8")
