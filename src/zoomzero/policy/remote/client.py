"""One server: requests with retries, replies that are checked, and every failure as one line that names the fix."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from zoomzero.errors import ConfigError, ServerError
from zoomzero.policy.remote.settings import ServerSettings, secret_headers, template_of
from zoomzero.policy.remote.streaming import Pieces

BACKOFF_S = 0.5  # before a garbled reply is asked for again; doubled each time
COUNTS = ("prompt_tokens", "completion_tokens")
NO_KEY = "none"  # servers without keys take any
Reply = dict[str, Any]


class Client:
    """Talks to one server through the `openai` package.

    Redirects are not followed: the key must not travel to a host the user did not name.

    Args:
        settings: where it is and how it is talked to.

    Raises:
        ConfigError: the package is not installed, or a header's variable is not set.
    """

    def __init__(self, settings: ServerSettings) -> None:
        try:
            import openai
        except ImportError as error:
            fix = "install it: pip install 'openai>=3'"
            raise ConfigError("--model", "a model behind a server needs the package openai", fix) from error
        headers = secret_headers(settings)
        key = os.environ.get(settings.api_key_env) or NO_KEY
        self.settings, self._openai, self._template = settings, openai, template_of(settings)
        self._slots = BoundedSemaphore(settings.concurrency)
        self._secrets = [one for one in (key, *headers.values()) if one != NO_KEY and len(one) > 3]
        self._api = openai.OpenAI(
            base_url=settings.url,
            api_key=key,
            organization="",
            project="",
            timeout=settings.timeout_s,
            max_retries=settings.retries,
            default_headers=headers,
            http_client=openai.DefaultHttpxClient(follow_redirects=False),
        )

    def chat(self, body: Mapping[str, Any]) -> Reply:
        """Send a chat and return the whole reply, checked: `choices` that each have a message and a reason to end.

        Raises:
            ServerError: the server cannot be reached, refuses, or sends something else however often it is asked.
        """
        whole = {"model": self.settings.model, **self._template, **body}
        return self._until_whole("/chat/completions", whole, _check_choices)

    def chat_heard(self, body: Mapping[str, Any], heard: Callable[[str], None]) -> Reply:
        """Send a chat and return the whole reply, as `chat` does; its words are told as they come.

        A server that does not stream, or breaks off, is asked again without. What `heard` raises ends the request.

        Args:
            body: the request, for one choice.
            heard: called with all that was written so far.

        Raises:
            ServerError: as `chat`.
        """
        pieces = Pieces()
        asked = {
            "model": self.settings.model,
            **self._template,
            **body,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            with self._named_errors(), self._slots:
                chunks = self._api.post(
                    "/chat/completions", body=asked, cast_to=object, stream=True, stream_cls=self._openai.Stream[object]
                )
                with chunks:
                    for chunk in chunks:
                        pieces.add(chunk)
                        heard(pieces.text)
            _check_choices(pieces.whole())
        except (ServerError, ValueError):
            return self.chat(body)
        return pieces.whole()

    def post(self, path: str, body: Mapping[str, Any]) -> Reply:
        """Send a request that is not in the OpenAI protocol; `path` begins at the server's root."""
        return self._until_whole(f"{self.settings.root}{path}", dict(body), lambda reply: None)

    def tell(self, path: str, body: Mapping[str, Any]) -> None:
        """Have something done whose reply says nothing more than that it was; `path` begins at the server's root."""
        self._send(f"{self.settings.root}{path}", dict(body))

    def get(self, path: str, *, at_root: bool = False) -> Reply:
        """Ask for a document; at the root or below the base address."""
        return self._until_whole(f"{self.settings.root}{path}" if at_root else path, None, lambda reply: None)

    def _until_whole(self, path: str, body: dict[str, Any] | None, check: Any) -> Reply:
        """Return a reply that is whole; a garbled one is asked for again, as often as `retries` says."""
        for attempt in range(self.settings.retries + 1):
            if attempt:
                time.sleep(BACKOFF_S * 2 ** (attempt - 1))
            text = self._send(path, body)
            try:
                reply = json.loads(text)
                if not isinstance(reply, dict):
                    raise ValueError(f"a JSON {type(reply).__name__} instead of an object")
                check(reply)
                return reply
            except (ValueError, RecursionError) as error:
                problem: Exception = error
        raise self._error(f"its reply is not what the protocol says ({self._line(str(problem))})", _FIX_GARBLED)

    def _send(self, path: str, body: dict[str, Any] | None) -> str:
        """Return a reply's text."""
        bytes_type = self._openai.HttpxBinaryResponseContent
        with self._named_errors():
            with self._slots:
                if body is None:
                    found = self._api.get(path, cast_to=bytes_type)
                else:
                    found = self._api.post(path, body=body, cast_to=bytes_type)
            text: str = found.read().decode("utf-8", errors="replace")
        return text

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Turn what the package raises into one line that names the fix."""
        openai = self._openai
        try:
            yield
        except openai.APITimeoutError as error:
            fix = "raise server.timeout_s, or lower --budget or server.concurrency"
            raise self._error(f"no reply within {self.settings.timeout_s:g} s", fix) from error
        except openai.APIConnectionError as error:
            cause = self._line(str(error.__cause__ or error)) or type(error.__cause__ or error).__name__
            raise self._error(f"cannot be reached ({cause})", "start it, or correct the address") from error
        except openai.APIStatusError as error:
            raise self._refused(error.status_code, error.response) from error
        except openai.APIError as error:
            raise self._error(self._line(str(error)), _FIX_GARBLED) from error

    def _refused(self, status: int, response: Any) -> ServerError:
        """Return the error for a status that is not 200."""
        said = self._line(_message(response.text))
        if 300 <= status < 400:
            where = self._line(str(response.headers.get("location", "elsewhere")))
            return self._error(f"redirects to {where}", "give --model that address if you trust it", status)
        reason, fix = _STATUS.get(status, ("answers with an error", "look at the server's log and run again"))
        for pattern, better in _SAID:
            if re.search(pattern, said, re.IGNORECASE):
                fix = better
                break
        fix = fix.replace("KEY", self.settings.api_key_env)
        return self._error(f"{reason} ({status}{': ' + said if said else ''})", fix, status)

    def _error(self, reason: str, fix: str, status: int | None = None) -> ServerError:
        return ServerError(self.settings.name, reason, fix, status)

    def _line(self, text: str, most: int = 240) -> str:
        """Return a server's words as one printable line without our secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= most else f"{line[: most - 3]}..."


_FIX_GARBLED = "check that the address is that of an OpenAI-compatible server, and look at its log"
_STATUS = {
    400: ("refuses the request", "look at the server's log; `zoomzero doctor --server URL` says what it can do"),
    401: ("refuses the key", "set the environment variable KEY to its key"),
    403: ("refuses the key", "set the environment variable KEY to a key with access to this model"),
    404: ("has no such path or model", "run `zoomzero doctor --server URL` to see what it serves"),
    413: ("finds the request too large", "lower --budget, set server.image_format=jpeg, or raise its body limit"),
    422: ("refuses the request", "look at the server's log; `zoomzero doctor --server URL` says what it can do"),
    429: ("is asked too much", "lower server.concurrency, or wait and run again"),
    500: ("failed", "look at the server's log and run again"),
    503: ("is not ready", "wait until it has loaded the model, and run again"),
}
_SAID = (  # what servers say, and what helps
    ("trust.request.mm.kwargs", "start vLLM with --trust-request-mm-kwargs"),
    ("trust.request.chat.template", "start vLLM with --trust-request-chat-template"),
    (
        r"context length|max(imum)? (model|sequence) len|too (long|many tokens)",
        "lower --budget, or start the server with a longer context (vLLM: --max-model-len)",
    ),
    (
        r"at most \d+ (image|video)",
        "start the server with a higher limit (vLLM: --limit-mm-per-prompt), or lower --budget",
    ),
)


def _message(text: str) -> str:
    """Return what an error's body says."""
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text if "<html" not in text.lower() else "an HTML page"
    inner = body.get("error", body) if isinstance(body, dict) else body
    said = inner.get("message") or inner.get("detail") or inner if isinstance(inner, dict) else inner
    return said if isinstance(said, str) else json.dumps(said)


def _check_choices(reply: Reply) -> None:
    """Refuse a reply that is no answer.

    Raises:
        ValueError: no choices, one without a message, or one that does not say why it ended.
    """
    choices = reply.get("choices")
    if not isinstance(choices, list) or not choices:
        raise ValueError("no choices")
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
            raise ValueError("a choice without a message")
        if choice.get("finish_reason") not in ("stop", "length"):
            raise ValueError(f"a choice that ended by {choice.get('finish_reason')!r}")
        if not isinstance(choice["message"].get("content") or "", str):
            raise ValueError("a message that is no text")
        _check_told(choice.get("logprobs"))
    counts = reply.get("usage") or {}
    if not isinstance(counts, dict) or not all(isinstance(counts.get(name) or 0, int) for name in COUNTS):
        raise ValueError("costs that are no numbers")


def _check_told(logprobs: Any) -> None:
    """Refuse log-probabilities that are none: an option must not be scored by them.

    Raises:
        ValueError: a token does not say how likely it is.
    """
    try:
        tokens = (logprobs or {}).get("content") or ()
        values = [one["logprob"] for token in tokens for one in (token, *(token.get("top_logprobs") or ()))]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("a token without its log-probability") from error
    if not all(isinstance(value, int | float) for value in values):
        raise ValueError("a token without its log-probability")
