"""Finds the tagged parts of any text: one pass over the tags, with a defined result for every wrong nesting.

Rules (docs/reference/formats.md lists what comes of them):
    - the first closing tag of its kind closes a part; opened again inside itself, it restarts there;
    - a <time> may stand in the thinking, nothing else may: an answer or glue opened in it is `nested` when
      the thinking is closed later, otherwise it ends the thinking;
    - any other tag inside answer, glue or time ends that part;
    - text before the first `</think>`, `<answer>` or `<glue>` is thinking without its opening tag (chat
      templates that write `<think>` themselves leave it out of the completion);
    - what is open at the end of the text is cut off there, without the piece of a tag it may end with.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from zoomzero.prompts.grammar import Tag, scan_tags

_TAGS = [f"<{slash}{name}>" for slash in ("", "/") for name in ("think", "time", "answer", "glue")]
_PIECES = sorted({tag[:n] for tag in _TAGS for n in range(1, len(tag))}, key=len, reverse=True)


class Part(NamedTuple):
    """A part of a text: its contents are characters start..end, with its tags open..close."""

    name: str
    open: int
    start: int
    end: int
    close: int
    nested: bool = False  # an answer or glue inside the thinking
    cut: bool = False  # the text ends inside
    tagged: bool = True  # False: its opening tag is missing

    @property
    def closed(self) -> bool:
        """Whether its own closing tag ends it."""
        return self.close > self.end and not self.cut


class _Open(NamedTuple):
    """A part whose end has not come; `paired`: the next tag of its kind is a closing one."""

    name: str
    open: int
    start: int
    paired: bool
    nested: bool = False
    tagged: bool = True


def find_parts(text: str, tags: Sequence[Tag]) -> tuple[list[Part], set[str]]:
    """Return the parts of a text in the order they open, and the problems met (codes of `PROBLEMS`)."""
    scan = _Scan(text)
    scan.imply_think(tags)
    for tag, paired in zip(tags, _paired(tags), strict=True):
        if tag.closing:
            scan.close(tag)
        else:
            scan.open(tag, paired)
    scan.cut_off()
    return sorted(scan.parts, key=lambda part: (part.open, part.start)), scan.problems


def outside(text: str, covered: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the stretches of non-blank, tag-free text outside the covered ranges, stripped.

    Args:
        text: any text.
        covered: (start, end) ranges in the order of their starts; they may overlap.
    """
    gaps, position = [], 0
    for start, end in (*covered, (len(text), len(text))):
        if start > position:
            gaps += _pieces(text, position, start)
        position = max(position, end)
    return gaps


def _pieces(text: str, start: int, end: int) -> list[tuple[int, int]]:
    """Return the non-blank stretches between the tags of text[start:end], stripped."""
    pieces, position = [], start
    for tag_start, tag_end in [
        *((start + t.start, start + t.end) for t in scan_tags(text[start:end])),
        (end, end),
    ]:
        piece = stripped_range(text, position, tag_start)
        if piece[1] > piece[0]:
            pieces.append(piece)
        position = tag_end
    return pieces


def stripped_range(text: str, start: int, end: int) -> tuple[int, int]:
    """Return start..end without the whitespace at both ends."""
    piece = text[start:end]
    start += len(piece) - len(piece.lstrip())
    return start, start + len(piece.strip())


def without_tag_piece(text: str, start: int, end: int) -> int:
    """Return `end`, moved before the beginning of a tag that text[start:end] ends with."""
    tail = text[max(start, end - len("</answer")) : end].lower()
    return next((end - len(piece) for piece in _PIECES if tail.endswith(piece)), end)


def _paired(tags: Sequence[Tag]) -> list[bool]:
    """Return for each tag whether the next tag of its name is a closing one."""
    closes_next: dict[str, bool] = {}
    paired = []
    for tag in reversed(tags):
        paired.append(closes_next.get(tag.name, False))
        closes_next[tag.name] = tag.closing
    return paired[::-1]


class _Scan:
    """The state of the pass: what is open (the thinking, and at most one part in it), what is done."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.stack: list[_Open] = []
        self.parts: list[Part] = []
        self.problems: set[str] = set()

    def imply_think(self, tags: Sequence[Tag]) -> None:
        """Open the thinking at the start of the text when its own opening tag is missing."""
        first = next((tag for tag in tags if tag.name != "time"), None)
        if first is None or first.closing != (first.name == "think"):
            return
        if first.closing or self.text[: first.start].strip():
            paired = next((tag.closing for tag in tags if tag.name == "think"), False)
            self.stack.append(_Open("think", 0, 0, paired, tagged=False))

    def open(self, tag: Tag, paired: bool) -> None:
        """Meet an opening tag."""
        nested = False
        while self.stack:
            top = self.stack[-1]
            if top.name == tag.name:
                self.problems.add("nested_tag")
                self.stack.pop()
            elif top.name == "think" and tag.name == "time":
                break
            elif top.name == "think" and top.paired:
                self.problems.add("nested_tag")
                nested = True
                break
            else:
                if top.tagged:
                    self.problems.add("nested_tag" if top.paired else "unclosed_tag")
                self._finish(tag.start, tag.start)
        self.stack.append(_Open(tag.name, tag.start, tag.end, paired, nested))

    def close(self, tag: Tag) -> None:
        """Meet a closing tag."""
        while self.stack and self.stack[-1].name not in (tag.name, "think"):
            self.problems.add("unclosed_tag")
            self._finish(tag.start, tag.start)
        if self.stack and self.stack[-1].name == tag.name:
            self._finish(tag.start, tag.end)
        else:
            self.problems.add("stray_tag")

    def cut_off(self) -> None:
        """Meet the end of the text."""
        size = len(self.text)
        while self.stack:
            self.problems.add("truncated")
            self._finish(without_tag_piece(self.text, self.stack[-1].start, size), size, cut=True)

    def _finish(self, end: int, close: int, cut: bool = False) -> None:
        top = self.stack.pop()
        self.parts.append(Part(top.name, top.open, top.start, end, close, top.nested, cut, top.tagged))
