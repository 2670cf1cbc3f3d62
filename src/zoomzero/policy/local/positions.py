"""M-RoPE positions of a prompt: (time, row, column) for every token, computed without a loop over frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True, eq=False)
class VisionBlocks:
    """Where the visual tokens of a prompt lie. A block is one run of placeholders in raster order.

    Args:
        starts: (K,) int64, token index of each block's first placeholder, ascending.
        grids: (K, 3) int64, each block's (time, rows, columns) in visual tokens (after the spatial merge).
        steps: (K,) float32, how far the time position moves from one temporal patch to the next.
    """

    starts: torch.Tensor
    grids: torch.Tensor
    steps: torch.Tensor


def visual_index(blocks: VisionBlocks) -> torch.Tensor:
    """Return the token index of every visual token, (N,) int64, in the order the vision tower gives them."""
    import torch

    sizes = blocks.grids.prod(1)
    first = sizes.cumsum(0) - sizes
    shift = (blocks.starts - first).repeat_interleave(sizes)
    return torch.arange(int(sizes.sum())) + shift


def mrope_positions(length: int, blocks: VisionBlocks, text_after_time: bool = False) -> torch.Tensor:
    """Return the positions of a prompt, equal to the model's own `get_rope_index`.

    A text token moves all three positions on by one. A block starts where the text before it ended, its
    tokens are placed by (time * step, row, column), and the text after it goes on at start + max(rows,
    columns); with `text_after_time` at start + max(rows, columns, last time + 1), as Qwen2.5-VL was trained
    and as transformers did up to 5.2.

    Args:
        length: tokens in the prompt, P.
        blocks: its visual tokens.
        text_after_time: whether text goes on after the last time position too.

    Returns:
        (3, P) int64.

    Source: Qwen2-VL, arXiv 2409.12191, section 2.1.
    """
    import torch

    sizes = blocks.grids.prod(1)
    where = visual_index(blocks)
    advance = torch.ones(length, dtype=torch.int64)
    advance[where] = 0
    extent = blocks.grids[:, 1:].amax(1)
    if text_after_time:
        last_time = ((blocks.grids[:, 0] - 1).float() * blocks.steps.float()).long()
        extent = torch.maximum(extent, last_time + 1)
    advance[blocks.starts + sizes - 1] = extent
    positions = (advance.cumsum(0) - advance).repeat(3, 1)  # (3, P): what was advanced before each token
    inside = torch.arange(len(where)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    rows, columns = (blocks.grids[:, i].repeat_interleave(sizes) for i in (1, 2))
    time = inside // (rows * columns)
    positions[0, where] += (time.float() * blocks.steps.float().repeat_interleave(sizes)).long()
    positions[1, where] += inside // columns % rows
    positions[2, where] += inside % columns
    return positions


def continue_positions(start: int, count: int) -> torch.Tensor:
    """Return the positions of `count` text tokens from `start` on, (3, count) int64."""
    import torch

    return torch.arange(start, start + count).expand(3, -1)
