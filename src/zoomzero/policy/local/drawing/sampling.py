"""Drawing next tokens from logits, with random numbers that belong to a row and to nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from zoomzero.policy.base import Sampling
from zoomzero.policy.local.machine import drawing_dtype

PEAK_TOKENS = 20


class Sampler:
    """Draws next tokens.

    The random numbers of a row depend on its prompt's seed and its own number alone: not on other rows, on when they
    stop, or on what else is decoded beside them.

    Args:
        sampling: how to draw, one for every prompt; only the seeds may differ.
        n: rows of each prompt.
        device: where the logits are.
    """

    def __init__(self, sampling: Sequence[Sampling], n: int, device: torch.device) -> None:
        self.temperature, self.top_p = sampling[0].temperature, sampling[0].top_p
        self.wide = drawing_dtype(device.type)
        self.rows, self.device = n, device
        self.uniform = self._numbers(sampling)

    def _numbers(self, sampling: Sequence[Sampling]) -> Tensor:
        """Return all numbers that are drawn with, (max_tokens * rows,)."""
        if self.temperature == 0:
            return torch.empty(0)
        numbers = [uniform_numbers(s.seed, row, s.max_tokens) for s in sampling for row in range(self.rows)]
        # narrowed here, for Apple's GPUs cannot even be sent float64
        return torch.from_numpy(np.stack(numbers, 1)).flatten().to(self.wide).to(self.device)

    def restart(self, sampling: Sequence[Sampling]) -> None:
        """Begin anew with other seeds, the numbers in the place they had."""
        self.uniform.copy_(self._numbers(sampling))

    def draw(self, logits: Tensor, at: Tensor) -> Tensor:
        """Return the next token of some rows, (m,) int64.

        Args:
            logits: (m, V) float32.
            at: (m,) int64, for each row: tokens written so far * rows in all + the row's number (prompts in order).
        """
        if self.temperature == 0:
            return logits.argmax(-1)
        uniform = self.uniform.index_select(0, at)
        order = None
        if self.top_p < 1:
            logits, order = logits.sort(-1, descending=True)
        probs = (logits.to(self.wide) / self.temperature).softmax(-1)
        total = probs.cumsum(-1)
        if order is not None:  # the likeliest tokens that reach top_p together
            total = probs.masked_fill(total - probs >= self.top_p, 0.0).cumsum(-1)
        whole = total[:, -1:].contiguous()
        place = torch.searchsorted(total, uniform[:, None] * whole, right=True)
        # a number that was rounded up to 1 must not draw what comes after all probability: ids that are forbidden
        place = torch.minimum(place, torch.searchsorted(total, whole))
        place = place.clamp(max=total.shape[-1] - 1)  # of what is NaN any token, for whoever asked to find out
        return (place if order is None else order.gather(-1, place))[:, 0]


def uniform_numbers(seed: int, row: int, count: int) -> np.ndarray:
    """Return a row's random numbers in [0, 1), (count,) float64; more of them begin with the same ones."""
    key = np.array([seed % 2**64, row], np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).random(count)


def peakedness(logprobs: Tensor) -> Tensor:
    """Return the mean of -log p over the likeliest tokens: (m, V) -> (m,). Higher = more peaked.

    Source: METHOD section "span confidence" in docs/method.md.
    """
    return -logprobs.topk(min(PEAK_TOKENS, logprobs.shape[-1]), -1).values.mean(-1)
