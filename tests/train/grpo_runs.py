"""Small reinforcement-learning runs: settings, and everything a collector needs, on the small world."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from zoomzero.answer.session import QuestionSession
from zoomzero.config import ModelSettings, lay_over, load_model_settings
from zoomzero.data.example import Example
from zoomzero.policy.local.load import find
from zoomzero.prompts import Reading, read_response
from zoomzero.train.rollouts.collector import RolloutCollector
from zoomzero.train.rollouts.engine import LocalEngine
from zoomzero.train.rollouts.stream import ExampleStream
from zoomzero.train.rollouts.verify import Verifier
from zoomzero.train.settings import GrpoSettings
from zoomzero.train.stopwatch import Stopwatch
from zoomzero.video.cache import FrameCache
from zoomzero.video.probe import probe

SMALL: dict[str, Any] = {
    "model": "tiny",
    "out": "unused",
    "steps": 2,
    "train_batch_size": 2,
    "mini_batch_size": 1,
    "bf16": False,
    "gradient_checkpointing": False,
    "report_to": "none",
    "threads": 1,
    "data": {"examples": ["unused"]},
    "rollout": {"num_generations": 2, "max_new_tokens": 48, "prompts_at_once": 2},
}


def grpo_settings(changes: dict[str, Any] | None = None) -> GrpoSettings:
    """Settings of a small run with some changed: `{"rollout": {"num_generations": 4}}`."""
    return GrpoSettings.model_validate(lay_over(SMALL, changes or {}))


def tiny_settings(**changes: Any) -> ModelSettings:
    """How the embedded model is asked."""
    return load_model_settings(find("tiny")).model_copy(update=changes)


def asked_about(
    policy: Any, example: Example, model_settings: ModelSettings | None = None, **more: Any
) -> QuestionSession:
    """An example's question, ready for passes, with a frame cache of its own."""
    settings = model_settings or tiny_settings()
    info = probe(example.video)
    return QuestionSession(
        policy, settings, info, example.question, example.options, cache=FrameCache(64 << 20), **more
    )


def said(text: str, options: int = 4) -> Reading:
    """What a response says."""
    return read_response(text, options, "think")


def spans_text(*spans: tuple[float, float], option: str = "B", think: str = "so") -> str:
    """A well-formed response."""
    listed = ", ".join(f"({start}, {end})" for start, end in spans)
    return f"<think>{think}</think>\n<answer>{option}</answer>\n<glue>[{listed}]</glue>"


def make_collector(policy: Any, examples: list[Example], settings: GrpoSettings, **parts: Any) -> RolloutCollector:
    """A collector in this process: `engine`, `verifier` and `model_settings` may be given, the rest follows."""
    watch = Stopwatch()
    model_settings = parts.get("model_settings", tiny_settings())
    engine = parts.get("engine") or LocalEngine(policy, watch)
    off = settings.rollout.verifier == "off"
    verifier = None if off else Verifier(policy, settings, model_settings, watch, parts.get("guard", nullcontext))
    stream = ExampleStream(examples, settings.seed)
    return RolloutCollector(engine, policy, verifier, stream, settings, model_settings, watch)


def write_config(path: Path, text: str) -> Path:
    """A settings file."""
    path.write_text(text, encoding="utf-8")
    return path
