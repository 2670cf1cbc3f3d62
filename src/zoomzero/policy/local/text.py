"""Text to tokens and back: chat templates, text that cannot inject special tokens, exact character ranges."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@lru_cache(maxsize=1)
def _byte_alphabet() -> dict[str, int]:
    """Return the byte each character of a byte-level vocabulary stands for (the GPT-2 alphabet)."""
    printable = [
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    ]
    others = [b for b in range(256) if b not in set(printable)]
    return {chr(b): b for b in printable} | {chr(256 + i): b for i, b in enumerate(others)}


class TextCodec:
    """A tokenizer that never turns text into special tokens, and knows where each token lies in decoded text.

    Args:
        tokenizer: a `tokenizers.Tokenizer`; it is set to read the names of special tokens as plain text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        added = tokenizer.get_added_tokens_decoder()
        self.special = {token.content: index for index, token in added.items() if token.special}
        self.special_ids = frozenset(self.special.values())
        self.added = {index: token.content for index, token in added.items()}
        self.size = max([*tokenizer.get_vocab(with_added_tokens=True).values(), -1]) + 1
        names = sorted(self.special, key=len, reverse=True)
        self._special_pattern = re.compile("|".join(map(re.escape, names))) if names else None
        self.byte_level = type(tokenizer.decoder).__name__ == "ByteLevel"

    def encode(self, text: str) -> list[int]:
        """Encode text; whatever it looks like, no special token comes out."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def split_special(self, text: str) -> list[str | int]:
        """Cut TRUSTED text (a chat template's own) into plain strings and special token ids."""
        if self._special_pattern is None:
            return [text] if text else []
        pieces: list[str | int] = []
        end = 0
        for match in self._special_pattern.finditer(text):
            pieces += [text[end : match.start()], self.special[match.group()]]
            end = match.end()
        return [piece for piece in [*pieces, text[end:]] if piece != ""]

    def decode(self, ids: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
        """Decode tokens and return the text with each token's character range.

        A special token has an empty range. A character whose bytes come from several tokens belongs to each
        of them. Bytes that are not UTF-8 become U+FFFD, as in the tokenizer's own decoder.
        """
        return self._decode_bytes(ids) if self.byte_level else self._decode_prefixes(ids)

    def _token_bytes(self, index: int) -> bytes:
        if index in self.special_ids:
            return b""
        if index in self.added:
            return self.added[index].encode()
        token = self.tokenizer.id_to_token(index)
        return b"" if token is None else bytes(_byte_alphabet()[c] for c in token)

    def _decode_bytes(self, ids: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
        pieces = [self._token_bytes(i) for i in ids]
        text, owner = decode_utf8(b"".join(pieces))
        offsets, at = [], 0
        for piece in pieces:
            here = owner[at - 1] + 1 if at else 0
            end = at + len(piece)
            offsets.append((owner[at], owner[end - 1] + 1) if piece else (here, here))
            at = end
        return text, tuple(offsets)

    def _decode_prefixes(self, ids: Sequence[int]) -> tuple[str, tuple[tuple[int, int], ...]]:
        text, offsets = "", []
        for i in range(len(ids)):
            longer = self.tokenizer.decode(list(ids[: i + 1]), skip_special_tokens=True)
            offsets.append((len(text), len(longer)))
            text = longer
        return text, tuple(offsets)


def decode_utf8(data: bytes) -> tuple[str, list[int]]:
    """Decode bytes as UTF-8, broken ones as U+FFFD; also return for every byte the index of its character."""
    chars: list[str] = []
    owner: list[int] = []
    at = 0
    while at < len(data):
        try:
            good, broken = data[at:].decode("utf-8"), 0
        except UnicodeDecodeError as error:
            good, broken = data[at : at + error.start].decode("utf-8"), error.end - error.start
        for char in good:
            owner += [len(chars)] * len(char.encode())
            chars.append(char)
        if broken:
            owner += [len(chars)] * broken
            chars.append("\ufffd")
        at = len(owner)
    return "".join(chars), owner


FALLBACK_TEMPLATE = (
    "{% if system and messages[0]['role'] != 'system' %}"
    "<|im_start|>system\n{{ system }}<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{{ part['text'] }}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_MARK = re.compile("\ue000(\\d+)\ue001")
_OPEN_THINK = re.compile(r"<think>\s*\Z")


class ChatTemplate:
    """Renders chat turns with a checkpoint's template, keeping what users wrote apart from what the template
    wrote.

    Every part is a numbered mark in private-use characters while the template runs, so that nothing in it can
    look like markup, and the caller puts text or video in its place. Rendering is transformers' own.

    Args:
        source: the jinja template, or "" for the standard ChatML form.
        system: the system message of the standard form, "" for none.
        think: told to templates that know `enable_thinking`; None: nothing is said.
    """

    def __init__(self, source: str = "", system: str = "", think: bool | None = None) -> None:
        self.source, self.system = source or FALLBACK_TEMPLATE, system
        self._switches = {} if think is None else {"enable_thinking": think}
        # templates that know of reasoning decide themselves whether old reasoning stays in a chat
        self.knows_thinking = "reasoning_content" in self.source
        self._opening: str | None = None

    @property
    def opening(self) -> str:
        """The think block the template opens in the assistant's name, such as `<think>\\n`, "" when it opens none."""
        if self._opening is None:
            last = self.render(["user"], [1])[-1]
            found = _OPEN_THINK.search(last) if isinstance(last, str) else None
            self._opening = found.group() if found else ""
        return self._opening

    def render(
        self,
        roles: Sequence[str],
        part_counts: Sequence[int],
        *,
        margins: Mapping[int, tuple[str, str]] | None = None,
        reasoning: Collection[int] = (),
        closed: bool = False,
    ) -> list[str | int]:
        """Return the chat as template text (str) and part numbers (int), up to where the assistant speaks
        next.

        Args:
            roles: the role of each turn.
            part_counts: how many parts each turn has; parts are numbered through all turns.
            margins: whitespace before and after parts, which a template may cut off.
            reasoning: numbers of parts that are an assistant's thinking; a template may leave them out.
            closed: end a think block the template opens, empty, so that the answer itself comes next.
        """
        from transformers.utils.chat_template_utils import render_jinja_template

        number = iter(range(sum(part_counts)))
        messages: list[dict[str, Any]] = []
        for role, count in zip(roles, part_counts, strict=True):
            message: dict[str, Any] = {"role": role, "content": []}
            for i in (next(number) for _ in range(count)):
                before, after = (margins or {}).get(i, ("", ""))
                text = f"{before}\ue000{i}\ue001{after}"
                if i in reasoning:
                    message["reasoning_content"] = text
                else:
                    message["content"].append({"type": "text", "text": text})
            messages.append(message)
        rendered, _ = render_jinja_template(
            [messages],
            chat_template=self.source,
            add_generation_prompt=True,
            system=self.system,
            add_vision_id=False,
            **self._switches,
        )
        (text,) = rendered
        if closed and (found := _OPEN_THINK.search(text)):
            text = text[: found.start()] + "<think>\n\n</think>\n\n"
        found_parts = _MARK.split(text)
        pieces: list[str | int] = [int(p) if i % 2 else p for i, p in enumerate(found_parts)]
        kept = [p for p in pieces if isinstance(p, int)]
        if [p for p in range(sum(part_counts)) if p in kept or p not in reasoning] != kept:
            raise ValueError("the chat template drops, repeats or reorders parts of the messages")
        return [piece for piece in pieces if piece != ""]


def merge_text(pieces: Iterable[Any]) -> list[Any]:
    """Join neighbouring strings, so that they are tokenised together, as one text would be."""
    merged: list[Any] = []
    for piece in pieces:
        if isinstance(piece, str) and merged and isinstance(merged[-1], str):
            merged[-1] += piece
        else:
            merged.append(piece)
    return merged
