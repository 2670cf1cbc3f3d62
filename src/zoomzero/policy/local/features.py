"""Exact reuse of what a frozen vision tower makes of frames.

Attention in Qwen's towers never crosses a temporal patch, so the features of a pair of frames at one size are the same
in every clip, pass, rollout and epoch. A pair is known by its pixels, not by where they came from.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from zoomzero.errors import ConfigError
from zoomzero.policy.local.vision import VisualFeatures

HASH_THREADS = 4
HASH_ALONE = 4 << 20  # bytes up to which starting threads is not worth it


@dataclass(frozen=True, slots=True)
class FeatureCounts:
    """How often the cache could help, in temporal patches since it was made.

    `memory_hits` and `disk_hits` needed no encoding; `repeats` were asked for twice in one call and encoded once;
    `misses` were encoded; `damaged` are files that could not be read and were replaced.
    """

    memory_hits: int = 0
    disk_hits: int = 0
    repeats: int = 0
    misses: int = 0
    evictions: int = 0
    damaged: int = 0

    @property
    def lookups(self) -> int:
        """How many temporal patches were asked for."""
        return self.memory_hits + self.disk_hits + self.repeats + self.misses

    @property
    def hit_rate(self) -> float:
        """The share that needed no encoding, 0 before anything was asked for."""
        return 1 - self.misses / self.lookups if self.lookups else 0.0

    def since(self, earlier: FeatureCounts) -> FeatureCounts:
        """Return what was counted after an earlier reading."""
        return FeatureCounts(*(getattr(self, name) - getattr(earlier, name) for name in self.__slots__))


class FeatureCache:
    """Least-recently-used features of temporal patches, bounded in bytes. Safe to share between threads and policies.

    In memory features keep the number type they were computed in, so what comes back is bit for bit what was put, and
    each type has its own. On disk they are float16 in one safetensors file each (in their own type where float16 does
    not hold them), whichever type computed them; the directory may be shared by runs and only grows.

    Args:
        max_bytes: most bytes of features in memory (of the CPU).
        directory: where features are kept between runs; None for memory alone.

    Raises:
        ConfigError: the directory cannot be made.
    """

    def __init__(self, max_bytes: int, directory: str | Path | None = None) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, got {max_bytes}")
        self.max_bytes, self.bytes = max_bytes, 0
        self.directory = Path(directory) if directory is not None else None
        if self.directory is not None:
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                fix = "choose a directory that can be written, or none"
                raise ConfigError("feature cache", f"{directory} cannot be made ({error.strerror})", fix) from error
        self._held: OrderedDict[tuple[str, torch.dtype], tuple[Tensor, ...]] = OrderedDict()
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(FeatureCounts.__slots__, 0)
        self._disk_works = True

    def __len__(self) -> int:
        return len(self._held)

    @property
    def counts(self) -> FeatureCounts:
        """The counters so far."""
        with self._lock:
            return FeatureCounts(**self._counts)

    def get(self, key: str, dtype: torch.dtype) -> tuple[Tensor, ...] | None:
        """Return a patch's features on the CPU (embeds first, then deepstack), or None when they are not held.

        Args:
            key: from `patch_keys`.
            dtype: that they are computed in now; features from disk are turned into it.
        """
        with self._lock:
            found = self._held.get((key, dtype))
            if found is not None:
                self._held.move_to_end((key, dtype))
                self._counts["memory_hits"] += 1
                return found
        found = self._load(key, dtype)
        with self._lock:
            self._counts["misses" if found is None else "disk_hits"] += 1
        if found is not None:
            self._hold((key, dtype), found)
        return found

    def put(self, key: str, features: tuple[Tensor, ...], dtype: torch.dtype | None = None) -> None:
        """Keep a patch's features; the oldest go when they do not fit.

        Args:
            key: from `patch_keys`.
            features: tensors on the CPU that own their memory.
            dtype: as `get` is asked for them; by default the type of the first.
        """
        self._hold((key, dtype or features[0].dtype), features)
        if self.directory is not None and self._disk_works:
            self._save(key, features)

    def count_repeats(self, count: int) -> None:
        """Note that patches were asked for again in the same call."""
        with self._lock:
            self._counts["repeats"] += count

    def _hold(self, key: tuple[str, torch.dtype], features: tuple[Tensor, ...]) -> None:
        size = sum(x.nbytes for x in features)
        if size > self.max_bytes:
            return
        with self._lock:
            old = self._held.pop(key, ())
            self.bytes += size - sum(x.nbytes for x in old)
            while self.bytes > self.max_bytes:
                _, gone = self._held.popitem(last=False)
                self.bytes -= sum(x.nbytes for x in gone)
                self._counts["evictions"] += 1
            self._held[key] = features

    def _path(self, key: str) -> Path:
        assert self.directory is not None
        return self.directory / key[:2] / f"{key}.safetensors"

    def _load(self, key: str, dtype: torch.dtype) -> tuple[Tensor, ...] | None:
        if self.directory is None:
            return None
        path = self._path(key)
        try:
            found = load_file(path)
        except FileNotFoundError:
            return None
        except (SafetensorError, OSError):  # cut off by a crash or a full disk: it is encoded and written again
            with self._lock:
                self._counts["damaged"] += 1
            return None
        return tuple(found[str(i)].to(dtype) for i in range(len(found)))

    def _save(self, key: str, features: tuple[Tensor, ...]) -> None:
        """Write a file in one step, so that no other process sees half of it."""
        path = self._path(key)
        part = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}")
        tensors = {str(i): _half(x) for i, x in enumerate(features)}
        try:
            path.parent.mkdir(exist_ok=True)
            save_file(tensors, part)
            part.replace(path)
        except (OSError, SafetensorError) as error:
            self._disk_works = False  # a full disk must not stop a training run
            part.unlink(missing_ok=True)
            logging.getLogger(__name__).warning("features are no longer kept in %s: %s", self.directory, error)


def _half(x: Tensor) -> Tensor:
    """Return float16 values, or the tensor itself when they do not fit."""
    half = x.to(torch.float16)
    return (half if bool(half.isfinite().all()) else x).contiguous()


def patch_keys(clips: Iterable[np.ndarray], temporal: int, tower: str) -> list[list[str]]:
    """Return a key for every temporal patch of every clip: what its pixels are and which tower sees them.

    Args:
        clips: each (T, H, W, 3) uint8.
        temporal: frames of a patch.
        tower: from `tower_key`.
    """
    stacks = [np.ascontiguousarray(frames) for frames in clips]
    patches = [frames[i : i + temporal] for frames in stacks for i in range(0, len(frames), temporal)]

    def key(patch: np.ndarray) -> str:
        name = hashlib.sha256(f"{tower} {patch.shape}".encode())  # SHA instructions make it faster than the others
        name.update(patch)  # type: ignore[arg-type]
        return name.hexdigest()[:40]

    if sum(patch.nbytes for patch in patches) <= HASH_ALONE:
        keys = iter([key(patch) for patch in patches])
    else:
        with ThreadPoolExecutor(HASH_THREADS) as pool:
            keys = iter(list(pool.map(key, patches, chunksize=8)))
    return [[next(keys) for _ in range(0, len(frames), temporal)] for frames in stacks]


def tower_files_key(where: Path, tower: Any, *context: object) -> str | None:
    """Return what names a vision tower's computation from a checkpoint's files: in no number type but their own.

    Args:
        where: the checkpoint's directory.
        tower: what was made of it; only its configuration counts.
        context: more that its features depend on.

    Returns:
        None where the files hold no tower.
    """
    found: dict[str, str] = {}
    for path in sorted(where.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 (not a dictionary)
                _, part, own = name.partition("visual.")
                if part:
                    value = file.get_tensor(name)
                    bits = value.flatten().contiguous().view(torch.uint8).numpy()
                    found[own] = f"{value.dtype} {tuple(value.shape)} {hashlib.sha256(bits).hexdigest()}"
    if not found:
        return None
    digest = _config_digest(tower, *context)
    for name in sorted(found):
        digest.update(f"{name} {found[name]}\n".encode())
    return str(digest.hexdigest())[:16]


def _config_digest(tower: Any, *context: object) -> Any:
    config = {name: value for name, value in tower.config.to_dict().items() if name not in ("dtype", "torch_dtype")}
    return hashlib.sha256(repr((json.dumps(config, sort_keys=True, default=str), *context)).encode())


@torch.no_grad()
def tower_key(tower: Any, *context: object) -> str:
    """Return what names a vision tower's computation: its weights, its configuration, and the given context.

    For towers that come from no file. Of each weight tensor the sum, the sum of squares and some values count, in
    bfloat16: enough to tell checkpoints apart.
    """
    digest = _config_digest(tower, *context)
    for name, weight in tower.named_parameters():
        flat = weight.detach().flatten().to(torch.bfloat16)
        values = torch.stack([flat.double().sum(), flat.double().square().sum()])
        sample = flat[:: max(1, flat.numel() // 16)].double()
        digest.update(name.encode() + torch.cat([values, sample]).cpu().numpy().tobytes())
    return str(digest.hexdigest())[:16]


def split_features(features: VisualFeatures, sizes: Sequence[int]) -> list[tuple[Tensor, ...]]:
    """Cut features into runs of so many visual tokens, each copied to the CPU so that it owns its memory."""
    columns = [torch.split(x.cpu(), list(sizes)) for x in (features.embeds, *features.deepstack)]
    return [tuple(column[i].clone() for column in columns) for i in range(len(sizes))]


def join_patches(patches: Sequence[tuple[Tensor, ...]], device: torch.device) -> VisualFeatures:
    """Return the features of patches in order, on the device."""
    columns = [torch.cat(column).to(device) for column in zip(*patches, strict=True)]
    return VisualFeatures(columns[0], tuple(columns[1:]))
