"""Qwen2.5-VL: times as positions, windows in the vision tower."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

from zoomzero.policy.local.families.base import Channels, ClipLayout, Family, Piece, nearest_span
from zoomzero.video.types import Geometry

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self

    from zoomzero.policy.local.positions import VisionBlocks


@dataclass(frozen=True, slots=True)
class Qwen25VL(Family):
    """Qwen2.5-VL tells time by positions alone: seconds from the clip's first frame, at one constant rate.

    Args:
        text_after_time: whether text goes on after a video's last time position too; see `mrope_positions`.
        tokens_per_second: time positions of a second.
    """

    text_after_time: bool = True
    tokens_per_second: float = 2.0

    name: ClassVar[str] = "qwen2_5_vl"
    title: ClassVar[str] = "Qwen2.5-VL"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_5_vl",)
    system: ClassVar[str] = "You are a helpful assistant."
    default_mean: ClassVar[Channels] = (0.48145466, 0.4578275, 0.40821073)
    default_std: ClassVar[Channels] = (0.26862954, 0.26130258, 0.27577711)
    free_times: ClassVar[bool] = False
    layers: ClassVar[tuple[str, ...]] = ("Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock")
    tower_settings: ClassVar[tuple[str, ...]] = ("spatial_merge_size", "window_size", "patch_size")

    @classmethod
    def network_class(cls) -> Any:
        """Return the transformers class of the network."""
        from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLForConditionalGeneration

        return Qwen2_5_VLForConditionalGeneration

    @classmethod
    def from_checkpoint(cls, config: Any, mean: Channels, std: Channels, options: Mapping[str, Any]) -> Self:
        """Return the family as a checkpoint has it; takes the option `text_after_time`."""
        seen = config.vision_config
        geometry = Geometry(seen.patch_size, seen.spatial_merge_size, seen.temporal_patch_size, cls.free_times)
        ids = (config.vision_start_token_id, config.vision_end_token_id)
        after = bool(options.get("text_after_time", True))
        return cls(geometry, mean, std, *ids, after, float(seen.tokens_per_second))

    @staticmethod
    def tower_tables(config: Any, grids: Tensor) -> tuple[dict[str, Any], list[Tensor]]:
        """Return also the order and bounds of the windows; see `Family.tower_tables`."""
        from transformers import vision_utils

        tables, bounds = Family.tower_tables(config, grids)
        order, windows = vision_utils.get_vision_window_index(
            grids, config.spatial_merge_size, config.window_size, config.patch_size
        )
        tables |= {"window_index": order, "cu_window_seqlens": windows}
        return {**tables, "max_window_seqlen": int(windows.diff().max())}, [*bounds, windows]

    @staticmethod
    def step() -> Callable[..., Tensor] | None:
        """Return the written-out decoding step."""
        from zoomzero.policy.local.attention.step import step

        return step

    def positions(self, length: int, blocks: VisionBlocks) -> Tensor:
        """Return a prompt's positions, (3, length) int64."""
        from zoomzero.policy.local.positions import mrope_positions

        return mrope_positions(length, blocks, text_after_time=self.text_after_time)

    def pieces(self, layout: ClipLayout) -> list[Piece]:
        """One vision block at the planned rate; one for each span, with its true times before it, when
        several.

        A clip that does not begin at the video's beginning has its times named too: positions only count from
        its first frame.
        """
        planned_s = self.geometry.temporal / layout.fps
        blocks = self._blocks(layout)
        named = len(blocks) > 1 or layout.times_s[0][0] > planned_s
        out: list[Piece] = []
        for first, last in blocks:
            count = last - first
            means = layout.means_s()[first:last]
            # several spans may come at several rates: take each block's own
            step_s = (means[-1] - means[0]) / (count - 1) if len(blocks) > 1 and count > 1 else planned_s
            if named:
                out.append(f"[{layout.times_s[first][0]:.1f}s - {layout.times_s[last - 1][1]:.1f}s]")
            out += self._run(layout, count, self.tokens_per_second * step_s)
        return out

    def _blocks(self, layout: ClipLayout) -> list[tuple[int, int]]:
        """Return the runs of temporal patches that lie in the same span, as (first, end)."""
        spans = [nearest_span(time_s, layout.spans) for time_s in layout.means_s()]
        cuts = [0, *(i for i in range(1, len(spans)) if spans[i] != spans[i - 1]), len(spans)]
        return list(pairwise(cuts))
