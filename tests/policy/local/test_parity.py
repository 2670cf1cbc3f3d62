"""Our prompts against transformers' own processors: pixels, ids, grids and positions, and the logits they lead to.

Needs torchvision: see `parity_cases`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from parity_cases import chats, processed
from policy_models import FAMILIES, PATCH, SPECIAL, small_tokenizer

from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.text import ChatTemplate, TextCodec
from zoomzero.video.types import Geometry

# the shape of Qwen's own templates: a system message for Qwen2.5-VL, the placeholder between vision start and
# end
TEMPLATE = (
    "{% if SYSTEM and messages[0]['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant."
    "<|im_end|>\n{% endif %}{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def template_of(family: str) -> str:
    return TEMPLATE.replace("SYSTEM", "true" if family == "qwen2_5_vl" else "false")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Every family x tokenizer x chat: what we build and what the processors gave."""
    where = tmp_path_factory.mktemp("parity")
    small_tokenizer().save(str(where / "small.json"))
    tokenizers = {"small": where / "small.json"}
    real = Path(__file__).resolve().parents[4] / "shared" / "tokenizer" / "tokenizer.json"
    if real.is_file():
        tokenizers["real"] = real
    found: list[dict[str, Any]] = [
        {"family": family, "tokenizer": str(path), "turns": turns, "template": template_of(family), "settings": ""}
        for family in FAMILIES
        for path in tokenizers.values()
        for turns in chats(family)
    ]
    for case, theirs in zip(found, processed(found, where), strict=True):
        case["theirs"] = theirs
        case["ours"] = builder_for(case["family"], case["tokenizer"]).build(case["turns"])
    return found


@lru_cache
def builder_for(family: str, tokenizer_path: str) -> PromptBuilder:
    from tokenizers import Tokenizer

    codec = TextCodec(Tokenizer.from_file(tokenizer_path))
    kind = family_class(family)
    geometry = Geometry(PATCH[family], free_times=kind.free_times)
    made = kind(
        geometry,
        kind.default_mean,
        kind.default_std,
        codec.special["<|vision_start|>"],
        codec.special["<|vision_end|>"],
    )
    if family == "qwen2_5_vl":
        made = replace(made, text_after_time=False)  # as the installed transformers
    return PromptBuilder(made, codec, ChatTemplate(template_of(family)), codec.special["<|video_pad|>"])


def test_pixels_are_equal(cases):
    for case in cases:
        torch.testing.assert_close(case["ours"].patches, case["theirs"]["pixel_values_videos"], atol=1e-6, rtol=0)
        assert torch.equal(case["ours"].grids, case["theirs"]["video_grid_thw"])


def test_ids_are_equal(cases):
    for case in cases:
        assert case["ours"].ids.tolist() == case["theirs"]["input_ids"][0].tolist()
        seen = case["theirs"]["mm_token_type_ids"][0].nonzero()[:, 0]
        assert torch.equal(case["ours"].visual_index, seen)


def test_positions_are_equal(cases):
    from test_positions import own_rope_index

    for case in cases:
        theirs = case["theirs"]
        seconds = theirs["second_per_grid_ts"].tolist() if "second_per_grid_ts" in theirs else []
        expected = own_rope_index(
            case["family"],
            theirs["input_ids"][0],
            theirs["mm_token_type_ids"][0],
            theirs["video_grid_thw"],
            seconds,
        )
        assert torch.equal(case["ours"].positions, expected)


def test_logits_are_equal(cases, policies, plain_models):
    """From frames to logits: our whole path against processor and model, on the saved checkpoints."""
    small = [case for case in cases if case["tokenizer"].endswith("small.json")]
    assert len(small) == len(FAMILIES) * len(chats("qwen3_vl"))
    for case in small:
        policy, plain = policies[case["family"]], plain_models[case["family"]]
        policy.builder, before = builder_for(case["family"], case["tokenizer"]), policy.builder
        try:
            context = policy.read(case["turns"])
        finally:
            policy.builder = before
        with torch.inference_mode():
            expected = plain(**case["theirs"]).logits[0, -1]
            found = policy.model.lm_head(context.state.last_hidden)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)


def test_special_names_in_text_differ_on_purpose(cases):
    """The processors read an option like `<|im_end|>` as the token; ours must not."""
    case = next(c for c in cases if c["family"] == "qwen3_vl")
    codec = builder_for("qwen3_vl", case["tokenizer"]).codec
    assert not set(codec.encode("".join(SPECIAL))) & codec.special_ids
