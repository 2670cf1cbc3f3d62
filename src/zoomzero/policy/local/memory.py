"""Running out of memory, as an error that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from zoomzero.errors import ModelError


@contextmanager
def memory_named(model: str, tokens: int) -> Iterator[None]:
    """Turn running out of memory into one line.

    Args:
        model: what the user called it.
        tokens: in the prompt.

    Raises:
        ModelError: the memory does not take it.
    """
    fix = "lower --budget or use a smaller model"
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ModelError(model, f"out of memory with {tokens} tokens in the prompt", fix) from error
    except RuntimeError as error:
        if "can't allocate memory" not in str(error):
            raise
        raise ModelError(model, f"out of memory with {tokens} tokens in the prompt", fix) from error
