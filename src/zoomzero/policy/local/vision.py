"""The vision tower as one batched attention: no loop over frames or windows, any mix of frame sizes, exact.

Transformers' towers hand attention the whole row of patches and its segment bounds when the implementation's
name says `flash`; that is the doorway used here. Segments of equal length become the batch of one SDPA call.
What the towers compute from the grids alone (segment bounds, window order, position tables) is computed once
per shape and passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from zoomzero.policy.local.families.base import Family

NAME = "zoomzero_flash"  # the name must hold "flash": see the module's first lines
MAX_BATCH = 32768  # a CUDA grid dimension holds 65,535


@dataclass(frozen=True, slots=True, eq=False)
class VisualFeatures:
    """What the vision tower makes of patches.

    `embeds` is (N, D), one row per visual token; `deepstack` holds (N, D) for each early text layer that adds
    visual features (Qwen3-VL), empty for families without.
    """

    embeds: Tensor
    deepstack: tuple[Tensor, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """Attention segments of a row of patches, grouped by length.

    `buckets` lists (length, index) where index (n*length,) holds the patches of the n segments of that
    length, or None when all segments have one length and lie in order. `restore` puts the buckets' patches
    back in row order.
    """

    buckets: tuple[tuple[int, Tensor | None], ...]
    restore: Tensor | None = None


def group_segments(lengths: Sequence[int], device: torch.device) -> Segments:
    """Group segments, laid end to end, by their length."""
    if len(set(lengths)) == 1:
        return Segments(((lengths[0], None),))
    sizes = torch.tensor(lengths)
    firsts = sizes.cumsum(0) - sizes
    index = {n: (firsts[sizes == n][:, None] + torch.arange(n)).flatten() for n in sorted(set(lengths))}
    restore = torch.cat(list(index.values())).argsort()
    return Segments(tuple((n, where.to(device)) for n, where in index.items()), restore.to(device))


def segment_attention(q: Tensor, k: Tensor, v: Tensor, segments: Segments, scale: float) -> Tensor:
    """Attend within each segment; q, k, v and the result are (1, H, L, d)."""
    outs = []
    for length, index in segments.buckets:
        rows = [x[0] if index is None else x[0].index_select(1, index) for x in (q, k, v)]
        batch = [x.reshape(x.shape[0], -1, length, x.shape[2]).transpose(0, 1) for x in rows]  # (n, H, length, d)
        chunks = zip(*(torch.split(x, MAX_BATCH) for x in batch), strict=True)
        out = torch.cat([F.scaled_dot_product_attention(a, b, c, scale=scale) for a, b, c in chunks])
        outs.append(out.transpose(0, 1).flatten(1, 2))
    joined = torch.cat(outs, 1)
    return (joined if segments.restore is None else joined.index_select(1, segments.restore)).unsqueeze(0)


def attention_forward(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    cu_seq_lens_q: Tensor,
    segment_plans: tuple[tuple[Tensor, Segments], ...] = (),
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """The attention function of the towers; `segment_plans` pairs segment bounds with their grouping."""
    planned = [segments for bounds, segments in segment_plans if bounds is cu_seq_lens_q]
    # nothing is planned in a call through transformers' own forward
    segments = planned[0] if planned else group_segments(cu_seq_lens_q.diff().tolist(), query.device)
    out = segment_attention(query.to(value.dtype), key.to(value.dtype), value, segments, scaling)
    return out.transpose(1, 2).contiguous(), None


class PatchProjection(torch.nn.Module):
    """The tower's patch projection as the matrix product it is: a convolution whose kernel is its stride.

    Holds the convolution's own parameters under their own names. Measured 4-7x faster than `Conv3d` on a CPU.
    """

    def __init__(self, conv: torch.nn.Conv3d) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, patches: Tensor) -> Tensor:
        """(M, C, temporal, patch, patch) -> (M, D)."""
        return F.linear(patches.flatten(1), self.weight.flatten(1), self.bias)


def install(tower: Any, family: type[Family]) -> None:
    """Make a family's tower use this attention and project patches by a matrix product. Safe to call again."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attention_forward)
    tower.zoomzero_family = family
    if isinstance(tower.patch_embed.proj, torch.nn.Conv3d):
        tower.patch_embed.proj = PatchProjection(tower.patch_embed.proj)
    # the public setter would go looking for a flash-attention package because of the name
    tower.config._attn_implementation_internal = NAME


def encode(model: Any, patches: Tensor, grids: Tensor) -> VisualFeatures:
    """Run the vision tower over the patches of any number of clips.

    Args:
        model: what holds `.visual`, a tower that `install` was called for.
        patches: (M, C*temporal*patch*patch), in the order of the model's processor.
        grids: (K, 3) int64 on the CPU, (time, height, width) in patches for each clip.
    """
    tower = model.visual
    tables = tower_tables(tower, tower.zoomzero_family, list(map(tuple, grids.tolist())))
    out = tower(patches.to(tower.dtype), grid_thw=grids.to(patches.device), return_dict=True, **tables)
    return VisualFeatures(out.pooler_output, tuple(getattr(out, "deepstack_features", None) or ()))


def tower_tables(tower: Any, family: type[Family], grids: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Return what a tower's forward wants to know of clips' grids, (time, height, width) in patches each."""
    settings = tuple((name, getattr(tower.config, name)) for name in family.tower_settings)
    # mypy takes the hash of a class for that of its instances
    return _tables(family, settings, tuple(grids), tower.device)  # type: ignore[arg-type]


def join_features(parts: Sequence[VisualFeatures]) -> VisualFeatures:
    """Return the features of several runs of the tower as one."""
    deep = zip(*(part.deepstack for part in parts), strict=True)
    return VisualFeatures(torch.cat([part.embeds for part in parts]), tuple(torch.cat(d) for d in deep))


def plain_features(features: VisualFeatures) -> VisualFeatures:
    """Return copies of features: what was made under inference mode cannot take part in a backward pass."""
    if not features.embeds.is_inference():
        return features
    return VisualFeatures(features.embeds.clone(), tuple(layer.clone() for layer in features.deepstack))


@lru_cache(maxsize=32)
@torch.inference_mode(False)  # tables made while answering must serve training, too
def _tables(
    family: type[Family],
    settings: tuple[tuple[str, int], ...],
    grids: tuple[tuple[int, int, int], ...],
    device: torch.device,
) -> dict[str, Any]:
    """Everything the tower derives from the grids alone, under the names its forward looks for."""
    tables, bounds = family.tower_tables(SimpleNamespace(**dict(settings)), torch.tensor(grids))
    on_host = {id(bound) for bound in bounds}  # they are read as lists
    placed = {
        name: value.to(device) if isinstance(value, Tensor) and id(value) not in on_host else value
        for name, value in tables.items()
    }
    plans = tuple((bound, group_segments(bound.diff().tolist(), device)) for bound in bounds)
    return {**placed, "segment_plans": plans}
