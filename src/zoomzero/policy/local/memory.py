"""Memory: how much may be read at once, smaller batches when it runs out, and one line when nothing helps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from zoomzero.errors import ModelError

SPENT = 0.6  # share of the free memory that one row's keys, values and work may take


class OutOfMemory(ModelError):
    """The device's memory does not take what was asked."""


@contextmanager
def memory_named(model: str, tokens: int, device: torch.device) -> Iterator[None]:
    """Turn running out of memory into one line.

    Args:
        model: what the user called it.
        tokens: in the prompt.
        device: whose memory it is.

    Raises:
        OutOfMemory: it does not take so many tokens.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise _named(model, tokens, device) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise _named(model, tokens, device) from error


def _named(model: str, tokens: int, device: torch.device) -> OutOfMemory:
    held = ""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        ours = torch.cuda.memory_allocated(device)
        held = f" on {device}: {ours / 2**30:.1f} GiB are the model's and its contexts', {free / 2**30:.1f} of "
        held += f"{total / 2**30:.1f} GiB are free"
    fix = "lower --budget or use a smaller model (`zoomzero doctor --model` says what fits)"
    return OutOfMemory(model, f"out of memory with {tokens} tokens in the prompt{held}", fix)


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
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    middle = 0 if freed else len(batch) // 2
    for part in (batch[:middle], batch[middle:]):
        if part:
            in_halves(part, run, spare)


def tokens_that_fit(device: torch.device, bytes_per_token: float, most: int) -> int:
    """Return how many tokens may be read at once.

    Args:
        device: where.
        bytes_per_token: keys, values and work of a token.
        most: upper limit, which is all that counts on a CPU.
    """
    if device.type != "cuda":
        return most
    free, _ = torch.cuda.mem_get_info(device)
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return max(1, min(most, int(SPENT * (free + unused) / bytes_per_token)))
