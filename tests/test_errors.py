"""The typed errors: one line, the exit code of whose fault it is, and alive after crossing a process border."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from zoomzero.errors import ConfigError, DataError, ModelError, VideoError, ZoomZeroError

ERRORS = [
    (ConfigError("--budget", "0 holds no frame", "give 1 or more"), 2, "--budget: 0 holds no frame; give 1 or more"),
    (DataError(Path("a/b.jsonl"), "line 3", "is not JSON"), 2, "a/b.jsonl: line 3: is not JSON"),
    (
        VideoError(Path("walk.mp4"), "open", "no moov", "copy it again"),
        3,
        "walk.mp4: cannot open: no moov; copy it again",
    ),
    (ModelError("tiny", "is missing", "reinstall"), 4, "model tiny: is missing; reinstall"),
]


@pytest.mark.parametrize(("error", "code", "text"), ERRORS)
def test_error_says_one_line_and_has_its_exit_code(error: ZoomZeroError, code: int, text: str) -> None:
    assert str(error) == text
    assert error.exit_code == code
    assert isinstance(error, ZoomZeroError)


@pytest.mark.parametrize(("error", "code", "text"), ERRORS)
def test_error_survives_pickling(error: ZoomZeroError, code: int, text: str) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (str(back), back.exit_code, vars(back)) == (text, code, vars(error))
    assert vars(back), "what was wrong can still be asked for"


def test_paths_are_kept_as_text() -> None:
    assert VideoError(Path("walk.mp4"), "open", "r", "f").path == "walk.mp4"
    assert DataError(Path("x"), "w", "r").path == "x"
    assert ModelError(Path("m"), "r", "f").model == "m"
