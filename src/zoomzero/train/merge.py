"""`zoomzero merge`: adapters, FSDP shards or a checkpoint of another number type, made into a plain checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from zoomzero.config import MODEL_SETTINGS_FILE, load_model_settings
from zoomzero.errors import ConfigError, ModelError
from zoomzero.policy.local.checkpoint.adapters import adapter_base, merged
from zoomzero.policy.local.load import check_family, find, load_codec, load_network, quiet, read_json
from zoomzero.policy.local.save import as_released, tied_names, write_companions, write_weights
from zoomzero.train.engine.shards import SHARDS, Shards
from zoomzero.train.run.directory import SETTINGS_FILE, versions

Kind = Literal["adapter", "shards", "plain"]
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
MOST_BYTES = 5 * 10**9  # of one weights file
KEPT_RECORDS = ("training.json",)


@dataclass(frozen=True, slots=True)
class MergeRecord:
    """What `merge.json` in a merged checkpoint says.

    `left_out` names tensors of the checkpoint that are not the model's and were not written.
    """

    kind: Kind
    checkpoint: str
    base: str
    dtype: str
    tensors: int
    parameters: int
    left_out: tuple[str, ...]
    versions: dict[str, str]


def merge(
    checkpoint: str,
    out: str | Path,
    *,
    dtype: str = "bfloat16",
    base: str | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> MergeRecord:
    """Write a plain checkpoint directory that `load_policy`, transformers and servers read, complete or not at all.

    Args:
        checkpoint: a LoRA adapter's directory, one with FSDP shards (`checkpoint-N` or its `pytorch_model_fsdp_0`), or
            a plain checkpoint, whose number type alone is changed.
        out: directory to write; new or empty.
        dtype: `bfloat16`, `float16` or `float32`. Adapters are added in float32 whatever it is.
        base: the checkpoint the training started from; by default what the adapter or the run's settings name.
        say: told what is being done.

    Raises:
        ConfigError: an unknown dtype, `out` is not empty, or the base is not known or not there.
        ModelError: not a checkpoint, or one that does not fit its base.
    """
    if dtype not in DTYPES:
        raise ConfigError("--dtype", f"{dtype!r} is unknown", f"use {', '.join(DTYPES)}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError("--out", f"{out} is there and not empty", "choose another directory")
    where = find(checkpoint)
    kind = kind_of(checkpoint, where)
    source = where if kind == "plain" else _base(checkpoint, where, kind, base)
    if kind == "plain" and base is not None:
        raise ConfigError("--base", f"{checkpoint} is a whole checkpoint already", "leave it out")
    settings = load_model_settings(where if (where / MODEL_SETTINGS_FILE).is_file() else source)
    load_codec(str(source), source)  # a checkpoint without a tokenizer is of no use to anybody
    partial = out.parent / f"{out.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        model, weights, left_out = _read(kind, checkpoint, where, source, DTYPES[dtype], say)
        tally = _Tally()
        write_weights(partial, as_released(model, tally.count(weights, say)), DTYPES[dtype], most_bytes=MOST_BYTES)
        write_companions(model, source, partial, settings=settings, dtype=DTYPES[dtype])
        named = (kind, checkpoint, str(source), dtype, tally.tensors, tally.parameters, left_out)
        record = MergeRecord(*named, versions=versions())
        (partial / "merge.json").write_text(json.dumps(asdict(record), indent=1) + "\n", encoding="utf-8")
        for name in KEPT_RECORDS:
            if (where / name).is_file():
                shutil.copyfile(where / name, partial / name)
        if out.exists():
            out.rmdir()
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record


def kind_of(checkpoint: str, where: Path) -> Kind:
    """Return what a directory holds.

    Raises:
        ModelError: nothing that can be merged.
    """
    if (where / "adapter_config.json").is_file():
        return "adapter"
    if _shards_in(where) is not None:
        return "shards"
    if (where / "config.json").is_file() and any(where.glob("*.safetensors")):
        return "plain"
    reason, fix = "holds no adapter, no FSDP shards and no weights", "give the directory of a checkpoint"
    inside = sorted(where.glob("checkpoint-*"), key=lambda path: path.stat().st_mtime)
    if inside or (where / SETTINGS_FILE).is_file():
        reason = "is a run's directory without a finished model"
        fix = f"give one of its checkpoints: {inside[-1]}" if inside else "go on with the run (--resume) to its end"
    if any(where.glob("pytorch_model*.bin")):
        reason = "holds pickled weights (.bin), which are not read"
        fix = "save with fsdp_state_dict_type SHARDED_STATE_DICT, or as safetensors"
    raise ModelError(checkpoint, reason, fix)


def _shards_in(where: Path) -> Path | None:
    return next((path for path in (where, where / SHARDS) if (path / ".metadata").is_file()), None)


def _base(checkpoint: str, where: Path, kind: Kind, base: str | None) -> Path:
    """Return the directory of the checkpoint the training started from."""
    named = base or (adapter_base(checkpoint, where) if kind == "adapter" else _run_base(where))
    if not named:
        raise ConfigError("--base", f"{checkpoint} does not name the model it was trained from", "name it with --base")
    try:
        return find(named)
    except ModelError as error:
        if base is not None:
            raise
        reason = f"{checkpoint} was trained from {named}, which is not here ({error.reason})"
        raise ConfigError("--base", reason, "name the base model with --base") from error


def _run_base(where: Path) -> str | None:
    """Return the start model of the run a checkpoint lies in, as its settings name it."""
    for folder in (where.parent, where.parent.parent):
        if (folder / SETTINGS_FILE).is_file():
            return read_json(str(folder), folder / SETTINGS_FILE).get("model")
    return None


def _read(
    kind: Kind, checkpoint: str, where: Path, source: Path, dtype: torch.dtype, say: Callable[[str], None]
) -> tuple[Any, Iterator[tuple[str, Tensor]], tuple[str, ...]]:
    """Return a model (for its configuration), the weights to write, and the names of tensors that are not its own."""
    config = read_json(str(source), source / "config.json")
    family = check_family(str(source), config)
    if kind == "shards":
        shards = Shards(checkpoint, _shards_in(where) or where)
        say("reading the shards' contents")
        model = _empty(source)
        names = shards.names(model)
        left_out = tuple(sorted(set(shards.sizes) - set(names.values()) - shards.tied(model)))
        return model, shards.read(names), left_out
    say(f"loading {source}")
    stored = DTYPES.get(str(config.get("dtype", config.get("torch_dtype", "float32"))), torch.float32)
    model = load_network(str(source), source, family, stored, torch.device("cpu"))
    if kind == "adapter":
        say("adding the adapter")
        model = merged(checkpoint, where, model, dtype)
    return model, _own(model), ()


def _own(model: Any) -> Iterator[tuple[str, Tensor]]:
    tied = tied_names(model)
    return ((name, value) for name, value in model.state_dict().items() if name not in tied)


def _empty(source: Path) -> Any:
    """Return the model of a configuration without memory for its weights."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    with quiet(), torch.device("meta"):
        return AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(source, local_files_only=True))


# --- what is written ------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Tally:
    tensors: int = 0
    parameters: int = 0

    def count(self, weights: Iterator[tuple[str, Tensor]], say: Callable[[str], None]) -> Iterator[tuple[str, Tensor]]:
        """Pass weights on and count them."""
        for name, value in weights:
            self.tensors += 1
            self.parameters += value.numel()
            say(f"writing {self.parameters / 1e6:,.0f} M weights")
            yield name, value
