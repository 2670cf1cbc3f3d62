"""Models of real sizes with random weights, built from their configurations: nothing is downloaded.

Speed does not depend on what weights say. The shapes of `3b` and `7b` are those of the released checkpoints; `tiny` is
a model of about 25 million parameters for measuring on a CPU, whose vision tower has the share of the work that it has
in `3b` (prompts of 2,048 visual tokens: 0.85 of the text model's for Qwen2.5-VL, 0.29 for Qwen3-VL; there 0.87, 0.30).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from zoomzero.policy.local.drawing.generate import Vocabulary
from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.load import find, load_codec, make_family, prepare, quiet
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.text import ChatTemplate
from zoomzero.policy.local.vision import PatchProjection
from zoomzero.spans import Span
from zoomzero.video.types import Clip

FAMILIES = ("qwen2_5_vl", "qwen3_vl", "qwen3_5")
SIZES = ("tiny", "3b", "7b")


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model is made of.

    Args:
        text: (width, inner width, layers, heads, key-value heads, head width, vocabulary, head tied to the embedding).
        vision: settings of the vision tower.
        title: for tables.
        delta: of gated delta nets in three of four layers: (query and key heads, value heads, head width).
    """

    text: tuple[int, int, int, int, int, int, int, bool]
    vision: dict[str, Any]
    title: str
    delta: tuple[int, int, int] | None = None


SHAPES = {
    ("qwen2_5_vl", "tiny"): Shape(
        (384, 1152, 8, 6, 2, 64, 16384, True),
        {"depth": 8, "hidden_size": 192, "intermediate_size": 512, "num_heads": 3, "fullatt_block_indexes": [3, 7]},
        "Qwen2.5-VL, small",
    ),
    ("qwen3_vl", "tiny"): Shape(
        (384, 1152, 8, 6, 2, 64, 16384, True),
        {
            "depth": 4,
            "hidden_size": 128,
            "intermediate_size": 512,
            "num_heads": 2,
            "deepstack_visual_indexes": [0, 1, 2],
        },
        "Qwen3-VL, small",
    ),
    ("qwen3_5", "tiny"): Shape(
        (384, 1152, 8, 6, 2, 64, 16384, True),
        {"depth": 4, "hidden_size": 128, "intermediate_size": 512, "num_heads": 2},
        "Qwen3.5, small",
        (4, 8, 32),
    ),
    ("qwen2_5_vl", "3b"): Shape(
        (2048, 11008, 36, 16, 2, 128, 151936, True),
        {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
        "Qwen2.5-VL-3B",
    ),
    ("qwen3_vl", "3b"): Shape(
        (2560, 9728, 36, 32, 8, 128, 151936, True),
        {
            "depth": 24,
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_heads": 16,
            "deepstack_visual_indexes": [5, 11, 17],
        },
        "Qwen3-VL-4B",
    ),
    ("qwen3_5", "3b"): Shape(
        (2560, 9216, 32, 16, 4, 256, 248320, True),
        {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "num_heads": 16},
        "Qwen3.5-4B",
        (16, 32, 128),
    ),
    ("qwen2_5_vl", "7b"): Shape(
        (3584, 18944, 28, 28, 4, 128, 152064, False),
        {"depth": 32, "hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16},
        "Qwen2.5-VL-7B",
    ),
    ("qwen3_vl", "7b"): Shape(
        (4096, 12288, 36, 32, 8, 128, 151936, False),
        {
            "depth": 27,
            "hidden_size": 1152,
            "intermediate_size": 4304,
            "num_heads": 16,
            "deepstack_visual_indexes": [8, 16, 24],
        },
        "Qwen3-VL-8B",
    ),
    ("qwen3_5", "7b"): Shape(
        (4096, 12288, 32, 16, 4, 256, 248320, False),
        {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "num_heads": 16},
        "Qwen3.5-9B",
        (16, 32, 128),
    ),
}


def make_config(family: str, size: str, ids: dict[str, int]) -> Any:
    """Return the transformers configuration of a family and size."""
    from transformers import Qwen2_5_VLConfig, Qwen3_5Config, Qwen3VLConfig

    shape = SHAPES[family, size]
    width, inner, layers, heads, kv_heads, head_width, vocabulary, tied = shape.text
    third = head_width // 8
    text = {
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
        "max_position_embeddings": 128000,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e6,
            "mrope_section": [head_width // 2 - 3 * third, 3 * third // 2, 3 * third - 3 * third // 2],
        },
    }
    vision = {**shape.vision, "out_hidden_size": width}
    if shape.delta is not None:
        key_heads, value_heads, delta_width = shape.delta
        rotated = head_width // 8  # pairs of a quarter of a head
        sections = [rotated - 2 * (rotated // 3), rotated // 3, rotated // 3]
        text["rope_parameters"] |= {
            "mrope_section": sections,
            "mrope_interleaved": True,
            "partial_rotary_factor": 0.25,
        }
        text |= {"linear_num_key_heads": key_heads, "linear_num_value_heads": value_heads, "head_dim": head_width}
        text |= {"linear_key_head_dim": delta_width, "linear_value_head_dim": delta_width}
        return Qwen3_5Config(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids)
    if family == "qwen3_vl":
        text["rope_parameters"]["mrope_interleaved"] = True
        return Qwen3VLConfig(
            text_config={**text, "head_dim": head_width}, vision_config=vision, tie_word_embeddings=tied, **ids
        )
    vision |= {"tokens_per_second": 2, "window_size": 112, "patch_size": 14}
    return Qwen2_5_VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids)


def make_policy(family: str, size: str, device: torch.device, dtype: torch.dtype) -> QwenPolicy:
    """Return a random model as the product runs it; answers go on until their last allowed token.

    It reads and writes through the embedded model's small tokenizer; every row of its own embedding may be drawn, so
    that heads and sampling have their real size.
    """
    codec = load_codec("tiny", find("tiny"))
    names = {"video_token_id": "video_pad", "image_token_id": "image_pad"}
    names |= {"vision_start_token_id": "vision_start", "vision_end_token_id": "vision_end"}
    ids = {key: codec.special[f"<|{name}|>"] for key, name in names.items()}
    kind = family_class(family)
    config = make_config(family, size, ids)
    before = torch.get_default_dtype()
    torch.manual_seed(0)
    try:
        torch.set_default_dtype(dtype)
        with quiet(), torch.device(device):
            model = kind.network_class()(config)
    finally:
        torch.set_default_dtype(before)
    model.eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    made = make_family("random", find("tiny") / "nowhere", kind, config, {"text_after_time": False})  # as transformers
    policy = QwenPolicy(
        "random", prepare(model), PromptBuilder(made, codec, ChatTemplate(), ids["video_token_id"]), [0]
    )
    forbidden = torch.tensor(sorted(ids.values()), device=device)
    policy._vocabulary = Vocabulary(forbidden, forbidden[:1])  # nothing that may be drawn ends a row
    return policy


class Usual:
    """Switches a prepared model between transformers' own attention and ours."""

    def __init__(self, policy: QwenPolicy) -> None:
        self.model = policy.model
        self.tower, self.text = self.model.model.visual, self.model.model.language_model
        self.fast_projection = self.tower.patch_embed.proj
        self.fast_names = self.tower.config._attn_implementation, self.text.config._attn_implementation
        embed, config = self.tower.patch_embed, self.tower.config
        kernel = (config.temporal_patch_size, config.patch_size, config.patch_size)
        assert isinstance(self.fast_projection, PatchProjection)
        weight, bias = self.fast_projection.weight, self.fast_projection.bias
        with torch.device("meta"):
            self.plain_projection = torch.nn.Conv3d(3, embed.embed_dim, kernel, stride=kernel, bias=bias is not None)
        self.plain_projection.weight, self.plain_projection.bias = weight, bias

    def use(self, *, text: bool, tower: bool) -> None:
        """Choose our text attention and our tower, or transformers' SDPA paths."""
        self.tower.patch_embed.proj = self.fast_projection if tower else self.plain_projection
        self.tower.config._attn_implementation_internal = self.fast_names[0] if tower else "sdpa"
        self.text.config._attn_implementation = self.fast_names[1] if text else "sdpa"


def random_clip(policy: QwenPolicy, tokens: int, seed: int) -> Clip:
    """Return a clip of random pixels of about so many visual tokens: frames of 8 x 8 tokens (16 x 8 from 8,192 on)."""
    rows, columns = (8, 16) if tokens >= 8192 else (8, 8)
    factor, patches = policy.geometry.factor, max(1, tokens // (rows * columns))
    shape = (patches * policy.geometry.temporal, rows * factor, columns * factor, 3)
    frames = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    times_s = tuple(0.5 * i for i in range(len(frames)))
    return Clip(frames, times_s, 2.0, (Span(0.0, times_s[-1] + 0.5),), len(frames))


# --- how much work there is ---


def linear_parameters(module: torch.nn.Module) -> int:
    """Return the parameters that multiply every token: weights of matrix products."""
    kinds = (torch.nn.Linear, torch.nn.Conv3d, PatchProjection)
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, kinds))


def attention_layers(model: Any) -> list[Any]:
    """Return the text layers that attend; the others keep a state, whose work is small beside their matrices'."""
    return [layer for layer in model.model.language_model.layers if hasattr(layer, "self_attn")]


@dataclass(frozen=True, slots=True)
class Work:
    """Floating-point operations of a model's parts.

    Args:
        model: the transformers model.
    """

    model: Any

    def text(self, prefix: int, suffixes: int, length: int, *, heads: int | None = None) -> float:
        """Return the operations of a prompt with suffixes as one packed row; `heads` tokens go through the head."""
        config = self.model.config.text_config
        width = config.num_attention_heads * attention_layers(self.model)[0].self_attn.head_dim
        seen = prefix**2 / 2 + suffixes * (length * prefix + length**2 / 2)
        linear = 2 * linear_parameters(self.model.model.language_model) * (prefix + suffixes * length)
        head = 2 * self.model.lm_head.weight.numel() * (suffixes * length if heads is None else heads)
        return linear + 4 * len(attention_layers(self.model)) * width * seen + head

    def vision(self, clip: Clip) -> float:
        """Return the operations of the vision tower on a clip."""
        tower, config = self.model.model.visual, self.model.config.vision_config
        frames, height, width = clip.frames.shape[:3]
        frame = (height // config.patch_size) * (width // config.patch_size)  # patches
        count = frames // config.temporal_patch_size * frame
        mergers = [tower.merger, *getattr(tower, "deepstack_merger_list", ())]
        merging = sum(map(linear_parameters, mergers))
        whole = len(getattr(config, "fullatt_block_indexes", ())) or config.depth
        seen = whole * frame + (config.depth - whole) * min(frame, 64)
        linear = (linear_parameters(tower) - merging) * count + merging * count / config.spatial_merge_size**2
        return 2 * linear + 4 * config.hidden_size * seen * count

    def step_bytes(self, prefix: int, rows: int, written: int) -> float:
        """Return the bytes that one decoding step must read: weights, the prefix once, the rows' own tokens."""
        text, config = self.model.model.language_model, self.model.config.text_config
        head_width = attention_layers(self.model)[0].self_attn.head_dim
        item = self.model.lm_head.weight.element_size()
        weights = linear_parameters(text) + self.model.lm_head.weight.numel()
        token = 2 * config.num_key_value_heads * head_width * len(attention_layers(self.model))
        return item * (weights + token * (prefix + rows * written))
