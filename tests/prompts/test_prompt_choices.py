"""One reader of answers, one table: what names one option is read, what names several or none is not."""

from __future__ import annotations

import pytest

from zoomzero.prompts import read_response
from zoomzero.prompts.choices import read_option

OPTIONS = ("a red ball", "a blue key", "a dog", "a cat")

ONE = [
    ("Based on the video, the man holds a key. The correct answer is (B).", "B"),
    ("Answer: Answer: C", "C"),
    ("**Answer:** B", "B"),
    ("**Answer**: (B)", "B"),
    ("### Answer\nB", "B"),
    ("Answer:\nB", "B"),
    ("Final answer: $\\boxed{B}$", "B"),
    ("\\boxed{B}", "B"),
    ("\\boxed{\\text{B}}", "B"),
    ("The frames show a key.\n\n\\boxed{B}", "B"),
    ("B。", "B"),
    ("Ｂ", "B"),
    ("（Ｂ）", "B"),
    ("「B」", "B"),
    ("“B”", "B"),
    ("Ⓑ", "B"),
    ("答案：B", "B"),
    ("答案是B。", "B"),
    ("选B", "B"),
    ('{"answer": "B"}', "B"),
    ("<b>B</b>", "B"),
    ("{B}", "B"),
    ("> B", "B"),
    ("Option (B): a blue key", "B"),
    ("Option B: the key", "B"),
    ("B - a blue key", "B"),
    ("B because the key is blue", "B"),
    ("The answer is a blue key.", "B"),
    ("Answer: a blue key", "B"),
    ("The answer should be B.", "B"),
    ("Let me look.\nB. a blue key", "B"),
    ("The video shows a kitchen.\n\nB", "B"),
    ("Final answer: D\n\nBecause A: no, B: no.", "D"),
    ("B. a blue key\n\nOption A is not shown.", "B"),
    ("The answer is not A. The answer is B.", "B"),
    ("Option A is not shown, so the answer is B.", "B"),
    ("B. The answer is B.", "B"),
    ("B is correct", "B"),
    ("Option B is the correct answer.", "B"),
    ("**B** is the right choice, because the key is blue", "B"),
    ("B (a blue key)", "B"),
    ("A blue key (B).", "B"),
    ("Ans: B", "B"),
    ("Answer: B. Actually, A is wrong.", "B"),
    ("Answer: B. There is no A.", "B"),
]
SEVERAL = [
    "The answer is A, C and D.",
    "Answer: A, B",
    "Answer: A or B",
    "(A) (C)",
    "(A)(C)",
    "A, B, C, D",
    "A and B",
    "A/B",
    "A、B",
    "答案是A和B",
    "A. a red ball\nB. a blue key",
    "(A) a red ball (B) a blue key (C) a dog (D) a cat",
    "A. a red ball B. a blue key C. a dog D. a cat",
    "Option A: a red ball\nOption B: a blue key",
    "A\nB",
    "The answer is A: wait, the answer is B.",
    "A. then again, the answer is B.",
    "The answer is A. No, the answer is B.",
    "Answer: A. Actually B.",
    "A\nWait, it is (B).",
    "A is correct.\nOn second thought, option B.",
    "\\boxed{A} or \\boxed{B}",
    "Answer: A\nAnswer: B",
]
NONE = [
    "I would pick B.",
    "A man is walking.",
    "The answer is not B.",
    "The correct answer isn't B.",
    "I don't think the answer is B.",
    "B is correct only if the key is red",
    "B is not correct",
    "A (a blue key)",  # the text of B
    "A) is wrong",
    "B: no.",
    "Neither",
    "Not B",
    "E",
    "The answer is E.",
    "В",  # Cyrillic
]


@pytest.mark.parametrize(("said", "label"), ONE)
def test_what_names_one_option_is_read(said: str, label: str) -> None:
    reading = read_response(said, 4, "direct", options=OPTIONS)
    assert (reading.answer, reading.problems) == (label, ("loose_answer",))
    tagged = read_response(f"<answer>{said}</answer>\n<glue>[]</glue>", 4, "no_think", options=OPTIONS)
    assert tagged.answer == label


@pytest.mark.parametrize("said", SEVERAL)
def test_several_options_are_no_answer(said: str) -> None:
    reading = read_response(said, 4, "direct", options=OPTIONS)
    assert (reading.answer, reading.option, reading.problems) == (None, None, ("several_options",))


@pytest.mark.parametrize("said", NONE)
def test_what_names_none_is_not_guessed(said: str) -> None:
    reading = read_response(said, 4, "direct", options=OPTIONS)
    assert (reading.answer, reading.problems) == (None, ("unknown_option",))


def test_letters_that_are_words() -> None:
    options = [f"thing {i}" for i in range(12)]
    said = {"I": "I", "I think so": None, "l": "L", "M": None, "The answer is I think B": None, "I saw it.\nB": "B"}
    assert {text: read_response(text, 12, "direct", options=options).answer for text in said} == said


def test_a_text_that_looks_like_several_labels_may_be_an_option() -> None:
    found, problem = read_option("A, B", 2, ("A, B", "C"), "letter")
    assert found is not None
    assert (found.place, problem) == (0, None)


def test_the_place_of_the_label_in_other_letters() -> None:
    assert read_response("答案：（Ｂ）", 4, "direct").ranges["label"] == (4, 5)
    assert read_response("see\n\\boxed{B}", 4, "direct").ranges["label"] == (11, 12)
    assert read_response("Look.\nB", 4, "direct").ranges["label"] == (6, 7)
