"""Recurrent layers over shared prefixes: the state a prompt leaves is where each of its rows begins.

A gated delta net keeps, of everything it has read, one matrix a head and the last inputs of its short convolution. Both
are forked for the rows of a prompt as keys and values are shared, so a prompt is read once, and its gradient is the sum
over its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

State = tuple[Tensor, Tensor]  # (n, K - 1, C) last inputs of the convolution, (n, H, dk, dv) float32 memory
# (x (n, L, C), decay (n, L, H), beta (n, L, H), where to begin, real tokens of each) -> (n, L, H, dv), where each ends
Mixer = Callable[[Tensor, Tensor, Tensor, "State | None", "Tensor | None"], tuple[Tensor, State]]
PADDED_SHARE = 1.25  # how much larger a batch of stretches may be than what it holds


@dataclass(frozen=True, slots=True)
class Stretch:
    """A run of tokens in a row that goes on from another one's end.

    Args:
        start: its first token's place in the row.
        length: its tokens, at least one.
        parent: number of the stretch it goes on from; None: it begins where the row begins.
    """

    start: int
    length: int
    parent: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    """Stretches of like length that are run together: (n, L) places in the row, and which of them are real."""

    numbers: tuple[int, ...]
    parents: tuple[int | None, ...]
    places: Tensor
    real: Tensor | None  # None: all
    lengths: Tensor | None


class StretchPlan:
    """The stretches of a row in an order in which each finds its parent done.

    Args:
        stretches: they cover the row; parents come before children.
        device: where the row lives.
    """

    def __init__(self, stretches: Sequence[Stretch], device: torch.device) -> None:
        self.stretches = tuple(stretches)
        depths: list[int] = []
        for one in self.stretches:
            depths.append(0 if one.parent is None else depths[one.parent] + 1)
        self.batches: list[_Batch] = []
        for depth in range(max(depths, default=-1) + 1):
            numbers = [i for i, d in enumerate(depths) if d == depth]
            numbers.sort(key=lambda i: self.stretches[i].length)
            self.batches += [self._batch(some, device) for some in self._alike(numbers)]
        order = [batch.places if batch.real is None else batch.places[batch.real] for batch in self.batches]
        self.back = torch.cat([places.flatten() for places in order]).argsort()  # from batches' order to the row's

    def _alike(self, numbers: Sequence[int]) -> list[list[int]]:
        """Cut stretches, sorted by length, into batches that padding makes little larger."""
        found: list[list[int]] = []
        for i in numbers:
            sizes = [self.stretches[j].length for j in [*(found[-1] if found else []), i]]
            if found and max(sizes) * len(sizes) <= PADDED_SHARE * sum(sizes):
                found[-1].append(i)
            else:
                found.append([i])
        return found

    def _batch(self, numbers: Sequence[int], device: torch.device) -> _Batch:
        some = [self.stretches[i] for i in numbers]
        starts, lengths = (torch.tensor(x) for x in ([s.start for s in some], [s.length for s in some]))
        steps = torch.arange(int(lengths.max()))
        real = steps < lengths[:, None]  # (n, L) bool, True = a token
        places = torch.where(real, starts[:, None] + steps, starts[:, None]).to(device)
        parents = tuple(s.parent for s in some)
        if bool(real.all()):
            return _Batch(tuple(numbers), parents, places, None, None)
        return _Batch(tuple(numbers), parents, places, real.to(device), lengths.to(device))

    def run(
        self, x: Tensor, decay: Tensor, beta: Tensor, mix: Mixer, begin: State | None
    ) -> tuple[Tensor, list[State]]:
        """Run a recurrent layer over the row.

        Args:
            x: (1, L, C) inputs of the convolution.
            decay: (1, L, H) how much of the memory stays, as a logarithm.
            beta: (1, L, H) how much of it a token writes anew.
            mix: runs sequences that each begin at a state.
            begin: the state at the row's beginning, each (1, ...); None: nothing was read.

        Returns:
            (1, L, H, dv), and the state at the end of every stretch.
        """
        ends: dict[int, State] = {}
        outs: list[Tensor] = []
        for batch in self.batches:
            flat = batch.places.flatten()
            rows = [v[0].index_select(0, flat).view(*batch.places.shape, -1) for v in (x, decay, beta)]
            if batch.real is not None:  # padding must leave the memory as it is
                rows[1], rows[2] = (v.masked_fill(~batch.real[..., None], 0.0) for v in rows[1:])
            states = [begin if parent is None else ends[parent] for parent in batch.parents]
            held = [state for state in states if state is not None]
            joined = (torch.cat([s[0] for s in held]), torch.cat([s[1] for s in held])) if held else None
            out, (inputs, memory) = mix(rows[0], rows[1], rows[2], joined, batch.lengths)
            outs.append(out.flatten(0, 1) if batch.real is None else out[batch.real])
            for i, number in enumerate(batch.numbers):
                ends[number] = inputs[i : i + 1], memory[i : i + 1]
        row = torch.cat(outs).index_select(0, self.back)
        return row[None], [ends[i] for i in range(len(self.stretches))]


def last_inputs(inputs: Tensor, count: int, lengths: Tensor | None) -> Tensor:
    """Return the last `count` inputs of sequences that begin with older ones: (n, count + L, C) -> (n, count, C)."""
    if lengths is None:
        return inputs[:, inputs.shape[1] - count :]
    places = lengths[:, None] + torch.arange(count, device=inputs.device)
    return inputs.gather(1, places[..., None].expand(-1, -1, inputs.shape[2]))
