"""Replies whose think block a chat template began: `<think>`, a line break, thinking to the last `</think>`."""

import pytest

from zoomzero.prompts import read_response
from zoomzero.prompts.grammar import format_score

PERFECT = "<think>\nShe turns <time>(1.0, 2.5)</time>.\n</think>\n\n<answer>B</answer>\n<glue>[(1.0, 2.5)]</glue>"
QUOTED = PERFECT.replace("She", "I must write <think>x</think><answer>A</answer><glue>[(7.0, 9.0)]</glue>. She")


def test_a_perfect_reply_has_the_full_format_reward():
    assert format_score(PERFECT, 4) == 1.0
    assert format_score(PERFECT.replace("\n\n", "\n"), 4) == 1.0
    assert format_score(PERFECT.replace("\n\n", "\n\n\n"), 4) < 1.0
    reading = read_response(PERFECT, 4)
    assert (reading.answer, reading.spans, reading.times) == ("B", ((1.0, 2.5),), ((1.0, 2.5),))


@pytest.mark.parametrize("at", range(9, PERFECT.index("</think>") + 7))
def test_cut_off_inside_the_thinking_is_no_answer(at):
    reading = read_response(PERFECT[:at], 4)
    assert reading.answer is None
    assert reading.spans == ()


def test_cut_off_after_a_quoted_answer_is_no_answer():
    reading = read_response("<think>\nThe form is <answer>A</answer>\n<glue>[(1.0, 2.0)]</glue>, so", 4)
    assert (reading.answer, reading.spans) == (None, ())


def test_quotes_in_the_thinking_do_not_spoil_the_answer():
    reading = read_response(QUOTED, 4)
    assert (reading.answer, reading.spans) == ("B", ((1.0, 2.5),))
    assert reading.ranges["label"] == (QUOTED.rindex("B</answer>"), QUOTED.rindex("</answer>"))
