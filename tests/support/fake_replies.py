"""How `fake_server` sends what it answers: whole, in pieces, or in one of the ways in which servers fail."""

from __future__ import annotations

import json
import socket
import struct
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

SAID_A = {"message": {"content": "A"}, "finish_reason": "stop"}


class ReplyHandler(BaseHTTPRequestHandler):
    """One connection of HTTP/1.1 that sends chat replies, streams and faults."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def stream(self, reply: dict[str, Any]) -> None:
        """Send a reply in pieces, a token each where it tells of them, else of three characters."""
        (choice,) = reply["choices"]
        told = (choice.get("logprobs") or {}).get("content") or []
        text = choice["message"]["content"]
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        chunks: list[dict[str, Any]] = [{"delta": {"role": "assistant", "content": ""}}]
        if told:
            names = [bytes(one["bytes"]).decode() for one in told]
            chunks += [
                {"delta": {"content": "" if name == "<|im_end|>" else name}, "logprobs": {"content": [one]}}
                for name, one in zip(names, told, strict=True)
            ]
        else:
            chunks += [{"delta": {"content": piece}} for piece in pieces]
        chunks[-1]["finish_reason"] = choice["finish_reason"]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        for chunk in chunks:
            self.event({"choices": [{"index": 0, "finish_reason": None} | chunk]})
        self.event({"choices": [], "usage": reply["usage"]})
        self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def event(self, value: dict[str, Any]) -> None:
        """Send one event of a stream."""
        self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
        self.wfile.flush()

    # --- faults ---

    def fail(self, fault: str) -> None:
        """Do what an ordered fault names: a way of going wrong, or a status and what is said."""
        if fault == "closes":
            self.reset()
        elif fault == "slow":
            time.sleep(3.0)
            with suppress(OSError):  # who asked may be gone
                self.json({})
        elif fault == "truncates":
            self.raw(200, b'{"choices": [{"message": {"content": "<answ', length=500)
            self.reset()
        elif fault == "no choices":
            self.json({"choices": [], "usage": {}})
        elif fault == "unfinished":
            self.json({"choices": [{"message": {"content": "<answer>A"}, "finish_reason": None}]})
        elif fault == "no message":
            self.json({"choices": [{"finish_reason": "stop"}]})
        elif fault == "garbage":
            self.raw(200, b'data: {"id": 1}\n\ndata: [DO', kind="text/event-stream")
        elif fault == "garbled stream":
            self.raw(200, b'data: {"choices": [{"delta": "<answer>A"}]}\n\ndata: [DONE]\n\n', kind="text/event-stream")
        elif fault == "garbled logprobs":
            told = {"content": [{"token": "A", "logprob": None}]}
            self.json({"choices": [SAID_A | {"logprobs": told}]})
        elif fault == "garbled costs":
            self.json({"choices": [SAID_A], "usage": {"prompt_tokens": "many"}})
        elif fault == "html":
            self.raw(502, b"<html><body>Bad Gateway</body></html>", kind="text/html")
        elif fault.startswith("redirects"):
            self.send_response(307)
            self.send_header("location", fault.partition(" ")[2] or "http://elsewhere.example/v1")
            self.send_header("content-length", "0")
            self.end_headers()
        else:
            status, _, message = fault.partition(" ")
            self.json({"error": {"message": message or "no"}}, int(status))

    def reset(self) -> None:
        """Break the connection off."""
        self.wfile.flush()
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.connection.close()
        self.close_connection = True

    def json(self, body: dict[str, Any], status: int = 200) -> None:
        """Send a whole reply."""
        self.raw(status, json.dumps(body).encode())

    def raw(self, status: int, data: bytes, kind: str = "application/json", length: int | None = None) -> None:
        """Send bytes as they are; `length` is what the header says of them."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data) if length is None else length))
        self.end_headers()
        self.wfile.write(data)
