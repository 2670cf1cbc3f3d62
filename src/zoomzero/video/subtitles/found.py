"""What the reader of one format hands on."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Found:
    """The cues of a file, (start_s, end_s, text) as written, and how many could not be read.

    `unread`: a time is written but cannot be read; `first_unread` is the line of the first. `untimed`: no time is
    written. `endless`: the format tells only when a line begins, and its end is a guess from its length.
    """

    cues: list[tuple[float, float, str]] = field(default_factory=list)
    unread: int = 0
    untimed: int = 0
    first_unread: int = 0
    endless: bool = False

    def add(self, start_s: float | None, end_s: float | None, text: str, line: int) -> None:
        """Take a cue, or count it when a time is None."""
        if start_s is not None and end_s is not None:
            self.cues.append((start_s, end_s, text))
            return
        self.unread += 1
        self.first_unread = self.first_unread or line
