"""The environment of the peers: torch and transformers of the running one, and what the peers need besides."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

PEERS = ("trl==1.16.0", "lmms-eval==0.7.3", "torchcodec==0.17.0", "decord==0.6.0", "qwen-vl-utils==0.0.14")
SHARED = ("torch", "transformers")  # both sides run the very same
TORCHVISION = "torchvision==0.28.0"  # of torch 2.13; without its compiled part, which belongs to another build of torch
# torchvision looks its operators up when it is imported; they are declared, nobody calls them
DECLARED = """import importlib.util
if importlib.util.find_spec("torch"):
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        try:
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        except RuntimeError:
            pass
"""
READY = ".ready"


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
    (packages / "zz_running.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    same = [f"{name}=={version(name).partition('+')[0]}" for name in SHARED]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *PEERS, *same], check=True)
    subprocess.run([*pip, "--no-deps", TORCHVISION], check=True)
    (packages / "declared_operators.py").write_text(DECLARED, encoding="utf-8")
    (packages / "zz_operators.pth").write_text("import declared_operators\n", encoding="utf-8")
    (folder / READY).touch()
    return python
