"""Every fault of a server under the real command: `zoomzero ask` ends in 4 and one line, and keeps the key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fake_server import Abilities, FakeServer
from scripted_policy import ScriptedPolicy, rates, says
from small_videos import write_small
from zoomzero.policy.open import open_model

pytest.importorskip("openai")
KEY = "sk-a-key-nobody-may-see"


def brain() -> ScriptedPolicy:
    return ScriptedPolicy(says("B", [(18.0, 20.0)]), rates(1, 8), forever=True)


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZOOMZERO_API_KEY", KEY)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("asked") / "small.mp4")


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(brain(), Abilities(key=KEY)) as one:
        yield one


def probe_requests(server: FakeServer) -> int:
    """Return how many chats a probe sends."""
    before = len(server.seen)
    open_model(server.model)
    return len(server.seen) - before


def ask(zoom: Any, server: FakeServer, video: Path, *faults: str, retries: int = 0) -> Any:
    """Ask a question; once the server is probed it fails in these ways, one after the other."""
    server.faults = [*[""] * probe_requests(server), *faults]
    settings = ("--set", f"server.retries={retries}", "--set", f"server.timeout_s={1 if 'slow' in faults else 60}")
    options = ("--option", "E", "--option", "H", "--mode", "direct", "--json")
    return zoom("ask", video, "Which symbol is shown?", "--model", server.model, *options, *settings)


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ("closes", "cannot be reached ("),
        ("truncates", "cannot be reached ("),
        ("slow", "no reply within 1 s; raise server.timeout_s, or lower --budget or server.concurrency"),
        ("no choices", "its reply is not what the protocol says (no choices); check that the address is"),
        ("garbage", "its reply is not what the protocol says (Expecting value"),
        ("html", "answers with an error (502: an HTML page); look at the server's log"),
        (
            "400 This model's maximum context length is 8192 tokens",
            "; lower --budget, or start the server with a longer",
        ),
        ("401 Incorrect API key provided: " + KEY, "refuses the key (401: Incorrect API key provided: ***); set the"),
        ("404 gone", "has no such path or model (404: gone); run `zoomzero doctor --server URL`"),
        ("413 Payload Too Large", "finds the request too large (413: Payload Too Large); lower --budget"),
        ("429 slow down", "is asked too much (429: slow down); lower server.concurrency"),
        ("500 oops\n at line 2", "failed (500: oops at line 2); look at the server's log and run again"),
    ],
)
def test_a_fault_is_one_line_and_4(zoom: Any, server: FakeServer, video: Path, fault: str, complaint: str) -> None:
    ran = ask(zoom, server, video, fault)
    assert ran.code == 4
    assert ran.complaint.startswith(f"model {server.model}: ")
    assert complaint in ran.complaint
    assert KEY not in ran.complaint


@pytest.mark.parametrize("fault", ["closes", "truncates", "500 oops"])
def test_a_fault_that_passes_is_no_fault(zoom: Any, server: FakeServer, video: Path, fault: str) -> None:
    ran = ask(zoom, server, video, fault, retries=1)
    assert ran.code == 0, ran.err
    assert json.loads(ran.out)["confidence"] == pytest.approx(8 / 9, abs=1e-6)


def test_the_key_does_not_follow_a_redirect(zoom: Any, server: FakeServer, video: Path) -> None:
    with FakeServer(brain()) as elsewhere:
        ran = ask(zoom, server, video, f"redirects {elsewhere.url}/chat/completions", retries=1)
        assert elsewhere.seen == []
    assert ran.code == 4
    assert f"redirects to {elsewhere.url}/chat/completions; give --model that address if you trust it" in ran.complaint
