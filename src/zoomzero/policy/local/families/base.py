"""The two model families: how each turns frames into patches, and times into text and positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from zoomzero.video.types import Clip, Geometry

if TYPE_CHECKING:
    import torch

    from zoomzero.spans import Span


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
    """What differs between families. `geometry`, `mean` and `std` come from the checkpoint."""

    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    vision_start: int
    vision_end: int
    text_after_time: bool = False  # see positions.mrope_positions

    name: ClassVar[str]
    system: ClassVar[str] = ""  # system message of the standard chat form

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

    def patches(self, frames: np.ndarray, device: torch.device | None = None) -> torch.Tensor:
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
        x = torch.from_numpy(np.ascontiguousarray(frames)).to(device)
        x = x.view(t, g.temporal, h, g.merge, g.patch, w, g.merge, g.patch, 3)
        x = x.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(t * h * w * g.merge**2, 3, -1).float()
        # the processors fold the 1/255 into mean and deviation; so do we, to have the same float32 values
        means = (torch.tensor(values, dtype=torch.float32)[:, None] * 255.0 for values in (self.mean, self.std))
        mean, std = (values.to(device) for values in means)
        return x.sub_(mean).div_(std).flatten(1)

    def pieces(self, layout: ClipLayout) -> list[Piece]:
        """Return the clip as text, special tokens and runs of visual tokens."""
        raise NotImplementedError

    def _run(self, layout: ClipLayout, patches: int, step: float) -> list[Piece]:
        _, h, w = layout.grid
        merge = self.geometry.merge
        return [self.vision_start, VisionRun((patches, h // merge, w // merge), step), self.vision_end]


@dataclass(frozen=True, slots=True)
class Qwen3VL(Family):
    """Qwen3-VL writes the time of every temporal patch as text before it."""

    name: ClassVar[str] = "qwen3_vl"

    def pieces(self, layout: ClipLayout) -> list[Piece]:
        """`<12.5 seconds><|vision_start|>...<|vision_end|>` for every temporal patch, at its middle."""
        out: list[Piece] = []
        for time_s in layout.means_s():
            out += [f"<{time_s:.1f} seconds>", *self._run(layout, 1, 0.0)]
        return out


@dataclass(frozen=True, slots=True)
class Qwen25VL(Family):
    """Qwen2.5-VL tells time by positions alone: seconds from the clip's first frame, at one constant rate."""

    tokens_per_second: float = 2.0

    name: ClassVar[str] = "qwen2_5_vl"
    system: ClassVar[str] = "You are a helpful assistant."

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


def nearest_span(time_s: float, spans: Sequence[Span]) -> int:
    """Return the index of the span that holds the moment, or of the nearest one (0 without spans)."""
    gaps = [max(start - time_s, time_s - end, 0.0) for start, end in spans]
    return gaps.index(min(gaps)) if gaps else 0
