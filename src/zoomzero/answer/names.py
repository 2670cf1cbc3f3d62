"""The names of the answering modes, without what they need: the command line's help lists them."""

from __future__ import annotations

from typing import Literal, get_args

AskMode = Literal["direct", "coarse", "zoom", "context", "divide", "search"]
MODES: tuple[AskMode, ...] = get_args(AskMode)
