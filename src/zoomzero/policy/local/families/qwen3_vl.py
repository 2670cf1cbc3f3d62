"""Qwen3-VL (dense): times as text, features of early tower layers added to early text layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoomzero.policy.local.families.base import ClipLayout, Family, Piece

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Qwen3VL(Family):
    """Qwen3-VL writes the time of every temporal patch as text before it."""

    name: ClassVar[str] = "qwen3_vl"
    title: ClassVar[str] = "Qwen3-VL"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl",)
    layers: ClassVar[tuple[str, ...]] = ("Qwen3VLTextDecoderLayer", "Qwen3VLVisionBlock")
    tower_settings: ClassVar[tuple[str, ...]] = ("spatial_merge_size", "num_position_embeddings")

    @classmethod
    def network_class(cls) -> Any:
        """Return the transformers class of the network."""
        from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLForConditionalGeneration

        return Qwen3VLForConditionalGeneration

    @staticmethod
    def tower_tables(config: Any, grids: Tensor) -> tuple[dict[str, Any], list[Tensor]]:
        """Return also how the learned table of positions is sampled for each grid; see `Family.tower_tables`."""
        from transformers import vision_utils

        tables, bounds = Family.tower_tables(config, grids)
        index, weights = vision_utils.get_vision_interpolation_indices_and_weights(
            grids,
            num_grid_per_side=int(config.num_position_embeddings**0.5),
            mode="bilinear",
            align_corners=True,
            spatial_merge_size=config.spatial_merge_size,
        )
        return {**tables, "interp_indices": index, "interp_weights": weights}, bounds

    @staticmethod
    def step() -> Callable[..., Tensor] | None:
        """Return the written-out decoding step."""
        from zoomzero.policy.local.attention.step import step

        return step

    def pieces(self, layout: ClipLayout) -> list[Piece]:
        """`<12.5 seconds><|vision_start|>...<|vision_end|>` for every temporal patch, at its middle."""
        out: list[Piece] = []
        for time_s in layout.means_s():
            out += [f"<{time_s:.1f} seconds>", *self._run(layout, 1, 0.0)]
        return out
