"""The embedded model's tokenizer and its untrained checkpoint.

A byte-level tokenizer like Qwen's: every word of the world is one token, any other text falls back to bytes, so any
question can be asked. Tags, the fixed phrases of the prompts and numbers up to 99 are single tokens (larger numbers are
pairs of digits from the right), so that a time written on screen can be copied into an answer token by token.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from zoomzero.world.scenes import COLOURS, SHAPES, SYMBOLS

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|video_pad|>",
    "<|image_pad|>",
    "<|assistant|>",
)
TAGS = ("<think>", "</think>", "<answer>", "</answer>", "<glue>", "</glue>", "<time>", "</time>")
TAGS_WITH_LINE_END = ("</think>\n", "</answer>\n")  # as the canonical response writes them
# Phrases of the prompts that are one token each: a prompt of this model is mostly frames, numbers and names.
PHRASES = (
    "This video in total has ",
    " seconds.\nQuestion: Which",
    " seconds.\nQuestion: How many times",
    "Question: Which",
    "Question: How many times",
    " is on",
    "?\nOptions:",
    "\nThink, then answer.",
    "\nAnswer and show when.",
    "\nRespond with only the letter of the option.",
    "\nRespond with only the text of the option.",
    "List what you see.",
)
_WORDS = (
    "This video in total has seconds Question Options Which symbol is on the object appears appear next after last"
    " before How many times does visible at end of one two three four Think then answer Answer and show when Respond"
    " with only letter text option Subtitles List what you see not user assistant system"
)
_NUMBERS = (*(str(n) for n in range(10)), *(f"{n:02d}" for n in range(100)))
_TENTHS = tuple(f".{digit}{tail}" for tail in (" seconds>", ", ", ")", "") for digit in range(10))
_PATTERN = "|".join(
    [
        *(phrase.replace(".", r"\.").replace("?", r"\?") for phrase in sorted(PHRASES, key=len, reverse=True)),
        r"(?<=[0-9])\.[0-9](?: seconds>|, (?=[0-9])|\))",
        r"(?<=[0-9])\.[0-9](?![0-9])",
        r" seconds>",
        r", (?=\()",
        r" ?\([A-Z]\)",
        r"[0-9]{1,2}(?=(?:[0-9]{2})*(?![0-9]))",
        r"\p{N}",
        r" ?\p{L}+",
        r" ?[^\s\p{L}\p{N}]",
        r"\s",
    ]
)
PATCH, MERGE = 8, 4  # pixels of a patch, patches of a visual token
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{% else %}<|im_start|>{% endif %}"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}"
    # each pair of frames gets markers of its own from transformers and from servers, so there are none around a video
    "{% if c['type'] == 'video' %}<|video_pad|>"
    "{% elif c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% if m['role'] == 'assistant' %}<|im_end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def words() -> list[str]:
    """Return every multi-character token, tags and special tokens excluded, in a fixed order."""
    plain = [*_WORDS.split(), *COLOURS, *SHAPES]
    found = dict.fromkeys([*PHRASES, *_NUMBERS[10:], *_TENTHS, " seconds>", ", ", " ("])
    found.update(dict.fromkeys(f" {word}" for word in plain))
    found.update(dict.fromkeys(word for word in plain if len(word) > 1))
    found.update(dict.fromkeys(f" {symbol}" for symbol in SYMBOLS))
    found.update(dict.fromkeys(f"{space}({letter})" for letter in "ABCDEFGH" for space in ("", " ")))
    return list(found)


def build_tokenizer() -> Any:
    """Return the tokenizer as a `tokenizers.Tokenizer`."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces += [byte_level.pre_tokenize_str(word)[0][0] for word in words()]
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_PATTERN), behavior="isolated"), byte_level]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in SPECIAL])
    tokenizer.add_tokens([AddedToken(t, normalized=False) for t in (*TAGS, *TAGS_WITH_LINE_END)])
    return tokenizer


def write_tokenizer(directory: Path) -> Any:
    """Write `tokenizer.json` and `tokenizer_config.json` and return the tokenizer."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer()
    tokenizer.save(str(directory / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
        "chat_template": CHAT_TEMPLATE,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    return tokenizer


def write_processor(directory: Path) -> None:
    """Write how servers turn pictures into patches: as they are, since frames come planned."""
    pixels = {"shortest_edge": 32 * 32, "longest_edge": 1 << 24}  # of all frames
    both = {
        "patch_size": PATCH,
        "temporal_patch_size": 2,
        "merge_size": MERGE,
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
        "size": pixels,
        "processor_class": "Qwen3VLProcessor",
    }
    kinds = {
        "preprocessor_config.json": {"image_processor_type": "Qwen2VLImageProcessorFast", **both},
        "video_preprocessor_config.json": {"video_processor_type": "Qwen3VLVideoProcessor", "fps": 2, **both},
    }
    for name, values in kinds.items():
        (directory / name).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def model_config(tokenizer: Any) -> Any:
    """Return the embedded model's `Qwen3VLConfig`, about 3.4 M parameters.

    Patches of 8 pixels, 16 of them to a visual token: fine enough to tell the shapes of a 32 x 32 frame apart, and
    still one token for a pair of such frames.
    """
    from transformers import Qwen3VLConfig

    ids = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    hidden, vision = 128, 64
    return Qwen3VLConfig(
        text_config={
            "vocab_size": tokenizer.get_vocab_size(),
            "hidden_size": hidden,
            "intermediate_size": 3 * hidden,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 32,
            "max_position_embeddings": 32768,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
            "tie_word_embeddings": True,
            "pad_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "bos_token_id": None,
        },
        vision_config={
            "depth": 4,
            "hidden_size": vision,
            "intermediate_size": 3 * vision,
            "num_heads": 2,
            "out_hidden_size": hidden,
            "deepstack_visual_indexes": [1],
            "num_position_embeddings": 256,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
        },
        video_token_id=ids["<|video_pad|>"],
        image_token_id=ids["<|image_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
