"""The modes of answering, each in a file of its own (docs/method.md says what each does and costs).

direct   one pass over the whole video, options scored, nothing written, no spans
coarse   one pass over the whole video writes answer and spans
zoom     coarse, then a close look at its spans; the likelier answer wins
context  like zoom, but the close look goes on from the coarse pass's chat
divide   windows of the video one by one, then a close look at the best windows' spans
search   several span candidates, each verified by a close look; elsewhere if all are weak
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from zoomzero.answer.modes.divide import divide
from zoomzero.answer.modes.search import search
from zoomzero.answer.modes.whole import coarse, direct
from zoomzero.answer.modes.zoom import context, zoom
from zoomzero.answer.names import AskMode
from zoomzero.answer.result import Outcome
from zoomzero.answer.session import QuestionSession

PASSES = ("coarse", "zoom", "window")  # the kinds of pass that have a budget of their own


@dataclass(frozen=True, slots=True)
class AnsweringMode:
    """A way of answering.

    Args:
        run: runs passes and says which of them is believed.
        passes: the kinds of pass it may run, whose budgets it spends.
    """

    run: Callable[[QuestionSession], Outcome]
    passes: tuple[str, ...]


REGISTRY: dict[AskMode, AnsweringMode] = {
    "direct": AnsweringMode(direct, ("coarse",)),
    "coarse": AnsweringMode(coarse, ("coarse",)),
    "zoom": AnsweringMode(zoom, ("coarse", "zoom")),
    "context": AnsweringMode(context, ("coarse", "zoom")),
    "divide": AnsweringMode(divide, PASSES),
    "search": AnsweringMode(search, PASSES),
}
PASSES_OF: dict[AskMode, tuple[str, ...]] = {name: mode.passes for name, mode in REGISTRY.items()}
