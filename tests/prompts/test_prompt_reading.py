"""The tolerant reader: every deviation has a defined result."""

from __future__ import annotations

import pickle

import pytest

from zoomzero.prompts import is_well_formed, option_labels, read_response

CANONICAL = (
    "<think>the red circle is visible <time>(5.2, 10.4)</time></think>\n"
    "<answer>B</answer>\n<glue>[(5.2, 10.4), (41.0, 44.5)]</glue>"
)
GLUE = "<glue>[(1.0, 2.0)]</glue>"


def test_canonical() -> None:
    reading = read_response(CANONICAL, 4)
    assert (reading.answer, reading.option) == ("B", 1)
    assert reading.spans == ((5.2, 10.4), (41.0, 44.5))
    assert reading.times == ((5.2, 10.4),)
    assert reading.think == "the red circle is visible"
    assert reading.well_formed
    assert reading.problems == ()
    parts = {name: CANONICAL[slice(*at)] for name, at in reading.ranges.items()}
    assert parts == {
        "think": "the red circle is visible <time>(5.2, 10.4)</time>",
        "time_0": "(5.2, 10.4)",
        "answer": "B",
        "label": "B",
        "answer_tags": "<answer>B</answer>",
        "glue": "[(5.2, 10.4), (41.0, 44.5)]",
    }


def test_a_reading_travels_between_processes() -> None:
    reading = read_response(CANONICAL, 4)
    assert pickle.loads(pickle.dumps(reading)) == reading
    assert hash(reading) == hash(read_response(CANONICAL, 4))


def test_no_evidence_is_well_formed() -> None:
    reading = read_response("<answer>A</answer>\n<glue>[]</glue>", 2, "no_think")
    assert reading.well_formed
    assert reading.spans == ()


def test_spans_stay_as_written() -> None:
    reading = read_response("<answer>A</answer>\n<glue>[(9, 10), (1, 5), (2, 6)]</glue>", 2, "no_think")
    assert reading.spans == ((9.0, 10.0), (1.0, 5.0), (2.0, 6.0))


# --- answers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "label"),
    [
        ("B", "B"),
        ("b", "B"),
        (" B\n", "B"),
        ("(B)", "B"),
        ("(b)", "B"),
        ("[B]", "B"),
        ("B.", "B"),
        ("B)", "B"),
        ("B:", "B"),
        ("**B**", "B"),
        ('"B".', "B"),
        ("Option B", "B"),
        ("option b.", "B"),
        ("Option (B)", "B"),
        ("Answer: B", "B"),
        ("**Answer: B**", "B"),
        ("The answer is B", "B"),
        ("The correct answer is (B).", "B"),
        ("My final answer is option B.", "B"),
        ("B. a blue key", "B"),
        ("(B) a blue key", "B"),
        ("b) a blue key", "B"),
        ("B: a blue key", "B"),
        ("B\nbecause it is blue", "B"),
        ("He takes the key, so the answer is B.", "B"),
        ("Option A is wrong. The correct option is (B)", "B"),
        # what names no option, or several
        ("A. then again, the answer is B.", None),
        ("E", None),
        ("E.", None),
        ("A red car", None),
        ("A, B", None),
        ("A or B", None),
        ("AB", None),
        ("be", None),
        ("2", None),
        ("e.g. the answer", None),
        ("Perhaps the answer is A. No, the answer is B.", None),
        ("It is not option A.", None),
        ("answers", None),
        ("?", None),
    ],
)
def test_ways_to_name_an_option(said: str, label: str | None) -> None:
    option = None if label is None else "ABCD".index(label)
    for text, mode in ((said, "direct"), (f"<answer>{said}</answer>\n{GLUE}", "no_think")):
        reading = read_response(text, 4, mode)
        assert (reading.answer, reading.option) == (label, option)
        assert reading.well_formed == (said == "B")
        if label is None:
            assert {"unknown_option", "several_options"} & set(reading.problems)
            assert "label" not in reading.ranges
        else:
            low, high = reading.ranges["label"]
            assert text[low:high].upper() == label
            assert bool({"loose_answer", "bad_layout"} & set(reading.problems)) == (said != "B")


def test_the_characters_of_the_label() -> None:
    assert read_response("The correct answer is (B).", 4, "direct").ranges["label"] == (23, 24)
    assert read_response("Option A is wrong, the answer is B.", 4, "direct").ranges["label"] == (33, 34)
    assert read_response("<answer>\nb</answer>", 4, "no_think").ranges["label"] == (9, 10)


def test_more_options_than_letters() -> None:
    for said, label in [("AA", "AA"), ("(AB)", "AB"), ("Z", "Z"), ("z", "Z"), ("Option AD.", "AD")]:
        reading = read_response(said, 30, "direct")
        assert reading.answer == label
        assert option_labels(30)[reading.option or 0] == label
    for said in ("AE", "ab", "AAA"):  # beyond the options; long labels must be capitals, being like words
        assert read_response(said, 30, "direct").answer is None


OPTIONS = ("a red ball", "a blue key", "nothing.", "A")


@pytest.mark.parametrize(
    ("said", "as_letter", "as_text"),
    [
        ("a blue key", 1, 1),
        ("A blue  key.", 1, 1),
        ("nothing", 2, 2),
        ("A", 0, 3),  # a label and a text: what was asked for wins
        ("B", 1, 1),
        ("B. a red ball", 1, 1),
        ("a green key", None, None),
        ("E", None, None),
    ],
)
def test_option_texts(said: str, as_letter: int | None, as_text: int | None) -> None:
    assert read_response(said, 4, "direct", options=OPTIONS).option == as_letter
    assert read_response(said, 4, "direct", options=OPTIONS, answer_as="text").option == as_text


def test_text_answers_are_strict_when_asked_for() -> None:
    read = [read_response(said, 4, "direct", options=OPTIONS, answer_as="text") for said in ("nothing.", "nothing")]
    assert [r.well_formed for r in read] == [True, False]
    assert [r.answer for r in read] == ["C", "C"]
    assert read[1].problems == ("loose_answer",)


def test_equal_options_are_told_apart_by_label_only() -> None:
    options = ("red", "blue", "Red")
    assert read_response("red", 3, "direct", options=options).option == 0  # exactly one is written like this
    assert read_response("RED", 3, "direct", options=options).problems == ("ambiguous_option",)
    assert read_response("red", 2, "direct", options=("red", "red")).option is None
    assert read_response("B", 2, "direct", options=("red", "red")).option == 1


def test_options_that_look_like_tags() -> None:
    options = ("<answer>", "</think>", "x")
    reading = read_response("<think>It reads </think>.</think>\n<answer>B</answer>\n" + GLUE, 3, options=options)
    assert reading.option == 1
    assert not reading.well_formed
    assert read_response("B", 3, "direct", options=options).well_formed


def test_wrong_use_raises() -> None:
    with pytest.raises(ValueError, match="n_options is 3 but 2"):
        read_response("A", 3, options=("x", "y"))
    with pytest.raises(ValueError, match="0 or more"):
        read_response("A", -1)
    with pytest.raises(ValueError, match="needs the option texts"):
        read_response("A", 3, answer_as="text")


def test_open_answers() -> None:
    reading = read_response("<think>so</think>\n<answer>a red car</answer>\n" + GLUE, 0)
    assert (reading.answer, reading.option, reading.well_formed) == ("a red car", None, True)
    assert "label" not in reading.ranges
    assert read_response(" a red car\n", 0, "direct").answer == "a red car"
    assert read_response("B", 0, "direct").answer == "B"
    assert read_response("<answer>  </answer>", 0, "no_think").answer is None
    padded = read_response(f"<answer> a car </answer>{GLUE}", 0, "no_think")
    assert (padded.answer, padded.problems) == ("a car", ("loose_answer",))
    assert read_response("A man. <b>Not</b> a < b", 0, "direct").well_formed


# --- spans ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glue", "spans"),
    [
        ("[20.3 - 30.8]", [(20.3, 30.8)]),
        ("20.3s to 30.8s", [(20.3, 30.8)]),
        ("from 20.3 seconds to 30.8 seconds", [(20.3, 30.8)]),
        ("20.3–30.8", [(20.3, 30.8)]),
        ("20-30", [(20.0, 30.0)]),
        ("[[20, 30], [41, 44]]", [(20.0, 30.0), (41.0, 44.0)]),
        ("(20, 30); (41, 44)", [(20.0, 30.0), (41.0, 44.0)]),
        ("20, 30, 41, 44", [(20.0, 30.0), (41.0, 44.0)]),
        ("(20 , 30),", [(20.0, 30.0)]),
        ("1:05 - 1:10.5", [(65.0, 70.5)]),
        ("[(01:02:03, 01:02:04)]", [(3723.0, 3724.0)]),
        ("00:59 until 61 s", [(59.0, 61.0)]),
        ("{.5, 2.}", [(0.5, 2.0)]),
        ("第5 - 10秒", [(5.0, 10.0)]),
        ("[(5.199999999999999, 10.4)]", [(5.199999999999999, 10.4)]),
        ("[(1), (2, 3)]", [(2.0, 3.0)]),
        ("[(1, 2, 3)]", [(1.0, 2.0)]),
        # nothing to read
        ("", []),
        ("none", []),
        ("5", []),
        ("(5)", []),
        ("[(five, six)]", []),
        ("1.2.3 - 4.5.6", []),
        ("v1 - v2", []),
        ("[(1, 12345678901234567890)]", []),
        ("ınf, 5", []),
    ],
)
def test_ways_to_write_spans(glue: str, spans: list[tuple[float, float]]) -> None:
    reading = read_response(f"<answer>A</answer>\n<glue>{glue}</glue>", 2, "no_think")
    assert list(reading.spans) == spans
    if not is_well_formed(f"<answer>A</answer>\n<glue>{glue}</glue>", 2, "no_think"):
        assert reading.problems == ("bad_glue",)
    cited = read_response(f"<think><time>{glue}</time></think>\n<answer>A</answer>\n{GLUE}", 2)
    assert list(cited.times) == spans


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ("(10.4, 5.2)", "reversed_span"),
        ("(10 - 5)", "reversed_span"),
        ("(5.2, 5.2)", "empty_span"),
        ("(-1.0, 5.2)", "negative_span"),
        ("(-5, -1)", "negative_span"),
        ("(nan, 5.2)", "nan_span"),
        ("(5, NaN)", "nan_span"),
        ("(0, inf)", "nan_span"),
        ("(-inf, 3)", "nan_span"),
        ("(0, Infinity)", "nan_span"),
    ],
)
def test_improper_spans_are_left_out_and_counted(bad: str, code: str) -> None:
    reading = read_response(f"<answer>A</answer>\n<glue>[(1, 2), {bad}, (3, 4)]</glue>", 2, "no_think")
    assert reading.spans == ((1.0, 2.0), (3.0, 4.0))
    assert reading.problems == ("bad_glue", code)
    cited = read_response(f"<think><time>{bad}</time></think>\n<answer>A</answer>\n{GLUE}", 2)
    assert cited.times == ()
    assert cited.problems == ("bad_time", code)
    assert cited.ranges["time_0"] == (13, 13 + len(bad))
