"""From frames to visual features: clips through the vision tower, each frame pair once where features are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoomzero.policy.local import vision
from zoomzero.policy.local.attention.packed import fill_rows
from zoomzero.policy.local.families.base import Family
from zoomzero.policy.local.features import (
    FeatureCache,
    join_patches,
    patch_keys,
    split_features,
    tower_files_key,
    tower_key,
)
from zoomzero.policy.local.memory import tokens_that_fit
from zoomzero.policy.local.vision import VisualFeatures
from zoomzero.video.types import Clip

# In the vision tower; 4096 float32 patches are 25 MB. A CPU is faster on less: what a layer makes stays in its caches.
PATCHES_AT_ONCE = {"cpu": 4096, "cuda": 65536}


class FrameEncoder:
    """Runs a family's vision tower over clips.

    Args:
        family: makes patches of frames.
    """

    def __init__(self, family: Family) -> None:
        self.family, self.geometry = family, family.geometry
        self._tower: str | None = None
        self.files: Path | None = None  # the checkpoint the tower was loaded from
        self.seen_bytes = 0.0  # of a visual token while its patches are encoded; 0: not known

    def encode(self, model: Any, clips: Sequence[Clip], cache: FeatureCache | None) -> VisualFeatures | None:
        """Return what the tower makes of clips, in order; None without clips.

        Args:
            model: holds the tower as `.visual`.
            clips: encoded a stretch of frames at a time when long, and together when short: attention never crosses a
                temporal patch, so this is exact.
            cache: where the features of a frozen tower are kept.
        """
        if cache is None or any(p.requires_grad for p in model.visual.parameters()):
            return self._encode(model, [clip.frames for clip in clips])
        return self._encode_cached(model, clips, cache)

    def _encode(self, model: Any, stacks: Sequence[np.ndarray]) -> VisualFeatures | None:
        """Run the vision tower over stacks of frames, each (T, H, W, 3) uint8."""
        device = model.visual.device
        most = PATCHES_AT_ONCE.get(device.type, PATCHES_AT_ONCE["cpu"])
        if self.seen_bytes:
            most = tokens_that_fit(device, self.seen_bytes / self.geometry.merge**2, most)
        temporal, patch = self.geometry.temporal, self.geometry.patch
        stretches: list[tuple[np.ndarray, tuple[int, int, int]]] = []
        for stack in stacks:
            height, width = stack.shape[1] // patch, stack.shape[2] // patch
            step = temporal * max(1, most // (height * width))
            for start in range(0, len(stack), step):
                frames = stack[start : start + step]
                stretches.append((frames, (len(frames) // temporal, height, width)))
        parts = [
            vision.encode(
                model,
                torch.cat([self.family.patches(stretches[i][0], device) for i in batch]),
                torch.tensor([stretches[i][1] for i in batch]),
            )
            for batch in fill_rows([math.prod(grid) for _, grid in stretches], most)
        ]
        return vision.join_features(parts) if parts else None

    # what is kept must serve training too, so it must not be made in inference mode
    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode_cached(self, model: Any, clips: Sequence[Clip], cache: FeatureCache) -> VisualFeatures | None:
        """Look every temporal patch up, encode those that are new (each once), and keep them."""
        device, dtype = model.visual.device, _dtype(model.visual)
        temporal, factor = self.geometry.temporal, self.geometry.factor
        stacks = [clip.frames[i : i + temporal] for clip in clips for i in range(0, len(clip.frames), temporal)]
        tower = self._tower_key(model.visual)
        keys = [key for group in patch_keys([c.frames for c in clips], temporal, tower) for key in group]
        first = {key: place for place, key in reversed(list(enumerate(keys)))}
        cache.count_repeats(len(keys) - len(first))
        held = {key: cache.get(key, dtype) for key in first}
        new = sorted((first[key] for key, found in held.items() if found is None))
        fresh = self._encode(model, _stacked([stacks[i] for i in new]))
        if fresh is not None:
            sizes = [stacks[i].shape[1] * stacks[i].shape[2] // factor**2 for i in new]
            for i, patch in zip(new, split_features(fresh, sizes), strict=True):
                held[keys[i]] = patch
                cache.put(keys[i], patch, dtype)
        patches = [found for key in keys if (found := held[key]) is not None]
        return join_patches(patches, device) if patches else None

    def _tower_key(self, tower: Any) -> str:
        """Return the name of the tower; it is frozen, so its weights are looked at once."""
        if self._tower is None:
            colours = (self.family.mean, self.family.std)
            files = None if self.files is None else tower_files_key(self.files, tower, *colours)
            self._tower = files or tower_key(tower, *colours)
        return self._tower


def _dtype(tower: Any) -> torch.dtype:
    """Return the type features come in."""
    kind = tower.device.type
    if torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    dtype: torch.dtype = tower.dtype
    return dtype


def _stacked(patches: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Join neighbouring temporal patches of one size into stacks."""
    return [np.concatenate(list(run)) for _, run in groupby(patches, key=lambda patch: patch.shape)]
