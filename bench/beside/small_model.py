"""The model of every contender: a small random Qwen3-VL with all files that its processors and we read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from zoomzero.policy.local.load import find, quiet

SIDE = 128  # of a frame, pixels: 4 x 4 visual tokens of two frames
LETTERS = ("A", "B", "C", "D")
SPREAD = 0.1  # deviation of the weights: large enough that what is said depends on the film
TEXT = {
    "initializer_range": SPREAD,
    "hidden_size": 384,
    "intermediate_size": 1152,
    "num_hidden_layers": 8,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 16384,
    "bos_token_id": None,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [16, 8, 8],
        "mrope_interleaved": True,
    },
}
VISION = {
    "initializer_range": SPREAD,
    "depth": 4,
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_heads": 2,
    "out_hidden_size": 384,
    "deepstack_visual_indexes": [0, 1, 2],
}
# bare <|video_pad|>: processors put each pair of frames into markers of its own. The system message is lmms-eval's,
# which always sends it.
TEMPLATE = """{%- if messages[0].role != 'system' %}<|im_start|>system
You are a helpful assistant.<|im_end|>
{% endif %}{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{%- for part in message.content %}
{%- if part.type == 'video' %}<|video_pad|>
{%- elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'text' %}{{ part.text }}{% endif %}{%- endfor %}{% endif %}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
PIXELS = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
SIZES = {"shortest_edge": SIDE * SIDE, "longest_edge": SIDE * SIDE * 1024}
# how zoomzero asks it: all frames of a video of one frame a second, none resized
ASKED = {
    "style": "brief",
    "think": False,
    "coarse": {"fps": 1.0, "max_tokens": 4096, "max_frames": 512, "min_frame_tokens": 16, "max_frame_tokens": 16},
}


def write_model(folder: Path, *, letters_only: bool = False) -> Path:
    """Write the checkpoint, float32 weights of seed 0, and return its folder; one that is there is kept.

    Args:
        folder: where to.
        letters_only: generation may write nothing but the letters of four options, so that a text is an answer.
    """
    if (folder / "zoomzero.json").is_file():
        return folder
    from tokenizers import Tokenizer
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(find("tiny") / "tokenizer.json", folder / "tokenizer.json")
    words = Tokenizer.from_file(str(folder / "tokenizer.json"))
    count = words.get_vocab_size(with_added_tokens=True)
    names = {"video_token_id": "video_pad", "image_token_id": "image_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    ids = {key: words.token_to_id(f"<|{name}|>") for key, name in names.items()}
    end, pad = words.token_to_id("<|im_end|>"), words.token_to_id("<|endoftext|>")
    text = TEXT | {"vocab_size": count, "eos_token_id": end, "pad_token_id": pad}
    config = Qwen3VLConfig(text_config=text, vision_config=VISION, tie_word_embeddings=False, **ids)
    torch.manual_seed(0)
    with quiet():
        model = Qwen3VLForConditionalGeneration(config)
    written = model.generation_config
    written.eos_token_id, written.pad_token_id = end, pad
    forbidden = set(ids.values())
    if letters_only:
        kept = {words.encode(letter).ids[0] for letter in LETTERS}
        forbidden = set(range(count)) - kept
    written.suppress_tokens = sorted(forbidden)  # as we do: a written visual token would break the next pass
    model.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    for name, values in _files().items():
        (folder / name).write_text(json.dumps(values, indent=1), encoding="utf-8")
    return folder


def _files() -> dict[str, Any]:
    kind = {"processor_class": "Qwen3VLProcessor"}
    return {
        "preprocessor_config.json": {**PIXELS, **kind, "image_processor_type": "Qwen2VLImageProcessor", "size": SIZES},
        "video_preprocessor_config.json": {
            **PIXELS,
            **kind,
            "video_processor_type": "Qwen3VLVideoProcessor",
            "size": SIZES,
            "fps": 1,
        },
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "chat_template": TEMPLATE,
            "model_max_length": TEXT["max_position_embeddings"],
        },
        "zoomzero.json": ASKED,
    }
