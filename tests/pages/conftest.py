"""Made-up traces, and a strict reader of pages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import pytest

from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.spans import Span

VOID = {"meta", "img", "input", "br", "link", "hr"}
SVG_EMPTY = {"path"}


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its tag, attributes, the tags around it, and the text directly and deeper inside."""

    tag: str
    attrs: dict[str, str | None]
    parents: tuple[str, ...]
    texts: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    @property
    def classes(self) -> set[str]:
        return set((self.attrs.get("class") or "").split())


class PageReader(HTMLParser):
    """Reads a page into a flat list of elements; an unbalanced tag is an AssertionError."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[Element] = []
        self.open: list[Element] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> repeats an attribute: {names}"
        element = Element(tag, dict(attrs), tuple(one.tag for one in self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG_EMPTY, f"<{tag}/> does not close in HTML"
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()
        if tag in {"td", "th"}:
            self.handle_data(" ")

    def handle_data(self, data: str) -> None:
        for one in self.open:
            one.texts.append(data)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that was read: every element in document order."""

    elements: list[Element]

    def all(self, tag: str = "", cls: str = "", **attrs: str) -> list[Element]:
        """Return elements by tag, class and attributes (`data_seek="1"` matches data-seek)."""
        wanted = {name.replace("_", "-"): value for name, value in attrs.items()}
        return [
            one
            for one in self.elements
            if (not tag or one.tag == tag)
            and (not cls or cls in one.classes)
            and all(one.attrs.get(name) == value for name, value in wanted.items())
        ]

    def one(self, tag: str = "", cls: str = "", **attrs: str) -> Element:
        """Return the only such element."""
        found = self.all(tag, cls, **attrs)
        assert len(found) == 1, f"{len(found)} elements {tag} .{cls} {attrs}"
        return found[0]


def read_page(html: str) -> Page:
    """Return a page's elements, asserting that it is well formed and loads nothing from outside."""
    reader = PageReader()
    reader.feed(html)
    reader.close()
    assert not reader.open, f"not closed: {[one.tag for one in reader.open]}"
    assert html.startswith("<!DOCTYPE html>")
    ids = [one.attrs["id"] for one in reader.elements if "id" in one.attrs]
    assert len(ids) == len(set(ids))
    for one in reader.elements:
        assert one.tag not in {"link", "iframe", "object", "embed", "base"}
        assert not any(name.startswith("on") for name in one.attrs), f"<{one.tag}> runs text: {one.attrs}"
        for name in ("src", "href", "poster", "srcset", "action", "xlink:href"):
            url = one.attrs.get(name)
            assert url is None or url.startswith(("data:", "#", "./", "../")), f"{name} leads outside: {url}"
        for name in ("aria-labelledby", "aria-describedby"):
            assert one.attrs.get(name) is None or one.attrs[name] in ids
    style = "".join(one.text for one in reader.elements if one.tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    return Page(reader.elements)


@pytest.fixture
def read() -> Callable[[str], Page]:
    return read_page


@pytest.fixture
def make_pass() -> Callable[..., PassTrace]:
    """A pass with plain values; keyword arguments replace them. Spans may be plain pairs."""

    def make(name: str = "coarse", spans: Any = ((0.0, 100.0),), **values: Any) -> PassTrace:
        one = PassTrace(
            name=name,
            spans=tuple(Span(*span) for span in spans),
            times_s=(0.0, 50.0),
            height=96,
            width=160,
            decoded_frames=4,
            visual_tokens=1500,
            prompt_tokens=1700,
            new_tokens=1600,
            generated_tokens=30,
            seconds=1.25,
            decode_seconds=0.5,
            text="<answer>A</answer>",
            answer="a dog",
            option="A",
            confidence=0.4,
        )
        if "found" in values:
            values["found"] = tuple(Span(*span) for span in values["found"])
        return replace(one, **values)

    return make


@pytest.fixture
def make_trace(make_pass: Callable[..., PassTrace]) -> Callable[..., Trace]:
    """A two-pass answer over 100 seconds; keyword arguments replace its values. Spans may be plain pairs."""

    def make(**values: Any) -> Trace:
        passes = (
            make_pass(found=[(20.0, 30.0)], option_probabilities=(0.4, 0.35, 0.25)),
            make_pass(
                "zoom",
                [(10.0, 40.0)],
                times_s=(10.0, 25.0, 40.0, 12.3456),
                text="",
                answer="a cat",
                option="B",
                confidence=0.9,
                option_probabilities=(0.06, 0.9, 0.04),
            ),
        )
        trace = Trace(
            video="dir/clip.mp4",
            duration_s=100.0,
            question="What runs past?",
            options=("a dog", "a cat", "a bird"),
            mode="zoom",
            answer="a cat",
            option="B",
            spans=(Span(20.0, 30.0),),
            confidence=0.9,
            reason="The zoom pass is the most certain.",
            passes=passes,
            model="tiny",
            settings_hash="0123456789ab",
            seconds=2.5,
        )
        if "spans" in values:
            values["spans"] = tuple(Span(*span) for span in values["spans"])
        return replace(trace, **values)

    return make
