"""What each token sees while rows are written: the prefix of its own prompt, and what its row has written so far.

All rows of all prompts step together. A prefix is read once a step for all rows that share it; prompts of similar
length stand side by side in one padded block, which is one attention call.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from zoomzero.policy.local.attention.group_attention import KV, Segment, segment_length
from zoomzero.policy.local.attention.recurrent import Mixer, State
from zoomzero.policy.local.attention.shared_attention import Ragged, attend_all, attend_own, join

PADDED_SHARE = 1.5  # how much larger a block may be than what it holds; on a CPU calls are dearer than padding
FIRST_CACHE = 64  # tokens a row's cache holds at first; it doubles when they are written


@dataclass(frozen=True, slots=True, eq=False)
class _Block:
    """Prefixes that are read by one attention call a layer (one for every stretch of a prompt on its own).

    Args:
        prompts: numbers of the prompts, neighbours.
        stretches: keys and values (count, Hkv, P, d) of every layer.
        mask: (count, 1, 1, P) additive, -inf where padding is; None without padding.
    """

    prompts: tuple[int, ...]
    stretches: tuple[Segment, ...]
    mask: Tensor | None = None

    def keep(self, prompts: Sequence[int]) -> _Block:
        """Return the block with some of its prompts only."""
        index = torch.tensor([self.prompts.index(i) for i in prompts])

        def kept(x: Tensor) -> Tensor:
            return x.index_select(0, index.to(x.device))

        stretches = tuple(tuple((kept(k), kept(v)) for k, v in stretch) for stretch in self.stretches)
        return _Block(tuple(prompts), stretches, None if self.mask is None else kept(self.mask))


def _pad_together(first: int, prompts: Sequence[Sequence[Segment]]) -> _Block:
    """Return the prefixes of several prompts as one block, padded with zeros on the right."""
    lengths = [_length(prompt) for prompt in prompts]
    layers: list[KV] = []
    for layer, (like, _) in enumerate(prompts[0][0]):
        if like.ndim != 4:  # a recurrent layer: its state is forked, not attended to
            layers.append((like.new_empty(len(prompts), 0), like.new_empty(len(prompts), 0)))
            continue
        shape = (len(prompts), like.shape[1], max(lengths), like.shape[3])
        pair = (like.new_zeros(shape), like.new_zeros(shape))
        for i, prompt in enumerate(prompts):
            for which, block in enumerate(pair):
                block[i, :, : lengths[i]] = torch.cat([segment[layer][which] for segment in prompt], 2)[0]
        layers.append(pair)
    mask = None
    if min(lengths) < max(lengths):
        empty = torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None]  # (count, P)
        mask = torch.zeros(empty.shape).masked_fill(empty, float("-inf"))[:, None, None]
        mask = mask.to(layers[0][0].device, layers[0][0].dtype)
    return _Block(tuple(range(first, first + len(prompts))), (tuple(layers),), mask)


def _blocks(prompts: Sequence[Sequence[Segment]], padded_share: float) -> list[_Block]:
    """Group neighbouring prompts into blocks; a prompt on its own keeps its stretches as they are, uncopied."""
    lengths = [_length(prompt) for prompt in prompts]
    blocks: list[_Block] = []
    start = 0
    while start < len(prompts):
        stop = start + 1
        while stop < len(prompts):
            sizes = lengths[start : stop + 1]
            if max(sizes) * len(sizes) > padded_share * sum(sizes):
                break
            stop += 1
        alone = stop - start == 1
        blocks.append(_Block((start,), tuple(prompts[start])) if alone else _pad_together(start, prompts[start:stop]))
        start = stop
    return blocks


def _length(prompt: Sequence[Segment]) -> int:
    return sum(segment_length(segment) for segment in prompt)


def _forked(ends: Sequence[Segment], rows: Sequence[int]) -> dict[int, State]:
    """Return, for every recurrent layer, the state of each row: a copy of its prompt's last one."""
    found: dict[int, State] = {}
    for layer, (like, _) in enumerate(ends[0]):
        if like.ndim != 4:
            counts = torch.tensor(rows, device=like.device)
            inputs, memory = (torch.cat([end[layer][which] for end in ends]) for which in (0, 1))
            found[layer] = inputs.repeat_interleave(counts, 0), memory.repeat_interleave(counts, 0)
    return found


class DecodePass:
    """One token for each row of each prompt: it sees its prompt's prefix and what its row has written.

    Args:
        prompts: for every prompt its stretches of keys and values; blocks are fuller when they come in order of length.
        rows: rows of each prompt. Rows of one prompt lie together, prompts in order.
        capacity: most tokens a row may write.
    """

    def __init__(self, prompts: Sequence[Sequence[Segment]], rows: Sequence[int], capacity: int) -> None:
        self.capacity, self.step = capacity, 0
        self.mask: Tensor | None = None
        self.caches: dict[int, KV] = {}
        self.device = prompts[0][0][0][0].device
        self.states = _forked([prompt[-1] for prompt in prompts], rows)
        # fused kernels of a GPU take no mask; there every prompt is a call of its own
        self.padded_share = 0.0 if self.device.type == "cuda" else PADDED_SHARE
        self.blocks = _blocks(prompts, self.padded_share)
        self._plan(rows)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        """q (m, H, 1, d), k and v (m, Hkv, 1, d) -> (m, H, 1, d); writes k and v to the rows' cache."""
        keys, values = self._write(layer, k, v)
        shared_out, shared_lse = self._shared(layer, q, scale)
        return attend_own(q, keys, values, scale, shared_out, shared_lse, self.mask)

    def recur(self, layer: int, x: Tensor, decay: Tensor, beta: Tensor, mix: Mixer) -> Tensor:
        """x (m, 1, C), decay and beta (m, 1, H) -> (m, 1, H, dv); moves the rows' states on by a token."""
        out, self.states[layer] = mix(x, decay, beta, self.states[layer], None)
        return out

    def _write(self, layer: int, k: Tensor, v: Tensor) -> KV:
        """Put one token into the rows' cache and return all that is written, (m, Hkv, S, d)."""
        keys, values = self._cache(layer, k, v)
        here, seen = slice(self.step, self.step + 1), slice(0, self.step + 1)
        keys[:, :, here], values[:, :, here] = k, v
        return keys[:, :, seen], values[:, :, seen]

    def _shared(self, layer: int, q: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        """Attend to the prefixes: out (m, H, 1, d) and lse (m, H, 1) float32."""
        query = q.transpose(0, 2)  # (1, H, m, d): rows become a length
        outs, lses = [], []
        for block, (here, ragged) in zip(self.blocks, self.plans, strict=True):
            ragged = ragged.on(q.device)
            rows = ragged.pad(query[:, :, here])  # (count, H, S, d)
            mask = None if block.mask is None else block.mask.to(q.device)
            parts = [attend_all(rows, *stretch[layer], scale, mask)[:2] for stretch in block.stretches]
            out, lse = parts[0] if len(parts) == 1 else join([out for out, _ in parts], [lse for _, lse in parts])
            outs.append(ragged.unpad(out))
            lses.append(ragged.unpad(lse))
        out, lse = (x[0] if len(x) == 1 else torch.cat(x, 2) for x in (outs, lses))
        return out.transpose(0, 2), lse.transpose(0, 2)

    def advance(self) -> None:
        """Move on to the next token, after every layer has attended."""
        self.step += 1

    def keep_rows(self, rows: Tensor, counts: Sequence[int]) -> None:
        """Go on with some of the rows only.

        Args:
            rows: (m,) their index among the rows so far.
            counts: how many of them each prompt has.
        """
        self.caches = {
            layer: (
                _room(k[:, :, : self.step].index_select(0, rows.to(k.device)), k.shape[2]),
                _room(v[:, :, : self.step].index_select(0, rows.to(v.device)), v.shape[2]),
            )
            for layer, (k, v) in self.caches.items()
        }
        self.states = {
            layer: (inputs.index_select(0, rows.to(inputs.device)), memory.index_select(0, rows.to(memory.device)))
            for layer, (inputs, memory) in self.states.items()
        }
        self._plan(counts)

    def _cache(self, layer: int, k: Tensor, v: Tensor) -> KV:
        if layer not in self.caches:
            size = min(FIRST_CACHE, self.capacity)
            self.caches[layer] = _room(k[:, :, :0], size), _room(v[:, :, :0], size)
        keys, values = self.caches[layer]
        if keys.shape[2] == self.step:
            size = min(2 * self.step, self.capacity)
            self.caches[layer] = keys, values = _room(keys, size), _room(values, size)
        return keys, values

    def _plan(self, counts: Sequence[int]) -> None:
        """Lay out which rows read which block; leave out prompts that are done once they are half of a block."""
        firsts = [sum(counts[:i]) for i in range(len(counts) + 1)]
        blocks = []
        for block in self.blocks:
            going = [i for i in block.prompts if counts[i]]
            if going:
                blocks.append(block.keep(going) if 2 * len(going) <= len(block.prompts) else block)
        self.blocks = blocks
        self.plans = [
            (
                slice(firsts[block.prompts[0]], firsts[block.prompts[-1] + 1]),
                Ragged([counts[i] for i in block.prompts], self.device),
            )
            for block in blocks
        ]


class FixedDecodePass(DecodePass):
    """The same with shapes that never change and a step that lives on the device: for a recorded step.

    The rows' cache has its full size from the start; what is not written yet is hidden by a mask.

    Args:
        prompts, rows, capacity: see `DecodePass`.
        own: copy the prompts' keys and values, so that `restart` can put others in their place.
    """

    def __init__(
        self, prompts: Sequence[Sequence[Segment]], rows: Sequence[int], capacity: int, own: bool = False
    ) -> None:
        super().__init__(prompts, rows, capacity)
        self.rows = tuple(rows)
        if own:
            self.blocks = [replace(block, stretches=tuple(map(_copied, block.stretches))) for block in self.blocks]
        self.now = torch.zeros(1, dtype=torch.int64, device=self.device)  # tokens written
        self.places = torch.arange(capacity, device=self.device)
        self.mask = torch.zeros(capacity, device=self.device).masked_fill(self.places > 0, float("-inf"))

    def advance(self) -> None:
        """Move on to the next token."""
        assert self.mask is not None
        self.now.add_(1)
        self.mask.masked_fill_(self.places <= self.now, 0.0)

    def restart(self, prompts: Sequence[Sequence[Segment]]) -> None:
        """Begin anew with prompts of the same lengths, put where the ones before were, in memory that is its own."""
        assert self.mask is not None
        for block, fresh in zip(self.blocks, _blocks(prompts, self.padded_share), strict=True):
            for mine, theirs in zip(block.stretches, fresh.stretches, strict=True):
                for (k, v), (new_k, new_v) in zip(mine, theirs, strict=True):
                    k.copy_(new_k)
                    v.copy_(new_v)
        self.states = _forked([prompt[-1] for prompt in prompts], self.rows)
        self.step = 0
        self.now.zero_()
        self.mask.masked_fill_(self.places > 0, float("-inf"))  # hides what the rows before have written

    def keep_rows(self, rows: Tensor, counts: Sequence[int]) -> None:
        """Not here: rows stay.

        Raises:
            TypeError: always.
        """
        raise TypeError("rows of fixed shape cannot leave")

    def _write(self, layer: int, k: Tensor, v: Tensor) -> KV:
        if layer not in self.caches:  # zeros: hidden values count 0 times, which must not be 0 times NaN
            shape = (k.shape[0], k.shape[1], self.capacity, k.shape[3])
            self.caches[layer] = k.new_zeros(shape), v.new_zeros(shape)
        keys, values = self.caches[layer]
        return keys.index_copy_(2, self.now, k), values.index_copy_(2, self.now, v)


def _copied(stretch: Segment) -> Segment:
    """Return a stretch in memory of its own."""
    return tuple((k.clone(), v.clone()) for k, v in stretch)


def _room(x: Tensor, tokens: int) -> Tensor:
    """(m, Hkv, T, d) -> a new tensor (m, Hkv, tokens, d) that begins with it."""
    larger = x.new_empty(x.shape[0], x.shape[1], tokens, x.shape[3])
    larger[:, :, : x.shape[2]] = x
    return larger
