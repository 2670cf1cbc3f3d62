"""Which tokens play which role, with offsets by hand and with the real Qwen2.5 tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zoomzero.prompts import (
    answer_token_mask,
    format_response,
    glue_token_mask,
    letter_token_index,
    read_response,
    token_mask,
)


def test_overlap_is_half_open() -> None:
    offsets = ((0, 2), (2, 4), (4, 4), (3, 5), (5, 6))
    assert token_mask((2, 4), offsets) == (False, True, False, True, False)
    assert token_mask((0, 6), offsets) == (True, True, False, True, True)  # zero width belongs to nothing
    assert token_mask((4, 4), offsets) == (False,) * 5
    assert token_mask(None, offsets) == (False,) * 5
    assert token_mask((0, 6), ()) == ()


def test_roles_of_hand_made_tokens() -> None:
    text = "<answer>(B)</answer>\n<glue>[]</glue>"
    offsets = ((0, 9), (9, 10), (10, 20), (20, 27), (27, 36), (36, 36))
    reading = read_response(text, 4, "no_think")
    assert answer_token_mask(reading, offsets) == (True, True, True, False, False, False)
    assert glue_token_mask(reading, offsets) == (False, False, False, False, True, False)
    assert letter_token_index(reading, offsets) == 1


def test_without_the_part_no_token_has_the_role() -> None:
    reading = read_response("no idea", 4)
    assert answer_token_mask(reading, ((0, 2), (2, 7))) == (True, True)  # what was said instead
    assert glue_token_mask(reading, ((0, 2), (2, 7))) == (False, False)
    assert letter_token_index(reading, ((0, 2), (2, 7))) is None
    silent = read_response("<think>hm</think>", 4)
    assert answer_token_mask(silent, ((0, 9), (9, 17))) == (False, False)


def test_a_label_split_over_tokens_is_carried_by_its_first() -> None:
    reading = read_response("<answer>AB</answer>", 30, "no_think")
    assert letter_token_index(reading, ((0, 8), (8, 9), (9, 10), (10, 19))) == 1


# --- the real tokenizer ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def qwen(shared: Path) -> Any:
    return pytest.importorskip("tokenizers").Tokenizer.from_file(str(shared / "tokenizer" / "tokenizer.json"))


def roles(qwen: Any, text: str, n: int, mode: str = "think") -> tuple[list[str], list[str], str | None]:
    """Return the pieces of text whose tokens are answer and glue, and the letter's piece."""
    offsets = tuple(qwen.encode(text, add_special_tokens=False).offsets)
    reading = read_response(text, n, mode)
    pieces = [text[start:end] for start, end in offsets]
    letter = letter_token_index(reading, offsets)
    answer, glue = answer_token_mask(reading, offsets), glue_token_mask(reading, offsets)
    assert len(answer) == len(glue) == len(offsets)
    return (
        [piece for piece, is_in in zip(pieces, answer, strict=True) if is_in],
        [piece for piece, is_in in zip(pieces, glue, strict=True) if is_in],
        None if letter is None else pieces[letter],
    )


SPAN = ["[(", "5", ".", "2", ",", " ", "1", "0", ".", "4", ")]"]
TAIL = "\n<glue>[(5.2, 10.4)]</glue>"


@pytest.mark.parametrize(
    ("text", "n", "answer", "glue", "letter"),
    [
        # `>B` holds the end of the tag and the letter
        (f"<think>seen <time>(5.2, 10.4)</time></think>\n<answer>B</answer>{TAIL}", 4, [">B"], SPAN, ">B"),
        # `><` joins two tags, `>\n` a tag and the line end: neither is content
        (f"<think>x</think><answer>D</answer>{TAIL}", 4, [">D"], SPAN, ">D"),
        ("<think>x</think><answer>D</answer><glue>[]</glue>", 4, [">D"], [">[]"], ">D"),
        # `)</` holds the end of the content and the beginning of a tag
        (f"<think>x</think>\n<answer>(B)</answer>{TAIL}", 4, [">(", "B", ")</"], SPAN, "B"),
        (
            "<think>x</think>\n<answer>A</answer>\n<glue>(1, 2)</glue>",
            4,
            [">A"],
            [">(", "1", ",", " ", "2", ")</"],
            ">A",
        ),
        # `.</` in the thinking is not the answer's; in the answer it is
        (f"<think>seen.</think>\n<answer>C</answer>{TAIL}", 4, [">C"], SPAN, ">C"),
        (
            f"<think>x</think>\n<answer>a red car.</answer>{TAIL}",
            0,
            [">a", " red", " car", ".</"],
            SPAN,
            None,
        ),
        # white space inside the tags is content: `>\n` before, ` </` after
        (f"<think>x</think>\n<answer>\nB </answer>{TAIL}", 4, [">\n", "B", " </"], SPAN, "B"),
        (f"<think>x</think>\n\n<answer> B</answer>{TAIL}", 4, [" B"], SPAN, " B"),
        # two letters are one token that no tag merges with
        (f"<think>x</think>\n<answer>AB</answer>{TAIL}", 30, ["AB"], SPAN, "AB"),
        # characters of several tokens
        (f"<think>看见🪿了。</think>\n<answer>红色</answer>{TAIL}", 0, ["红色"], SPAN, None),
        (f"<think>🪿</think>\n<answer>🪿</answer>{TAIL}", 0, ["🪿"] * 3, SPAN, None),
        (f"<think>🪿𓀀</think>\n<answer>B</answer>{TAIL}", 4, [">B"], SPAN, ">B"),
        # cut off
        ("<think>x</think>\n<answer>B", 4, [">B"], [], ">B"),
        ("<think>x</think>\n<answer>B</answer>\n<glue>[(5", 4, [">B"], ["[(", "5"], ">B"),
    ],
)
def test_roles_of_qwen_tokens(
    qwen: Any, text: str, n: int, answer: list[str], glue: list[str], letter: str | None
) -> None:
    assert roles(qwen, text, n) == (answer, glue, letter)


def test_bare_answers(qwen: Any) -> None:
    assert roles(qwen, "B", 4, "direct") == (["B"], [], "B")
    assert roles(qwen, "Option B.", 4, "direct") == (["Option", " B", "."], [], " B")
    assert roles(qwen, "a red car", 0, "direct") == (["a", " red", " car"], [], None)


def test_the_straddling_tokens_of_the_pitfalls_exist(qwen: Any) -> None:
    """Guards the table above: if the tokenizer did not merge these, it would test nothing."""
    text = "<think>a.</think>\n<answer>B</answer><glue>[(1.0, 2.0)]</glue><time>(1, 2)</time>"
    pieces = {text[start:end] for start, end in qwen.encode(text, add_special_tokens=False).offsets}
    assert {">B", "><", ")</", ".</", ">\n"} <= pieces


times_s = st.floats(0, 5000).filter(lambda t: t == t)
spans_s = st.lists(st.tuples(times_s, times_s).filter(lambda s: s[0] < s[1]), max_size=3)
# Composed characters only: the tokenizer normalises others, so no completion of the model holds them.
words = st.text(st.sampled_from("abcB.,) (:é红色的🪿🫠𓀀\n"), max_size=20)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    think=words,
    answer=words.map(str.strip).filter(bool),
    spans=spans_s,
    mode=st.sampled_from(["think", "no_think"]),
)
def test_roles_cover_the_content_and_touch_nothing_else(
    qwen: Any, think: str, answer: str, spans: list, mode: str
) -> None:
    text = format_response(think, answer, spans, mode)
    offsets = tuple(qwen.encode(text, add_special_tokens=False).offsets)
    reading = read_response(text, 0, mode)
    for name, mask in (
        ("answer", answer_token_mask(reading, offsets)),
        ("glue", glue_token_mask(reading, offsets)),
    ):
        low, high = reading.ranges[name]
        covered = {i for is_in, at in zip(mask, offsets, strict=True) if is_in for i in range(*at)}
        assert set(range(low, high)) <= covered
        for is_in, (start, end) in zip(mask, offsets, strict=True):
            assert is_in == any(low <= i < high for i in range(start, end))
