"""What several commands do: print, check an argument, load a model."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from zoomzero.errors import ConfigError

DEVICES = ("auto", "cpu", "cuda", "mps", "xpu")


def print_text(text: str) -> None:
    """Print; a reader that has left (`| head`) is no error."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit


def check_device(device: str) -> None:
    """Refuse a device of a kind nobody has.

    Raises:
        ConfigError: the device is unknown.
    """
    if device.partition(":")[0] not in DEVICES:
        raise ConfigError("--device", f"{device!r} is unknown", f"use {', '.join(DEVICES)} or cuda:N")


def page_place(html: str | None, setting: str = "--html") -> Path | None:
    """Return where a page will lie; that nothing can be written there is said before the work is done.

    Args:
        html: the file the user named; None: no page is wanted.
        setting: the option that named it.

    Raises:
        ConfigError: it cannot be written.
    """
    if html is None:
        return None
    page = Path(html).expanduser()
    if page.is_dir():
        raise ConfigError(setting, f"{page} is a directory", "give the name of a file")
    if not page.parent.is_dir():
        raise ConfigError(setting, f"there is no directory {page.parent}", "make it first")
    if not os.access(page.parent, os.W_OK):
        raise ConfigError(setting, f"nothing can be written to {page.parent}", "give a file in another directory")
    return page


def load_model(
    model: str, device: str, dtype: str, overrides: Any, *, adapter: str | None = None, quantize: str | None = None
) -> tuple[Any, Any]:
    """Load a policy and its settings.

    Args:
        model: `tiny`, a checkpoint directory or a hub id.
        device, dtype: as `load_policy` takes them.
        overrides: of the model's settings, `key=value` each.
        adapter, quantize: as `load_policy` takes them.

    Raises:
        ConfigError: an unknown device or setting.
        ModelError: the checkpoint cannot be found or loaded.
    """
    from zoomzero.policy.open import open_model

    check_device(device)
    opened: tuple[Any, Any] = open_model(
        model, device=device, dtype=dtype, overrides=overrides, adapter=adapter, quantize=quantize
    )
    return opened
