"""Questions about scenes, with the options, the right one and the evidence in time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from zoomzero.spans import Span, merge
from zoomzero.world.scenes import SYMBOLS, Scene, kind_name

QuestionKind = Literal["symbol", "order", "count", "last"]
QUESTION_KINDS: tuple[QuestionKind, ...] = ("symbol", "order", "count", "last")
NUMBERS = ("one", "two", "three", "four")
N_OPTIONS = 4


@dataclass(frozen=True, slots=True)
class Question:
    """One multiple-choice question; `spans` is when the evidence is on screen, `subjects` what to look for."""

    kind: QuestionKind
    text: str
    options: tuple[str, ...]
    answer: int  # index into options
    spans: tuple[Span, ...]
    reasoning: tuple[tuple[str, Span], ...]  # what to notice and when, in the order of noticing


def ask(rng: np.random.Generator, scene: Scene, kind: QuestionKind) -> Question | None:
    """Draw a question of one kind, or None when the scene has no unambiguous one."""
    return {"symbol": _symbol, "order": _order, "count": _count, "last": _last}[kind](rng, scene)


def _singles(scene: Scene) -> list[int]:
    """Return the indices of events whose kind appears once."""
    kinds = [event.kind for event in scene.events]
    return [i for i, kind in enumerate(kinds) if kinds.count(kind) == 1]


def _shuffled(rng: np.random.Generator, right: str, wrong: list[str]) -> tuple[tuple[str, ...], int]:
    options = [right, *wrong[: N_OPTIONS - 1]]
    order = [int(i) for i in rng.permutation(len(options))]
    return tuple(options[i] for i in order), order.index(0)


def _symbol(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Ask for the symbol on an object that appears once; the wrong options are on the objects nearest in time."""
    singles = _singles(scene)
    if not singles:
        return None
    i = int(rng.choice(singles))
    event = scene.events[i]
    near = sorted((j for j in range(len(scene.events)) if j != i), key=lambda j: abs(j - i))
    carried = dict.fromkeys(scene.events[j].symbol for j in near)
    wrong = [SYMBOLS[s] for s in carried if s != event.symbol]
    if len(wrong) < N_OPTIONS - 1:
        return None
    options, answer = _shuffled(rng, SYMBOLS[event.symbol], wrong)
    text = f"Which symbol is on the {event.name}?"
    return Question("symbol", text, options, answer, (event.span,), ((event.name, event.span),))


def _order(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Ask which object started next after, or last before, an object that appears once."""
    after = bool(rng.integers(2))
    step = 1 if after else -1
    pairs = [
        (i, i + step)
        for i in _singles(scene)
        if 0 <= i + step < len(scene.events) and scene.events[i + step].kind != scene.events[i].kind
    ]
    if not pairs:
        return None
    i, j = pairs[int(rng.integers(len(pairs)))]
    anchor, target = scene.events[i], scene.events[j]
    near = sorted(range(len(scene.events)), key=lambda k: abs(k - i))
    kinds = dict.fromkeys(scene.events[k].kind for k in near)
    wrong = [kind_name(k) for k in kinds if k not in (anchor.kind, target.kind)]
    if len(wrong) < N_OPTIONS - 1:
        return None
    options, answer = _shuffled(rng, target.name, wrong)
    text = f"Which object appears {'next after' if after else 'last before'} the {anchor.name}?"
    reasoning = ((anchor.name, anchor.span), (target.name, target.span))
    return Question("order", text, options, answer, (target.span,), reasoning)


def _count(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Ask how often an object appears, between once and four times."""
    kinds = [event.kind for event in scene.events]
    counts = {k: kinds.count(k) for k in set(kinds) if kinds.count(k) <= len(NUMBERS)}
    if not counts:
        return None
    # Every scene has kinds that appear once: those are asked about only where nothing appears two to four times, which
    # is one scene in four, so that each number is right equally often.
    several = {k for k, n in counts.items() if n > 1} or set(counts)
    kind = int(rng.choice(sorted(several)))
    wanted = counts[kind]
    events = scene.events_of(kind)
    options, answer = _shuffled(rng, NUMBERS[wanted - 1], [n for n in NUMBERS if n != NUMBERS[wanted - 1]])
    text = f"How many times does the {kind_name(kind)} appear?"
    spans = merge(event.span for event in events)
    return Question("count", text, options, answer, spans, tuple((e.name, e.span) for e in events))


def _last(rng: np.random.Generator, scene: Scene) -> Question | None:
    """Ask what is on screen in the last moments; the wrong options were seen shortly before."""
    event = scene.events[-1]
    kinds = dict.fromkeys(e.kind for e in reversed(scene.events))
    wrong = [kind_name(k) for k in kinds if k != event.kind]
    if len(wrong) < N_OPTIONS - 1:
        return None
    options, answer = _shuffled(rng, event.name, wrong)
    text = "Which object is visible at the end of the video?"
    return Question("last", text, options, answer, (event.span,), ((event.name, event.span),))
