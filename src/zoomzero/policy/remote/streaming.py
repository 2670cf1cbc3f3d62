"""Replies that come in pieces, put together to the whole reply of a request without streaming."""

from __future__ import annotations

from typing import Any

Reply = dict[str, Any]


class Pieces:
    """Collects the chunks of a streamed chat with one choice."""

    def __init__(self) -> None:
        self.text = ""
        self._told: list[Any] = []
        self._ids: list[Any] = []
        self._choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        self._outer: dict[str, Any] = {}

    def add(self, chunk: object) -> None:
        """Take the next chunk; one that is no object is passed over.

        Raises:
            ValueError: an object that is no piece of a chat.
        """
        if not isinstance(chunk, dict):
            return
        try:
            self._take(chunk)
        except (AttributeError, TypeError) as error:
            raise ValueError("a piece that is no part of a chat") from error

    def _take(self, chunk: dict[str, Any]) -> None:
        self._outer |= {name: value for name, value in chunk.items() if name != "choices" and value is not None}
        for choice in chunk.get("choices") or ():
            delta = choice.get("delta") or {}
            self.text += delta.get("content") or ""
            self._told += (choice.get("logprobs") or {}).get("content") or ()
            self._ids += choice.get("token_ids") or ()
            if choice.get("finish_reason") is not None:
                self._choice["finish_reason"] = choice["finish_reason"]

    def whole(self) -> Reply:
        """Return the reply as it would have come at once."""
        choice = self._choice | {"message": {"role": "assistant", "content": self.text}}
        choice |= {"logprobs": {"content": self._told}} if self._told else {}
        choice |= {"token_ids": self._ids} if self._ids else {}
        return self._outer | {"choices": [choice]}
