"""The embedded model before training: `python -m zoomzero.world.start OUT [--warm-start DIR] [--seed N]`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, PassSettings
from zoomzero.world.scenes import COLOURS, SHAPES, SYMBOLS
from zoomzero.world.vocabulary import TAGS, model_config, write_tokenizer

TINY_SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=16, max_frames=32, min_frame_tokens=1, max_frame_tokens=1),
    zoom=PassSettings(fps=1, max_tokens=128, max_frames=16, min_frame_tokens=16, max_frame_tokens=16),
    window=PassSettings(fps=0.5, max_tokens=16, max_frames=32, min_frame_tokens=1, max_frame_tokens=1),
    window_clock="window",
    widen_s=0.5,
    score_options_as="text",
    max_new_tokens=160,
)


def write_start(directory: Path, *, warm_start: Path | None = None, seed: int = 0) -> None:
    """Write an untrained checkpoint of the embedded model's shape: weights, config, tokenizer, `zoomzero.json`.

    Args:
        directory: where to.
        warm_start: a checkpoint of the same shape with a word-level `vocab.json`; its weights are taken over, the rows
            of its embedding by the word they stand for.
        seed: of the random weights.
    """
    import torch
    from safetensors.torch import load_file
    from transformers import Qwen3VLForConditionalGeneration

    torch.manual_seed(seed)
    tokenizer = write_tokenizer(directory)
    model = Qwen3VLForConditionalGeneration(model_config(tokenizer))
    if warm_start is not None:
        weights = {name: value.float() for name, value in load_file(warm_start / "model.safetensors").items()}
        name = next(name for name in weights if name.endswith("embed_tokens.weight"))
        weights[name] = _carry_rows(
            weights[name], json.loads((warm_start / "vocab.json").read_text()), tokenizer, model
        )
        weights.pop("lm_head.weight", None)
        missing, unexpected = model.load_state_dict(weights, strict=False)
        if unexpected or set(missing) - {"lm_head.weight"}:
            raise SystemExit(f"{warm_start}: weights do not fit: missing {missing}, unexpected {unexpected}")
    model.save_pretrained(directory)
    (directory / MODEL_SETTINGS_FILE).write_text(TINY_SETTINGS.model_dump_json(indent=1) + "\n")


def _carry_rows(old: Any, vocabulary: dict[str, int], tokenizer: Any, model: Any) -> Any:
    """Return the new embedding table with the rows of every word both vocabularies know."""
    import torch

    # Rows without a counterpart are drawn like the known ones: far smaller rows would hardly be noticed by the layers.
    table = old.mean(0) + old.std(0) * torch.randn(model.get_input_embeddings().weight.shape)
    for token, word in _same_meaning().items():
        if word in vocabulary:
            table[tokenizer.token_to_id(token)] = old[vocabulary[word]]
    return table


def _same_meaning() -> dict[str, str]:
    """Map tokens of our tokenizer to words of the word-level vocabulary."""
    space = "Ġ"
    same = {tag: tag for tag in TAGS} | {"</think>\n": "</think>", "</answer>\n": "</answer>"}
    same |= {f"{space}{word}": word for word in (*COLOURS, *SHAPES, "symbol", "on", "the", "visible")}
    same |= {f"{lead}{symbol}": f"s{symbol}" for symbol in SYMBOLS for lead in ("", space)}
    same |= {colour: colour for colour in COLOURS} | {"the": "the"}
    same |= {str(digit): f"d{digit}" for digit in range(10)}
    same |= {letter: letter for letter in "ABCD"} | {f"{space}({letter})": f"({letter})" for letter in "ABCD"}
    same |= {mark: mark for mark in "()[],.<"} | {f"{space}(": "(", f",{space}": ",", f"{space}seconds>": "seconds>"}
    phrases = {
        "This video in total has ": "total",
        " seconds.\nQuestion: Which": "which",
        "Question: Which": "which",
        " is on": "on",
        "?\nOptions:": "options",
        "\nThink, then answer.": "visible",
        "\nRespond with only the letter of the option.": "letter",
        "\nRespond with only the text of the option.": "say",
        "List what you see.": "list",
    }
    same |= {phrase.replace(" ", space).replace("\n", "Ċ"): word for phrase, word in phrases.items()}
    same |= {"<|im_start|>": "<user>", "<|assistant|>": "<asst>", "<|im_end|>": "<eos>"}
    same |= {"<|vision_start|>": "<vs>", "<|vision_end|>": "<ve>", "<|video_pad|>": "<vid>", "<|image_pad|>": "<img>"}
    return same


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--warm-start", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write_start(arguments.out, warm_start=arguments.warm_start, seed=arguments.seed)
