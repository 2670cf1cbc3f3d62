"""The embedded model's tokenizer: any text goes through, the world's words are one token each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomzero.policy.base import Turn
from zoomzero.policy.local.text import TextCodec
from zoomzero.prompts import coarse_text, format_response, video_header, zoom_text
from zoomzero.world.questions import QUESTION_KINDS
from zoomzero.world.vocabulary import SPECIAL, TAGS, build_tokenizer, words
from zoomzero.world.write import world_item

CODEC = TextCodec(build_tokenizer())
names = st.sampled_from([*SPECIAL, *TAGS, " red circle", "12.5", " seconds>", "(A)", " (Z)", "Ġ", "é", "\ufffd"])
texts = st.lists(st.text(max_size=12) | names, max_size=8).map("".join)


def tokens(text: str) -> list[str]:
    """The pieces of text that the tokens of `text` stand for."""
    ids = CODEC.encode(text)
    _, offsets = CODEC.decode(ids)
    return [text[a:b] for a, b in offsets]


@settings(max_examples=150, deadline=None)
@given(texts)
def test_any_text_comes_back(text: str) -> None:
    ids = CODEC.encode(text)
    assert CODEC.decode(ids)[0] == text
    assert CODEC.tokenizer.decode(ids, skip_special_tokens=False) == text


@settings(max_examples=100, deadline=None)
@given(texts)
def test_text_never_makes_a_special_token(text: str) -> None:
    assert not set(CODEC.encode(text)) & CODEC.special_ids


def test_special_tokens_are_special_and_tags_are_not() -> None:
    assert set(CODEC.special) == set(SPECIAL)
    assert set(CODEC.added.values()) - set(CODEC.special) >= set(TAGS)
    assert CODEC.tokenizer.get_vocab_size() == CODEC.size == 256 + len(words()) + len(CODEC.added)


@pytest.mark.parametrize("tag", TAGS)
def test_tag_is_one_token_wherever_it_stands(tag: str) -> None:
    (alone,) = CODEC.encode(tag)
    for text in (f"B{tag}", f"{tag}B", f">{tag}<"):
        assert CODEC.encode(text).count(alone) == 1
    assert [piece.strip() for piece in tokens(f"the red{tag}\n")][:3] == ["the", "red", tag]


def test_every_word_is_one_token_of_its_own() -> None:
    for word in words():
        assert word in (tokens(word)[0], tokens(f"{word}1")[0])  # `, ` is a token only before a number
    assert len(set(words())) == len(words()) > 150


def test_digits_are_single_tokens() -> None:
    assert tokens("1203.75") == ["1", "2", "0", "3", ".", "7", "5"]
    assert tokens("<12.5 seconds>") == ["<", "1", "2", ".", "5", " seconds>"]
    for text in ("[(5.2, 10.4), (20.0, 30)]", "has 83.3 seconds.", "a 7 b12", "12, 34"):
        assert [p for p in tokens(text) if re.search("[0-9]", p)] == re.findall("[0-9]", text)
    ids = {CODEC.encode(str(digit))[0] for digit in range(10)}
    assert len(ids) == 10


def test_letters_of_options_and_answers_are_single_tokens() -> None:
    assert tokens("Options: (A) red circle (B) E")[-5:] == [" (A)", " red", " circle", " (B)", " E"]
    assert tokens("<answer>B</answer>") == ["<answer>", "B", "</answer>"]


def prompts() -> list[str]:
    """Every text the embedded model is asked with or taught, but for other scenes' names."""
    found = [video_header(83.3), "user\n", "assistant\n", "List what you see."]
    for index, _ in enumerate(QUESTION_KINDS * 4):
        question = world_item("short", 1, index).question
        modes = ("think", "no_think", "direct")
        found += [coarse_text(question.text, question.options, mode, "brief") for mode in modes]
        found += [zoom_text(question.text, question.options, "brief", how) for how in ("letter", "text")]
        think = " then ".join(f"the {name}" for name, _ in question.reasoning)
        found.append(format_response(think, "A", question.spans, "think", question.spans))
    found += ["not visible", coarse_text("Which object?", (), "direct", "brief", subtitles="the red circle")]
    return found


def test_every_word_of_a_prompt_is_one_token() -> None:
    for text in prompts():
        pieces = tokens(text)
        assert "".join(pieces) == text
        whole = {word for piece in pieces for word in re.findall(r"[A-Za-z]+", piece)}
        assert set(re.findall(r"[A-Za-z]+", text)) - whole == set(), text


def test_transformers_reads_the_same_tokenizer(start: Path) -> None:
    from transformers import AutoTokenizer

    from zoomzero.policy.local.load import load_policy

    tokenizer = AutoTokenizer.from_pretrained(start)
    text = "<think>the red circle <time>(5.2, 10.4)</time></think>\n<answer>B</answer>\nZoë 你好"
    assert tokenizer(text)["input_ids"] == CODEC.encode(text)
    assert tokenizer.eos_token == "<|im_end|>"
    chat = [{"role": "user", "content": "What?"}]
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert load_policy(start, device="cpu").builder.build([Turn("user", ("What?",))]).ids.tolist() == ids
