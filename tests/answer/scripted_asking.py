"""A question, its options and settings for models that reply as a test says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripted_policy import ScriptedPolicy
from zoomzero.answer.ask import answer
from zoomzero.answer.trace import Trace
from zoomzero.config import ModelSettings, PassSettings

QUESTION = "Which symbol is on the red circle?"
OPTIONS = ("E", "H", "K")
SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=96, min_frame_tokens=1),  # 48 frames are 24 patches: 2 x 2 tokens each
    zoom=PassSettings(fps=2, max_tokens=400, max_frames=64, min_frame_tokens=16),  # frames stay 4 x 4 tokens
    window=PassSettings(fps=1, max_tokens=32, max_frames=16, min_frame_tokens=1),  # 3 windows of 16 s, 2 x 2 tokens
    widen_s=2.0,
    candidates=3,
)


def ask(policy: ScriptedPolicy, video: Path, mode: str, options: tuple[str, ...] = OPTIONS, **more: Any) -> Trace:
    """Ask; the whole script must have been used."""
    settings = more.pop("settings", SETTINGS)
    trace, looks = answer(policy, settings, video, QUESTION, options, mode=mode, **more)  # type: ignore[arg-type]
    assert policy.replies == []
    assert [look.trace for look in looks] == list(trace.passes)
    return trace


def names(trace: Trace) -> list[str]:
    return [one.name for one in trace.passes]
