"""From chat turns to a `Prompt`: template, tokens, positions, patches, and where the visual tokens lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from zoomzero.policy.base import Turn
from zoomzero.policy.local.attention.packed import Prompt
from zoomzero.policy.local.families.base import ClipLayout, Family, Piece, VisionRun
from zoomzero.policy.local.positions import VisionBlocks, visual_index
from zoomzero.policy.local.text import ChatTemplate, TextCodec, merge_text
from zoomzero.video.types import Clip


@dataclass(frozen=True, slots=True)
class Message:
    """A chat turn whose clips have become layouts: light enough to keep with a context."""

    role: str
    parts: tuple[ClipLayout | str, ...]


class Reasoning(str):
    """The thinking in an assistant's message."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class PromptBuilder:
    """Builds prompts for one checkpoint.

    Args:
        family: the model family.
        codec: its tokenizer.
        template: its chat template.
        pad: the id visual tokens are given (`<|video_pad|>`).
        pixels: whether prompts carry their clips' patches, or a frozen tower's features are looked up instead.
    """

    family: Family
    codec: TextCodec
    template: ChatTemplate
    pad: int
    pixels: bool = True

    def messages(self, turns: Sequence[Turn]) -> tuple[Message, ...]:
        """Return the turns without their pixels."""
        return tuple(
            Message(t.role, tuple(p if isinstance(p, str) else self.family.layout(p) for p in t.parts)) for t in turns
        )

    def build(self, turns: Sequence[Turn]) -> Prompt:
        """Return the prompt of a chat that ends before the assistant's next words."""
        return self.layout(self.messages(turns), [p for t in turns for p in t.parts if isinstance(p, Clip)])

    def layout(self, messages: Sequence[Message], clips: Sequence[Clip] = (), *, closed: bool = False) -> Prompt:
        """Return the prompt of messages, with the pixels of their clips when these are given.

        Args:
            messages: a chat that ends before the assistant's next words.
            clips: its clips, for their pixels.
            closed: end a think block the template opens, so that the answer itself comes next.
        """
        pieces = self._pieces(messages, closed)
        ids, blocks = self._tokens(pieces)
        layouts = [part for m in messages for part in m.parts if isinstance(part, ClipLayout)]
        grids = [layout.grid for layout in layouts]
        return Prompt(
            ids=torch.tensor(ids, dtype=torch.int64),
            positions=self.family.positions(len(ids), blocks),
            visual_index=visual_index(blocks),
            patches=torch.cat([self.family.patches(clip.frames) for clip in clips]) if clips and self.pixels else None,
            grids=torch.tensor(grids, dtype=torch.int64).view(-1, 3),
        )

    @property
    def opening(self) -> str:
        """What the chat template writes of a reply before the model does, such as `<think>\\n`."""
        return self.template.opening

    def unwritten(self, reply: str) -> str:
        """Return what of a reply is still to be written after the `opening`."""
        if not self.opening or not reply.startswith("<think>"):
            return reply
        return reply.removeprefix(self.opening) if reply.startswith(self.opening) else reply.removeprefix("<think>")

    def _pieces(self, messages: Sequence[Message], closed: bool) -> list[Piece]:
        if self.template.knows_thinking:
            messages = [_with_reasoning(message) for message in messages]
        parts = [part for message in messages for part in message.parts]
        reasoning = {i for i, part in enumerate(parts) if isinstance(part, Reasoning)}
        margins = {i: _margins(part) for i, part in enumerate(parts) if isinstance(part, str)}
        counts = [len(m.parts) for m in messages]
        rendered = self.template.render(
            [m.role for m in messages], counts, margins=margins, reasoning=reasoning, closed=closed
        )
        pieces: list[Piece] = []
        for piece in rendered:
            if isinstance(piece, str):
                pieces += self.codec.split_special(piece)
                continue
            part = parts[piece]
            pieces += [part.strip()] if isinstance(part, str) else self.family.pieces(part)
        return merge_text(pieces)

    def _tokens(self, pieces: Sequence[Piece]) -> tuple[list[int], VisionBlocks]:
        ids: list[int] = []
        starts: list[int] = []
        runs: list[VisionRun] = []
        for piece in pieces:
            if isinstance(piece, VisionRun):
                starts.append(len(ids))
                runs.append(piece)
                ids += [self.pad] * piece.count
            else:
                ids += self.codec.encode(piece) if isinstance(piece, str) else [piece]
        return ids, VisionBlocks(
            torch.tensor(starts, dtype=torch.int64),
            torch.tensor([run.grid for run in runs], dtype=torch.int64).view(-1, 3),
            torch.tensor([run.step for run in runs], dtype=torch.float32),
        )


def _with_reasoning(message: Message) -> Message:
    """Return an assistant's message with its thinking as a part of its own: the template decides whether it stays."""
    text = "".join(part for part in message.parts if isinstance(part, str))
    before, closing, after = text.rpartition("</think>")
    if message.role != "assistant" or not closing or any(not isinstance(part, str) for part in message.parts):
        return message
    return Message(message.role, (Reasoning(before.strip().removeprefix("<think>").strip()), after.lstrip("\n")))


def _margins(text: str) -> tuple[str, str]:
    """Return the whitespace before and after a text."""
    inner = text.strip()
    at = text.find(inner) if inner else len(text)
    return text[:at], text[at + len(inner) :]
