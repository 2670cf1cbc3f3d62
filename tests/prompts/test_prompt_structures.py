"""The tolerant reader: tags missing, doubled, cut off or in the wrong order."""

from __future__ import annotations

import pytest

from zoomzero.prompts import PROBLEMS, read_response

CANONICAL = (
    "<think>the red circle is visible <time>(5.2, 10.4)</time></think>\n"
    "<answer>B</answer>\n<glue>[(5.2, 10.4), (41.0, 44.5)]</glue>"
)
GLUE = "<glue>[(1.0, 2.0)]</glue>"


@pytest.mark.parametrize(
    ("text", "answer", "n_spans", "problems"),
    [
        # parts missing
        ("", None, 0, {"no_answer", "no_glue", "no_think"}),
        (" \n\t", None, 0, {"no_answer", "no_glue", "no_think"}),
        ("B", "B", 0, {"no_answer_tags", "no_glue", "no_think"}),
        ("no idea", None, 0, {"unknown_option", "no_glue", "no_think"}),
        (f"<answer>B</answer>\n{GLUE}", "B", 1, {"no_think"}),
        (f"B\n{GLUE}", "B", 1, {"no_answer_tags", "no_think"}),
        (f"<think>x</think>\nB\n{GLUE}", "B", 1, {"no_answer_tags"}),
        (f"<think>x</think>\n{GLUE}\nB", "B", 1, {"no_answer_tags", "wrong_order"}),
        (f"<think>x</think>\n{GLUE}", None, 1, {"no_answer"}),
        (f"<think>x</think>\n<answer></answer>\n{GLUE}", None, 1, {"no_answer"}),
        ("<think>x</think>\n<answer>B</answer>", "B", 0, {"no_glue"}),
        # the opening tag of the thinking written by the chat template, or left out
        (f"x</think>\n<answer>B</answer>\n{GLUE}", "B", 1, {"no_think"}),
        (f"</think>\n<answer>B</answer>\n{GLUE}", "B", 1, {"no_think"}),
        (f"I see it. <answer>B</answer>\n{GLUE}", "B", 1, {"no_think"}),
        # cut off
        ("<think>I see <time>(1, 2)</time> and", None, 0, {"no_answer", "no_glue", "truncated"}),
        ("<think>x</think>\n<answer>B", "B", 0, {"no_glue", "truncated"}),
        ("<think>x</think>\n<answer>B</ans", "B", 0, {"no_glue", "truncated"}),
        ("<think>x</think>\n<answer>B</answer>\n<gl", "B", 0, {"no_glue", "truncated"}),
        ("<think>x</think>\n<answer>B</answer>\n<glue>[(1, 2), (3, 4", "B", 1, {"bad_glue", "truncated"}),
        ("<think>x</think>\n<answer>B</answer>\n<glue>[(1, 2)]</glue", "B", 1, {"truncated"}),
        ("<think>x</think>\n<answer>B</answer>\n<glue>1 - 2</gl", "B", 1, {"bad_glue", "truncated"}),
        (f"<think>x</think>\n<answer>B</answer>\n{GLUE}<", "B", 1, {"truncated"}),
        # text where none belongs
        (f"<think>x</think>\n<answer>B</answer>\n{GLUE} Done!", "B", 1, {"text_after_end"}),
        (f"<think>x</think> So:\n<answer>B</answer>\n{GLUE}", "B", 1, {"stray_text"}),
        (f"Well. <think>x</think>\n<answer>B</answer>\n{GLUE}", "B", 1, {"stray_text"}),
        (f"<think>x</think>\n\n<answer>B</answer>\n{GLUE}", "B", 1, {"bad_layout"}),
        (f"<think>x</think>\n<answer>B</answer>\n{GLUE}\n", "B", 1, {"bad_layout"}),
        (f"<Think>x</THINK>\n<Answer>B</answer>\n{GLUE}", "B", 1, {"bad_layout"}),
        # order and repetition
        (f"<think>x</think>\n{GLUE}\n<answer>B</answer>", "B", 1, {"wrong_order"}),
        (f"<answer>B</answer>\n{GLUE}<think>x</think>", "B", 1, {"wrong_order"}),
        (f"<think>x</think>\n<answer>B</answer>\n<answer>C</answer>\n{GLUE}", "B", 1, {"repeated_tag"}),
        (
            f"<think>x</think>\n<answer>B</answer>\n{GLUE}<glue>[(3, 4), (5, 6)]</glue>",
            "B",
            1,
            {"repeated_tag"},
        ),
        (
            f"<think>x</think>\n<answer></answer><answer>C</answer>\n{GLUE}",
            None,
            1,
            {"no_answer", "repeated_tag"},
        ),
        # nesting
        (
            f"<think>x <answer>A</answer></think>\n<answer>B</answer>\n{GLUE}",
            "B",
            1,
            {"nested_tag", "repeated_tag"},
        ),
        (f"<think>x <answer>A</answer> {GLUE}</think>", "A", 1, {"nested_tag"}),
        (
            f"<think>x</think>\n<answer><answer>B</answer></answer>\n{GLUE}",
            "B",
            1,
            {"nested_tag", "stray_tag"},
        ),
        (f"<think>x</think>\n<answer>B{GLUE}</answer>", "B", 1, {"nested_tag", "stray_tag"}),
        (f"<think>x</think>\n<answer>B\n{GLUE}", "B", 1, {"loose_answer", "unclosed_tag"}),
        (f"<think>x\n<answer>B</answer>\n{GLUE}", "B", 1, {"unclosed_tag"}),
        (
            f"<think>a <time>(1, 2) b</think>\n<answer>B</answer>\n{GLUE}",
            "B",
            1,
            {"bad_time", "unclosed_tag"},
        ),
        (f"<think>a</think><time>(1, 2)</time>\n<answer>B</answer>\n{GLUE}", "B", 1, {"stray_tag"}),
        (f"<think>a</time></think>\n<answer>B</answer>\n{GLUE}", "B", 1, {"stray_tag"}),
        (f"<think>a</think></think>\n<answer>B</answer>\n{GLUE}", "B", 1, {"stray_tag"}),
        (f"<think>x</think>\n<answer><time>(1, 2)</time>B</answer>\n{GLUE}", None, 1, None),
        # an answer tag cut where another part begins
        (f"<think>x</think>\n<answer>B</glue>\n{GLUE}", "B", 1, {"unclosed_tag", "stray_tag"}),
    ],
)
def test_structures(text: str, answer: str | None, n_spans: int, problems: set[str] | None) -> None:
    reading = read_response(text, 4)
    assert reading.answer == answer
    assert len(reading.spans) == n_spans
    assert problems is None or set(reading.problems) == problems
    assert reading.problems


def test_thinking_without_its_opening_tag_is_thinking() -> None:
    for text in (
        f"I see <time>(1, 2)</time>.</think><answer>B</answer>{GLUE}",
        f"I see. <answer>B</answer>{GLUE}",
    ):
        reading = read_response(text, 4)
        assert reading.think == "I see."
        assert reading.ranges["think"][0] == 0
    assert read_response(f"B\n{GLUE}", 4).think == ""


def test_modes_judge_the_same_text_differently() -> None:
    assert read_response(CANONICAL, 4, "no_think").problems == ("unexpected_think",)
    assert read_response(CANONICAL, 4, "direct").problems == ("unexpected_think", "unexpected_tag")
    direct = read_response("<answer>B</answer>", 4, "direct")
    assert (direct.answer, direct.problems) == ("B", ("unexpected_tag",))
    assert read_response("B", 4, "direct").problems == ()


def test_a_prefix_never_says_what_the_whole_does_not() -> None:
    whole = read_response(CANONICAL, 4)
    for size in range(len(CANONICAL)):
        part = read_response(CANONICAL[:size], 4)
        assert part.answer in (None, "B"), CANONICAL[:size]
        assert part.spans == whole.spans[: len(part.spans)], CANONICAL[:size]
        assert part.times == whole.times[: len(part.times)], CANONICAL[:size]
        assert not part.well_formed
        assert read_response(CANONICAL[:size], 0).answer in (None, "B")


def test_a_label_cut_short_is_no_answer() -> None:
    assert read_response("<answer>A", 30, "no_think").answer is None  # may have become AB
    assert read_response("<answer>A", 4, "no_think").answer == "A"
    assert read_response("<answer>A</", 30, "no_think").answer == "A"


def test_every_problem_can_occur() -> None:
    seen = {code for text in _SAMPLES for n in (0, 4) for code in read_response(text, n).problems}
    seen |= {code for text in _SAMPLES for code in read_response(text, 4, "direct").problems}
    seen |= set(read_response("red", 2, "direct", options=("red", "red")).problems)
    assert seen == set(PROBLEMS)


_SAMPLES = [
    "",
    "E",
    "B",
    " B",
    f"<think><answer>B</answer></think><answer>C {GLUE}{GLUE}",
    "</time><glue>[(2, 1), (1, 1), (-1, 2), (nan, 3)]</glue> x <think><time>(1</time></think> y",
    "<answer>B\n<glue>[]</glue>",
    CANONICAL + "\n",
    CANONICAL[:-3],
    f"{GLUE}<answer>B</answer>",
    "<answer>A or B</answer><glue>[(10, 20)] %</glue>",
]
