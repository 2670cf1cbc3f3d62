"""The output contract: option labels, the strict grammar, and the writer of canonical responses.

think     <think>...<time>(5.2, 10.4)</time>...</think>\\n<answer>B</answer>\\n<glue>[(5.2, 10.4)]</glue>
no_think  <answer>B</answer>\\n<glue>[(5.2, 10.4)]</glue>
direct    B
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Literal, NamedTuple

from zoomzero.errors import ConfigError
from zoomzero.spans import Span

Mode = Literal["think", "no_think", "direct"]
AnswerAs = Literal["letter", "text"]

LARGEST_S = 1e9  # times beyond this are not written: at one decimal neighbours would no longer differ surely

_TAG = re.compile(r"<(/?)(think|time|answer|glue)>", re.IGNORECASE | re.ASCII)
_NUMBER = r"[0-9]{1,12}(?:\.[0-9]{1,30})?"
_PAIR = rf"\(({_NUMBER}), ?({_NUMBER})\)"
_PAIR_RE = re.compile(_PAIR)
_LIST_RE = re.compile(rf"\[(?:{_PAIR}(?:, ?{_PAIR})*)?\]")


class Tag(NamedTuple):
    """One of our tags in a text: `name` in lower case, `start`..`end` its characters."""

    name: str
    closing: bool
    start: int
    end: int


class Layout(NamedTuple):
    """Character ranges of the contents of a text whose tags are all where the grammar wants them."""

    think: tuple[int, int] | None
    times: tuple[tuple[int, int], ...]
    answer: tuple[int, int]
    glue: tuple[int, int]


@lru_cache(maxsize=64)
def option_labels(n: int) -> tuple[str, ...]:
    """Return the labels of n options: A..Z, then AA, AB, ...

    Raises:
        ValueError: n is negative.
    """
    if n < 0:
        raise ValueError(f"the number of options must be 0 or more, got {n}")
    return tuple(_label(i) for i in range(n))


def _label(index: int) -> str:
    """Return the label of option `index`, counted as spreadsheets count columns."""
    label = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        label = chr(ord("A") + letter) + label
    return label


def scan_tags(text: str) -> list[Tag]:
    """Return every tag of ours in the text, any letter case, in order."""
    return [Tag(m[2].lower(), bool(m[1]), m.start(), m.end()) for m in _TAG.finditer(text)]


def spoken_tags(text: str) -> list[Tag]:
    """Return the tags that are meant: in thinking that a chat template opened, other tags than <time> are quotes.

    Such thinking begins with `<think>\\n` and lasts to the last `</think>`, as the templates themselves read it; where
    none comes it was cut off, and nothing in it is an answer.
    """
    tags = scan_tags(text)
    if not text.startswith("<think>\n"):
        return tags
    end = max((tag.start for tag in tags if tag.name == "think" and tag.closing), default=len(text))
    return [tag for tag in tags if tag.name == "time" or tag.start in (0, end) or tag.start > end]


def strict_spans(text: str) -> tuple[Span, ...] | None:
    """Return the spans of a canonical list `[(a, b), ...]`; None when it or one of its spans is improper."""
    if not _LIST_RE.fullmatch(text):
        return None
    spans = tuple(Span(float(m[1]), float(m[2])) for m in _PAIR_RE.finditer(text))
    return spans if all(span.length_s > 0 for span in spans) else None


def strict_time(text: str) -> Span | None:
    """Return the span of a canonical citation `(a, b)`, None when it is not one."""
    m = _PAIR_RE.fullmatch(text)
    span = Span(float(m[1]), float(m[2])) if m else None
    return span if span is not None and span.length_s > 0 else None


def strict_layout(text: str, mode: Mode) -> Layout | None:
    """Return where the contents lie when exactly the right tags stand in the right order, None otherwise.

    Nothing may precede the first tag or follow the last; one whitespace character may stand between parts. Thinking in
    the form of chat templates (`<think>\\n...\\n</think>`) may have an empty line after it. Contents are not judged.
    """
    tags = scan_tags(text)
    names = [text[tag.start : tag.end] for tag in tags]
    wanted = ["<answer>", "</answer>", "<glue>", "</glue>"]
    times = tags[1:-5] if mode == "think" else []
    if mode == "think":
        wanted = ["<think>", *["<time>", "</time>"] * (len(times) // 2), "</think>", *wanted]
    if mode == "direct" or names != wanted or tags[0].start != 0 or tags[-1].end != len(text):
        return None
    borders = [(-5, -4), (-3, -2)] if mode == "think" else [(-3, -2)]
    gaps = [text[tags[a].end : tags[b].start] for a, b in borders]
    if mode == "think" and gaps[0] == "\n\n" and text.startswith("<think>\n") and text[tags[-5].start - 1] == "\n":
        gaps[0] = "\n"
    if any(len(gap) > 1 or gap.strip() for gap in gaps):
        return None
    return Layout(
        think=(tags[0].end, tags[-5].start) if mode == "think" else None,
        times=tuple((a.end, b.start) for a, b in zip(times[0::2], times[1::2], strict=True)),
        answer=(tags[-4].end, tags[-3].start),
        glue=(tags[-2].end, tags[-1].start),
    )


def is_well_formed(
    text: str,
    n_options: int,
    mode: Mode = "think",
    *,
    options: Sequence[str] = (),
    answer_as: AnswerAs = "letter",
) -> bool:
    """Return whether the text follows the strict grammar of its mode, to the character.

    Args:
        text: the completion, nothing cut off.
        n_options: options of the question; 0 for an open one, whose answer is any text without our tags.
        mode: which parts are asked for.
        options: the option texts, needed with `answer_as="text"`.
        answer_as: whether the answer must be an option's label or its text.

    Raises:
        ValueError: `n_options` does not fit `options`, or an option's text is asked for without `options`.

    Source: METHOD "output contract" in docs/method.md; the grammar is spelled out in docs/reference/formats.md.
    """
    return format_score(text, n_options, mode, options=options, answer_as=answer_as, unread_glue=0.0) == 1.0


def format_score(
    text: str,
    n_options: int,
    mode: Mode = "think",
    *,
    options: Sequence[str] = (),
    answer_as: AnswerAs = "letter",
    unread_glue: float = 0.5,
) -> float:
    """Return the format reward: 1 for the strict grammar, 0 without it, between when only the glue breaks it.

    Args:
        text, n_options, mode, options, answer_as: as for `is_well_formed`.
        unread_glue: the value when everything but the span list is right: 0.5 in one of the paper's variants;
            0 makes the reward all or nothing.
    """
    check_question(n_options, options, answer_as)
    if mode == "direct":
        alone = not scan_tags(text) and _is_answer(text, n_options, options, answer_as)
        return 1.0 if alone else 0.0
    layout = strict_layout(text, mode)
    if layout is None or not _is_answer(text[slice(*layout.answer)], n_options, options, answer_as):
        return 0.0
    if any(strict_time(text[slice(*time)]) is None for time in layout.times):
        return 0.0
    return unread_glue if strict_spans(text[slice(*layout.glue)]) is None else 1.0


def check_question(n_options: int, options: Sequence[str], answer_as: AnswerAs) -> None:
    """Raise ValueError when what the caller says about the question does not fit together."""
    if options and len(options) != n_options:
        raise ValueError(f"n_options is {n_options} but {len(options)} option texts were given")
    if answer_as == "text" and n_options and not options:
        raise ValueError("answer_as='text' needs the option texts: pass options=...")


def _is_answer(text: str, n_options: int, options: Sequence[str], answer_as: AnswerAs) -> bool:
    if n_options == 0:
        return text != "" and text == text.strip()
    if answer_as == "text":
        return text != "" and sum(text == option.strip() for option in options) == 1
    return text in option_labels(n_options)


def format_spans(spans: Iterable[Sequence[float]]) -> str:
    """Return the canonical list, `[(20.3, 30.8), (41.0, 44.5)]`, in the order given; `[]` for no spans.

    Raises:
        ConfigError: a span the grammar has no form for (reversed, negative, not finite, beyond `LARGEST_S`).
    """
    return "[" + ", ".join(_pair(span) for span in spans) + "]"


def format_time(span: Sequence[float]) -> str:
    """Return a citation to put in thinking, `<time>(5.2, 10.4)</time>`. Raises as `format_spans` does."""
    return f"<time>{_pair(span)}</time>"


def _pair(span: Sequence[float]) -> str:
    start_s, end_s = span
    if not (math.isfinite(start_s) and math.isfinite(end_s) and 0 <= start_s < end_s <= LARGEST_S):
        reason = f"({start_s}, {end_s}) cannot be written"
        raise ConfigError("spans", reason, "give 0 <= start < end in seconds (clip annotations to the video first)")
    # A span shorter than the precision keeps one tenth of a second, or it would read back as empty.
    end = max(_tenths(end_s), _tenths(start_s) + 1)
    return f"({start_s:.1f}, {end // 10}.{end % 10})"


def _tenths(time_s: float) -> int:
    return int(f"{time_s:.1f}".replace(".", ""))


def format_response(
    think: str,
    answer: str,
    spans: Iterable[Sequence[float]],
    mode: Mode = "think",
    times: Iterable[Sequence[float]] = (),
) -> str:
    """Return the canonical response, times with one decimal: what a model is taught to write.

    Args:
        think: the reasoning; may hold citations made by `format_time`. Written in think mode only.
        answer: the option's label or text, or the answer of an open question.
        spans: evidence in the order to be written; not written in direct mode.
        mode: which parts to write.
        times: citations put after the reasoning, in think mode.

    Raises:
        ConfigError: a text that could not be read back (our tags in it, an empty answer), or such a span.
    """
    if answer != answer.strip() or not answer or scan_tags(answer):
        raise ConfigError("answer", f"{answer[:60]!r} cannot be read back", "give a stripped text without our tags")
    if mode == "direct":
        return answer
    text = f"<answer>{answer}</answer>\n<glue>{format_spans(spans)}</glue>"
    if mode == "no_think":
        return text
    reasoning = " ".join(part for part in (think.strip(), *map(format_time, times)) if part)
    text = f"<think>{reasoning}</think>\n{text}"
    layout = strict_layout(text, mode)
    if layout is None or any(strict_time(text[slice(*time)]) is None for time in layout.times):
        fix = "leave our tags out of it, except citations by format_time"
        raise ConfigError("think", f"{think[:60]!r} cannot be read back", fix)
    return text
