"""Made videos that several files of this room decode."""

from __future__ import annotations

from pathlib import Path

import pytest

import made_videos as made


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("made")


@pytest.fixture(scope="session")
def plain(folder: Path) -> Path:
    """20 s at 25 fps with B-frames, a key frame every 2 s, the index in front."""
    times_s = made.grid(500, 25)
    return made.write(folder / "plain.mp4", times_s, gop=50, container_options={"movflags": "faststart"})
