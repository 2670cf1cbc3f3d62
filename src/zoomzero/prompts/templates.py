"""The texts a model is asked with, in two styles.

`full` explains the output contract to an instruction-tuned checkpoint; `brief` is what a small model is
trained on (its strings are part of that model: a changed character changes its input). Questions, options and
subtitles go in as plain text: our tags in them mean nothing, since only the model's own words are ever read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from zoomzero.errors import ConfigError
from zoomzero.prompts.grammar import Mode, option_labels

Style = Literal["full", "brief"]

LONG_VIDEO_S = 600.0  # videos longer than this are asked with `long=True`

_LETTER_ONLY = "Respond with only the letter of the option."
_TEXT_ONLY = "Respond with only the text of the option."
_ANSWER_ONLY = "Respond with only the answer."

_BRIEF_TAILS: dict[Mode, str] = {"think": "Think, then answer.", "no_think": "Answer and show when."}

_THINK_ASK = (
    "Find the moments of the video that answer the question, reason about them, then answer.\n"
    "Write these three parts and nothing else:\n"
    "<think>your reasoning; cite every moment you rely on as <time>(start, end)</time></think>\n"
    "<answer>{answer}</answer>\n"
    "<glue>[(start, end), ...]</glue>\n"
)
_NO_THINK_ASK = (
    "Answer the question and show when the video answers it.\n"
    "Write these two parts and nothing else:\n"
    "<answer>{answer}</answer>\n"
    "<glue>[(start, end), ...]</glue>\n"
)
_RULES = (
    "All times are seconds from the start of the video, each start before its end. "
    "The glue part lists every moment that shows the evidence, or [] if none does."
)
_LONG_RULES = " The video is long: list only the short stretches that matter, each on its own."
_LONG_THINK_RULE = " Keep your reasoning under 300 tokens."

_EXAMPLE_THINK = (
    "<think>The question is what the guide does after unlocking the gate. She turns the key in it "
    "<time>(812.0, 819.5)</time>. Next she enters the hut and lights a lantern <time>(821.0, 836.5)</time>. "
    "She also rings a bell, but much earlier, so that is not the answer.</think>\n"
)
_EXAMPLE_SPANS = "<glue>[(812.0, 819.5), (821.0, 836.5)]</glue>"
_EXAMPLE_INTRO = "\nA complete response to a question about another video looks like this:\n"


def video_header(duration_s: float) -> str:
    """Return the sentence that opens a prompt about a video of `duration_s` seconds, with its newline.

    Source: METHOD "output contract" in docs/method.md.
    """
    return f"This video in total has {duration_s:.1f} seconds.\n"


def coarse_text(
    question: str,
    options: Sequence[str],
    mode: Mode,
    style: Style,
    long: bool = False,
    subtitles: str = "",
) -> str:
    """Return what follows the header in a pass over the whole video or a window of it.

    Args:
        question: the question, as the user wrote it.
        options: the option texts in order; none for an open question.
        mode: think and answer with spans, answer with spans, or answer alone.
        style: which template set.
        long: whether the video is longer than `LONG_VIDEO_S` (full style: worked example, bounded reasoning).
        subtitles: what is said in this part of the video; empty for none.

    Raises:
        ConfigError: an unknown mode or style.
    """
    _check(mode, ("think", "no_think", "direct"), "mode")
    _check(style, ("full", "brief"), "style")
    asked = _subtitles(subtitles, style) + _question(question, options, style)
    if mode == "direct":
        return asked + (_LETTER_ONLY if options else _ANSWER_ONLY)
    if style == "brief":
        return asked + _BRIEF_TAILS[mode]
    return asked + "\n" + _full_ask(mode, bool(options), long)


def zoom_text(
    question: str, options: Sequence[str], style: Style, answer_as: Literal["letter", "text"] = "letter"
) -> str:
    """Return the prompt of a zoom pass: the question and what to answer with, no header.

    Args:
        question: the question, as the user wrote it.
        options: the option texts in order; none for an open question.
        style: which template set.
        answer_as: answer with the option's letter or its text; without options either asks for the answer.

    Raises:
        ConfigError: an unknown style or `answer_as`.
    """
    _check(style, ("full", "brief"), "style")
    _check(answer_as, ("letter", "text"), "answer_as")
    tail = _ANSWER_ONLY if not options else _LETTER_ONLY if answer_as == "letter" else _TEXT_ONLY
    return _question(question, options, style) + tail


def _check(value: str, allowed: tuple[str, ...], setting: str) -> None:
    if value not in allowed:
        raise ConfigError(setting, f"unknown value {value!r}", f"use one of {', '.join(allowed)}")


def _subtitles(subtitles: str, style: Style) -> str:
    if not subtitles:
        return ""
    return f"Subtitles: {subtitles}\n" if style == "brief" else f"Subtitles:\n{subtitles}\n\n"


def _question(question: str, options: Sequence[str], style: Style) -> str:
    """Return the question and option lines, each ended by a newline."""
    asked = f"Question: {question}\n"
    if not options:
        return asked
    lines = [f"({label}) {option}" for label, option in zip(option_labels(len(options)), options, strict=True)]
    return asked + ("Options: " + " ".join(lines) if style == "brief" else "Options:\n" + "\n".join(lines)) + "\n"


def _full_ask(mode: Mode, has_options: bool, long: bool) -> str:
    """Return the full style's instructions for the modes that show spans."""
    ask = _THINK_ASK if mode == "think" else _NO_THINK_ASK
    text = ask.format(answer="the letter of the option" if has_options else "the answer in a few words") + _RULES
    if not long:
        return text
    example = "<answer>C</answer>\n" if has_options else "<answer>she lights a lantern</answer>\n"
    if mode == "think":
        return text + _LONG_RULES + _LONG_THINK_RULE + _EXAMPLE_INTRO + _EXAMPLE_THINK + example + _EXAMPLE_SPANS
    return text + _LONG_RULES + _EXAMPLE_INTRO + example + _EXAMPLE_SPANS
