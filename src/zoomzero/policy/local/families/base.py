"""What differs between model families, in one class: from frames and times to what the network is made of.

A family is a subclass in a file of its own and a line in the registry (`families/__init__.py`). Its class knows what a
network of the family looks like; an instance holds what a checkpoint says: patch sizes, normalisation, token ids.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from zoomzero.video.types import Clip, Geometry

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from typing_extensions import Self

    from zoomzero.policy.local.positions import VisionBlocks
    from zoomzero.spans import Span

Channels = tuple[float, float, float]
LayerKind = Literal["attention", "recurrent"]


@dataclass(frozen=True, slots=True)
class ClipLayout:
    """What the text side must know of a clip once its pixels are gone."""

    grid: tuple[int, int, int]  # (time, height, width) in patches
    times_s: tuple[tuple[float, float], ...]  # first and last frame time of every temporal patch
    fps: float
    spans: tuple[Span, ...]

    def means_s(self) -> list[float]:
        """Return the middle of every temporal patch in seconds."""
        return [(first + last) / 2 for first, last in self.times_s]


@dataclass(frozen=True, slots=True)
class VisionRun:
    """A run of visual tokens: (time, rows, columns) in visual tokens, and its step in time positions."""

    grid: tuple[int, int, int]
    step: float

    @property
    def count(self) -> int:
        """Visual tokens in the run."""
        t, h, w = self.grid
        return t * h * w


Piece = str | int | VisionRun  # plain text, a special token id, visual tokens


@dataclass(frozen=True, slots=True)
class Family:
    """A model family. What stands here is what most of them share; a family's own file overrides the rest.

    Args:
        geometry: patch sizes of the checkpoint.
        mean, std: the colours its tower was trained on, after division by 255.
        vision_start, vision_end: ids around visual tokens.
    """

    geometry: Geometry
    mean: Channels
    std: Channels
    vision_start: int
    vision_end: int

    # --- who it is ---
    name: ClassVar[str]  # as in the registry
    title: ClassVar[str]  # for people
    model_types: ClassVar[tuple[str, ...]]  # of config.json
    system: ClassVar[str] = ""  # system message of the standard chat form
    # names in config.json of ids that must be special tokens of the tokenizer and are never drawn
    special: ClassVar[tuple[str, ...]] = (
        "video_token_id",
        "image_token_id",
        "vision_start_token_id",
        "vision_end_token_id",
    )
    default_mean: ClassVar[Channels] = (0.5, 0.5, 0.5)  # where the checkpoint says nothing
    default_std: ClassVar[Channels] = (0.5, 0.5, 0.5)
    free_times: ClassVar[bool] = True  # whether it can be told any frame times; see `video.types.Geometry`
    layers: ClassVar[tuple[str, ...]]  # classes whose weights sharded training gathers and lets go together
    text_layers: ClassVar[str] = "model.language_model.layers"  # where they are in the network
    # all else in it
    parts: ClassVar[tuple[str, ...]] = (
        "model.visual",
        "model.language_model.embed_tokens",
        "model.language_model.rotary_emb",
        "model.language_model.norm",
        "lm_head",
    )
    # matrices that low-rank adapters go to
    lora_targets: ClassVar[str] = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    tower_settings: ClassVar[tuple[str, ...]] = ("spatial_merge_size",)  # of the tower, that `tower_tables` looks at

    @classmethod
    def network_class(cls) -> Any:
        """Return the transformers class of the network."""
        raise NotImplementedError

    @classmethod
    def from_checkpoint(cls, config: Any, mean: Channels, std: Channels, options: Mapping[str, Any]) -> Self:
        """Return the family as a checkpoint has it.

        Args:
            config: the network's configuration.
            mean, std: from its processor's settings.
            options: what the caller asked for by name; a family takes what it knows.
        """
        seen = config.vision_config
        geometry = Geometry(seen.patch_size, seen.spatial_merge_size, seen.temporal_patch_size, cls.free_times)
        return cls(geometry, mean, std, config.vision_start_token_id, config.vision_end_token_id)

    # --- the network ---

    @staticmethod
    def core(model: Any) -> Any:
        """Return the module that holds `.visual` and `.language_model`."""
        return model.model

    @staticmethod
    def head(model: Any) -> Any:
        """Return the module that turns hidden states into logits."""
        return model.lm_head

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Give a network the project's attention, text and vision, and its family's name. Safe to call again."""
        from zoomzero.policy.local import vision
        from zoomzero.policy.local.attention import group_attention

        model.zoomzero_family = cls  # attention and vision lie below the families: they cannot look it up
        group_attention.install(cls.core(model).language_model)
        vision.install(cls.core(model).visual, cls)

    @staticmethod
    def tower_tables(config: Any, grids: Tensor) -> tuple[dict[str, Any], list[Tensor]]:
        """Return what the vision tower derives from the grids alone, and the bounds of its attention segments.

        Args:
            config: holds the tower's `tower_settings`.
            grids: (K, 3) int64, (time, height, width) in patches of each clip.

        Returns:
            Keyword arguments of the tower's forward, and those of them, (S + 1,) each, that bound segments.
        """
        from transformers import vision_utils

        bounds = vision_utils.get_vision_cu_seqlens(grids)
        places = vision_utils.get_vision_position_ids(grids, config.spatial_merge_size)
        return {"cu_seqlens": bounds, "max_seqlen": int(bounds.diff().max()), "position_ids": places}, [bounds]

    @staticmethod
    def text_positions(positions: Tensor) -> Tensor:
        """Return positions as the text model's forward takes them: (3, ...) -> (3, ...) with our three axes."""
        return positions

    @staticmethod
    def layer_kinds(text_config: Any) -> tuple[LayerKind, ...]:
        """Return what each text layer keeps of what it has read: keys and values, or a recurrent state."""
        kinds: list[LayerKind] = ["attention"] * int(text_config.num_hidden_layers)
        return tuple(kinds)

    @staticmethod
    def step() -> Callable[..., Tensor] | None:
        """Return the written-out decoding step (as `attention.step.step`), None where the network's forward serves."""
        return None

    @staticmethod
    def recordable(text_config: Any) -> bool:
        """Return whether nothing in a decoding step depends on values the host must read."""
        return True

    @staticmethod
    def stored(name: str, value: Tensor) -> Tensor:
        """Return a weight as the family's released checkpoints store it; the inverse of what loading does."""
        return value

    # --- frames and times ---

    def layout(self, clip: Clip) -> ClipLayout:
        """Return the clip's shape and times.

        Raises:
            ValueError: frames that do not fill whole patches.
        """
        g = self.geometry
        t, h, w = clip.frames.shape[:3]
        if t == 0 or t % g.temporal or h % g.factor or w % g.factor:
            raise ValueError(
                f"frames {clip.frames.shape} must be {g.temporal}n frames with sides of {g.factor}n pixels"
            )
        times = clip.times_s
        ends = tuple((times[i], times[i + g.temporal - 1]) for i in range(0, t, g.temporal))
        return ClipLayout((t // g.temporal, h // g.patch, w // g.patch), ends, clip.fps, clip.spans)

    def patches(self, frames: np.ndarray, device: torch.device | None = None) -> Tensor:
        """Normalise frames and cut them into patches in the order of the family's processor.

        Args:
            frames: (T, H, W, 3) uint8.
            device: where the patches are wanted; bytes travel there, a quarter of what the patches' floats take.

        Returns:
            (T/temporal * H/patch * W/patch, 3*temporal*patch*patch) float32: per temporal patch, the patches
            of one visual token lie together; within a patch the order is (channel, time, row, column).
        """
        import torch

        g = self.geometry
        t, h, w = frames.shape[0] // g.temporal, frames.shape[1] // g.factor, frames.shape[2] // g.factor
        # cached frames cannot be written; torch knows no such tensor, so that they are copied
        x = torch.from_numpy(np.require(frames, requirements=("C", "W"))).to(device)
        x = x.view(t, g.temporal, h, g.merge, g.patch, w, g.merge, g.patch, 3)
        x = x.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(t * h * w * g.merge**2, 3, -1).float()
        # the processors fold the 1/255 into mean and deviation; so do we, to have the same float32 values
        means = (torch.tensor(values, dtype=torch.float32)[:, None] * 255.0 for values in (self.mean, self.std))
        mean, std = (values.to(device) for values in means)
        return x.sub_(mean).div_(std).flatten(1)

    def pieces(self, layout: ClipLayout) -> list[Piece]:
        """Return the clip as text, special tokens and runs of visual tokens."""
        raise NotImplementedError

    def positions(self, length: int, blocks: VisionBlocks) -> Tensor:
        """Return a prompt's positions, (3, length) int64: (time, row, column) of every token."""
        from zoomzero.policy.local.positions import mrope_positions

        return mrope_positions(length, blocks)

    def _run(self, layout: ClipLayout, patches: int, step: float) -> list[Piece]:
        _, h, w = layout.grid
        merge = self.geometry.merge
        return [self.vision_start, VisionRun((patches, h // merge, w // merge), step), self.vision_end]


def nearest_span(time_s: float, spans: Sequence[Span]) -> int:
    """Return the index of the span that holds the moment, or of the nearest one (0 without spans)."""
    gaps = [max(start - time_s, time_s - end, 0.0) for start, end in spans]
    return gaps.index(min(gaps)) if gaps else 0
