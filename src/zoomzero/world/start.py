"""The embedded model before training: random weights, tokenizer, and how it wants to be asked."""

from __future__ import annotations

from pathlib import Path

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, PassSettings
from zoomzero.world.vocabulary import model_config, write_processor, write_tokenizer

# One token for a pair of 32 x 32 frames a second apart: pair k is told as `<2k + 0.5 seconds>`, and both ends of a span
# can be read off what is on screen. A close look has 16 tokens for a pair of 128 x 128 frames.
_PASS = PassSettings(fps=1, max_tokens=40, max_frames=80, min_frame_tokens=1, max_frame_tokens=1)
TINY_SETTINGS = ModelSettings(
    style="brief",
    coarse=_PASS,
    zoom=PassSettings(fps=1, max_tokens=192, max_frames=24, min_frame_tokens=16, max_frame_tokens=16),
    window=_PASS,
    window_clock="video",
    widen_s=0.5,
    score_options_as="text",
    max_new_tokens=120,
    outside_looks=15,  # a search that finds nothing elsewhere has seen every window of a long video
)


def write_start(directory: Path, *, seed: int = 0) -> None:
    """Write an untrained checkpoint of the embedded model's shape: weights, config, tokenizer, `zoomzero.json`.

    Args:
        directory: where to.
        seed: of the random weights.
    """
    import torch
    from transformers import Qwen3VLForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = write_tokenizer(directory)
    write_processor(directory)
    Qwen3VLForConditionalGeneration(model_config(tokenizer)).save_pretrained(directory)
    (directory / MODEL_SETTINGS_FILE).write_text(TINY_SETTINGS.model_dump_json(indent=1) + "\n")
