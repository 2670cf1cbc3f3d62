"""Scenes: which objects are on screen when, before a pixel is drawn. A scene is a pure function of its seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from zoomzero.spans import Span

COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
SHAPES = ("square", "triangle", "cross", "ring")
SYMBOLS = tuple("EHKMPTXZ")  # no option letters A-D and no digits, which mean other things in answers
KINDS = len(COLOURS) * len(SHAPES)

GRID_S = 2.0  # all times are multiples of it: at 1 frame a second, a pair of frames shows what its two seconds show
MIN_START_GAP_S = 2.0  # two objects never start closer together, so "next after" has one answer at 1 frame a second
MIN_REPEAT_GAP_S = 4.0  # between two appearances of one kind, so that counting them is possible
LAST_ALONE_S = 4.0  # only the last object is visible in these last seconds
EVENT_LENGTHS_S = (4.0, 10.0)
SECONDS_PER_EVENT = 6.5
UNIQUE_IN_LONG = 10  # kinds that appear once in a long video: the ones that can be asked about


@dataclass(frozen=True, slots=True)
class Event:
    """One appearance of one object. `x`, `y` are the sprite's corner at the start, in shares of the free width."""

    start_s: float
    end_s: float
    kind: int  # colour + len(COLOURS) * shape
    symbol: int
    x: float
    y: float
    vx: float  # drift, pixels a second
    vy: float

    @property
    def span(self) -> Span:
        """When the object is on screen."""
        return Span(self.start_s, self.end_s)

    @property
    def name(self) -> str:
        """What the object is called in questions, for example `red circle`."""
        return kind_name(self.kind)


@dataclass(frozen=True, slots=True)
class Scene:
    """A video before it is drawn: `events` are in order of their start."""

    duration_s: float
    events: tuple[Event, ...]
    base: tuple[float, float, float]  # mean background colour, 0-255
    phase: float  # of the background's slow waves, radians

    def events_of(self, kind: int) -> tuple[Event, ...]:
        """Return the appearances of one kind, in time order."""
        return tuple(event for event in self.events if event.kind == kind)


def kind_name(kind: int) -> str:
    """Return the words for a kind: colour and shape."""
    return f"{COLOURS[kind % len(COLOURS)]} {SHAPES[kind // len(COLOURS)]}"


def make_scene(rng: np.random.Generator, duration_s: float) -> Scene:
    """Draw a scene.

    Args:
        rng: the only source of randomness.
        duration_s: length of the video, a multiple of GRID_S, at least 24 s.

    Returns:
        A scene in which one kind appears one to four times, one object alone closes the video, and (in long videos)
        the kinds that appear once are hidden among kinds that keep coming back.
    """
    spans = _draw_spans(rng, duration_s)
    kinds = _draw_kinds(rng, spans)
    symbols = _draw_symbols(rng, len(spans))
    places = draw_places(rng, spans)
    drift = rng.uniform(-1.5, 1.5, (len(spans), 2))
    events = tuple(
        Event(s.start_s, s.end_s, int(k), int(g), float(x), float(y), float(vx), float(vy))
        for s, k, g, (x, y), (vx, vy) in zip(spans, kinds, symbols, places, drift, strict=True)
    )
    r, g, b = rng.uniform(40, 150, 3)
    return Scene(duration_s, events, (float(r), float(g), float(b)), float(rng.uniform(0, 2 * np.pi)))


def _draw_spans(rng: np.random.Generator, duration_s: float) -> list[Span]:
    """Draw when things are on screen: starts at least MIN_START_GAP_S apart, the last object alone at the end."""
    count = max(4, round(duration_s / SECONDS_PER_EVENT * rng.uniform(0.8, 1.2)))
    low, high = EVENT_LENGTHS_S
    lengths = GRID_S * rng.integers(round(low / GRID_S), round(high / GRID_S) + 1, count)
    last_start = duration_s - float(lengths[-1])
    gap = round(MIN_START_GAP_S / GRID_S)
    # Sorted draws on a shortened axis, then spread by the gap: uniform among all spacings that keep the gap.
    room = max(1, round((min(last_start, duration_s - low) - low) / GRID_S) - gap * count)
    starts = GRID_S * (np.sort(rng.integers(0, room, count - 1)) + gap * np.arange(count - 1))
    quiet = duration_s - LAST_ALONE_S
    spans = [Span(float(s), min(float(s + length), quiet)) for s, length in zip(starts, lengths[:-1], strict=True)]
    return [s for s in spans if s.length_s >= 2.5 and s.start_s <= last_start - MIN_START_GAP_S] + [
        Span(last_start, duration_s)
    ]


def _draw_kinds(rng: np.random.Generator, spans: Sequence[Span]) -> list[int]:
    """Give every appearance a kind: one repeated kind, single ones, and, when those run out, recurring ones."""
    order = [int(k) for k in rng.permutation(KINDS)]
    repeated, others = order[0], order[1:]
    kinds: dict[int, int] = dict.fromkeys(_far_apart(rng, spans, int(rng.integers(1, 5))), repeated)
    free = [int(i) for i in rng.permutation(len(spans)) if i not in kinds]
    single = others if len(free) <= len(others) else others[:UNIQUE_IN_LONG]
    kinds.update(zip(free, single, strict=False))
    recurring = others[UNIQUE_IN_LONG:]
    last_end = dict.fromkeys(recurring, -np.inf)
    for i, span in enumerate(spans):
        if i not in kinds:
            rested = [k for k in recurring if last_end[k] + MIN_REPEAT_GAP_S <= span.start_s]
            kinds[i] = int(rng.choice(rested or [min(recurring, key=last_end.__getitem__)]))
            last_end[kinds[i]] = span.end_s
    return [kinds[i] for i in range(len(spans))]


def _far_apart(rng: np.random.Generator, spans: Sequence[Span], count: int) -> list[int]:
    """Pick up to `count` appearances with MIN_REPEAT_GAP_S between any two of them."""
    picked: list[int] = []
    for i in (int(i) for i in rng.permutation(len(spans))):
        clear = all(
            spans[i].start_s >= spans[j].end_s + MIN_REPEAT_GAP_S
            or spans[j].start_s >= spans[i].end_s + MIN_REPEAT_GAP_S
            for j in picked
        )
        if clear and len(picked) < count:
            picked.append(i)
    return picked


def _draw_symbols(rng: np.random.Generator, count: int) -> list[int]:
    """Draw symbols so that neighbours in time carry different ones: the wrong options are on screen nearby."""
    rounds = -(-count // len(SYMBOLS))
    return [int(s) for _ in range(rounds) for s in rng.permutation(len(SYMBOLS))][:count]


def draw_places(rng: np.random.Generator, spans: Sequence[Span], tries: int = 12) -> list[tuple[float, float]]:
    """Draw corners in [0, 1]^2, trying to keep objects that share the screen from covering each other."""
    places: list[tuple[float, float]] = []
    for i, span in enumerate(spans):
        near = [places[j] for j in range(max(0, i - 8), i) if spans[j].end_s > span.start_s]
        best, best_distance = (0.0, 0.0), -1.0
        for x, y in rng.uniform(0, 1, (tries, 2)):
            distance = min((max(abs(x - px), abs(y - py)) for px, py in near), default=1.0)
            if distance > best_distance:
                best, best_distance = (float(x), float(y)), distance
            if distance > 0.6:
                break
        places.append(best)
    return places
