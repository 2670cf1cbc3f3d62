"""What the tests of the app ask about the small video, and how they upload."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

QUESTION = "Which symbol is on the red square?"
OPTIONS = ["1", "2", "3", "4"]
HEADER = "x-zoomzero-user"


def request(
    url: str, token: str | None = None, *, method: str = "GET", body: Any = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    """Send a request and return (status, body, headers); `body` is bytes or becomes JSON."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    made = Request(url, data=data, method=method, headers={name.replace("_", "-"): v for name, v in headers.items()})
    if token is not None:
        made.add_header(HEADER, token)
    if data is not None and not isinstance(body, bytes):
        made.add_header("content-type", "application/json")
    try:
        with urlopen(made, timeout=60) as reply:
            return reply.status, reply.read(), {k.lower(): v for k, v in reply.headers.items()}
    except HTTPError as error:
        return error.code, error.read(), {k.lower(): v for k, v in error.headers.items()}
