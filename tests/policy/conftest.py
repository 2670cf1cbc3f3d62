"""Fixtures of the policy tests: one thread, and tiny checkpoints on disk."""

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
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved random checkpoint of each family, with a small tokenizer and no chat template."""
    from policy_models import FAMILIES, save_checkpoint, small_tokenizer

    return {f: save_checkpoint(tmp_path_factory.mktemp(f), f, small_tokenizer()) for f in FAMILIES}


@pytest.fixture(scope="session")
def policies(checkpoints: dict[str, Path]) -> dict[str, Any]:
    """The checkpoints, loaded as the product loads them."""
    from zoomzero.policy.local.load import load_policy

    return {family: load_policy(where, device="cpu") for family, where in checkpoints.items()}


@pytest.fixture(scope="session")
def plain_models(checkpoints: dict[str, Path]) -> dict[str, Any]:
    """The same checkpoints as transformers runs them."""
    from policy_models import plain_model

    return {family: plain_model(where) for family, where in checkpoints.items()}
