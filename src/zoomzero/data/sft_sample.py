"""SFT samples: what supervised fine-tuning reads. One clip, read once, and several questions with their answers.

Packing the questions behind one prefix is the point: the video is most of the cost, the questions are nearly free.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoomzero.video.types import Clip


@dataclass(frozen=True, slots=True)
class Look:
    """What must be looked at to write the token at character `character` of an answer.

    `when` tokens say when a named thing begins and look at second `at` of the clip; `what` tokens name the thing that
    begins at second `at`; `which` tokens are the letter of an option, `at` its place.
    """

    kind: Literal["when", "what", "which"]
    character: int
    at: float


@dataclass(frozen=True, slots=True)
class SFTItem:
    """One question of a sample.

    `text` follows the clip and the sample's header in the user turn; `target` is the assistant's whole answer.
    `untrained` are character ranges of `target` that are read but not learned (a letter nobody can know), `decisive`
    those that count several times as much (the one token of an answer that says where to look). `looks` say what must
    be looked at to write a token; `options` are the characters of `text` at which an option's letter stands and its
    text ends.
    """

    text: str
    target: str
    untrained: tuple[tuple[int, int], ...] = ()
    weight: float = 1.0
    decisive: tuple[tuple[int, int], ...] = ()
    looks: tuple[Look, ...] = ()
    options: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """A turn that is over: the clip shown, what was asked about it, and the reply. It is read, not learned."""

    clip: Clip
    text: str
    reply: str


@dataclass(frozen=True, slots=True, eq=False)
class SFTSample:
    """One clip with the items that share it. `header` opens the text of every item; `history` came before."""

    clip: Clip
    header: str
    items: tuple[SFTItem, ...]
    history: tuple[Exchange, ...] = ()
