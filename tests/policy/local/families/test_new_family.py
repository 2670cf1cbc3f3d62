"""The recipe of CONTRIBUTING.md: a family that is not shipped (Qwen2-VL) as one class and one line in the registry."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from policy_models import TEXT, make_model, plain_inputs, plain_model, small_tokenizer, token_ids

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.families import FAMILIES
from zoomzero.policy.local.families.base import ClipLayout, Family, Piece
from zoomzero.policy.local.load import load_policy
from zoomzero.spans import Span
from zoomzero.video.types import Clip


@dataclass(frozen=True, slots=True)
class Qwen2VL(Family):
    """Qwen2-VL counts temporal patches; it cannot be told seconds."""

    name: ClassVar[str] = "qwen2_vl"
    title: ClassVar[str] = "Qwen2-VL"
    model_types: ClassVar[tuple[str, ...]] = ("qwen2_vl",)
    free_times: ClassVar[bool] = False
    layers: ClassVar[tuple[str, ...]] = ("Qwen2VLDecoderLayer", "Qwen2VLVisionBlock")

    @classmethod
    def network_class(cls) -> Any:
        from transformers import Qwen2VLForConditionalGeneration

        return Qwen2VLForConditionalGeneration

    def pieces(self, layout: ClipLayout) -> list[Piece]:
        return self._run(layout, layout.grid[0], 1.0)


def save_checkpoint(where):
    from transformers import Qwen2VLConfig

    tokenizer = small_tokenizer()
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 2, 2]}
    text = {**TEXT, "vocab_size": tokenizer.get_vocab_size(True), "rope_parameters": rope}
    vision = {"depth": 3, "embed_dim": 40, "num_heads": 2, "hidden_size": 96, "patch_size": 14}
    text |= {"bos_token_id": None, "eos_token_id": None}
    config = Qwen2VLConfig(text_config=text, vision_config=vision, **token_ids(tokenizer))
    model = make_model(config)
    model.generation_config.eos_token_id = tokenizer.token_to_id("<|im_end|>")
    model.save_pretrained(where)
    tokenizer.save(str(where / "tokenizer.json"))


def test_a_class_and_a_line_are_enough(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zoomzero.policy.local.families.qwen2_vl", SimpleNamespace(Qwen2VL=Qwen2VL))
    monkeypatch.setitem(FAMILIES, "qwen2_vl", "qwen2_vl.Qwen2VL")
    save_checkpoint(tmp_path)
    policy, plain = load_policy(tmp_path, device="cpu"), plain_model(tmp_path)
    pixels = torch.randint(0, 256, (6, 56, 84, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    clip = Clip(pixels.numpy(), tuple(i / 2 for i in range(6)), 2.0, (Span(0.0, 3.0),), 6)
    turns = [Turn("user", (clip, "which symbol is on the red circle"))]
    context, prompt = policy.read(turns), policy.prompt(turns)
    inputs = plain_inputs(plain, prompt)
    with torch.inference_mode():
        expected = plain(**inputs).logits[0, -1]
        found = packed.head(policy.model)(context.state.last_hidden)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    (drawn,) = policy.generate(context, 1, Sampling(max_tokens=8))  # it has no step of its own: the model's forward
    out = plain.generate(
        **inputs,
        attention_mask=torch.ones_like(prompt.ids)[None],
        max_new_tokens=8,
        do_sample=False,
        suppress_tokens=policy._vocabulary.forbidden.tolist(),
        eos_token_id=list(policy.stops),
        pad_token_id=0,
    )
    assert list(drawn.token_ids) == out[0, len(prompt) :].tolist()
