"""What a run's numbers depend on, as hashes: the model's files, the code that answers; and what it ran on."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import zoomzero
from zoomzero.data.annotation import sha256
from zoomzero.errors import ModelError

MODEL_FILES = ("*.safetensors", "*.json", "*.jinja")
# `zoomzero.json` is in the settings, `training.json` is history: neither is the model.
NOT_THE_MODEL = ("zoomzero.json", "training.json")
# What an answer, or its row, can depend on. Scores and pages are made anew from the rows.
ANSWERING = (
    "answer",
    "prompts",
    "policy",
    "video",
    "data/annotation.py",
    "data/captions.py",
    "data/example.py",
    "benchmarks/runner/asking.py",
    "benchmarks/scoring/costs.py",
    "config.py",
    "spans.py",
)
LIBRARIES = ("zoomzero", "torch", "transformers", "tokenizers", "av", "numpy", "ray")
PACKAGE = Path(zoomzero.__file__).parent


def model_files(
    where: Path,
    known: Mapping[str, Mapping[str, Any]],
    progress: Callable[[int, int], None] | None = None,
    *,
    prefix: str = "",
) -> dict[str, dict[str, Any]]:
    """Hash a checkpoint's weights, configuration and tokenizer.

    A file whose size and time of change are those already known is not read again; one whose name in the hub's cache is
    its hash neither.

    Args:
        where: the checkpoint's directory.
        known: what this returned for the same directory earlier.
        progress: called with (bytes read, bytes in all).
        prefix: what names begin with.

    Returns:
        Name -> {"sha256", "bytes", "mtime_ns"}.

    Raises:
        ModelError: a file cannot be read.
    """
    paths = sorted({path for pattern in MODEL_FILES for path in where.glob(pattern) if path.name not in NOT_THE_MODEL})
    sizes = {path: path.stat().st_size for path in paths}
    done = 0

    def one(path: Path) -> dict[str, Any]:
        nonlocal done
        stat = path.stat()
        entry: dict[str, Any] = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
        before = known.get(prefix + path.name, {})
        same = all(before.get(key) == value for key, value in entry.items())
        entry["sha256"] = before["sha256"] if same else _named_hash(path) or sha256(path)
        done += stat.st_size
        if progress:
            progress(done, sum(sizes.values()))
        return entry

    try:
        with ThreadPoolExecutor(4) as pool:  # hashing leaves Python's lock alone
            return {prefix + path.name: entry for path, entry in zip(paths, pool.map(one, paths), strict=True)}
    except OSError as error:
        raise ModelError(
            where, f"{error.filename} cannot be read ({error.strerror})", "check its permissions"
        ) from error


def _named_hash(path: Path) -> str | None:
    """Return the hash that the hub's cache gives a large file as its name."""
    blob = path.resolve()
    hexadecimal = len(blob.name) == 64 and all(c in "0123456789abcdef" for c in blob.name)
    return blob.name if hexadecimal and blob.parent.name == "blobs" else None


def files_hash(files: Mapping[str, Mapping[str, Any]]) -> str:
    """Return one hash of named files' hashes."""
    lines = "".join(f"{name} {files[name]['sha256']}\n" for name in sorted(files))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]


def code_identity() -> dict[str, Any]:
    """Return {"zoomzero": version, "commit": of the checkout or None, "source_hash": of the code that answers}."""
    digest = hashlib.sha256()
    for part in ANSWERING:
        place = PACKAGE / part
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            if path.is_file() and path.suffix != ".pyc":
                digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
                digest.update(path.read_bytes())
    return {"zoomzero": zoomzero.__version__, "commit": _commit(), "source_hash": digest.hexdigest()[:16]}


def _commit() -> str | None:
    """Return the commit of the checkout the package lies in, with `+` when tracked files differ; None elsewhere."""
    git = ("git", "-C", str(PACKAGE))
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
        ours = subprocess.run(
            [*git, "ls-files", "--error-unmatch", "__init__.py"], capture_output=True, timeout=10, check=False
        )
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode or ours.returncode:
        return None
    return head.stdout.strip() + ("+" if changed.returncode else "")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that are installed."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Return what a time was measured on: system, processor, cores, and later what the model runs on."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
