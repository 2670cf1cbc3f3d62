"""What samples of the world may say, worked out from their words, their view and the scene alone."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from world_truth import COUNTS, name_of, truth
from zoomzero.data.sft_sample import SFTItem
from zoomzero.prompts import is_well_formed, read_response
from zoomzero.spans import Span
from zoomzero.world.samples import LIST_TEXT
from zoomzero.world.scenes import Event
from zoomzero.world.views import View

AT_END = "Which object is visible at the end of the video?"


class Asked(NamedTuple):
    """An item's text, taken apart."""

    question: str
    options: list[str]
    mode: str


def parts(item: SFTItem) -> Asked:
    """Take a multiple-choice item apart."""
    m = re.fullmatch(r"Question: (.*)\nOptions: (\(A\) .*)\n(.*)", item.text)
    assert m, item.text
    listed = re.findall(r"\(([A-D])\) ([^(]*[^( ])", m[2])
    assert "".join(letter for letter, _ in listed) == "ABCD"[: len(listed)], m[2]
    tails = {
        "Think, then answer.": "think",
        "Answer and show when.": "no_think",
        "Respond with only the letter of the option.": "letter",
        "Respond with only the text of the option.": "text",
    }
    return Asked(m[1], [option for _, option in listed], tails[m[3]])


def tenths(spans: Any) -> list[tuple[float, float]]:
    """Spans as they are written."""
    return [(round(s, 1), round(e, 1)) for s, e in spans]


def named_in(question: str) -> str | None:
    """The object a question names."""
    m = re.search(r"the (\w+ \w+)(?: appear)?\?$", question)
    return None if m is None or m[1] == "the video" else m[1]


def seen_in(view: View, times_s: tuple[float, ...], *pieces: Span) -> list[tuple[Event, Span]]:
    """The events that a pass over a view (or pieces of it) sees and when, in video time.

    A second or more of it must show, and in one frame at least.
    """
    seen = []
    for event in view.scene.events:
        for piece in pieces or (view.span,):
            start_s = max(event.start_s + view.shift_s, piece.start_s)
            end_s = min(event.end_s + view.shift_s, piece.end_s)
            if end_s - start_s >= 1.0 and any(start_s <= t < end_s for t in times_s):
                seen.append((event, Span(start_s, end_s)))
    return seen


def listing(seen: list[tuple[Event, Span]]) -> str:
    """What a listing of these events says."""
    return "".join(f" {name_of(e)} ({s:.1f}, {f:.1f})" for e, (s, f) in seen)


def check_not_visible(item: SFTItem, mode: str, options: int) -> None:
    """No spans, and the letter, which nobody can know, is not learned."""
    assert mode in ("think", "no_think")
    assert is_well_formed(item.target, options, mode)
    assert item.target.endswith("<glue>[]</glue>")
    assert ("not visible" in item.target) == (mode == "think")
    ((low, high),) = item.untrained
    assert item.target[low:high] in "ABCD"[:options]
    assert item.target[:low].endswith("<answer>")


def check_unanswerable(question: str, view: View, seen: list[tuple[Event, Span]]) -> str:
    """Why a view cannot answer; fails when it can."""
    names = {name_of(event) for event, _ in seen}
    if question == AT_END:
        assert view.span.end_s < view.total_s or seen_in_the_end(view, seen) == [], "something is visible at the end"
        return "the end lies elsewhere"
    name = named_in(question)
    if name not in names:
        return "not there"
    assert question.startswith("Which object appears"), question
    asked = truth(question, view.scene).asked
    assert not set(asked) <= {event for event, _ in seen}, "both objects show"
    return "its neighbour is not there"


def seen_in_the_end(view: View, seen: list[tuple[Event, Span]]) -> list[Event]:
    """What shows in the last two seconds of a view."""
    return [event for event, span in seen if span.end_s > view.span.end_s - 2.0]


def check_coarse_item(item: SFTItem, view: View, seen: list[tuple[Event, Span]]) -> str:
    """Check one item of a look at a view and return what came up."""
    if item.text == LIST_TEXT:
        assert item.target == listing(seen)
        assert item.untrained == ()
        return "list"
    if lookup := re.fullmatch(r"List when the (\w+ \w+) is visible\.", item.text):
        return check_lookup(item, lookup[1], seen)
    question, options, mode = parts(item)
    if "[]" in item.target:
        check_not_visible(item, mode, len(options))
        return check_unanswerable(question, view, seen)
    assert item.untrained == ()
    right = truth(question, view.scene)
    visible = [(event, span) for event, span in seen if event in right.asked]
    answer, spans = right.answer, [span for event, span in visible if event == right.asked[-1]]
    if question.startswith("How many"):
        answer, spans = COUNTS[len(visible) - 1], [span for _, span in visible]
    else:
        assert {event for event, _ in visible} == set(right.asked), "asked and answered from what shows"
    if question == AT_END:
        assert view.span.end_s == view.total_s
        assert seen_in_the_end(view, seen) == [right.asked[-1]], "one object alone shows at the end"
    assert visible
    label = "ABCD"[options.index(answer)]
    if mode == "letter":
        assert item.target == label
        return "letter"
    assert is_well_formed(item.target, len(options), mode)
    read = read_response(item.target, len(options))
    assert (read.answer, tenths(read.spans)) == (label, tenths(spans))
    if mode == "think":
        check_reasoning(item.target, question, visible, answer)
        check_looks(item, seen, options)
        letter = [] if question.startswith("Which symbol") else [label]
        more = re.findall(r"</time>(.)", item.target) if question.startswith("How many") else []
        assert decisive_in(item) == ["t", *re.findall(r"<time>\((\d+)\.", item.target), *more, *letter]
    else:
        assert item.decisive == ()
    return "fewer counted" if len(visible) < len(right.asked) else "end" if question == AT_END else "seen"


def check_reasoning(target: str, question: str, visible: list[tuple[Event, Span]], answer: str) -> None:
    """Each thing noticed, with its moment, in the order of noticing, and the answer where it follows from them."""
    moments = [f"<time>({s:.1f}, {e:.1f})</time>" for _, (s, e) in visible]
    said = " then ".join(f"the {name_of(e)} visible{at}" for (e, _), at in zip(visible, moments, strict=True))
    if question.startswith("How many"):
        said = f"the {name_of(visible[0][0])} visible{''.join(moments)}"
    elif "last before" in question:
        moments.reverse()
        said = " then ".join(f"the {name_of(e)} visible{at}" for (e, _), at in zip(visible[::-1], moments, strict=True))
    if not question.startswith("Which symbol"):  # which only a close look can tell
        said += f" {answer}"
    assert target.startswith(f"<think>{said}</think>\n"), (target, said)


def check_looks(item: SFTItem, seen: list[tuple[Event, Span]], options: list[str]) -> None:
    """Numbers look at their second, new names at where their object begins, the letter at the option it stands for."""
    written = {kind: [look for look in item.looks if look.kind == kind] for kind in ("when", "what", "which")}
    starts = [float(s) for s in re.findall(r"<time>\((\d+)\.", item.target)]
    numbers = [s for s in starts for _ in range(2 if s >= 100 else 1)]
    again = [float(s) for s in re.findall(r"</time><time>\((\d+)\.", item.target)]  # it appears once more
    assert [look.at for look in written["when"]] == [*starts[:1], *again, *numbers], "the first word looks, too"
    assert all(item.target[look.character :].startswith("the ") for look in written["when"][:1])
    for look in written["when"][1 : 1 + len(again)]:
        assert item.target[look.character :].startswith(f"<time>({look.at:.1f}, ")
    for look in written["when"][1 + len(again) :]:  # every second digit from the right begins a token
        assert re.match(r"\d\d?(\d\d)*\.", item.target[look.character :])
    for look in written["what"]:
        word = re.match(r"\w+", item.target[look.character :])
        assert word
        assert any(word[0] in name_of(e) and s.start_s == look.at for e, s in seen)
    listed = [item.text[start : end + 1] for start, end in item.options]
    assert listed == [f"({label}) {option}" for label, option in zip("ABCD"[: len(options)], options, strict=True)]
    for look in written["which"]:
        assert item.target[look.character] == "ABCD"[int(look.at)]


def check_lookup(item: SFTItem, name: str, seen: list[tuple[Event, Span]]) -> str:
    """When an object shows, in time order, or that it does not."""
    spans = [span for event, span in seen if name_of(event) == name]
    times = "".join(f"<time>({s:.1f}, {e:.1f})</time>" for s, e in spans)
    assert item.target == (f"the {name} visible{times}" if spans else "not visible")
    assert decisive_in(item) == ["t" if spans else "n", *(str(int(s)) for s, _ in spans)]
    return "looked up" if spans else "looked up in vain"


def decisive_in(item: SFTItem) -> list[str]:
    """The pieces of a target that count for more: where spans begin, and a letter that can be known."""
    return [item.target[low:high] for low, high in item.decisive]
