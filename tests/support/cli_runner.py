"""Running the command line in this process or in one of its own, and the checkpoint the tests ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from zoomzero import cli
from zoomzero.policy.local import load

EMBEDDED = Path(str(resources.files("zoomzero"))) / "models" / "tiny"
LIMIT_S = 120
load_once = lru_cache(maxsize=4)(load.load_policy)


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line an error may write."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("zoomzero: ")
        assert self.out == ""
        return self.err.removeprefix("zoomzero: ").rstrip("\n")


Run = Callable[..., Ran]


def make_runner(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs `zoomzero ARGS` in this process; a checkpoint is loaded once for all tests."""
    monkeypatch.setattr(load, "load_policy", load_once)

    def run(*args: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["zoomzero", *map(str, args)])
        capfd.readouterr()
        with time_limit(), pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        return Ran(int(ended.value.code or 0), out, err)

    return run


@contextmanager
def time_limit() -> Iterator[None]:
    """Fail instead of hanging (where the system has alarms)."""
    if not hasattr(signal, "SIGALRM"):
        yield
        return

    def ring(*_: object) -> None:
        pytest.fail(f"did not end within {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(LIMIT_S)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def find_checkpoint(folder: Path) -> Path:
    """Return the embedded model, or an untrained one of its shape written to `folder` where it is not there.

    The environment variable ZOOMZERO_TEST_MODEL names another directory to ask.
    """
    given = os.environ.get("ZOOMZERO_TEST_MODEL")
    if given:
        return Path(given)
    if (EMBEDDED / "model.safetensors").is_file():
        return EMBEDDED
    from zoomzero.world.start import write_start

    write_start(folder)
    return folder


def run_process(*args: object, limit_s: float = LIMIT_S, **popen: Any) -> Ran:
    """Run `python -m zoomzero ARGS`; longer than the limit is a failure."""
    done = subprocess.run(
        [sys.executable, "-m", "zoomzero", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=limit_s,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
        **popen,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
