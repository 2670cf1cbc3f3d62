"""Fixtures of the benchmark tests: a small world on disk, and the checkpoint to ask."""

from __future__ import annotations

from pathlib import Path

import pytest

import cli_runner
from cli_runner import find_checkpoint

PATIENCE_S = 600


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with examples.jsonl and four short videos, one question each."""
    from zoomzero.world.write import write_world

    folder = tmp_path_factory.mktemp("world")
    write_world(folder, 4, 5, "short", workers=2)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model's directory, or that of an untrained one of its shape."""
    return find_checkpoint(tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait longer before a test has hung: it starts processes that load a model, on a machine that may be busy."""
    monkeypatch.setattr(cli_runner, "LIMIT_S", PATIENCE_S)
