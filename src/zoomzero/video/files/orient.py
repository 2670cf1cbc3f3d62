"""Turning and mirroring frames as the file's display matrix says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Rgb = npt.NDArray[np.uint8]
UPRIGHT = (0, False)
_CORNERS = np.arange(4, dtype=np.uint8).reshape(2, 2, 1)  # tells the eight ways to lay down a picture apart
_ASKEW = 0.02  # of a matrix's length: less than this off the axes is rounding


def orientation(frame: Any) -> tuple[int, bool] | None:
    """Return how a frame is shown upright: degrees counter-clockwise after mirroring left and right, or None if unsaid.

    Args:
        frame: an av.VideoFrame; its display matrix (a b; c d) takes column x and row y of the picture to column
            a*x + c*y and row b*x + d*y. Only its signs count: sizes and the pixel shape are not its business.
    """
    matrix = _matrix(frame)
    if matrix is None:
        return None
    a, b, c, d = matrix
    shown = _CORNERS
    columns, rows = (a, d) if abs(a) + abs(d) >= abs(b) + abs(c) else (c, b)
    if (columns, rows) == (c, b) and abs(a) + abs(d) < abs(b) + abs(c):
        shown = shown.swapaxes(0, 1)
    shown = shown[:, ::-1] if columns < 0 else shown
    shown = shown[::-1] if rows < 0 else shown
    for mirrored in (False, True):
        for degrees in (0, 90, 180, 270):
            if np.array_equal(upright(_CORNERS, degrees, mirrored), shown):
                return degrees, mirrored
    raise AssertionError("eight ways are all there are")


def is_askew(frame: Any) -> bool:
    """Return whether the display matrix also turns by less than a quarter, which is not applied."""
    matrix = _matrix(frame)
    if matrix is None:
        return False
    a, b, c, d = map(abs, matrix)
    straight, crossed = math.hypot(a, d), math.hypot(b, c)
    return min(straight, crossed) > _ASKEW * max(straight, crossed)


def upright(picture: Rgb, degrees: int, mirrored: bool) -> Rgb:
    """Return an (H, W, C) picture mirrored left and right if asked, then turned counter-clockwise: a view."""
    return np.rot90(picture[:, ::-1] if mirrored else picture, degrees // 90)


def _matrix(frame: Any) -> tuple[int, int, int, int] | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return None
    values = np.frombuffer(bytes(data), np.int32)
    if values.size < 9 or not (values[[0, 4]].any() or values[[1, 3]].any()):
        return None
    a, b, _, c, d = (int(v) for v in values[:5])
    return a, b, c, d
