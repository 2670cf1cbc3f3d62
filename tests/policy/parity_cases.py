"""Chats on which our prompts are compared with transformers' own processors, and what these make of them.

The processors need torchvision in one of two ways: importable, or unpacked (even beside a torch it was not built for)
in the folder `parity` of the virtual environment, where `make test` puts it.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from policy_models import make_clip

from zoomzero.policy.base import Turn
from zoomzero.video.types import Clip

WORKER = Path(__file__).parent / "local" / "parity_worker.py"
UNPACKED = Path(sys.prefix) / "parity"


def chats(family: str) -> list[list[Turn]]:
    """Clips first and last, alone and together, of several sizes and rates, in one turn and in several."""
    one, two = make_clip(family), make_clip(family, frames=4, rows=3, columns=2, fps=1.0, seed=1)
    text = "which symbol is on the red circle?\n(A) B (B) <glue>"
    return [
        [Turn("user", (one, text))],
        [Turn("user", (text, two))],
        [Turn("user", ("first (", one, ") then\n\n", two, text))],
        [Turn("user", (two, text)), Turn("assistant", ("the circle",)), Turn("user", (one, text))],
    ]


def message_of(turn: Turn) -> dict[str, Any]:
    """A turn as transformers takes it."""
    parts = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "video"} for p in turn.parts]
    return {"role": turn.role, "content": parts}


def metadata_of(clip: Clip) -> dict[str, Any]:
    """The clip as `fps` x 4 frames a second, every fourth one taken."""
    count = len(clip.times_s)
    return {"total": 4 * count, "fps": 4 * clip.fps, "indices": [4 * i for i in range(count)]}


def processed(cases: list[dict[str, Any]], where: Path) -> list[dict[str, torch.Tensor]]:
    """Run the processors in a process of their own.

    Args:
        cases: family, tokenizer (path), template (text), turns, settings (folder with the processor's files, or "").
        where: an empty folder.
    """
    if importlib.util.find_spec("torchvision") is None and not (UNPACKED / "torchvision").is_dir():
        pytest.skip(f"needs torchvision: pip install --no-deps --target {UNPACKED} torchvision==0.28.0")
    arrays: dict[str, Any] = {}
    listed = []
    for i, case in enumerate(cases):
        clips = [part for turn in case["turns"] for part in turn.parts if isinstance(part, Clip)]
        arrays |= {f"{i}.{j}": clip.frames for j, clip in enumerate(clips)}
        told = {key: case[key] for key in ("family", "tokenizer", "template", "settings")}
        told |= {"messages": [message_of(t) for t in case["turns"]], "metadata": [metadata_of(c) for c in clips]}
        listed.append(told)
    np.savez(where / "cases.npz", cases=json.dumps(listed), **arrays)
    place = str(UNPACKED) if (UNPACKED / "torchvision").is_dir() else "-"
    command = [sys.executable, str(WORKER), str(where / "cases.npz"), str(where / "out.npz"), place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    out = np.load(where / "out.npz")
    found: list[dict[str, torch.Tensor]] = [{} for _ in cases]
    for name in out.files:
        number, key = name.split(".", 1)
        found[int(number)][key] = torch.from_numpy(out[name])
    return found
