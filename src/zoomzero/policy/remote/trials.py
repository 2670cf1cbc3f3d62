"""What only `zoomzero doctor` tries of a server: it costs more than a probe may."""

from __future__ import annotations

import re

from zoomzero.errors import ServerError
from zoomzero.policy.remote.client import Client
from zoomzero.policy.remote.layouts import Layout
from zoomzero.policy.remote.probe import PROBE_TIMES_S, attempt, probe_chat, why_refused

IMAGES = len(PROBE_TIMES_S)
LIMIT = re.compile(r"(?:at most|maximum|limit)\D{0,40}?(\d+) image", re.IGNORECASE)  # `At most 16 image(s) may be ...`


def most_images(client: Client) -> tuple[int | None, str]:
    """Return how many images a request may have, as far as the server says, and why it may not have `IMAGES`.

    Returns:
        `IMAGES` and "" where so many are taken; the limit the server names and its refusal; None and its refusal where
        it refuses without naming one.
    """
    try:
        client.chat(probe_chat("interleaved", PROBE_TIMES_S, "How many images are these?", client))
        return IMAGES, ""
    except ServerError as error:
        named = LIMIT.search(error.reason)
        return int(named[1]) if named else None, why_refused(error)


def kept_tokens(client: Client, layout: Layout) -> tuple[int, int] | None:
    """Return how many tokens of a second question about the same frames were not read again, and how many it has.

    None where the server does not tell.
    """
    reply = None
    for question in ("What is shown first?", "What is shown last?"):
        body = probe_chat(layout, PROBE_TIMES_S, question, client)
        reply = attempt(client, lambda body=body: client.chat(body))
    told = (reply or {}).get("usage") or {}
    kept = (told.get("prompt_tokens_details") or {}).get("cached_tokens")
    return None if kept is None else (int(kept), int(told.get("prompt_tokens") or 0))
