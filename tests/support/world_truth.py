"""The right answers, worked out from a question's words and a scene alone (nothing of `world.questions` is used)."""

from __future__ import annotations

import re
from typing import NamedTuple

from zoomzero.world.scenes import Event, Scene

COLOURS = ["red", "green", "blue", "yellow", "purple", "orange"]
SHAPES = ["square", "triangle", "cross", "ring"]
COUNTS = ["one", "two", "three", "four"]


class Truth(NamedTuple):
    """What a question's words ask for: the answer's text, the spans, and the objects named in the question."""

    answer: str
    spans: list[tuple[float, float]]
    asked: list[Event]


def name_of(event: Event) -> str:
    """Colour and shape, from the layout of `kind`: colours run fastest."""
    shape, colour = divmod(event.kind, 6)
    return f"{COLOURS[colour]} {SHAPES[shape]}"


def symbol_of(event: Event) -> str:
    """The letter an object carries."""
    return "EHKMPTXZ"[event.symbol]


def truth(text: str, scene: Scene) -> Truth:
    """Answer one question; the scene's events are put in order here."""
    events = sorted(scene.events, key=lambda e: e.start_s)

    def called(name: str) -> list[Event]:
        return [e for e in events if name_of(e) == name]

    if m := re.fullmatch(r"Which symbol is on the (\w+ \w+)\?", text):
        (event,) = called(m[1])
        return Truth(symbol_of(event), [(event.start_s, event.end_s)], [event])
    if m := re.fullmatch(r"Which object appears (next after|last before) the (\w+ \w+)\?", text):
        (anchor,) = called(m[2])
        if m[1] == "next after":
            target = min((e for e in events if e.start_s > anchor.start_s), key=lambda e: e.start_s)
        else:
            target = max((e for e in events if e.start_s < anchor.start_s), key=lambda e: e.start_s)
        return Truth(name_of(target), [(target.start_s, target.end_s)], [anchor, target])
    if m := re.fullmatch(r"How many times does the (\w+ \w+) appear\?", text):
        found = called(m[1])
        return Truth(COUNTS[len(found) - 1], [(e.start_s, e.end_s) for e in found], found)
    assert text == "Which object is visible at the end of the video?", text
    (event,) = [e for e in events if e.start_s < scene.duration_s <= e.end_s]
    return Truth(name_of(event), [(event.start_s, event.end_s)], [event])
