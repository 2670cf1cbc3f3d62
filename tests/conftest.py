"""Fixtures every test room uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from cli_runner import Run

settings.register_profile("zoomzero", deadline=None)  # a busy machine is no fault of the code
settings.load_profile("zoomzero")

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


@pytest.fixture
def threads() -> Iterator[None]:
    """Commands set torch's threads for small models; other tests keep theirs."""
    torch = pytest.importorskip("torch")  # .ci/pythons has none

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def zoom(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], threads: None) -> Run:
    """Run `zoomzero ARGS` in this process; a checkpoint is loaded once for all tests."""
    from cli_runner import make_runner

    return make_runner(monkeypatch, capfd)
