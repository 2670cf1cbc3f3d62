"""Wilson's interval, for pages and progress lines that must not load numpy."""

from __future__ import annotations

import math


def wilson(share: float, n: int, z: float = 1.96) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share observed in n trials, (0, 1) when n is 0.

    Source: Wilson 1927; unlike mean plus or minus an error it stays inside [0, 1] at small n.
    """
    if n <= 0:
        return 0.0, 1.0
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)
