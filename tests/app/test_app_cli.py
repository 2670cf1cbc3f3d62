"""`zoomzero app` on the command line: what is refused before a model is loaded, and how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from app_questions import request


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--queue", "0"), "--queue: 0 is too little"),
        (("--upload-mb", "-1"), "--upload-mb: -1 is too little"),
        (("--keep-tokens", "-1"), "--keep-tokens: -1 is less than nothing"),
        (("--videos", "no/such/folder"), "--videos: there is no folder no/such/folder"),
        (("--port", "70000"), "--port: 127.0.0.1:70000 cannot be used"),
    ],
)
def test_what_is_refused(zoom, arguments: tuple[str, ...], said: str) -> None:
    ran = zoom("app", *arguments)
    assert ran.code == 2
    assert ran.complaint.startswith(said)


def test_a_taken_port(zoom) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ran = zoom("app", "--port", taken.getsockname()[1])
    assert (ran.code, "--port 0 for any that is free" in ran.complaint) == (2, True)


def test_without_gradio(zoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    ran = zoom("app", "--port", "0")
    assert ran.code == 2
    assert "needs the package gradio" in ran.complaint
    assert "pip install 'gradio[mcp]>=6.31'" in ran.complaint


@pytest.mark.slow
def test_it_serves_and_ends(tmp_path: Path) -> None:
    """Started as people start it: its address is printed, a signal ends it, its files are gone."""
    pytest.importorskip("gradio")
    app = subprocess.Popen(
        [sys.executable, "-m", "zoomzero", "app", "--port", "0", "--store", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert app.stdout is not None
    try:
        line = app.stdout.readline()
        address = re.match(r"http://127\.0\.0\.1:\d+", line)
        assert address, line
        assert request(f"{address[0]}/state")[0] == 200
        assert b"Example 1" in request(f"{address[0]}/state")[1]
        assert list(tmp_path.iterdir())
        app.send_signal(signal.SIGTERM)
        assert app.wait(60) == 0
        assert list(tmp_path.iterdir()) == []
    finally:
        app.kill()
