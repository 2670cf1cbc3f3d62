"""The environment of the peers: torch and transformers of the running one, and what the peers need besides."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

# torchcodec 0.13 is the last whose wheel on PyPI needs no CUDA
PEERS = ("trl==1.16.0", "lmms-eval==0.7.3", "torchcodec==0.13.0", "decord==0.6.0", "qwen-vl-utils==0.0.14")
SHARED = ("torch", "transformers")  # both sides run the very same
TORCHVISION = "torchvision==0.28.0"  # of torch 2.13; without its compiled part, which belongs to another build of torch
# torchvision looks its operators up when it is imported; they are declared before that, and nobody calls them
DECLARED = """import torch as _torch

_library = _torch.library.Library("torchvision", "FRAGMENT")
for _name in ("nms", "qnms"):
    try:
        _library.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    except RuntimeError:
        pass
"""
READY = ".ready"
FFMPEG = "ffmpeg"  # folder of the libraries torchcodec loads


def python_of(folder: Path) -> Path:
    """Return the environment's interpreter."""
    return folder / "bin" / "python"


def install(folder: Path) -> Path:
    """Make the environment unless it is there, and return its interpreter.

    Raises:
        subprocess.CalledProcessError: pip cannot install a package; what it said stands above.
    """
    python = python_of(folder)
    if (folder / READY).is_file():
        return python
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    packages = Path(
        subprocess.run(
            [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    # its own packages come first, then those of the environment that runs this
    (packages / "running.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    same = [f"{name}=={version(name).partition('+')[0]}" for name in SHARED]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEERS, *same], check=True)
    subprocess.run([*pip, "--no-deps", TORCHVISION], check=True)
    begin = packages / "torchvision" / "__init__.py"
    begin.write_text(DECLARED + begin.read_text(encoding="utf-8"), encoding="utf-8")
    link_ffmpeg(folder / FFMPEG)
    (folder / READY).touch()
    return python


def link_ffmpeg(folder: Path) -> None:
    """Put PyAV's own FFmpeg where torchcodec finds it, which brings none: both then decode with the same libraries."""
    folder.mkdir(exist_ok=True)
    for library in (Path(sysconfig.get_path("purelib")) / "av.libs").glob("lib*.so.*"):
        names = [library.name]  # libraries look for each other under these
        if library.name.startswith(("libav", "libsw")):
            name, _, numbers = library.name.partition(".so.")  # libavutil-5809.so.60.1 is asked for as libavutil.so.60
            names.append(f"{name.rpartition('-')[0]}.so.{numbers.partition('.')[0]}")
        for name in names:
            if not (folder / name).exists():
                (folder / name).symlink_to(library)
