"""No text breaks the reader, whatever it holds and however long it is."""

from __future__ import annotations

import math
import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zoomzero.prompts import PROBLEMS, format_score, is_well_formed, option_labels, read_response
from zoomzero.prompts.letters import plain_letters

CANONICAL = (
    "<think>the red circle is visible <time>(5.2, 10.4)</time></think>\n"
    "<answer>B</answer>\n<glue>[(5.2, 10.4), (41.0, 44.5)]</glue>"
)
PIECES = [
    *(f"<{slash}{name}>" for slash in ("", "/") for name in ("think", "time", "answer", "glue")),
    *("<", ">", "</", "<ans", "<THINK>", "</Answer>", "\n", " ", "  "),
    *(
        "Ｂ",
        "B。",
        "A, C",
        "\\boxed{",
        "答案：",
        "**Answer:** ",
        "A. x\n",
        " minutes",
        "%",
        "−",
        "-->",
        ",500",
        "1e5",
        "confidence ",
    ),
    *("A", "B", "b", "(C)", "Z", "AB", "answer is ", "Option ", "the", "A red", "红", "🪿"),
    *(
        "[",
        "]",
        "(",
        ")",
        ", ",
        " - ",
        " to ",
        "1",
        "2.5",
        "-3",
        "1:02",
        "nan",
        "inf",
        "9" * 40,
        "[]",
        "[(1, 2)]",
    ),
]
OPTION_TEXTS = ("a red car", "A", "<answer>", "", "x", "x", "1", *(f"o{i}" for i in range(23)))


def _edited(text: str, at: int, cut: int, piece: str) -> str:
    """Replace `cut` characters of a text by a piece."""
    at %= len(text) + 1
    return text[:at] + piece + text[at + cut :]


edited = st.builds(
    _edited,
    st.sampled_from([CANONICAL, CANONICAL.partition("\n")[2], "B", "<think></think><answer>A</answer><glue>[]</glue>"]),
    st.integers(0, 200),
    st.integers(0, 9),
    st.sampled_from(["", *PIECES]),
)


@settings(max_examples=600, deadline=None)
@given(
    text=st.one_of(edited, st.lists(st.sampled_from(PIECES), max_size=25).map("".join), st.text(max_size=80)),
    n=st.sampled_from([0, 1, 4, 30]),
    mode=st.sampled_from(["think", "no_think", "direct"]),
    with_options=st.booleans(),
    as_text=st.booleans(),
)
@example(text="x <", n=0, mode="direct", with_options=False, as_text=False)
@example(text="</answer><", n=4, mode="think", with_options=False, as_text=False)
def test_no_text_breaks_the_reader(text: str, n: int, mode: str, with_options: bool, as_text: bool) -> None:
    options = OPTION_TEXTS[:n] if with_options else ()
    answer_as = "text" if as_text and (options or not n) else "letter"
    reading = read_response(text, n, mode, options=options, answer_as=answer_as)
    assert reading.well_formed == (reading.problems == ())
    assert reading.well_formed == is_well_formed(text, n, mode, options=options, answer_as=answer_as)
    assert format_score(text, n, mode, options=options, answer_as=answer_as) in (0.0, 0.5, 1.0)
    assert set(reading.problems) <= set(PROBLEMS)
    for start_s, end_s in (*reading.spans, *reading.times):
        assert 0 <= start_s < end_s < math.inf
    for low, high in reading.ranges.values():
        assert 0 <= low <= high <= len(text)
    if n:
        assert (reading.answer is None) == (reading.option is None)
        assert reading.option is None or option_labels(n)[reading.option] == reading.answer
    else:
        assert reading.option is None
        assert reading.answer is None or reading.answer == text[slice(*reading.ranges["answer"])].strip()
    if "label" in reading.ranges:
        low, high = reading.ranges["label"]
        assert plain_letters(text[low:high]).upper() == reading.answer
        assert reading.ranges["answer"][0] <= low < high <= reading.ranges["answer"][1]


@pytest.mark.parametrize(
    "unit", [*PIECES, "<glue>1", "x<time>", "answer is A. ", "<think><answer><glue>", "(1, ", "1:"]
)
def test_reading_is_linear_in_the_length(unit: str) -> None:
    # A megabyte takes about a second when every part is read once, and hours when anything rereads what came before:
    # the limit is far from both, so a busy machine does not matter.
    text = unit * (1_000_000 // len(unit))
    started = time.process_time()
    read_response(text, 4)
    assert time.process_time() - started < 60
