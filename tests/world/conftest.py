"""Fixtures of the world tests: one thread, one small world on disk, the embedded model before training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from zoomzero.data.example import Example


class Written(NamedTuple):
    """A world of one short video, as `write_world` left it."""

    directory: Path
    item: Any  # its WorldItem, made here
    examples: list[Example]
    progress: list[tuple[int, int]]


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Tiny models run faster on one thread, and their sums stay the same."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    """One of the shortest first videos among many seeds."""
    from zoomzero.world.write import world_item, write_world

    seed = min(range(100), key=lambda seed: world_item("short", seed, 0).scene.duration_s)
    directory = tmp_path_factory.mktemp("world") / "made" / "here"
    progress: list[tuple[int, int]] = []
    examples = write_world(directory, 1, seed, "short", progress=lambda done, total: progress.append((done, total)))
    return Written(directory, world_item("short", seed, 0), examples, progress)


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model before training."""
    from zoomzero.world.start import write_start

    directory = tmp_path_factory.mktemp("start")
    write_start(directory, seed=3)
    return directory
