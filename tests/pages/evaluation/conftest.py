"""The questions and the run most of these tests read."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_runs import DIRECT, ZOOM, write_questions, write_run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_questions(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Path:
    return write_run(tmp_path / "run", data, {"direct": DIRECT, "zoom": ZOOM})
