"""Text to tokens and back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from policy_models import SPECIAL, small_tokenizer

from zoomzero.policy.local.text import ChatTemplate, TextCodec, decode_utf8, merge_text

SYMBOL = "\N{GRINNING FACE}"


@pytest.fixture(scope="module")
def codec():
    return TextCodec(small_tokenizer())


@pytest.fixture(scope="module")
def real_codec(shared):
    from tokenizers import Tokenizer

    return TextCodec(Tokenizer.from_file(str(shared / "tokenizer" / "tokenizer.json")))


@given(st.binary(max_size=12))
def test_decode_utf8_is_python_s_lossy_decoding(data):
    text, owner = decode_utf8(data)
    assert text == data.decode("utf-8", "replace")
    assert len(owner) == len(data)
    assert owner == sorted(owner)
    assert not owner or owner[-1] == len(text) - 1


@given(st.text(max_size=8))
def test_decode_utf8_owners_of_good_text(text):
    _, owner = decode_utf8(text.encode())
    assert owner == [i for i, char in enumerate(text) for _ in char.encode()]


def test_decode_utf8_by_hand():
    # a cut emoji before "a", then a lone continuation byte
    assert decode_utf8(b"\xf0\x9f\x98a\x80") == ("\ufffda\ufffd", [0, 0, 0, 1, 2])


@given(text=st.text(max_size=20))
def test_offsets_cut_the_text_into_tokens(codec, text):
    ids = codec.encode(text)
    decoded, offsets = codec.decode(ids)
    assert decoded == text
    # read one after another the ranges cover the text; they overlap only where one character spans tokens
    at = 0
    for start, end in offsets:
        assert start in (at, at - 1)
        assert end > start
        at = end
    assert at == len(text)


def test_a_character_over_several_tokens_belongs_to_each(codec):
    ids = codec.encode(f"a{SYMBOL}b")
    assert codec.decode(ids) == (f"a{SYMBOL}b", ((0, 1), *[(1, 2)] * 4, (2, 3)))


def test_special_tokens_have_empty_ranges(codec):
    ids = [*codec.encode("ab"), codec.special["<|im_end|>"], *codec.encode("c")]
    text, offsets = codec.decode(ids)
    assert text == "abc"
    assert offsets[-2:] == ((2, 2), (2, 3))
    assert codec.decode([]) == ("", ())


@given(st.lists(st.sampled_from([*SPECIAL, "<|im_", "end|>", "<|", "|>", " x "]), max_size=6).map("".join))
def test_text_never_becomes_a_special_token(codec, text):
    ids = codec.encode(text)
    assert not set(ids) & codec.special_ids
    assert codec.decode(ids)[0] == text


def test_real_tokenizer_ranges_where_tokens_straddle_tags(real_codec):
    text = "<answer>B</answer>\n<glue>[(20.3, 30.8)]</glue>"
    ids = real_codec.encode(text)
    decoded, offsets = real_codec.decode(ids)
    assert decoded == text
    pieces = [text[a:b] for a, b in offsets]
    assert pieces[:4] == ["<", "answer", ">B", "</"]
    assert [(a, b) for a, b in real_codec.tokenizer.encode(text).offsets] == list(offsets)


def test_real_tokenizer_decodes_as_the_library_does(real_codec):
    for text in (f"caf\u00e9 {SYMBOL}\u4f60\u597d", "a\u0301b", "<tool_call>x</tool_call>"):
        ids = real_codec.encode(text)
        assert real_codec.decode(ids)[0] == real_codec.tokenizer.decode(ids)
    half = real_codec.encode(SYMBOL)[:1]  # bytes that are no character
    assert real_codec.decode(half)[0] == real_codec.tokenizer.decode(half)


def test_real_tokenizer_does_not_inject(real_codec):
    for name in ("<|im_end|>", "<|video_pad|>", "<|vision_start|>"):
        assert not set(real_codec.encode(f"an option {name} here")) & real_codec.special_ids
        assert real_codec.special[name] in real_codec.special_ids


def test_word_level_tokenizers_decode_too():
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"the": 0, "red": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    codec = TextCodec(tokenizer)
    assert codec.decode([0, 1, 3, 0]) == ("theredthe", ((0, 3), (3, 6), (6, 6), (6, 9)))


def test_split_special(codec):
    end = codec.special["<|im_end|>"]
    assert codec.split_special("a<|im_end|>\nb<|im_end|>") == ["a", end, "\nb", end]
    assert codec.split_special("") == []


def test_standard_chat_form():
    template = ChatTemplate(system="Help.")
    assert template.render(["user", "assistant", "user"], [2, 1, 1]) == [
        "<|im_start|>system\nHelp.<|im_end|>\n<|im_start|>user\n",
        0,
        1,
        "<|im_end|>\n<|im_start|>assistant\n",
        2,
        "<|im_end|>\n<|im_start|>user\n",
        3,
        "<|im_end|>\n<|im_start|>assistant\n",
    ]
    assert ChatTemplate().render(["user"], [1])[0] == "<|im_start|>user\n"


def test_real_template_keeps_parts_apart(shared):
    source = (shared / "tokenizer" / "chat_template.jinja").read_text()
    assert ChatTemplate(source).render(["user"], [2]) == [
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n",
        0,
        1,
        "<|im_end|>\n<|im_start|>assistant\n",
    ]


def test_a_template_that_drops_parts_is_refused():
    template = ChatTemplate("{{ messages[0]['content'][0]['text'] }}")
    assert template.render(["user"], [1]) == [0]
    with pytest.raises(ValueError, match="drops"):
        template.render(["user"], [2])


def test_merge_text():
    assert merge_text(["a", "b", 1, "c", "d"]) == ["ab", 1, "cd"]
