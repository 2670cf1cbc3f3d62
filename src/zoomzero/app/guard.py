"""What stands before every request: whose it may be, what of the library below is reachable, and the headers."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

API = "/api"  # where gradio's queue, API and MCP server are mounted
MOST_BODY = 1_000_000  # bytes of any request that is no upload
SAFE = ("GET", "HEAD", "OPTIONS")
LOOPBACK = ("127.0.0.1", "localhost", "::1")
# Of gradio: its API's description, calls and their events, cancelling, MCP. Its uploads, file serving, proxy and
# developer tools are not reachable: replies of theirs hold paths of the server.
OPEN = re.compile(
    r"/(config|gradio_api/(info|openapi\.json|call/(v2/)?(ask|watch|videos)(/[0-9a-f]+)?|queue/(join|data)|cancel"
    r"|heartbeat/[\w-]+|startup-events|mcp(/.*)?))/?"
)
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
)
_OURS = re.compile(rb"access-control-|server$")  # headers of the library that must not leave


class Guard:
    """Refuses requests that other sites made, that name a host this app is not, or that are too large.

    Args:
        app: what is guarded.
        hosts: names by which it may be called besides loopback's and the address a request came to.
    """

    def __init__(self, app: App, hosts: Sequence[str]) -> None:
        self.app = app
        self.hosts = {*LOOPBACK, *(host.lower() for host in hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refusal(scope, headers)
        if refused is not None:
            await _refuse(send, *refused)
            return
        limited = receive if scope["path"] == "/upload" else _Limited(receive)
        own = [(name, value) for name, value in scope["headers"] if not name.lower().startswith(b"x-forwarded-")]
        await self.app({**scope, "headers": own}, limited, _with_headers(send))

    def _refusal(self, scope: Scope, headers: MutableMapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        here = scope["server"][0] if scope.get("server") else LOOPBACK[0]
        if _name(f"//{host}") not in {*self.hosts, here}:
            return 421, "this app is not called by that name; start it with --allow-host NAME"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "another site's page may not use this app"
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] not in SAFE:
            return 403, "another site's page may not use this app"
        path = scope["path"]
        if (path == API or path.startswith(f"{API}/")) and not OPEN.fullmatch(path.removeprefix(API)):
            return 404, "not found"
        length = headers.get("content-length", "")
        if path != "/upload" and length.isdecimal() and int(length) > MOST_BODY:
            return 413, "the request is too large"
        return None


class _Limited:
    """A request's body of at most MOST_BODY bytes, whatever its header says."""

    def __init__(self, receive: Receive) -> None:
        self.receive, self.size = receive, 0

    async def __call__(self) -> MutableMapping[str, Any]:
        message = await self.receive()
        self.size += len(message.get("body", b""))
        if self.size > MOST_BODY:
            return {"type": "http.disconnect"}
        return message


def _name(address: str) -> str:
    """Return an address's host name, empty where it has none."""
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def _with_headers(send: Send) -> Send:
    """Return a `send` that adds our headers where the reply has none of its own."""

    async def sent(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", []) if not _OURS.match(name.lower())]
            there = {name.lower() for name, _ in kept}
            added = [(n.encode(), v.encode()) for n, v in HEADERS if n.encode() not in there]
            if b"cache-control" not in there:
                added.append((b"cache-control", b"private, no-store"))
            message = {**message, "headers": kept + added}
        await send(message)

    return sent


async def _refuse(send: Send, status: int, reason: str) -> None:
    body = reason.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
    headers += [(n.encode(), v.encode()) for n, v in HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
