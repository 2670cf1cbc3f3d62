"""Recorded decoding steps: one stream and one pool of memory for the life of a policy, recordings used again by shape.

A recording holds addresses, so what it reads must stay where it is. The first time a shape is written the prompts' keys
and values are read where they are, and the recording is not kept. When the same shape comes next as well, they are
copied into memory of the recording's own, which later prompts of this shape are copied into.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from zoomzero.policy.local.attention.group_attention import Segment, segment_length

if TYPE_CHECKING:
    from zoomzero.policy.local.drawing.generate import Start, Vocabulary, Writing

OWN_SHARE = 0.1  # of a GPU's free memory that the prompts of a kept recording may take

Prompts = Sequence[Sequence[Segment]]


@dataclass(frozen=True, slots=True, eq=False)
class _Kept:
    shape: tuple[object, ...]
    writing: Writing
    step: Callable[[], object]


class Recorder:
    """Records steps and keeps the last one whose shape came twice in a row."""

    def __init__(self) -> None:
        self._stream: Any = None
        self._pool: Any = None
        self._last: Any = None  # the graph that keeps the pool alive
        self._before: tuple[object, ...] | None = None
        self._kept: _Kept | None = None

    def shape_of(
        self, text: Any, head: Any, starts: Sequence[Start], n: int, vocabulary: Vocabulary
    ) -> tuple[object, ...] | None:
        """Return all that a recording depends on besides values, or None where it must not be used again.

        That is under autocast, whose copies of weights end with it, and with adapters, which are switched on and off
        without a weight changing its place.
        """
        device = starts[0].last_hidden.device
        modules = [module for part in (text, head) for module in part.modules()]
        # a setting of adapters; models of transformers have a method of this name
        adapted = any(isinstance(getattr(module, "disable_adapters", None), bool) for module in modules)
        if adapted or torch.is_autocast_enabled(device.type):
            return None
        places = tuple(p.data_ptr() for part in (text, head) for p in part.parameters())
        lengths = tuple(tuple(segment_length(s) for s in start.segments) for start in starts)
        how = starts[0].sampling
        drawn = (n, how.temperature, how.top_p, how.max_tokens, starts[0].last_hidden.dtype, device)
        inference = torch.is_inference_mode_enabled()  # what was made there cannot be written to outside
        return (lengths, drawn, inference, places, vocabulary)  # a vocabulary equals itself alone

    def kept(self, shape: tuple[object, ...] | None) -> tuple[Writing, Callable[[], object]] | None:
        """Return what was kept for a shape."""
        if shape is None or self._kept is None or self._kept.shape != shape:
            return None
        return self._kept.writing, self._kept.step

    def worth_keeping(self, shape: tuple[object, ...] | None, prompts: Prompts) -> bool:
        """Return whether the shape came before this time too, and its prompts are small enough to be held twice."""
        again, self._before = shape is not None and shape == self._before, shape
        tensors = [x for prompt in prompts for segment in prompt for pair in segment for x in pair]
        if not again or tensors[0].device.type != "cuda":
            return again
        free, _ = torch.cuda.mem_get_info(tensors[0].device)
        return sum(x.nbytes for x in tensors) <= OWN_SHARE * free

    def keep(self, shape: tuple[object, ...] | None, writing: Writing, step: Callable[[], object]) -> None:
        """Keep a recording in the place of the one before."""
        assert shape is not None
        self._kept = _Kept(shape, writing, step)

    def forget(self) -> bool:
        """Let the kept recording go; return whether there was one."""
        had, self._kept, self._before = self._kept is not None, None, None
        return had

    def warm_up(self, device: torch.device, run: Callable[[], None]) -> None:
        """Run something on the stream that is recorded on: libraries set themselves up for it."""
        if device.type != "cuda":
            run()
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(self._stream):
            run()
        torch.cuda.current_stream(device).wait_stream(self._stream)

    def record(self, device: torch.device, once: Callable[[], None]) -> Callable[[], object]:
        """Return what does a step again: a recording on a GPU, the step itself elsewhere. Needs a `warm_up` first."""
        if device.type != "cuda":
            return once
        if self._last is None:  # a pool ends with the last graph in it, and with a recording that fails
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        # other threads (video decoding) may use the device meanwhile
        how = {"pool": self._pool, "stream": self._stream, "capture_error_mode": "thread_local"}
        with torch.cuda.graph(graph, **how):
            once()
        self._last = graph
        replay: Callable[[], object] = graph.replay
        return replay
