"""Memory: how much may be done at once, smaller batches when it runs out, and one line when nothing helps."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from zoomzero.errors import ModelError
from zoomzero.policy.local.attention.packed import fill_rows

if TYPE_CHECKING:
    from zoomzero.policy.local.families import Family

SPENT = 0.6  # share of the free memory that what is done at once may take
ASK_LESS = "lower --budget or use a smaller model (`zoomzero doctor --model` says what fits)"


class OutOfMemory(ModelError):
    """The device's memory does not take what was asked."""


@dataclass(frozen=True, slots=True)
class TokenBytes:
    """What a network takes in memory beside its weights, in bytes.

    Args:
        kept: keys and values of one token of context, all layers.
        state: recurrent states of one sequence, all layers.
        work: what a token takes while a row is read.
        seen: what a visual token takes while the vision tower looks at its patches.
    """

    kept: float
    state: float
    work: float
    seen: float


def token_bytes(family: type[Family], config: Any, bytes_per_number: float) -> TokenBytes:
    """Return what a network's tokens take, from its configuration.

    Args:
        family: of the network.
        config: the network's configuration.
        bytes_per_number: of the number type it computes in.
    """
    text, seen = config.text_config, config.vision_config
    kinds = family.layer_kinds(text)
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    kept = kinds.count("attention") * 2 * text.num_key_value_heads * head_width * bytes_per_number
    inner = getattr(text, "moe_intermediate_size", None)
    inner = inner * text.num_experts_per_tok if inner else text.intermediate_size
    levels = 1 + len(getattr(seen, "deepstack_visual_indexes", None) or ())
    work = (2 * inner + (8 + levels) * text.hidden_size) * bytes_per_number
    pixels = 4.0 * 3 * seen.temporal_patch_size * seen.patch_size**2
    within = getattr(seen, "intermediate_size", None) or 4 * seen.hidden_size  # older towers do not say
    patch = pixels + (2 * within + 8 * seen.hidden_size) * bytes_per_number
    state = kinds.count("recurrent") * _state_bytes(text, bytes_per_number)
    return TokenBytes(kept, state, work, seen.spatial_merge_size**2 * patch)


def _state_bytes(text: Any, bytes_per_number: float) -> float:
    """Return the bytes of one recurrent layer's state."""
    if not hasattr(text, "linear_num_value_heads"):
        return 0.0
    keys, values = text.linear_num_key_heads * text.linear_key_head_dim, text.linear_value_head_dim
    inputs = (2 * keys + text.linear_num_value_heads * values) * (text.linear_conv_kernel_dim - 1)
    memory = 4.0 * text.linear_num_value_heads * text.linear_key_head_dim * values
    return float(memory + inputs * bytes_per_number)


@contextmanager
def memory_named(model: str, device: torch.device, doing: str, fix: str = ASK_LESS) -> Iterator[None]:
    """Turn running out of memory into one line.

    Args:
        model: what the user called it.
        device: whose memory it is.
        doing: what is being done.
        fix: what the user can do about it.

    Raises:
        OutOfMemory: it does not take that.
    """
    try:
        yield
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise _named(model, device, doing, fix) from error


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch says that memory ended; on a CPU its kind does not."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _named(model: str, device: torch.device, doing: str, fix: str) -> OutOfMemory:
    held = ""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        ours = torch.cuda.memory_allocated(device)
        held = f" on {device}: {ours / 2**30:.1f} GiB are the model's and its contexts', {free / 2**30:.1f} of "
        held += f"{total / 2**30:.1f} GiB are free"
    return OutOfMemory(model, f"out of memory {doing}{held}", fix)


def batches(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Return the places of things cut, from the smallest on, into batches of at most `most` (a larger one goes alone).

    Args:
        sizes: of the things.
        most: that a batch may hold.
    """
    return fill_rows(sizes, most, sorted(range(len(sizes)), key=sizes.__getitem__))


def in_halves(
    batch: Sequence[int], run: Callable[[Sequence[int]], None], spare: Callable[[], bool] = lambda: False
) -> None:
    """Run a batch; when the memory does not take it, its halves one after the other.

    Args:
        batch: places of things that can be done together or alone.
        run: does them.
        spare: lets go what is kept for speed alone, and says whether that was anything: then all is tried once more.

    Raises:
        OutOfMemory: one thing alone is too much.
    """
    try:
        run(batch)
        return
    except OutOfMemory:
        freed = spare()
        if len(batch) < 2 and not freed:
            raise
    gc.collect()  # what the failed batch held may hang on its error's frames
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = 0 if freed else len(batch) // 2
    for part in (batch[:middle], batch[middle:]):
        if part:
            in_halves(part, run, spare)


def tokens_that_fit(device: torch.device, bytes_per_token: float, most: int) -> int:
    """Return how many tokens may be done at once.

    Args:
        device: where.
        bytes_per_token: what one of them takes.
        most: upper limit, which is all that counts on a CPU.
    """
    if device.type != "cuda":
        return most
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, min(most, int(SPENT * (free + unused) / bytes_per_token)))
