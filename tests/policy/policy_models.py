"""Tiny random checkpoints of every family and what the tests compare them with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoomzero.spans import Span
from zoomzero.video.types import Clip

SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
FAMILIES = ("qwen3_vl", "qwen2_5_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe")
DEEPSTACK = ("qwen3_vl", "qwen3_vl_moe")
TIMES_IN_TEXT = (*DEEPSTACK, "qwen3_5", "qwen3_5_moe")
PATCH = {"qwen3_vl": 16, "qwen2_5_vl": 14, "qwen3_vl_moe": 16, "qwen3_5": 16, "qwen3_5_moe": 16}
# two of three layers are gated delta nets; heads share keys; half of a head is rotated
DELTA = {
    "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "head_dim": 16,
}
# 4 experts of which 2 answer; their matrices are not square, so that a transposed one is seen
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "decoder_sparse_step": 1}
TEXT = {
    "hidden_size": 96,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
}
VISION = {"hidden_size": 40, "intermediate_size": 80, "num_heads": 2, "out_hidden_size": 96}


def small_tokenizer() -> Any:
    """A byte-level BPE tokenizer of 320 tokens with Qwen's special tokens, trained on one sentence."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=313, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    corpus = "<answer>B</answer> <glue>[(1.0, 2.5)]</glue> the red circle shows the symbol seconds user assistant"
    tokenizer.train_from_iterator([corpus] * 4, trainer)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL])
    return tokenizer


def make_config(family: str, vocabulary: int, ids: dict[str, int], **text: Any) -> Any:
    """A tiny configuration: 3 text layers with grouped heads, window and full attention or deepstack."""
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig, Qwen3VLMoeConfig

    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    shared = {**TEXT, "vocab_size": vocabulary}
    if family.startswith("qwen3_5"):
        return make_delta_config(family, {**shared, **DELTA, **text}, ids)
    if family in TIMES_IN_TEXT:
        text = {**shared, "head_dim": 16, "rope_parameters": {**rope, "mrope_interleaved": True}} | text
        vision = {
            "depth": 3,
            "deepstack_visual_indexes": [0, 2],
            "num_position_embeddings": 64,
            "patch_size": 16,
        }
        kind = Qwen3VLConfig
        if family == "qwen3_vl_moe":
            kind, text = Qwen3VLMoeConfig, {**EXPERTS, **text}
        return kind(text_config=text, vision_config={**VISION, **vision}, tie_word_embeddings=True, **ids)
    text = {**shared, "rope_parameters": rope, "bos_token_id": None, "eos_token_id": None} | text
    vision = {"depth": 4, "fullatt_block_indexes": [1, 3], "window_size": 112, "patch_size": 14}
    return Qwen2_5_VLConfig(text_config=text, vision_config={**VISION, **vision, "tokens_per_second": 2}, **ids)


def make_delta_config(family: str, text: dict[str, Any], ids: dict[str, int]) -> Any:
    """A configuration of Qwen3.5, with experts or without."""
    from transformers import Qwen3_5Config, Qwen3_5MoeConfig

    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
    text |= {"rope_parameters": {**rope, "mrope_interleaved": True}, "bos_token_id": None, "eos_token_id": None}
    vision = {**VISION, "depth": 3, "num_position_embeddings": 64, "patch_size": 16}
    kind = Qwen3_5Config
    if family == "qwen3_5_moe":
        kind, text = Qwen3_5MoeConfig, {**text, **EXPERTS, "shared_expert_intermediate_size": 32}
    return kind(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def make_model(config: Any, seed: int = 1) -> Any:
    """A model whose random weights give sharp, varied outputs (the usual 0.02 makes all logits alike)."""
    from zoomzero.policy.local.families import family_class

    model = family_class(config.model_type).network_class()(config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim == 1:
            parameter.data += 0.1 * noise
        else:
            fan_in = parameter.shape[-1] if "experts" in name else parameter[0].numel()
            parameter.data = noise * fan_in**-0.5
    settle_delta_nets(model)
    model.get_input_embeddings().weight.data *= 0.2  # else a tied head repeats the last token for ever
    model.tie_weights()
    return model.eval()


def settle_delta_nets(model: Any) -> None:
    """Let gated delta nets remember some ten tokens and find what they have just written.

    transformers draws, unseeded, heads that forget all but e**-10 at each token. With unrelated queries and keys their
    output is then a single product that chance makes nearly zero, the norm after it divides by that, and few digits of
    a gradient are left to compare. Nor would a lost state be noticed.
    """
    for net in (module for module in model.modules() if hasattr(module, "A_log")):
        net.A_log.data = torch.linspace(0.02, 0.3, net.num_v_heads).log()
        for weight in (net.in_proj_qkv.weight.data, net.conv1d.weight.data):
            queries, keys = weight[: net.key_dim], weight[net.key_dim : 2 * net.key_dim]
            keys.mul_(0.6).add_(queries, alpha=0.8)


def token_ids(tokenizer: Any) -> dict[str, int]:
    """The special ids a config names."""
    names = {"video_token_id": "<|video_pad|>", "image_token_id": "<|image_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    return {key: tokenizer.token_to_id(name) for key, name in names.items()}


def save_checkpoint(where: Path, family: str, tokenizer: Any, **text: Any) -> Path:
    """Write a whole checkpoint directory, its embedding padded beyond the tokenizer."""
    rows = tokenizer.get_vocab_size(with_added_tokens=True) + 7
    model = make_model(make_config(family, rows, token_ids(tokenizer), **text))
    model.generation_config.eos_token_id = tokenizer.token_to_id("<|im_end|>")
    model.save_pretrained(where)
    tokenizer.save(str(where / "tokenizer.json"))
    # as the installed transformers, which the tests compare with, not as the released checkpoints were trained
    (where / "zoomzero.json").write_text('{"text_after_time": false}')
    return where


def plain_model(where: Path) -> Any:
    """The checkpoint as transformers runs it."""
    from transformers import AutoModelForImageTextToText

    return AutoModelForImageTextToText.from_pretrained(where, dtype=torch.float32).eval()


def make_clip(
    family: str,
    frames: int = 6,
    rows: int = 2,
    columns: int = 3,
    start_s: float = 0.0,
    fps: float = 2.0,
    seed: int = 0,
) -> Clip:
    """Random frames of `rows` x `columns` visual tokens at a constant rate."""
    side = 2 * PATCH[family]
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, rows * side, columns * side, 3), dtype=np.uint8)
    times = tuple(start_s + i / fps for i in range(frames))
    return Clip(pixels, times, fps, (Span(start_s, start_s + frames / fps),), frames)


def plain_inputs(model: Any, prompt: Any, seconds_per_grid: list[float] | None = None) -> dict[str, Any]:
    """What transformers' own forward takes for one of our prompts; it computes its own positions."""
    kinds = torch.zeros_like(prompt.ids)
    kinds[prompt.visual_index] = 2
    inputs = {
        "input_ids": prompt.ids[None],
        "mm_token_type_ids": kinds[None],
        "pixel_values_videos": prompt.patches,
        "video_grid_thw": prompt.grids,
    }
    if model.config.model_type == "qwen2_5_vl":
        inputs["second_per_grid_ts"] = torch.tensor(seconds_per_grid or [1.0] * len(prompt.grids))
    return inputs
