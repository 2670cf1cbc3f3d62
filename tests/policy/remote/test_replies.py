"""Replies read by hand: where tokens lie in the text, what options score, what a request cost."""

from __future__ import annotations

import math
from typing import Any

import pytest

from zoomzero.policy.base import Usage
from zoomzero.policy.remote.replies import completion, scores_by_id, scores_by_text, token_offsets, usage


def told(*pieces: str) -> list[dict[str, Any]]:
    return [{"token": piece, "bytes": list(piece.encode())} for piece in pieces]


def first_token(logprobs: dict[str, float]) -> dict[str, Any]:
    top = [{"token": token, "logprob": value} for token, value in logprobs.items()]
    return {"choices": [{"logprobs": {"content": [{"token": "x", "logprob": -1.0, "top_logprobs": top}]}}]}


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("<answer>B", ("<answer", ">B", "<|im_end|>"), ((0, 7), (7, 9), (9, 9))),
        ("né 猫", ("n", "é", " 猫"), ((0, 1), (1, 2), (2, 4))),
        ("", ("<|im_end|>",), ((0, 0),)),
        ("AB", ("A",), None),  # a token is missing
        ("AB", ("A", "C"), None),
    ],
)
def test_tokens_lie_where_they_spell_the_text(text: str, pieces: tuple[str, ...], expected: Any) -> None:
    assert token_offsets(text, told(*pieces)) == expected


def test_a_character_of_two_tokens_belongs_to_both() -> None:
    first, second = bytes("猫", "utf-8")[:1], bytes("猫", "utf-8")[1:]
    halves = [{"token": "?", "bytes": list(first)}, {"token": "?", "bytes": list(second)}]
    assert token_offsets("猫", halves) == ((0, 1), (0, 1))


def test_tokens_without_bytes_are_taken_by_their_text() -> None:
    assert token_offsets("ab", [{"token": "a", "bytes": None}, {"token": "b"}]) == ((0, 1), (1, 2))


def test_a_completion_has_what_the_server_tells() -> None:
    top = [{"token": f"t{i}", "logprob": -float(i)} for i in range(21)]  # the drawn token may come on top of twenty
    content = [{"token": "B", "bytes": [66], "logprob": -0.5, "top_logprobs": top}]
    found = completion({"message": {"content": "B"}, "finish_reason": "stop", "logprobs": {"content": content}})
    assert (found.text, found.logprobs, found.offsets, found.finished) == ("B", (-0.5,), ((0, 1),), True)
    assert found.peaks == (sum(range(20)) / 20,)
    assert found.generated_tokens == 1
    content[0]["top_logprobs"] = top[:5]
    few = completion({"message": {"content": "B"}, "finish_reason": "length", "logprobs": {"content": content}})
    assert (few.peaks, few.logprobs, few.finished) == (None, (-0.5,), False)
    bare = completion({"message": {"content": None}, "finish_reason": "stop", "logprobs": None})
    assert (bare.text, bare.logprobs, bare.offsets, bare.peaks, bare.token_ids) == ("", None, None, None, None)


def test_log_probabilities_of_tokens_that_do_not_spell_the_text_are_not_used() -> None:
    content = [{"token": "C", "bytes": [67], "logprob": -0.5}]
    found = completion({"message": {"content": "B"}, "finish_reason": "stop", "logprobs": {"content": content}})
    assert (found.logprobs, found.offsets) == (None, None)


def test_options_score_by_their_ids_or_not_at_all() -> None:
    reply = first_token({"token_id:32": -0.25, "token_id:33": -1.5})
    assert scores_by_id(reply, (33, 32)) == (-1.5, -0.25)
    assert scores_by_id(reply, (32, 34)) is None


def test_options_among_the_likeliest_tokens() -> None:
    reply = first_token({"A": math.log(0.5), " A": math.log(0.25), "B": math.log(0.125), "the": math.log(0.0625)})
    # both spellings of A count; C, which is not there, can have no more than the least that is
    assert scores_by_text(reply, ("A", "B", "C")) == pytest.approx([math.log(0.75), math.log(0.125), math.log(0.0625)])
    assert scores_by_text(reply, ("X", "Y")) is None
    assert scores_by_text({"choices": [{"logprobs": None}]}, ("A",)) is None


def test_what_was_cached_is_not_new() -> None:
    details = {"prompt_tokens_details": {"cached_tokens": 900}}
    assert usage({"usage": {"prompt_tokens": 1000} | details}, 512, 0.5) == Usage(1000, 100, 100, 0.5, True)
    assert usage({"usage": {"prompt_tokens": 1000}}, 512, 0.5) == Usage(1000, 1000, 512, 0.5, True)
    assert usage({}, 512, 0.5) == Usage(0, 0, 512, 0.5, False)
