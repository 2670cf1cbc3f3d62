"""What is installed, what it runs on, and what will be slow."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Iterator
from importlib import resources

from zoomzero.models import EMBEDDED

REQUIRED = (
    "torch",
    "transformers",
    "av",
    "numpy",
    "pydantic",
    "pysubs2",
    "safetensors",
    "tokenizers",
    "accelerate",
    "peft",
    "tensorboard",
)
OPTIONAL = {
    "pyarrow": "parquet annotation files (pip install pyarrow)",
    "openai": "models behind servers (pip install 'openai>=3')",
    "gradio": "the web app (pip install 'gradio[mcp]>=6.31')",
    "faster-whisper": "--transcribe (pip install faster-whisper)",
    "bitsandbytes": "--quantize (pip install bitsandbytes)",
    "ray": "clusters (pip install 'ray>=2.40')",
}
CODECS = ("h264", "hevc", "vp8", "vp9", "av1")


def report() -> tuple[str, bool]:
    """Return the report and whether everything that is required works."""
    lines = list(_lines())
    return "\n".join(f"{mark:<5} {name:<16} {text}" for mark, name, text in lines), all(
        m != "FAIL" for m, _, _ in lines
    )


def _lines() -> Iterator[tuple[str, str, str]]:
    yield "ok", "python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield from _packages()
    yield from _devices()
    yield from _video()
    yield from _model()
    free = shutil.disk_usage(".").free / 2**30
    yield ("ok" if free > 1 else "slow"), "disk", f"{free:.0f} GiB free here"


def _packages() -> Iterator[tuple[str, str, str]]:
    for name in REQUIRED:
        try:
            yield "ok", name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield "FAIL", name, f"not installed; run `pip install {name}`, or install zoomzero again"
    for name, purpose in OPTIONAL.items():
        try:
            yield "ok", name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield "--", name, f"not installed: {purpose}"


def _devices() -> Iterator[tuple[str, str, str]]:
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: one of its libraries is missing
        yield "FAIL", "device", f"torch does not import ({error}); install it again"
        return
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not torch.cuda.is_available():
        yield (
            "slow",
            "device",
            f"no CUDA device; {cores} CPU cores: the tiny model is quick, 2B-8B take minutes an answer",
        )
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = properties.total_memory / 2**30
        size = "72B needs several" if memory > 60 else "8B fits" if memory > 20 else "2B-4B fit"
        yield "ok", f"cuda:{index}", f"{properties.name}, {memory:.0f} GiB ({size})"


def _video() -> Iterator[tuple[str, str, str]]:
    try:
        import av
    except (ImportError, OSError) as error:
        yield "FAIL", "decoders", f"av does not import ({error}); install it again"
        return
    missing = [name for name in CODECS if name not in av.codecs_available]
    names = ", ".join(name for name in CODECS if name not in missing)
    yield (
        ("ok" if not missing else "slow"),
        "decoders",
        names + (f"; missing {', '.join(missing)}" if missing else ""),
    )
    writes = "libx264" in av.codecs_available
    yield (
        ("ok" if writes else "FAIL"),
        "encoder",
        "libx264" if writes else "no libx264: world and demo cannot write videos",
    )


def _model() -> Iterator[tuple[str, str, str]]:
    for name in EMBEDDED:
        weights = resources.files("zoomzero") / "models" / name / "model.safetensors"
        if weights.is_file():
            yield "ok", f"{name} model", f"{len(weights.read_bytes()) / 1e6:.1f} MB, embedded"
        else:
            yield "FAIL", f"{name} model", "missing; reinstall zoomzero"
