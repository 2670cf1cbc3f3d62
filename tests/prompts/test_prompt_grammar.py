"""The strict grammar, the labels and the writer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.errors import ConfigError
from zoomzero.prompts import (
    format_response,
    format_score,
    format_spans,
    format_time,
    is_well_formed,
    option_labels,
    read_response,
)
from zoomzero.prompts.grammar import scan_tags

CANONICAL = (
    "<think>the red circle is visible <time>(5.2, 10.4)</time></think>\n<answer>B</answer>\n<glue>[(5.2, 10.4)]</glue>"
)


def test_labels_count_like_spreadsheet_columns() -> None:
    assert option_labels(0) == ()
    assert option_labels(3) == ("A", "B", "C")
    assert option_labels(28)[24:] == ("Y", "Z", "AA", "AB")
    labels = option_labels(704)
    assert (labels[51], labels[52], labels[701], labels[702], labels[703]) == ("AZ", "BA", "ZZ", "AAA", "AAB")
    assert len(set(labels)) == 704
    with pytest.raises(ValueError, match="0 or more"):
        option_labels(-1)


# --- writing --------------------------------------------------------------------------------------------


def test_canonical_texts() -> None:
    think, spans = "the red circle is visible", [(5.2, 10.4)]
    assert format_response(think, "B", spans, times=spans) == CANONICAL
    assert format_response(think, "B", spans, "no_think", spans) == "<answer>B</answer>\n<glue>[(5.2, 10.4)]</glue>"
    assert format_response(think, "B", spans, "direct", spans) == "B"
    assert format_response("", "B", []) == "<think></think>\n<answer>B</answer>\n<glue>[]</glue>"
    assert format_response("", "B", [], times=[(0, 1), (2, 3)]).startswith(
        "<think><time>(0.0, 1.0)</time> <time>(2.0, 3.0)</time></think>"
    )


def test_spans_are_written_in_the_order_given() -> None:
    assert format_spans([(20.26, 30.84), (4, 5.5)]) == "[(20.3, 30.8), (4.0, 5.5)]"
    assert format_spans([]) == "[]"
    assert format_time((61, 62.04)) == "<time>(61.0, 62.0)</time>"


def test_a_span_shorter_than_the_precision_keeps_a_tenth() -> None:
    assert format_spans([(5.21, 5.24)]) == "[(5.2, 5.3)]"
    assert format_spans([(9.96, 9.99)]) == "[(10.0, 10.1)]"
    assert format_spans([(0.0, 1e-9)]) == "[(0.0, 0.1)]"


@pytest.mark.parametrize(
    "span", [(5.0, 5.0), (6.0, 5.0), (-0.1, 5.0), (float("nan"), 5.0), (0.0, float("inf")), (0.0, 1.1e9)]
)
def test_spans_without_a_form_are_refused(span: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        format_spans([span])


def test_citations_inside_the_thinking_are_kept() -> None:
    text = format_response(f"first {format_time((1, 2))}, then {format_time((3, 4))}.", "A", [(3, 4)])
    reading = read_response(text, 4)
    assert reading.well_formed
    assert reading.times == ((1.0, 2.0), (3.0, 4.0))
    assert reading.think == "first, then."


@pytest.mark.parametrize(
    ("think", "answer", "setting"),
    [
        ("so <answer>A</answer>", "A", "think"),
        ("done</think>", "A", "think"),
        ("<time>(2, 1)</time>", "A", "think"),
        ("<time>soon</time>", "A", "think"),
        ("<TIME>(1, 2)</TIME>", "A", "think"),
        ("fine", "the <glue> pot", "answer"),
        ("fine", "", "answer"),
        ("fine", " A", "answer"),
    ],
)
def test_texts_that_cannot_be_read_back_are_refused(think: str, answer: str, setting: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{setting}: .*cannot be read back"):
        format_response(think, answer, [])


# --- the strict grammar ---------------------------------------------------------------------------------

GOOD_THINK = [
    CANONICAL,
    "<think></think><answer>A</answer><glue>[]</glue>",
    "<think>x</think> <answer>A</answer>\t<glue>[(1,2), (3, 4)]</glue>",
    "<think>a\n\nb <b>c</b> < 5 </thin> </think>\n<answer>D</answer>\n<glue>[(0, 0.1),(7.25, 1000)]</glue>",
    "<think><time>(1,2)</time><time>(2.5,3)</time></think>\n<answer>A</answer>\n<glue>[(9,10), (1,2)]</glue>",
]
BAD_THINK = [
    "",
    "B",
    "<answer>B</answer>\n<glue>[(5.2, 10.4)]</glue>",  # no thinking
    CANONICAL + "\n",
    " " + CANONICAL,
    CANONICAL.replace("\n<answer>", "\n\n<answer>"),  # two whitespace characters
    CANONICAL.replace("\n<answer>", ".<answer>"),
    CANONICAL.replace(">B<", ">E<"),  # four options
    CANONICAL.replace(">B<", ">b<"),
    CANONICAL.replace(">B<", "> B<"),
    CANONICAL.replace(">B<", ">(B)<"),
    CANONICAL.replace(">B<", "><"),
    CANONICAL.replace("<answer>", "<Answer>"),
    CANONICAL.replace("<time>(5.2, 10.4)", "<time>(10.4, 5.2)"),
    CANONICAL.replace("<time>(5.2, 10.4)", "<time>5.2, 10.4"),
    CANONICAL.replace("<time>(5.2, 10.4)", "<time>[(5.2, 10.4)]"),
    CANONICAL.replace("</time>", ""),
    CANONICAL.replace("<time>", ""),
    CANONICAL.replace("</think>", "<answer>A</answer></think>"),
    CANONICAL.replace("<think>", "<think><think>"),
    CANONICAL + CANONICAL,
    CANONICAL + "<glue>[]</glue>",
    "<think>x</think>\n<glue>[]</glue>\n<answer>B</answer>",
    "<think>x</think>\n<answer>B</answer>",
    "<think>x</think>\n<answer>B\n<glue>[]</glue>",
    "<think>x</think>\n<answer><time>(1, 2)</time></answer>\n<glue>[]</glue>",
]
BAD_GLUE = [
    "",
    " []",
    "[ ]",
    "[(5.2, 10.4)",
    "(5.2, 10.4)",
    "[(5.2, 10.4),]",
    "[(5.2, 10.4)  ,(11, 12)]",
    "[(5.2,  10.4)]",
    "[[5.2, 10.4]]",
    "[(10.4, 5.2)]",
    "[(5.2, 5.2)]",
    "[(1, 2), (5.20, 5.2)]",
    "[(-1.0, 5.2)]",
    "[(+1.0, 5.2)]",
    "[(nan, 5.2)]",
    "[(1, inf)]",
    "[(1e0, 2)]",
    "[(1, 2, 3)]",
    "[(1., 2)]",
    "[(.5, 2)]",
    "[(0:01, 0:02)]",
    "[(1s, 2s)]",
    "[(1, 1234567890123)]",  # more digits than any time has
    "[(\u0661, \u0662)]",  # digits of another script
    "none",
]


@pytest.mark.parametrize("text", GOOD_THINK)
def test_good_think(text: str) -> None:
    assert is_well_formed(text, 4)
    assert format_score(text, 4) == 1.0
    assert not is_well_formed(text, 4, "no_think")
    assert not is_well_formed(text, 4, "direct")


@pytest.mark.parametrize("text", BAD_THINK)
def test_bad_think(text: str) -> None:
    assert not is_well_formed(text, 4)
    assert format_score(text, 4) == 0.0


@pytest.mark.parametrize("glue", BAD_GLUE)
def test_bad_glue_alone_is_half_right_in_the_paper_variant(glue: str) -> None:
    text = f"<think>x</think>\n<answer>B</answer>\n<glue>{glue}</glue>"
    assert not is_well_formed(text, 4)
    assert format_score(text, 4) == 0.5
    assert format_score(text, 4, unread_glue=0.0) == 0.0
    assert format_score(text.replace(">B<", ">Q<"), 4) == 0.0
    assert format_score(text.partition("\n")[2], 4, "no_think") == 0.5


def test_no_think() -> None:
    text = CANONICAL.partition("\n")[2]
    assert is_well_formed(text, 4, "no_think")
    assert is_well_formed(text.replace("\n", ""), 4, "no_think")
    assert not is_well_formed(text.replace("\n", "\n\n"), 4, "no_think")
    assert not is_well_formed(text, 4, "think")
    assert not is_well_formed(text, 1, "no_think")
    assert not is_well_formed("x" + text, 4, "no_think")
    assert not is_well_formed("<time>(1, 2)</time>" + text, 4, "no_think")


def test_direct() -> None:
    assert is_well_formed("B", 2, "direct")
    for text in ("", "C", "b", "B.", "(B)", " B", "B\n", "<answer>B</answer>"):
        assert not is_well_formed(text, 2, "direct"), text
    assert is_well_formed("AA", 27, "direct")
    assert not is_well_formed("AA", 26, "direct")


def test_open_answers_are_any_stripped_text_without_our_tags() -> None:
    for text in ("B", "a red car.", "<b>bold</b>", "多行\n文字"):
        assert is_well_formed(text, 0, "direct")
        assert is_well_formed(f"<answer>{text}</answer>\n<glue>[]</glue>", 0, "no_think")
    for text in ("", " ", " car", "car\n", "<time>car"):
        assert not is_well_formed(text, 0, "direct")
        assert not is_well_formed(f"<answer>{text}</answer>\n<glue>[]</glue>", 0, "no_think")


def test_option_texts_as_answers() -> None:
    options = ("a red car", "a bus ", "a bus", "A")
    for text, good in [
        ("a red car", True),
        ("A red car", False),
        ("A", True),
        ("a bus", False),
        ("B", False),
    ]:
        assert is_well_formed(text, 4, "direct", options=options, answer_as="text") is good, text
    with pytest.raises(ValueError, match="option texts"):
        is_well_formed("A", 4, "direct", answer_as="text")
    with pytest.raises(ValueError, match="n_options is 3 but 4"):
        is_well_formed("A", 3, "direct", options=options)


# --- properties -----------------------------------------------------------------------------------------

times_s = st.floats(0, 100_000, allow_nan=False)
spans_s = st.lists(st.tuples(times_s, times_s).filter(lambda s: s[0] < s[1]), max_size=5)
plain = st.text(max_size=60).filter(lambda text: not scan_tags(text))


@given(
    think=plain,
    n=st.integers(0, 60),
    pick=st.integers(0, 59),
    words=plain.map(str.strip).filter(bool),
    spans=spans_s,
    times=spans_s,
    mode=st.sampled_from(["think", "no_think", "direct"]),
)
def test_what_is_written_is_read_back(
    think: str, n: int, pick: int, words: str, spans: list, times: list, mode: str
) -> None:
    answer = option_labels(n)[pick % n] if n else words
    text = format_response(think, answer, spans, mode, times)
    assert is_well_formed(text, n, mode)
    reading = read_response(text, n, mode)
    assert reading.problems == ()
    assert reading.answer == answer
    assert reading.option == (pick % n if n else None)
    assert reading.think == (think.strip() if mode == "think" else "")
    for read, written in ((reading.spans, spans), (reading.times, times)):
        wanted = [] if mode == "direct" or (read is reading.times and mode != "think") else written
        assert len(read) == len(wanted)
        for got, want in zip(read, wanted, strict=True):
            assert abs(got[0] - want[0]) <= 0.1 + 1e-9
            assert abs(got[1] - want[1]) <= 0.1 + 1e-9


@given(spans=spans_s)
def test_writing_what_was_read_changes_nothing(spans: list) -> None:
    text = format_response("x", "A", spans)
    reading = read_response(text, 2)
    assert format_response(reading.think, reading.answer or "", reading.spans) == text
