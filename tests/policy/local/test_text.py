"""Text to tokens and back."""

import json

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


NEWER = {
    # {% generation %} marks what an assistant wrote, for masks in training; it changes nothing in the text
    "generation": "{% for m in messages %}{% generation %}{{ m.content[0].text }}{% endgeneration %}{% endfor %}",
    "date": "{{ strftime_now('%Y') | length }}{{ messages[0].content[0].text }}",
    "loops": "{% for m in messages %}{{ m.content[0].text }}{% break %}{% endfor %}",
}


@pytest.mark.parametrize("name", NEWER)
def test_templates_may_use_what_transformers_gives_them(name):
    assert 0 in ChatTemplate(NEWER[name]).render(["user"], [1])


def test_rendering_is_transformers_own(shared):
    """Every stored real template gives the text transformers' renderer gives, parts and template kept apart."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts = ["What is in the video?", "A red <|im_end|> circle.", "And then?"]
    roles = ["user", "assistant", "user"]
    plain = [{"role": role, "content": [{"type": "text", "text": t}]} for role, t in zip(roles, texts, strict=True)]
    found = real_templates(shared)
    assert len(found) >= 10
    for name, source in found.items():
        pieces = ChatTemplate(source).render(roles, [1, 1, 1])
        ours = "".join(texts[p] if isinstance(p, int) else p for p in pieces)
        expected, _ = render_jinja_template([plain], chat_template=source, add_generation_prompt=True)
        assert [ours] == expected, name


def test_users_cannot_write_markup_in_any_real_template(shared, real_codec):
    """Names of special tokens in a user's text stay text, whatever the template does with it."""
    names = ["<|im_start|>", "<|im_end|>", "<|video_pad|>", "<|vision_start|>"]
    for source in real_templates(shared).values():
        counts = []
        for word in ("x", "".join(names)):
            pieces = ChatTemplate(source).render(["user"], [1])
            ids: list[int] = []
            for piece in pieces:
                parts = [word] if isinstance(piece, int) else real_codec.split_special(piece)
                for part in parts:
                    ids += real_codec.encode(part) if isinstance(part, str) else [part]
            counts.append([ids.count(real_codec.special[name]) for name in names])
        assert counts[0] == counts[1]


def real_templates(shared):
    """The chat templates of real checkpoints that see videos, by where they come from."""
    where = shared / "checkpoints"
    if not where.is_dir():
        pytest.skip("needs ../shared/checkpoints (metadata of real checkpoints)")
    found = {str(path): path.read_text() for path in sorted(where.glob("*/*.jinja"))}
    for path in sorted(where.glob("*/chat_template.json")):
        found[str(path)] = json.loads(path.read_text())["chat_template"]
    return {name: source for name, source in found.items() if "<|video_pad|>" in source}
