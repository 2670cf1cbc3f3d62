"""Tolerant reading of spans: pairs of numbers, whatever is attached to them.

What is attached to a number is read (a unit of time, a clock, thousands, an exponent) or its pair is left out
(`unclear_span`); no other number is ever made of it. Repetition in patterns is bounded: time is linear in the text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from zoomzero.prompts.letters import plain_letters
from zoomzero.spans import Span

LARGEST_READ_S = 1e12  # as many digits as the grammar allows

_PLAIN = r"(?:[0-9]{1,12}(?:\.[0-9]{0,30})?|\.[0-9]{1,30})(?:e[+-]?[0-9]{1,3})?"
_SMPTE = r"[0-9]{1,4}:[0-9]{1,2}:[0-9]{1,2}[:;][0-9]{1,3}"  # the last field counts frames of an unknown rate
_CLOCK = r"[0-9]{1,4}:[0-9]{1,2}(?::[0-9]{1,2})?(?:\.[0-9]{1,30}|,[0-9]{3}(?![0-9]))?"
_H, _M, _S = r"(?:h|hrs?|hours?|小时|小時)", r"(?:m|mins?|minutes?|分钟|分鐘|分)", r"(?:s|secs?|seconds?|秒)"
_WHOLE = r"[0-9]{1,6}"
_LAST = r"[0-9]{1,6}(?:\.[0-9]{1,30})?"
_AND = r"\s?(?:and\s|,\s)?"
_COMPOUND = "|".join(
    (
        rf"{_WHOLE}\s?{_H}{_AND}{_WHOLE}\s?{_M}{_AND}{_LAST}\s?{_S}",
        rf"{_WHOLE}\s?{_H}{_AND}{_LAST}\s?{_M}",
        rf"{_WHOLE}\s?{_H}{_AND}{_LAST}\s?{_S}",
        rf"{_WHOLE}\s?{_M}{_AND}{_LAST}\s?{_S}",
    )
)
_VALUE_RE = re.compile(
    rf"(?<![\w.:])(?P<sign>[+-]?)(?:(?P<compound>{_COMPOUND})(?![a-z0-9])"
    rf"|(?P<number>{_SMPTE}|{_CLOCK}|{_PLAIN}|nan(?![a-z])|inf(?:inity)?(?![a-z]))(?![0-9]|[.:][0-9]))",
    re.IGNORECASE | re.ASCII,  # letters that only fold to ours would not convert to numbers
)
_PART_RE = re.compile(rf"([0-9.]{{1,40}})\s?(?:({_H})|({_M})|({_S}))", re.IGNORECASE | re.ASCII)

# What may follow a number: at once (`5s`, `2k`, `1st`), or after a blank, where only known words mean something.
_TAIL_RE = re.compile(r"\s?(?:(?P<word>[a-z]{1,14})|(?P<sign>[%°$€£/]|小时|小時|分钟|分鐘|分|秒|帧|幀))", re.IGNORECASE)
_CLOSED_TAIL_RE = re.compile(r"[\"']?(?P<closers>[)\]}]{1,4})\s{0,2}(?=[a-z%秒分小帧幀])", re.IGNORECASE)
_RATE_RE = re.compile(r"(?:/[a-z]{1,12})?", re.IGNORECASE)
UNITS_S = {
    **dict.fromkeys(("ms", "msec", "msecs", "millisecond", "milliseconds"), 0.001),
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds", "秒"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes", "分", "分钟", "分鐘"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours", "小时", "小時"), 3600.0),
}
_LINK_WORDS = frozenset(("to", "until", "till", "through", "and", "x"))
_OTHER_UNITS = frozenset(("%", "°", "$", "€", "£", "/", "帧", "幀"))
_OTHER_WORDS = re.compile(
    r"percent|pct|per|frames?|fps|hz|k|million|billion|[ap]m|days?|weeks?|months?|years?|times|people|persons|points?"
    r"|pixels?|px|cm|mm|km|met(?:er|re)s?|kg|degrees|dollars|words|tokens|steps|turns|scenes|shots|clips|pages|of|out",
    re.IGNORECASE | re.ASCII,
)
# Names of other quantities, and of things that are counted (`scene 3 - 4`, but not `the scene (5, 10)`).
_QUANTITIES = (
    "conf|confidences?|scores?|prob|probabilit(?:y|ies)|p|iou|iop|likelihoods?|certaint(?:y|ies)|weights?|thresholds?"
    "|frames?|frame_?ids?|fps|ids?|ind(?:ex|ices)|percent|percentages?|rating|grade|size|width|height|bbox"
)
_THINGS = (
    "options?|steps?|scenes?|shots?|clips?|pages?|chapters?|lines?|rows?|figures?|tables?|sections?|top|questions?"
)
_NAMED_RE = re.compile(
    rf"""(?:(?<![a-z0-9])(?:{_QUANTITIES})["'*`]{{0,3}}(?:\s(?:of|is|are|was|were|from|between))?\s?[:=(]?|[$€£#№])
        [\s"'*`]{{0,4}}(?P<openers>[(\[{{\s]{{0,4}})\Z
      | (?<![a-z0-9])(?:{_THINGS})\s\Z | (?<![a-z0-9])(?:minutes|hours|min)\s?[:=][\s(\[]{{0,4}}\Z""",
    re.IGNORECASE | re.ASCII | re.VERBOSE,
)
_NAME_LENGTH = 40
_UNIT_BEFORE_RE = re.compile(
    r"(?:\A|\n\s{0,3}|[^0-9\s]\s{0,3})\b(?P<word>minutes?|mins?|hours?|hrs?)\s\Z", re.IGNORECASE | re.ASCII
)
# What makes a number the rest of another one: `10^2`, `5±1`, `1'300`, `1 300`, the 2 of `5 1/2`.
_REST_RE = re.compile(r"[0-9]\s?[\^±*×/'’]\Z")
_THOUSANDS_BEFORE_RE = re.compile(r"(?<![0-9.,:])[0-9]{1,3}[^\S\n]\Z")

_MARKS = r"[\"'*_`]{0,3}"
_COMMA_RE = re.compile(rf"{_MARKS}\s{{0,4}}[,;]\s{{0,60}}{_MARKS}", re.ASCII)
_RANGE_RE = re.compile(
    rf"{_MARKS}[ \t]{{0,4}}(?:-{{1,3}}>|={{1,2}}>|→|⇒|-|–|—|~|\.{{2,3}}|…|至|到|(?:to|until|till|through)\b)"
    rf"[ \t]{{0,4}}{_MARKS}",
    re.IGNORECASE | re.ASCII,
)
_AND_RE = re.compile(r"\s{1,4}and\s{1,4}", re.IGNORECASE | re.ASCII)
_END_RE = re.compile(
    rf"{_MARKS}\s{{0,4}}(?:[,;]|,?\s?and\b)?\s{{0,60}}{_MARKS}(?:ends?|end_?(?:time|s|sec|seconds)?|stop|finish)"
    rf"{_MARKS}(?:\s{{0,2}}[:=]|\s(?:at|time|is))\s{{0,4}}{_MARKS}",
    re.IGNORECASE | re.ASCII,
)
_BETWEEN_RE = re.compile(r"\bbetween[\s(]{1,4}\Z", re.IGNORECASE | re.ASCII)
_SAME_LIST_RE = re.compile(r"[\s,;()\[\]{}\"']{0,60}", re.ASCII)


@dataclass(frozen=True, slots=True)
class _Value:
    """One number: characters start..end, with its unit up to `close`.

    `unit_s` is None where none is written, 0 where what is attached is no unit of time. `timed`: it can only be a time
    (a clock, `1m 5s`).
    """

    text: str
    seconds: float
    start: int
    end: int
    close: int
    unit_s: float | None = None
    timed: bool = False


Run = list[_Value]
Links = list[str]  # between neighbours of a run: `,` `, ` `;` or `-`


def read_spans(text: str, cut: bool = False, *, bare: bool = True) -> tuple[tuple[Span, ...], set[str]]:
    """Return the proper spans of a text in the order written, and what was wrong with the others.

    Reads `(a, b)`, `[a - b]`, `a to b`, `a --> b`, `{"start": a, "end": b}`; seconds, minutes and hours as decimals,
    with units or as clocks (mm:ss, hh:mm:ss, hh:mm:ss,mmm). docs/reference/formats.md has the table.

    Args:
        text: the content of a glue or time part.
        cut: the text was cut off at its end, so a number that touches the end may be incomplete: its span is
            left out.
        bare: a number without unit is seconds; otherwise its span is left out.

    Returns:
        The spans, and codes of `PROBLEMS`.
    """
    plain = plain_letters(text)
    spans: list[Span] = []
    problems: set[str] = set()
    for pair in _pairs(plain):
        if pair is None:
            problems.add("unclear_span")
            continue
        first, second = pair
        if cut and second.end == len(text):
            continue
        if 0 in (first.unit_s, second.unit_s) or not (bare or _is_time(second)):
            problems.add("unclear_span")
            continue
        start_s, end_s = _in_seconds(first, second)
        if problem := _problem(start_s, end_s):
            problems.add(problem)
        else:
            spans.append(Span(start_s, end_s))
    return tuple(spans), problems


def _problem(start_s: float, end_s: float) -> str | None:
    if not (math.isfinite(start_s) and math.isfinite(end_s)):
        return "nan_span"
    if end_s < start_s:
        return "reversed_span"
    if end_s == start_s:
        return "empty_span"
    if start_s < 0:
        return "negative_span"
    return "unclear_span" if end_s > LARGEST_READ_S else None


def _is_time(value: _Value) -> bool:
    return value.timed or bool(value.unit_s)


def _in_seconds(first: _Value, second: _Value) -> tuple[float, float]:
    """Return both in seconds; the unit behind the second holds for both when the first has none."""
    unit_s = second.unit_s if second.unit_s is not None else 1.0
    first_s = first.unit_s if first.unit_s is not None else 1.0 if first.timed else unit_s
    return first.seconds * first_s, second.seconds * (1.0 if second.timed else unit_s)


# --- numbers --------------------------------------------------------------------------------------------


def _values(text: str) -> Iterator[_Value]:
    for m in _VALUE_RE.finditer(text):
        sign = -1.0 if m["sign"] == "-" else 1.0
        if m["compound"]:
            seconds = sum(float(p[1]) * (3600 if p[2] else 60 if p[3] else 1) for p in _PART_RE.finditer(m["compound"]))
            yield _Value("", sign * seconds, m.start(), m.end(), m.end(), None, True)
            continue
        number = m["number"]
        seconds, clear = _number(number)
        clear = clear and not _is_rest(text, m.start(), number)
        unit_s, close = _unit(text, m.end())
        clock = ":" in number
        if clock and unit_s is not None:
            unit_s = None if unit_s in (1.0, 60.0) else 0  # `1:05 minutes` is a minute and five seconds
        yield _Value(number.rstrip("."), sign * seconds, m.start(), m.end(), close, unit_s if clear else 0, clock)


def _is_rest(text: str, at: int, number: str) -> bool:
    """Return whether the number that begins at `at` is only the rest of one."""
    before = text[max(0, at - 6) : at]
    thousands = len(number.partition(".")[0]) == 3 and _THOUSANDS_BEFORE_RE.search(before) is not None
    return thousands or _REST_RE.search(before) is not None


def _number(text: str) -> tuple[float, bool]:
    """Return the seconds of `12`, `1.2e3`, `1:05`, `1:02:03,500`, `nan` or `inf`, and whether it can be such a time."""
    fields = re.split("[:;]", text.replace(",", "."))
    seconds = 0.0
    for field in fields:
        seconds = seconds * 60 + float(field)
    return seconds, len(fields) < 4 and all(float(field) < 60 for field in fields[1:])


def _unit(text: str, at: int) -> tuple[float | None, int]:
    """Return the seconds of the unit that follows a number (None: no unit, 0: not a time) and where it ends."""
    m = _TAIL_RE.match(text, at)
    if m is None:
        return None, at
    attached = not text[at].isspace()
    word = m["sign"] or m["word"]
    # `5M` and `5H` are no minutes; whole words may have capitals.
    unit_s = UNITS_S.get(word) or (UNITS_S.get(word.lower()) if len(word) > 1 else None)
    after = text[m.end() : m.end() + 2]
    if unit_s is not None and not (after[:1] == "/" or (after[:1].isdigit() and m["word"])):
        return unit_s, m.end()
    if after[:1] == "/" and unit_s is not None:  # `5 m/s`
        return 0, _RATE_RE.match(text, m.end()).end()  # type: ignore[union-attr]  # matches nothing, too
    if word.lower() in _LINK_WORDS:
        return None, at
    if _is_other(word) or (attached and m["word"]) or unit_s is not None:
        return 0, m.end()
    return None, at


def _is_other(word: str) -> bool:
    """Return whether a word or sign behind a number says that it is no time."""
    return word in _OTHER_UNITS or _OTHER_WORDS.fullmatch(word) is not None


# --- runs of numbers ------------------------------------------------------------------------------------


def _pairs(text: str) -> Iterator[tuple[_Value, _Value] | None]:
    """Yield the pairs of a text, None for one that cannot be told."""
    found: list[tuple[Run, Links, float | None]] = []
    listed = False  # whether the last run was in a list named as something else than times
    end = since = 0
    for run, links in _runs(text):
        if len(run) < 2:
            continue
        named = _NAMED_RE.search(text[max(0, run[0].start - _NAME_LENGTH) : run[0].start])
        listed = listed and _SAME_LIST_RE.fullmatch(text, end, run[0].start) is not None
        other = listed or named is not None
        listed = listed or (named is not None and len((named["openers"] or "").replace(" ", "")) > 1)
        end = run[-1].close
        unit_s, closers = _unit_after_bracket(text, end)
        unit_s = _unit_before(text, run[0].start) if unit_s is None else unit_s
        unit_s = 0.0 if other else unit_s
        found.append((run, links, unit_s))
        if closers > 1 and unit_s is not None:  # behind the whole list
            found[since:] = [(r, k, unit_s if u is None else u) for r, k, u in found[since:]]
            since = len(found)
    for run, links, unit_s in found:
        if unit_s is not None:
            run = [replace(v, unit_s=unit_s) if v.unit_s is None and not (unit_s and v.timed) else v for v in run]
        yield from _split(run, links)


def _unit_after_bracket(text: str, at: int) -> tuple[float | None, int]:
    m = _CLOSED_TAIL_RE.match(text, at)
    if m is None:
        return None, 0
    unit_s, _ = _unit(text, m.end())
    word = _TAIL_RE.match(text, m.end())
    known = word is not None and (_is_other(word["sign"] or word["word"]) or unit_s)
    return (unit_s if known else None), len(m["closers"])


def _unit_before(text: str, at: int) -> float | None:
    """Return the seconds of a unit that stands before its numbers (`minutes 1-2`)."""
    low = max(0, at - _NAME_LENGTH)
    m = _UNIT_BEFORE_RE.search(text[low:at])
    return UNITS_S[m["word"].lower()] if m and (m.start() or not low) else None


def _runs(text: str) -> Iterator[tuple[Run, Links]]:
    """Yield numbers that stand side by side with nothing but separators between, and those separators."""
    run: Run = []
    links: Links = []
    for value in _values(text):
        if run:
            link, value = _link(text, run[-1], value, len(run) == 1)
            if link:
                run.append(value)
                links.append(link)
                continue
            yield run, links
        run, links = [value], []
    if run:
        yield run, links


def _link(text: str, before: _Value, value: _Value, first: bool) -> tuple[str, _Value]:
    """Return the separator between two numbers, empty when they do not belong together, and the second number."""
    low, high = before.close, value.start
    if high - low > 120:
        return "", value
    if low == high and value.seconds < 0 and before.close > before.end:  # `5s-10s`
        return "-", replace(value, seconds=-value.seconds)
    if m := _COMMA_RE.fullmatch(text, low, high):
        gap = m.group()
        return (";" if ";" in gap else "," if len(gap) == 1 else ", "), value
    if _RANGE_RE.fullmatch(text, low, high) or _END_RE.fullmatch(text, low, high):
        return "-", value
    if text[value.start] == "-" and "\n" not in text[low:high] and not text[low:high].strip():
        return "-", replace(value, seconds=-value.seconds)  # `20 -30`
    before_it = text[max(0, before.start - 12) : before.start]
    if first and _AND_RE.fullmatch(text, low, high) and _BETWEEN_RE.search(before_it):
        return "-", value
    return "", value


def _split(run: Run, links: Links) -> Iterator[tuple[_Value, _Value] | None]:
    """Yield the pairs of one run."""
    if "-" in links:
        yield from _split_ranges(run, links)
    elif ";" in links and "," in links:
        yield from _split_semicolon(run, links)
    elif len(set(links)) > 1 and ", " in links and "," in links:
        yield None  # `1,234, 5`: thousands or a list
    else:
        yield from zip(run[0::2], run[1::2], strict=False)


def _split_semicolon(run: Run, links: Links) -> Iterator[tuple[_Value, _Value] | None]:
    """`1,234.5; 1,300.0` is one pair where only thousands fit, else nobody can tell it from two pairs."""
    at = links.index(";")
    left, right = _merged(run[: at + 1], links[:at]), _merged(run[at + 1 :], links[at + 1 :])
    yield (left, right) if left and right and _is_thousands(run[: at + 1]) else None


def _split_ranges(run: Run, links: Links) -> Iterator[tuple[_Value, _Value] | None]:
    """Yield the pairs joined by `-` or `to`; commas stand between them, or inside their numbers."""
    cuts = [i for i, link in enumerate(links) if link == "-"]
    edges = [-1, *cuts, len(links)]
    sides = [(run[a + 1 : b + 1], links[a + 1 : b]) for a, b in pairwise(edges)]
    starts: list[_Value | None] = [_merged(*sides[0])]
    ends: list[_Value | None] = []
    for values, inner in sides[1:-1]:
        end, start = _boundary(values, inner)
        ends.append(end)
        starts.append(start)
    values, inner = sides[-1]
    spaced = [i for i, link in enumerate(inner) if link != ","]
    last = spaced[0] + 1 if spaced else len(values)
    ends.append(_merged(values[:last], inner[: last - 1]))
    for start, end in zip(starts, ends, strict=True):
        yield (start, end) if start and end else None


def _boundary(values: Sequence[_Value], links: Sequence[str]) -> tuple[_Value | None, _Value | None]:
    """Return the end of one pair and the start of the next, None when it is not clear which is which."""
    if len(values) == 2:
        return values[0], values[1]
    wide = [i for i, link in enumerate(links) if link != ","]
    if len(wide) != 1:
        return None, None
    at = wide[0]
    return _merged(values[: at + 1], links[:at]), _merged(values[at + 1 :], links[at + 1 :])


def _merged(values: Sequence[_Value], links: Sequence[str]) -> _Value | None:
    """Return one number written with commas, thousands (`1,234.5`) or a decimal comma (`5,2`), else None."""
    if len(values) == 1:
        return values[0]
    if any(link != "," for link in links) or any(v.timed or v.unit_s is not None for v in values[:-1]):
        return None
    if values[-1].timed:
        return None
    if _is_thousands(values):
        number = "".join(v.text for v in values)
    elif len(values) == 2 and values[0].text.isdigit() and values[1].text.isdigit() and len(values[1].text) < 3:
        number = f"{values[0].text}.{values[1].text}"
    else:
        return None
    sign = -1.0 if values[0].seconds < 0 else 1.0
    return replace(values[-1], text=number, seconds=sign * float(number), start=values[0].start)


def _is_thousands(values: Sequence[_Value]) -> bool:
    first, *rest = (v.text for v in values)
    whole = [text.split(".")[0] for text in rest]
    return (
        len(values) > 1
        and bool(re.fullmatch(r"[1-9][0-9]{0,2}", first))
        and all(re.fullmatch(r"[0-9]{3}", text) for text in whole)
        and all(text.isdigit() for text in rest[:-1])
        and bool(re.fullmatch(r"[0-9.]+", rest[-1]))
    )
