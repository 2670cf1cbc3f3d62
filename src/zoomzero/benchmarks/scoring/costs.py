"""What answers cost and whether their evidence is evidence: pure functions on passes and rows.

Evidence hit: the share of the close looks' frames that lie inside the true spans. Faithfulness gap: how much more often
a close look at the predicted spans finds the right answer than one at a random span of the same length; an answer that
does not need its evidence has a gap of 0.

Source: METHOD section "what every answer tells" in docs/method.md.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from zoomzero.answer.trace import PassTrace
from zoomzero.spans import Span, contains, covered_s, merge

COST_NAMES = (
    "visual_tokens",
    "prefill_tokens",
    "generated_tokens",
    "frames",
    "decoded_frames",
    "decode_seconds",
    "seconds",
)
CLOSE_PASSES = ("zoom", "context", "verify")  # looks at a part; direct, coarse and windows see all of it


def evidence_hit(passes: Iterable[PassTrace], true_spans: Sequence[Span]) -> float | None:
    """Return the share of the close looks' frames inside the true spans (ends included).

    Args:
        passes: all passes of an answer; only close looks count.
        true_spans: the true evidence, seconds.

    Returns:
        A share in [0, 1]; None when nothing was looked at closely, or no evidence is annotated.
    """
    times_s = [t for one in passes if one.name.startswith(CLOSE_PASSES) for t in one.times_s]
    truth = merge(true_spans)
    if not times_s or not truth:
        return None
    return sum(contains(truth, t) for t in times_s) / len(times_s)


def random_span(spans: Sequence[Span], duration_s: float, key: str) -> Span | None:
    """Return a span as long as all of `spans` together, placed at random in the video.

    Every place is equally likely, the predicted one included.

    Args:
        spans: what was looked at, seconds.
        duration_s: length of the video.
        key: seeds the place; the question's id.

    Returns:
        None when the spans cover no time, or so much that there is no other place (99 % of the video).
    """
    length_s = covered_s(spans)
    if not 0.0 < length_s < 0.99 * duration_s:
        return None
    seed = int.from_bytes(hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    start_s = random.Random(seed).uniform(0.0, duration_s - length_s)
    return Span(start_s, start_s + length_s)


def right_minus_right(at_spans: str | None, at_random: str | None, right: frozenset[str]) -> int | None:
    """Return one question's part of the faithfulness gap: right at the spans (1 or 0) minus right at random.

    None when the question has no right option.
    """
    return int(at_spans in right) - int(at_random in right) if right else None


def rounded(costs: Mapping[str, float]) -> dict[str, float]:
    """Return costs as written into rows: seconds to a tenth of a millisecond."""
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in costs.items()}


def mean_costs(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the mean costs of the rows that were answered; failed ones cost nothing that is known.

    Args:
        rows: rows of one mode, as in predictions files.

    Returns:
        Name -> mean, empty without rows.
    """
    costs = [row["costs"] for row in rows if row["failed"] is None]
    if not costs:
        return {}
    return {name: math.fsum(one[name] for one in costs) / len(costs) for name in COST_NAMES}
