"""The guard alone: names, sites, sizes and headers, without a server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from zoomzero.app.guard import MOST_BODY, OPEN, POLICY, Guard


def ask(path: str = "/", method: str = "GET", body: bytes = b"", server: str = "127.0.0.1", **headers: str) -> Any:
    """Return (status, headers, what the app behind saw)."""
    seen: dict[str, Any] = {}
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen["headers"] = dict(scope["headers"])
        seen["message"] = await receive()
        start = {"type": "http.response.start", "status": 200, "headers": [(b"access-control-allow-origin", b"*")]}
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = {"host": "127.0.0.1:7860"} | {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http", "method": method, "path": path, "server": (server, 7860),
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    asyncio.run(Guard(app, ("films.example",))(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), seen


@pytest.mark.parametrize(
    ("host", "server", "status"),
    [
        ("127.0.0.1:7860", "127.0.0.1", 200),
        ("localhost:7860", "127.0.0.1", 200),
        ("[::1]:7860", "::1", 200),
        ("films.example", "10.0.0.5", 200),
        ("FILMS.example:443", "10.0.0.5", 200),
        ("10.0.0.5:7860", "10.0.0.5", 200),
        ("10.0.0.6:7860", "10.0.0.5", 421),
        ("evil.test:7860", "127.0.0.1", 421),
        ("127.0.0.1.evil.test", "127.0.0.1", 421),
        ("", "127.0.0.1", 421),
        ("[broken", "127.0.0.1", 421),
    ],
)
def test_hosts(host: str, server: str, status: int) -> None:
    assert ask(host=host, server=server)[0] == status


@pytest.mark.parametrize(
    ("headers", "method", "status"),
    [
        ({"origin": "http://127.0.0.1:7860"}, "POST", 200),
        ({"origin": "http://127.0.0.1:7861"}, "POST", 403),
        ({"origin": "http://evil.test"}, "GET", 403),
        ({"origin": "null"}, "POST", 403),
        ({"sec_fetch_site": "cross-site"}, "POST", 403),
        ({"sec_fetch_site": "cross-site"}, "GET", 200),  # a link that leads here
        ({"sec_fetch_site": "same-origin"}, "DELETE", 200),
    ],
)
def test_sites(headers: dict[str, str], method: str, status: int) -> None:
    assert ask(method=method, **headers)[0] == status


def test_bodies_are_limited() -> None:
    assert ask(method="POST", content_length=str(MOST_BODY + 1))[0] == 413
    assert ask("/upload", method="POST", content_length=str(MOST_BODY + 1))[0] == 200
    assert ask(method="POST", body=b"x" * (MOST_BODY + 1))[2]["message"] == {"type": "http.disconnect"}
    assert ask("/upload", method="POST", body=b"x" * (MOST_BODY + 1))[2]["message"]["type"] == "http.request"


def test_headers_of_every_reply() -> None:
    for status, headers, _ in (ask(), ask(host="evil.test")):
        assert headers[b"content-security-policy"].decode() == POLICY
        assert headers[b"x-content-type-options"] == b"nosniff"
        assert headers[b"x-frame-options"] == b"DENY"
        assert b"access-control-allow-origin" not in headers, status
    assert ask()[1][b"cache-control"] == b"private, no-store"


def test_what_proxies_claim_is_not_passed_on() -> None:
    seen = ask(x_forwarded_host="evil.test", X_Forwarded_For="10.0.0.1")[2]
    assert not [name for name in seen["headers"] if b"forwarded" in name.lower()]


@pytest.mark.parametrize(
    "path",
    ["/config", "/gradio_api/info", "/gradio_api/call/ask", "/gradio_api/call/watch/0af3", "/gradio_api/call/v2/ask",
     "/gradio_api/queue/join", "/gradio_api/queue/data", "/gradio_api/cancel", "/gradio_api/mcp/",
     "/gradio_api/mcp/schema"],
)  # fmt: skip
def test_open_paths(path: str) -> None:
    assert OPEN.fullmatch(path)
    assert ask(f"/api{path}")[0] == 200


@pytest.mark.parametrize(
    "path",
    ["", "/", "/gradio_api/upload", "/gradio_api/file=/etc/passwd", "/gradio_api/file/x", "/gradio_api/proxy=http://x",
     "/gradio_api/run/ask", "/gradio_api/call/ask/../../file=x", "/gradio_api/call/other", "/gradio_api/mcpx",
     "/config/../gradio_api/upload", "/gradio_api/mcp\n/file=x", "/theme.css", "/gradio_api/queue/status"],
)  # fmt: skip
def test_closed_paths(path: str) -> None:
    assert ask(f"/api{path}")[0] == 404
