"""Runs transformers' own processors, in a process of its own, and writes what they give to a file.

Usage: python parity_worker.py CASES.npz OUT.npz TORCHVISION_DIR|-

The processors' video path needs torchvision. A torchvision whose compiled part does not fit the installed
torch still imports when the two operators it looks for exist, and its Python part is all the processors use.
That state must not leak into the tests' own process, hence this file.
"""

from __future__ import annotations

import json
import sys
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch


def import_torchvision(where: str) -> Any:
    """Import torchvision, from `where` when given, with stand-ins for its operators if it needs them."""
    if where != "-":
        sys.path.insert(0, where)
    try:
        import torchvision
    except (ImportError, OSError, RuntimeError):
        for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision

        torchvision.stand_in = library  # the library must outlive this function
    return torchvision


@lru_cache
def make_processor(family: str, tokenizer_path: str, template: str, folder: str) -> Any:
    """Build the family's processor around a tokenizer.json, with a checkpoint's settings where a folder is named."""
    from transformers import (
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = load_tokenizer(tokenizer_path)
    names = "preprocessor_config.json", "video_preprocessor_config.json"
    image, video = (settings_of(folder, name) for name in names)
    if family == "qwen2_5_vl":
        # its video processor reads the file of the images where there is none of its own
        videos = Qwen2VLVideoProcessor.from_dict(video or image)
        return Qwen2_5_VLProcessor(Qwen2VLImageProcessor.from_dict(image), tokenizer, videos, chat_template=template)
    # frames come in their final size; the default of this setting is to change
    videos = Qwen3VLVideoProcessor.from_dict({**video, "cap_pixels_per_frame": False})
    return Qwen3VLProcessor(Qwen2VLImageProcessor.from_dict(image), tokenizer, videos, chat_template=template)


@lru_cache
def load_tokenizer(path: str) -> Any:
    """Load a tokenizer.json once; it takes seconds."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_file=path)


def settings_of(folder: str, name: str) -> dict[str, Any]:
    """Return a processor's settings, {} for the defaults of its class."""
    path = Path(folder) / name
    return json.loads(path.read_text()) if folder and path.is_file() else {}


def run(case: dict[str, Any], frames: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Process one chat the way transformers does."""
    from transformers.video_utils import VideoMetadata

    processor = make_processor(case["family"], case["tokenizer"], case["template"], case["settings"])
    text = processor.tokenizer.apply_chat_template(
        case["messages"], chat_template=case["template"], tokenize=False, add_generation_prompt=True
    )
    if case["family"] != "qwen2_5_vl":
        # since 5.10 the pair around the placeholder stays as an outer wrapper, which the checkpoints never
        # saw
        text = text.replace("<|vision_start|><|video_pad|><|vision_end|>", "<|video_pad|>")
    metadata = [
        VideoMetadata(total_num_frames=m["total"], fps=m["fps"], frames_indices=list(m["indices"]))
        for m in case["metadata"]
    ]
    out = processor(
        text=[text],
        videos=frames,
        video_metadata=metadata,
        do_sample_frames=False,
        do_resize=False,
        return_tensors="pt",
    )
    keep = ("input_ids", "mm_token_type_ids", "pixel_values_videos", "video_grid_thw", "second_per_grid_ts")
    return {key: np.asarray(out[key]) for key in keep if key in out}


def main() -> None:
    """Process every case."""
    source, target, where = sys.argv[1:]
    warnings.filterwarnings("ignore")
    import_torchvision(where)
    data = np.load(source)
    cases = json.loads(str(data["cases"]))
    results: dict[str, np.ndarray] = {}
    for i, case in enumerate(cases):
        frames = [data[f"{i}.{j}"] for j in range(len(case["metadata"]))]
        results |= {f"{i}.{key}": value for key, value in run(case, frames).items()}
    np.savez(target, **results)


if __name__ == "__main__":
    main()
