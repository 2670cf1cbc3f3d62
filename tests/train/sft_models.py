"""Small random checkpoints of both families that speak the embedded model's language, and samples made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from zoomzero.config import ModelSettings, PassSettings
from zoomzero.data.sft_sample import SFTItem, SFTSample
from zoomzero.spans import Span
from zoomzero.video.types import Clip

TEXT = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 8192,
}
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 48, "depth": 2}
FAMILIES = ("qwen3_vl", "qwen2_5_vl")
# updates of four samples in two rows, the tower frozen
TWO_ROWS: dict[str, Any] = {
    "samples_per_row": 2,
    "rows_per_step": 2,
    "learning_rate": 1e-3,
    "schedule": "constant",
    "warmup_steps": 0,
    "train_only": "text",
    "gradient_checkpointing": False,
    "bf16": False,
    "log_every": 1,
    "threads": 1,
}
SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=64, max_frames=128, min_frame_tokens=1, max_frame_tokens=1),
    window=PassSettings(fps=1, max_tokens=32, max_frames=64, min_frame_tokens=1, max_frame_tokens=1),
    zoom=PassSettings(fps=1, max_tokens=128, max_frames=16, min_frame_tokens=16, max_frame_tokens=16),
    widen_s=0.5,
    score_options_as="text",
)


def make_config(family: str, tokenizer: Any) -> Any:
    """Two layers of everything."""
    from transformers import Qwen2_5_VLConfig, Qwen3VLConfig

    ids = {"video_token_id": "<|video_pad|>", "image_token_id": "<|image_pad|>"}
    ids |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    ids = {key: tokenizer.token_to_id(name) for key, name in ids.items()}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [6, 3, 3]}
    text = {**TEXT, "vocab_size": tokenizer.get_vocab_size(), "bos_token_id": None}
    text["eos_token_id"] = tokenizer.token_to_id("<|im_end|>")
    if family == "qwen3_vl":
        text |= {"head_dim": 24, "rope_parameters": {**rope, "mrope_interleaved": True}}
        vision = {**VISION, "deepstack_visual_indexes": [0], "num_position_embeddings": 64, "patch_size": 16}
        return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)
    text["rope_parameters"] = rope
    vision = {**VISION, "fullatt_block_indexes": [1], "window_size": 112, "patch_size": 14, "tokens_per_second": 2}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=True, **ids)


def save_checkpoint(directory: Path, family: str, seed: int = 1) -> Path:
    """Write a checkpoint whose random weights give varied outputs, with the world's tokenizer and settings."""
    from transformers import Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration

    from zoomzero.world.vocabulary import write_tokenizer

    classes = {"qwen3_vl": Qwen3VLForConditionalGeneration, "qwen2_5_vl": Qwen2_5_VLForConditionalGeneration}
    model = classes[family](make_config(family, write_tokenizer(directory)))
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data = noise * parameter[0].numel() ** -0.5 if parameter.ndim > 1 else parameter.data + 0.1 * noise
    model.get_input_embeddings().weight.data *= 0.2
    model.tie_weights()
    model.save_pretrained(directory)
    (directory / "zoomzero.json").write_text(SETTINGS.model_dump_json())
    return directory


def make_clip(family: str, frames: int = 4, seed: int = 0, fps: float = 1.0) -> Clip:
    """Random frames of 1 x 2 visual tokens at a constant rate."""
    side = 32 if family == "qwen3_vl" else 28
    pixels = np.random.default_rng(seed).integers(0, 256, (frames, side, 2 * side, 3), dtype=np.uint8)
    times = tuple(i / fps for i in range(frames))
    return Clip(pixels, times, fps, (Span(0.0, frames / fps),), frames)


def make_samples(family: str) -> list[SFTSample]:
    """Two samples: three items with a range that is not learned and a weight of its own, and a single item."""
    items = (
        SFTItem("Question: Which symbol is on the red circle?\n", "<answer>B</answer>\n<glue>[(1.0, 2.5)]</glue>"),
        SFTItem("Question: What next?\n", "<answer>C</answer>\n<glue>[]</glue>", untrained=((8, 9),)),
        SFTItem("List what you see.", " red circle (1.0, 2.5)", weight=0.5),
    )
    first = SFTSample(make_clip(family, 6), "This video in total has 6.0 seconds.\n", items)
    return [first, SFTSample(make_clip(family, 4, seed=1), "", (SFTItem("Which symbol?", "E"),))]
