"""Fixtures every test room uses."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of annotations, videos and the real tokenizer that lies beside some checkouts."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared (real annotations, videos and tokenizer)")
    return SHARED


@pytest.fixture(scope="session")
def shared_videos(shared: Path) -> Path:
    """Real video files with known faults and hand-checked events."""
    return shared / "videos"
