"""The tolerant reader: any text a model may write becomes a `Reading`, never an exception."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from zoomzero.prompts.choices import read_option
from zoomzero.prompts.grammar import (
    AnswerAs,
    Mode,
    Tag,
    check_question,
    is_well_formed,
    option_labels,
    spoken_tags,
    strict_spans,
    strict_time,
)
from zoomzero.prompts.parts import Part, find_parts, outside, stripped_range, without_tag_piece
from zoomzero.prompts.times import read_spans
from zoomzero.spans import Span

PROBLEMS: Mapping[str, str] = {
    "no_answer": "no answer was written, or its label was cut off",
    "no_answer_tags": "the answer stands outside <answer> tags",
    "unknown_option": "the answer names none of the options",
    "ambiguous_option": "the answer is the text of several equal options",
    "several_options": "the answer names several options",
    "loose_answer": "the answer is readable but is not exactly a label (or option text, or stripped text)",
    "no_glue": "no <glue> part",
    "bad_glue": "the <glue> part is not a canonical span list",
    "bad_time": "a <time> part is not a canonical span",
    "reversed_span": "a span ends before it starts (left out)",
    "empty_span": "a span ends where it starts (left out)",
    "negative_span": "a span starts before 0 (left out)",
    "nan_span": "a span is not a number or infinite (left out)",
    "unclear_span": "what is attached to a span's numbers is no time, or cannot be told (left out)",
    "no_think": "no <think> tag though reasoning was asked for",
    "unexpected_think": "a <think> part though no reasoning was asked for",
    "unexpected_tag": "tags though only the answer was asked for",
    "nested_tag": "a part was opened inside another",
    "unclosed_tag": "a part was not closed before the next one",
    "stray_tag": "a tag that opens or closes nothing, or a <time> outside the thinking",
    "repeated_tag": "a part was written more than once (the first outside the thinking counts)",
    "wrong_order": "the parts are not in the order think, answer, glue",
    "stray_text": "text between the parts",
    "text_after_end": "text after the last part",
    "truncated": "the text ends inside a part or a tag",
    "bad_layout": "only whitespace or the letter case of tags differs from the grammar",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What a response says.

    Args:
        answer: the option's label, or the text of an open answer; None when there is none.
        option: index of the option; None for open questions and unreadable answers.
        spans: evidence as written, in order, not merged; only proper ones (0 <= start < end, finite).
        times: moments cited in <time>, likewise.
        think: the reasoning without its <time> parts, stripped.
        well_formed: whether the strict grammar holds; exactly when `problems` is empty.
        problems: codes from `PROBLEMS`, in its order.
        ranges: half-open character ranges: `think`, `answer`, `glue` and `time_0`, `time_1`, ... (contents),
            `answer_tags` (with the tags), `label` (the option's label). What is not there has no entry.
    """

    answer: str | None
    option: int | None
    spans: tuple[Span, ...]
    times: tuple[Span, ...]
    think: str
    well_formed: bool
    problems: tuple[str, ...]
    ranges: Mapping[str, tuple[int, int]] = field(hash=False)


class _Answer(NamedTuple):
    """Where the answer stands and what it says. `part` is None when it has no tags."""

    at: tuple[int, int] | None = None
    part: Part | None = None
    text: str | None = None
    option: int | None = None
    label_at: tuple[int, int] | None = None
    problems: frozenset[str] = frozenset()


def read_response(
    text: str,
    n_options: int,
    mode: Mode = "think",
    *,
    options: Sequence[str] = (),
    answer_as: AnswerAs = "letter",
) -> Reading:
    """Read a response, well-formed or not. Never raises for any text; takes time linear in its length.

    Args:
        text: the completion alone, without the prompt.
        n_options: options of the question; 0 for an open one.
        mode: which parts were asked for.
        options: the option texts, so that an answer that repeats one is understood; may be left out.
        answer_as: what was asked for as the answer. It is tried first; the other is understood too.

    Raises:
        ValueError: `n_options` does not fit `options`, or an option's text is asked for without `options`.

    Source: METHOD "output contract" in docs/method.md; each deviation's result is in docs/reference/formats.md.
    """
    check_question(n_options, options, answer_as)
    tags = spoken_tags(text)
    parts, problems = find_parts(text, tags)
    answer = _find_answer(text, mode, parts, n_options, options, answer_as)
    if answer.part is None and answer.at is not None:
        # Text that turned out to be the answer is not thinking whose tag is missing.
        at = answer.at
        parts = [p for p in parts if p.tagged or p.end <= at[0]]
    think, glue = _first(parts, "think"), _first(parts, "glue")
    cited = [p for p in parts if p.name == "time"]
    spans, span_problems = _spans_of(text, [glue] if glue else [])
    times, time_problems = _spans_of(text, cited)

    problems |= answer.problems | span_problems | time_problems
    problems |= _part_problems(mode, tags, parts, answer) | _text_problems(text, parts, answer)
    well_formed = is_well_formed(text, n_options, mode, options=options, answer_as=answer_as)
    if not well_formed and not problems:
        problems.add("bad_layout")
    return Reading(
        answer=answer.text,
        option=answer.option,
        spans=spans,
        times=times,
        think=_without_times(text, think, cited) if think else "",
        well_formed=well_formed,
        problems=tuple(code for code in PROBLEMS if code in problems),
        ranges=_ranges(think, answer, glue, cited),
    )


def _first(parts: Sequence[Part], name: str) -> Part | None:
    """Return the part that counts: the first one outside the thinking, else the first in it."""
    return min((p for p in parts if p.name == name), key=lambda p: (p.nested, p.open), default=None)


def _ranges(
    think: Part | None, answer: _Answer, glue: Part | None, cited: Iterable[Part]
) -> dict[str, tuple[int, int]]:
    ranges = {p.name: (p.start, p.end) for p in (think, glue) if p}
    if answer.at:
        ranges["answer"] = answer.at
    if answer.part:
        ranges["answer_tags"] = (answer.part.open, answer.part.close)
    if answer.label_at:
        ranges["label"] = answer.label_at
    return ranges | {f"time_{i}": (p.start, p.end) for i, p in enumerate(cited)}


def _find_answer(
    text: str,
    mode: Mode,
    parts: Sequence[Part],
    n_options: int,
    options: Sequence[str],
    answer_as: AnswerAs,
) -> _Answer:
    """Return the answer in its tags, else the first text outside the other parts that can be one."""
    part = _first(parts, "answer")
    if part:
        return _read_answer(text, (part.start, part.end), part, n_options, options, answer_as)
    # Text before a glue part, thinking for want of a better name, may be the answer: `B\n<glue>...`.
    taken = [p for p in parts if p.tagged or p.closed]
    after = max((p.close for p in taken if p.name == "think"), default=0)
    end = len(text) if mode == "direct" and not parts else without_tag_piece(text, 0, len(text))
    bare = outside(text[:end], [(0, after), *((p.open, p.close) for p in taken)])
    for at in bare if n_options else bare[:1]:
        answer = _read_answer(text, at, None, n_options, options, answer_as)
        if answer.text is not None or not parts:
            return answer
    return _Answer(problems=frozenset({"no_answer"}))


def _read_answer(
    text: str,
    at: tuple[int, int],
    part: Part | None,
    n_options: int,
    options: Sequence[str],
    answer_as: AnswerAs,
) -> _Answer:
    """Return what the characters `at` say as an answer."""
    low, high = stripped_range(text, *at)
    said = text[low:high]
    if not said:
        return _Answer(at, part, problems=frozenset({"no_answer"}))
    if n_options == 0:
        return _Answer(at, part, said, problems=frozenset({"loose_answer"} if (low, high) != at else ()))
    option, problem = read_option(said, n_options, options, answer_as)
    if option is None:
        return _Answer(at, part, problems=frozenset({problem} if problem else ()))
    labels = option_labels(n_options)
    label = labels[option.place]
    if part and part.cut and high == len(text) and any(len(x) > len(label) and x.startswith(label) for x in labels):
        return _Answer(at, part, problems=frozenset({"no_answer"}))  # `<answer>A` may have become AB
    exact = options[option.place].strip() if answer_as == "text" and options else label
    loose = text[slice(*at)] != exact
    label_at = (low + option.label_at[0], low + option.label_at[1]) if option.label_at else None
    return _Answer(at, part, label, option.place, label_at, frozenset({"loose_answer"} if loose else ()))


def _spans_of(text: str, parts: Iterable[Part]) -> tuple[tuple[Span, ...], set[str]]:
    """Return the proper spans of glue or time parts, and their problems."""
    spans: list[Span] = []
    problems: set[str] = set()
    for part in parts:
        content = text[part.start : part.end]
        strict = strict_spans(content) if part.name == "glue" else strict_time(content)
        if strict is None:
            problems.add("bad_glue" if part.name == "glue" else "bad_time")
        found, wrong = read_spans(content, cut=part.cut and part.end == len(text))
        spans += found
        problems |= wrong
    return tuple(spans), problems


def _part_problems(mode: Mode, tags: Sequence[Tag], parts: Sequence[Part], answer: _Answer) -> set[str]:
    """Return what is wrong with which parts there are, and in which order."""
    ordered = [(p.open, p.name) for p in parts if p.name != "time"]
    if answer.part is None and answer.at is not None:
        ordered.append((answer.at[0], "answer"))
    names = [name for _, name in sorted(ordered)]
    think = _first(parts, "think")
    found = {
        "no_answer_tags": mode != "direct" and answer.part is None and answer.text is not None,
        "no_think": mode == "think" and (think is None or not think.tagged),
        "unexpected_think": mode != "think" and think is not None,
        "unexpected_tag": mode == "direct" and bool(tags),
        "no_glue": mode != "direct" and "glue" not in names,
        "repeated_tag": len(names) > len(set(names)),
        "wrong_order": [n for n in ("think", "answer", "glue") if n in names] != list(dict.fromkeys(names)),
        "stray_tag": any(p.name == "time" and not (think and think.start <= p.open < think.close) for p in parts),
    }
    return {code for code, is_so in found.items() if is_so}


def _text_problems(text: str, parts: Sequence[Part], answer: _Answer) -> set[str]:
    """Return what is wrong with the text outside the parts."""
    problems = set()
    covered = [(p.open, p.close) for p in parts]
    if answer.part is None and answer.at is not None:
        covered.append(answer.at)
    end = without_tag_piece(text, 0, len(text))
    last = max((close for _, close in covered), default=0)
    if last <= end < len(text):
        problems.add("truncated")
    for start, _ in outside(text[:end], sorted(covered)):
        problems.add("text_after_end" if start >= last else "stray_text")
    return problems


def _without_times(text: str, think: Part, cited: Iterable[Part]) -> str:
    """Return the thinking without its citations and the blanks before them, stripped."""
    pieces, position = [], think.start
    for part in cited:
        if think.start <= part.open and part.close <= think.end:
            pieces.append(text[position : part.open].rstrip(" "))
            position = part.close
    return "".join([*pieces, text[position : think.end]]).strip()
