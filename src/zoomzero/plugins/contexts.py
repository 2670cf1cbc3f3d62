"""Reading a harness's prompt: the question and its options, where it clearly is a multiple-choice prompt.

Harnesses hand a model finished text. Ours wants the question and the options apart, since it scores options and asks
in its own words. What is not clearly recognised stays as it is: an open question.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from zoomzero.prompts import option_labels

# (A) text, A. text, A) text, A: text; one style for all options of a prompt.
_STYLES = tuple(
    re.compile(pattern)
    for pattern in (
        r"\s{0,8}\(([A-Z])\)\s{0,4}(\S.*)",
        r"\s{0,8}([A-Z])\.\s{1,4}(\S.*)",
        r"\s{0,8}([A-Z])\)\s{0,4}(\S.*)",
        r"\s{0,8}([A-Z]):\s{0,4}(\S.*)",
    )
)
_INSTRUCTION_WORDS = re.compile(r"\b(?:answers?|options?|letters?|choices?)\b", re.IGNORECASE)
_INSTRUCTION_BEFORE = re.compile(
    r"\s*(?:select|choose|pick|respond with|answer with|please (?:select|choose|answer|respond))\b.*"
    r"\b(?:answer|option|letter|choice|question)",
    re.IGNORECASE,
)
_QUESTION_MARK = re.compile(r"\s*question\s*:\s*", re.IGNORECASE)
_OPTIONS_MARK = re.compile(r"\s*(?:options?|choices?|candidates)\s*:\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Context:
    """What a prompt asks. `options` is empty for an open question, whose `question` is the whole prompt."""

    question: str
    options: tuple[str, ...] = ()


def read_context(text: str) -> Context:
    """Return the question and options of a prompt.

    It is a multiple-choice prompt when there is exactly one list of lines lettered A, B, .. in one style, with
    different texts, text before it, and nothing behind it but instructions on how to answer. Instructions, and the
    words `Question:` and `Options:`, are left out of the question; what else stands before the list (subtitles) stays.

    Args:
        text: the prompt, without the video.
    """
    lines = text.replace("\r\n", "\n").split("\n")  # other line ends are part of a text
    found = [run for style in _STYLES for run in _lists(lines, style)]
    whole = Context(text.strip())
    if len(found) != 1:
        return whole
    (first, last, options) = found[0]
    question = _question(lines[:first])
    after = [line for line in lines[last + 1 :] if line.strip()]
    if not question or not all(_INSTRUCTION_WORDS.search(line) for line in after):
        return whole
    return Context(question, options) if len(set(options)) == len(options) else whole


def _lists(lines: list[str], style: re.Pattern[str]) -> list[tuple[int, int, tuple[str, ...]]]:
    """Return (first line, last line, texts) of every list of two or more; blank lines inside do not end one."""
    runs: list[tuple[int, int, tuple[str, ...]]] = []
    labels: list[str] = []
    texts: list[str] = []
    first = last = 0

    def close() -> None:
        if len(texts) > 1:
            runs.append((first, last, tuple(texts)))
        labels.clear()
        texts.clear()

    for number, line in enumerate(lines):
        m = style.fullmatch(line.rstrip())
        if m and m[1] == option_labels(len(labels) + 1)[-1]:
            first = number if not labels else first
        elif m and m[1] == "A":
            close()
            first = number
        elif m or line.strip():
            close()
            continue
        else:
            continue
        labels.append(m[1])
        texts.append(m[2].strip())
        last = number
    close()
    return runs


def _question(lines: list[str]) -> str:
    """Return the text before the options without instructions and headings."""
    kept = [line for line in lines if line.strip() and not _INSTRUCTION_BEFORE.match(line)]
    if kept and _OPTIONS_MARK.fullmatch(kept[-1]):
        kept.pop()
    if kept and (m := _QUESTION_MARK.match(kept[0])):
        kept[0] = kept[0][m.end() :]
    return "\n".join(line.strip() for line in kept if line.strip())
