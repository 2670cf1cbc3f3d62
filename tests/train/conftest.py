"""Fixtures of the training tests: one thread, small checkpoints, two short videos of the world."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny models run faster on one thread, and their sums stay the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def family_checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A small random checkpoint of each family with the world's tokenizer and settings."""
    from sft_models import FAMILIES, save_checkpoint

    return {family: save_checkpoint(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


@pytest.fixture(scope="session")
def family_policies(family_checkpoints: dict[str, Path]) -> dict[str, Any]:
    """The checkpoints, loaded as the product loads them."""
    from zoomzero.policy.local.load import load_policy

    return {family: load_policy(where, device="cpu") for family, where in family_checkpoints.items()}


@pytest.fixture(scope="session")
def tiny_policy() -> Any:
    """The embedded model."""
    from zoomzero.policy.local.load import load_policy

    return load_policy("tiny", device="cpu")


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An examples file about two videos of 32 s: three questions about the first, two about the second."""
    import numpy as np

    from zoomzero.data.example import Example, write_examples
    from zoomzero.world.questions import ask
    from zoomzero.world.scenes import make_scene
    from zoomzero.world.write import write_video

    directory = tmp_path_factory.mktemp("small_world")
    examples = []
    for number, kinds in enumerate([("symbol", "order", "count"), ("last", "symbol")]):
        for seed in range(100):
            rng = np.random.default_rng((number, seed))
            scene = make_scene(rng, 32.0)
            questions = [ask(rng, scene, kind) for kind in kinds]
            if all(questions):
                break
        write_video(directory / f"{number}.mp4", scene)
        for kind, question in zip(kinds, questions, strict=True):
            assert question is not None, "no scene of 32 s allows these questions"
            examples.append(
                Example(
                    id=f"{number}-{kind}",
                    video=f"{number}.mp4",
                    question=question.text,
                    options=question.options,
                    answer="ABCD"[question.answer],
                    spans=question.spans,
                    duration_s=32.0,
                    source="test",
                    split="train",
                )
            )
    write_examples(directory / "examples.jsonl", examples)
    return directory / "examples.jsonl"
