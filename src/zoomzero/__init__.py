"""Grounded video question answering, coarse to fine (Zoom-Zero, arXiv 2512.14273).

```python
import zoomzero

model = zoomzero.load("Qwen/Qwen3-VL-2B-Instruct")
trace = model.ask("walk.mp4", "Who enters first?", options=["the man", "the woman"], mode="zoom")
print(trace.option, trace.spans, trace.confidence, trace.reason)
```

Importing this loads neither torch nor transformers; `load` does.
"""

from __future__ import annotations

from collections.abc import Sequence

# `typing` and what is below would be loaded before the command can end quietly on Ctrl-C
TYPE_CHECKING = False
if TYPE_CHECKING:
    from zoomzero.answer.trace import PassTrace, Trace
    from zoomzero.errors import (
        ConfigError,
        DataError,
        EvaluationError,
        ModelError,
        TrainingError,
        VideoError,
        ZoomZeroError,
    )
    from zoomzero.model import Model
    from zoomzero.spans import Span

__version__ = "0.1.0"
__all__ = [
    "ConfigError",
    "DataError",
    "EvaluationError",
    "ModelError",
    "PassTrace",
    "Span",
    "Trace",
    "TrainingError",
    "VideoError",
    "ZoomZeroError",
    "load",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """Import a public name when it is first used."""
        import importlib

        if name in ("answer", "errors", "spans"):
            return importlib.import_module(f"zoomzero.{name}")
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        homes = {"PassTrace": "answer.trace", "Trace": "answer.trace", "Span": "spans"}
        return getattr(importlib.import_module(f"zoomzero.{homes.get(name, 'errors')}"), name)


def __dir__() -> list[str]:
    """Name what is imported when it is used, too: completion in shells and notebooks reads this."""
    return sorted({*globals(), *__all__})


def load(
    model: str = "tiny",
    *,
    device: str = "auto",
    dtype: str = "auto",
    settings: Sequence[str] = (),
    adapter: str | None = None,
    quantize: str | None = None,
) -> Model:
    """Load a model that answers questions about videos.

    Args:
        model: `tiny` (embedded: coloured shapes and nothing else), a checkpoint directory, a hub id such as
            `Qwen/Qwen3-VL-2B-Instruct`, or a server, `http://HOST:PORT/v1#NAME` (docs/servers.md).
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        settings: changes to how the model is asked, `key=value` each, for example `coarse.fps=2`
            (docs/reference/formats.md).
        adapter: a LoRA adapter to add to the model, a directory or a hub id; `model` itself may be one.
        quantize: `4bit` or `8bit`: round a plain checkpoint's matrices while it is loaded (docs/models.md).

    Returns:
        A model with `ask` and `ask_many`.

    Raises:
        ConfigError: an unknown setting.
        ModelError: the model cannot be found or loaded.
    """
    from zoomzero.model import Model
    from zoomzero.policy.open import open_model

    return Model(*open_model(model, device=device, dtype=dtype, overrides=settings, adapter=adapter, quantize=quantize))
