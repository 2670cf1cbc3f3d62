"""FSDP shards (`torch.distributed.checkpoint`) read without a process group: what is in them, and its values."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load

from zoomzero.errors import ModelError
from zoomzero.policy.local.save import tied_names

SHARDS = "pytorch_model_fsdp_0"  # accelerate's name for the folder
WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "module")  # what wraps leave in names
BYTES_AT_ONCE = 10**9
OWN_BASE = "name the checkpoint the training started from with --base"
# All that torch's own `.metadata` is pickled from: a pickle that names anything else could run any code.
RECORDS = (
    "Metadata",
    "MetadataIndex",
    "StorageMeta",
    "TensorProperties",
    "TensorStorageMetadata",
    "_MEM_FORMAT_ENCODING",
)
TRUSTED = {
    "torch.distributed.checkpoint.metadata": {*RECORDS, "BytesStorageMetadata", "ChunkStorageMetadata"},
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
    "pathlib": {"PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath"},
}


class Shards:
    """A checkpoint in shards.

    Args:
        name: what the user called it.
        where: the folder with `.metadata`.

    Raises:
        ModelError: the metadata are damaged or not torch's.
    """

    def __init__(self, name: str, where: Path) -> None:
        self.name, self.where = name, where
        _check_metadata(name, where / ".metadata")
        try:
            held = FileSystemReader(where).read_metadata().state_dict_metadata
        except (OSError, EOFError, AttributeError, pickle.UnpicklingError) as error:
            raise ModelError(name, "the shards' .metadata is damaged", "take another checkpoint") from error
        self.sizes = {key: tuple(one.size) for key, one in held.items() if isinstance(one, TensorStorageMetadata)}
        self.dtypes = {key: one.properties.dtype for key, one in held.items() if isinstance(one, TensorStorageMetadata)}

    def names(self, model: Any) -> dict[str, str]:
        """Return, for every weight of a model, the name of the tensor that holds it.

        Args:
            model: on any device, `meta` too.

        Raises:
            ModelError: a weight has no tensor or several, or one of another shape; or the shards hold adapters.
        """
        if any(".lora_A." in key for key in self.sizes):
            fix = "save the adapter itself (save_pretrained), and merge that"
            raise ModelError(self.name, "its shards hold an adapter that is not merged", fix)
        wanted = {k: tuple(v.shape) for k, v in model.state_dict().items() if k not in tied_names(model)}
        found: dict[str, str] = {}
        for key in self.sizes:
            name = plain_name(key, wanted)
            if name is None:
                continue
            if name in found:
                raise ModelError(self.name, f"{found[name]} and {key} both are {name}", "save one model, not several")
            found[name] = key
        if missing := sorted(set(wanted) - set(found)):
            reason = f"its shards lack {len(missing)} of the base model's {len(wanted)} tensors, first {missing[0]}"
            raise ModelError(self.name, reason, OWN_BASE)
        other = [name for name, key in found.items() if self.sizes[key] != wanted[name]]
        if other:
            first = other[0]
            reason = f"{len(other)} tensors have other shapes than the base model's, first {first}: "
            reason += f"{_shape(self.sizes[found[first]])} instead of {_shape(wanted[first])}"
            raise ModelError(self.name, reason, OWN_BASE)
        return {name: found[name] for name in wanted}

    def tied(self, model: Any) -> set[str]:
        """Return the names of tensors that a model shares with others, and so does not need."""
        tied = dict.fromkeys(tied_names(model), ())
        return {key for key in self.sizes if plain_name(key, tied) is not None}

    def read(self, names: Mapping[str, str]) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, tensor) for what `names` gave, some at a time.

        Raises:
            ModelError: a shard is missing or damaged.
        """
        batch: dict[str, str] = {}
        size = 0
        for name, key in names.items():
            batch[name] = key
            size += torch.Size(self.sizes[key]).numel() * self.dtypes[key].itemsize
            if size >= BYTES_AT_ONCE:
                yield from self._load(batch).items()
                batch, size = {}, 0
        yield from self._load(batch).items()

    def _load(self, names: Mapping[str, str]) -> dict[str, Tensor]:
        held = {key: torch.empty(self.sizes[key], dtype=self.dtypes[key]) for key in names.values()}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that there is no process group
            try:
                load(dict(held), storage_reader=FileSystemReader(self.where), no_dist=True)
            except CheckpointException as error:
                cause = next(iter(error.failures.values()))[0]
                reason = f"a shard cannot be read ({type(cause).__name__}: {str(cause)[:120]})"
                raise ModelError(self.name, reason, "copy the whole checkpoint again") from error
        return {name: held[key] for name, key in names.items()}


def plain_name(key: str, known: Mapping[str, object]) -> str | None:
    """Return the model's own name of a tensor, None when it is not the model's.

    Wrappers (`_orig_mod`, `module`, ...) are left out wherever they stand, and as many leading `model.` as needed: the
    trainer's wrapper and accelerate each add one.
    """
    parts = [part for part in key.split(".") if part not in WRAPPERS]
    while parts:
        if ".".join(parts) in known:
            return ".".join(parts)
        if parts.pop(0) != "model":
            return None
    return None


def _shape(size: tuple[int, ...]) -> str:
    return " x ".join(map(str, size)) or "one number"


class _Checker(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name in TRUSTED.get(module, ()):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _check_metadata(name: str, path: Path) -> None:
    """Refuse metadata that name anything but torch's own records."""
    try:
        with path.open("rb") as file:
            _Checker(file).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, ImportError, IndexError, ValueError, TypeError) as error:
        fix = "merge only checkpoints that torch.distributed.checkpoint wrote"
        raise ModelError(name, f"the shards' .metadata is damaged or not torch's ({error})", fix) from error
