"""Drawing n continuations of each of several contexts together: a prefix is read once a step for all its rows.

On a CPU rows that have ended leave, so that the others get cheaper. On a GPU a step costs what reading the weights
costs, however few its rows are: shapes stay fixed, one step is recorded as a CUDA graph and replayed, everything drawn
stays on the device, and the host looks only now and then whether all rows have ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from zoomzero.policy.base import Sampling
from zoomzero.policy.local.attention.decoding import DecodePass, FixedDecodePass
from zoomzero.policy.local.attention.group_attention import Segment, segment_length
from zoomzero.policy.local.attention.packed import core, family, head
from zoomzero.policy.local.attention.step import can_record, fast_step, plain_step
from zoomzero.policy.local.drawing.recorded import Recorder
from zoomzero.policy.local.drawing.sampling import Sampler, peakedness

LEAVE_AT = 0.9  # ended rows leave when this share of the rows, or less, goes on: a departure copies the others' cache
LOOK_EVERY = 16  # steps on a GPU between looks at which rows have ended: a look makes the host wait for it
WARM_UP = 2  # steps before one is recorded: libraries set themselves up in them
SHORTEST_RECORDED = 24  # tokens for which recording a step pays
Heard = Callable[[list[int]], None]  # the only row's ids so far; none where there are several rows


@dataclass(frozen=True, slots=True)
class Row:
    """One drawn row: token ids, their log-probabilities at temperature 1, and how peaked each step was."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    peaks: tuple[float, ...]
    finished: bool


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """Which ids may be drawn and which end a row.

    Args:
        forbidden: (F,) int64, ids that are never drawn: visual placeholders and embedding rows without a
            token. stops: (S,) int64, ids that end a row.
    """

    forbidden: Tensor
    stops: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Start:
    """Where the rows of one prompt begin.

    Args:
        segments: the prompt's keys and values, in stretches.
        last_hidden: (D,) its last state, which predicts the first token.
        next_position: the position of the first token.
        sampling: how to draw.
    """

    segments: tuple[Segment, ...]
    last_hidden: Tensor
    next_position: int
    sampling: Sampling

    @property
    def length(self) -> int:
        """Tokens read."""
        return sum(segment_length(segment) for segment in self.segments)


def decode(
    model: Any,
    starts: Sequence[Start],
    n: int,
    vocabulary: Vocabulary,
    recorder: Recorder | None = None,
    *,
    fixed: bool | None = None,
    heard: Heard | None = None,
) -> list[list[Row]]:
    """Draw n rows after each of several prompts that were read once; all rows step together.

    Args:
        model: the prepared model.
        starts: the prompts; their samplings differ in nothing but the seed.
        n: rows of each prompt.
        vocabulary: what may be drawn and what ends a row.
        recorder: the policy's, which keeps recorded steps; one for this call alone when None.
        fixed: keep shapes fixed (and record the step where there is a GPU); None: where it pays.
        heard: called while rows are written, after every token on a CPU and now and then on a GPU.

    Returns:
        For every prompt its n rows.

    Raises:
        ValueError: samplings that differ in more than the seed.
    """
    if len({replace(start.sampling, seed=0) for start in starts}) > 1:
        raise ValueError("prompts that are decoded together may differ in their sampling's seed only")
    order = sorted(range(len(starts)), key=lambda i: starts[i].length)  # neighbours of like length share a block
    if fixed is None:
        long = starts[0].sampling.max_tokens >= SHORTEST_RECORDED
        fixed = (
            starts[0].last_hidden.device.type == "cuda"
            and long
            and can_record(family(model), core(model).language_model)
        )
    ordered = [starts[i] for i in order]
    if fixed:
        recorder = Recorder() if recorder is None else recorder
        writing = _written_fixed(model, ordered, n, vocabulary, recorder, heard)
    else:
        writing = Writing(model, ordered, n, vocabulary)
        _write(writing, heard)
    rows = writing.rows()
    return [rows[order.index(i) * n : (order.index(i) + 1) * n] for i in range(len(starts))]


class Writing:
    """Rows being written, those of the first prompt first. Nothing here makes the host wait for the device.

    Args:
        model, starts, n, vocabulary: see `decode`.
        fixed: all rows go on to the end, so that shapes stay; the count of written tokens lives on the device.
        own: read prompts from memory of its own, so that it can `restart` with others.
    """

    def __init__(
        self,
        model: Any,
        starts: Sequence[Start],
        n: int,
        vocabulary: Vocabulary,
        fixed: bool = False,
        own: bool = False,
    ) -> None:
        self.text, self.lm_head, self.vocabulary = core(model).language_model, head(model), vocabulary
        kind = family(model)
        self.step = fast_step(kind, self.text) or partial(plain_step, kind)
        self.max_tokens, self.prompts, self.count = starts[0].sampling.max_tokens, len(starts), len(starts) * n
        self.device = starts[0].last_hidden.device
        prompts, rows = [start.segments for start in starts], [n] * len(starts)
        self.attention: DecodePass = (
            FixedDecodePass(prompts, rows, self.max_tokens, own)
            if fixed
            else DecodePass(prompts, rows, self.max_tokens)
        )
        self.sampler = Sampler([start.sampling for start in starts], n, self.device)
        self.written: int | Tensor = torch.zeros((), dtype=torch.int64, device=self.device) if fixed else 0
        self.active = torch.arange(self.count, device=self.device)  # (m,) numbers of the rows that are being written
        self.first_position, self.hidden = self._beginning(starts)
        cells = self.max_tokens * self.count
        self.ids = torch.zeros(cells, dtype=torch.int64, device=self.device)
        self.logprobs = torch.zeros(cells, device=self.device)
        self.peaks = torch.zeros(cells, device=self.device)
        self.going = torch.ones(self.count, dtype=torch.bool, device=self.device)  # True = has not ended

    def _beginning(self, starts: Sequence[Start]) -> tuple[Tensor, Tensor]:
        """Return every row's first position (rows,) and the state before it (rows, D)."""
        n = self.count // self.prompts
        firsts = torch.tensor([start.next_position for start in starts], device=self.device)
        return firsts.repeat_interleave(n), torch.stack([s.last_hidden for s in starts]).repeat_interleave(n, 0)

    def restart(self, starts: Sequence[Start]) -> None:
        """Begin anew with prompts of the same shape, everything in the place it had: a recorded step stays true."""
        assert isinstance(self.attention, FixedDecodePass)
        assert isinstance(self.written, Tensor)
        self.attention.restart([start.segments for start in starts])
        self.sampler.restart([start.sampling for start in starts])
        first_position, hidden = self._beginning(starts)
        self.first_position.copy_(first_position)
        self.hidden.copy_(hidden)
        for counted in (self.written, self.ids, self.logprobs, self.peaks):
            counted.zero_()
        self.going.fill_(True)

    def draw(self) -> Tensor:
        """Draw and record a token for each active row, (m,) int64."""
        at = self.active + self.written * self.count
        logits = self.lm_head(self.hidden).float()
        tokens = self.sampler.draw(logits.index_fill(-1, self.vocabulary.forbidden, float("-inf")), at)
        logprobs = logits.log_softmax(-1)
        self.ids.index_copy_(0, at, tokens)
        self.logprobs.index_copy_(0, at, logprobs.gather(-1, tokens[:, None])[:, 0])
        self.peaks.index_copy_(0, at, peakedness(logprobs))
        ended = (tokens[:, None] == self.vocabulary.stops).any(1)
        self.going.index_copy_(0, self.active, self.going.index_select(0, self.active) & ~ended)
        return tokens

    def feed(self, tokens: Tensor) -> None:
        """Run the active rows' tokens through the model."""
        positions = self.first_position.index_select(0, self.active) + self.written
        hidden = self.step(self.text, tokens, positions, self.attention)
        self.attention.advance()
        if isinstance(self.written, Tensor):
            self.hidden.copy_(hidden)
            self.written.add_(1)
        else:
            self.hidden = hidden
            self.written += 1

    def leave(self, tokens: Tensor, going: Tensor) -> Tensor:
        """Go on with some of the active rows only, (k,) their places; return their tokens."""
        self.active = self.active[going]
        counts = torch.bincount(self.active // (self.count // self.prompts), minlength=self.prompts)
        self.attention.keep_rows(going, counts.tolist())
        return tokens[going]

    def told(self, done: int) -> list[int]:
        """Return the ids of the only row after `done` tokens; none where there are several rows."""
        return self.ids[:done].tolist() if self.count == 1 else []

    def rows(self) -> list[Row]:
        """Return every row up to its first stop token."""
        if self.max_tokens == 0:
            return [Row((), (), (), False)] * self.count
        steps = int(self.written) + 1
        columns = [x.view(self.max_tokens, self.count)[:steps].T for x in (self.ids, self.logprobs, self.peaks)]
        ends = torch.isin(columns[0], self.vocabulary.stops)
        finished = ends.any(1)
        lengths = torch.where(finished, ends.int().argmax(1) + 1, steps)
        values = (x.tolist() for x in (*columns, lengths, finished))
        return [Row(tuple(i[:m]), tuple(p[:m]), tuple(k[:m]), f) for i, p, k, m, f in zip(*values, strict=True)]


def _write(writing: Writing, heard: Heard | None) -> None:
    """Write all rows to their ends; ended ones leave in company."""
    every = 1 if writing.device.type == "cpu" else LOOK_EVERY
    for done in range(1, writing.max_tokens + 1):
        tokens = writing.draw()
        if done == writing.max_tokens:
            break
        if done % every == 0:
            if heard is not None:
                heard(writing.told(done))
            going = writing.going.index_select(0, writing.active).nonzero()[:, 0]
            if len(going) == 0:
                break
            if len(going) <= LEAVE_AT * len(writing.active):
                tokens = writing.leave(tokens, going)
        writing.feed(tokens)


def _written_fixed(
    model: Any,
    starts: Sequence[Start],
    n: int,
    vocabulary: Vocabulary,
    recorder: Recorder,
    heard: Heard | None,
) -> Writing:
    """Write all rows with fixed shapes, by the recording kept for this shape when there is one."""
    shape = recorder.shape_of(core(model).language_model, head(model), starts, n, vocabulary)
    held = recorder.kept(shape)
    if held is not None:
        writing, step = held
        writing.restart(starts)
        _write_fixed(writing, recorder, heard, step)
        return writing
    own = recorder.worth_keeping(shape, [start.segments for start in starts])
    writing = Writing(model, starts, n, vocabulary, fixed=True, own=own)
    step = _write_fixed(writing, recorder, heard)
    if own:
        recorder.keep(shape, writing, step)
    return writing


def _write_fixed(
    writing: Writing, recorder: Recorder, heard: Heard | None, recorded: Callable[[], object] | None = None
) -> Callable[[], object]:
    """Write all rows to the end of the last one with fixed shapes, repeating one recorded step; return that step."""

    def once() -> None:
        writing.feed(writing.draw())

    def warm_up() -> None:
        for _ in range(warm):
            once()

    again, warm = recorded, 0
    if again is None:
        warm = min(WARM_UP, writing.max_tokens - 1)
        recorder.warm_up(writing.device, warm_up)
        again = recorder.record(writing.device, once) if writing.max_tokens - 1 > warm else once
    for done in range(warm + 1, writing.max_tokens):
        again()
        if done % LOOK_EVERY == 0:
            if heard is not None:
                heard(writing.told(done))
            if not bool(writing.going.any()):
                return again
    if writing.max_tokens:
        writing.draw()  # the last token needs no state after it
    return again
