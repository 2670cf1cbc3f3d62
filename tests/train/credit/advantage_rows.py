"""Numbers that the tests of the estimators share."""

from __future__ import annotations

WITHIN = ("grpo", "select", "select_paper", "separate")  # in a batch of one group, rounding of sums near 0 shows
NAMES = ("gdpo", "gdpo_select", "grpo", "select", "select_paper", "separate")
# Four rollouts of three tokens: rest, answer, rest. The last one has no answer and ends a token earlier.
REWARDS = {
    "format": [1.0, 1.0, 1.0, 0.0],  # mean 3/4, deviation 1/2
    "iou": [0.6, 0.2, 0.0, 0.0],  # mean 1/5, deviation sqrt(0.08)
    "answer": [1.0, 0.0, 1.0, 0.0],  # mean 1/2, deviation sqrt(1/3)
    "zoom": [1.0, 0.0, 0.0, 0.0],  # mean 1/4, deviation 1/2
}
