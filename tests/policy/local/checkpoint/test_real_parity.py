"""Real checkpoints' configurations, templates and processor settings on narrow random networks: prompts, positions,
pixels and logits are those of transformers' processors and models, and positions vLLM's where transformers differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from parity_cases import chats, processed
from policy_models import make_model, plain_model, small_tokenizer, token_ids
from test_real_names import narrow
from tokenizers import Tokenizer

from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.text import TextCodec


@dataclass(frozen=True)
class Real:
    """Folders of ../shared/checkpoints.

    Args:
        config: whose config.json it is.
        settings: whose processor's files.
        template: the chat template's file.
    """

    config: str
    settings: str
    template: str


REAL = {
    "Qwen2.5-VL": Real("Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-7B-Instruct", "Qwen2.5-VL-7B-Instruct/chat_template.json"),
    "Qwen3-VL": Real("Qwen3-VL-4B-Instruct", "Qwen3-VL-4B-Instruct", "Qwen3-VL-4B-Instruct/chat_template.json"),
    "Qwen3-VL-Thinking": Real("Qwen3-VL-8B-Instruct", "Qwen3-VL-8B-Instruct", "Qwen3-VL-Thinking/chat_template.jinja"),
    "Qwen3-VL-MoE": Real("Qwen3-VL-30B-A3B-Instruct", "Qwen3-VL-8B-Instruct", "templates-trl/qwen3_vl.jinja"),
    "Qwen3.5": Real("Qwen3.5-4B", "Qwen3.6-27B-AWQ", "templates-trl/qwen3_5_think.jinja"),
    "Qwen3.6": Real("Qwen3.6-27B", "Qwen3.6-27B-AWQ", "templates-trl/qwen3_6.jinja"),
}


@pytest.fixture(scope="module")
def cases(shared: Any, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """For every checkpoint, tokenizer and chat: what we make of it, and what the processor does."""
    real = shared / "checkpoints"
    if not real.is_dir():
        pytest.skip("needs ../shared/checkpoints (metadata of real checkpoints)")
    small = tmp_path_factory.mktemp("tokenizer") / "small.json"
    small_tokenizer().save(str(small))
    qwen = shared / "tokenizer" / "tokenizer.json"
    codec = TextCodec(Tokenizer.from_file(str(qwen)))
    found: list[dict[str, Any]] = []
    for name, parts in REAL.items():
        where = tmp_path_factory.mktemp("real")
        template = build(where, parts, real)
        policy, plain = load_policy(where, device="cpu"), plain_model(where)
        # networks have the small tokenizer's few rows; prompts are compared in Qwen's own tokens as well
        for path, builder in ((small, policy.builder), (qwen, with_codec(policy.builder, codec))):
            told = {"name": name, "policy": policy, "plain": plain, "builder": builder, "small": path == small}
            told |= {"family": policy.family.name, "tokenizer": str(path), "template": template, "settings": str(where)}
            found += [told | {"turns": turns} for turns in chats(policy.family.name)]
    for case, theirs in zip(found, processed(found, tmp_path_factory.mktemp("parity")), strict=True):
        case["theirs"], case["ours"] = theirs, case["builder"].build(case["turns"])
    return found


def build(where: Path, parts: Real, real: Path) -> str:
    """Write a checkpoint of the real structure and return its chat template."""
    from transformers import AutoConfig

    config, tokenizer = narrow(json.loads((real / parts.config / "config.json").read_text())), small_tokenizer()
    config |= token_ids(tokenizer)
    if "head_dim" not in config.get("text_config", config):  # heads stay as wide as the sections of their positions
        config.get("text_config", config)["hidden_size"] = config["vision_config"]["out_hidden_size"] = 256
    (where / "config.json").write_text(json.dumps(config))
    model = make_model(AutoConfig.from_pretrained(where))
    model.generation_config.eos_token_id = tokenizer.token_to_id("<|im_end|>")
    model.save_pretrained(where)
    tokenizer.save(str(where / "tokenizer.json"))
    for name in ("preprocessor_config.json", "video_preprocessor_config.json"):
        if (real / parts.settings / name).is_file():
            shutil.copy(real / parts.settings / name, where / name)
    source = real / parts.template
    shutil.copy(source, where / f"chat_template{source.suffix}")
    # as the installed transformers, not as trained; vLLM's rule is compared on its own
    (where / "zoomzero.json").write_text('{"text_after_time": false}')
    return source.read_text() if source.suffix == ".jinja" else json.loads(source.read_text())["chat_template"]


def with_codec(builder: PromptBuilder, codec: TextCodec) -> PromptBuilder:
    """The same prompts in another tokenizer's tokens."""
    start, end, pad = (codec.special[f"<|{name}|>"] for name in ("vision_start", "vision_end", "video_pad"))
    family = replace(builder.family, vision_start=start, vision_end=end)
    return replace(builder, family=family, codec=codec, pad=pad)


def test_every_family_is_here(cases):
    assert {case["family"] for case in cases} == {"qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5"}
    assert len(cases) == 2 * len(REAL) * len(chats("qwen3_vl"))


def test_text_and_ids_are_the_processors(cases):
    for case in cases:
        decode = case["builder"].codec.tokenizer.decode
        mine, theirs = case["ours"].ids.tolist(), case["theirs"]["input_ids"][0].tolist()
        assert decode(mine, skip_special_tokens=False) == decode(theirs, skip_special_tokens=False), case["name"]
        assert mine == theirs, case["name"]


def test_pixels_are_the_processors(cases):
    for case in cases:
        theirs = case["theirs"]
        torch.testing.assert_close(case["ours"].patches, theirs["pixel_values_videos"], atol=1e-6, rtol=0)
        assert torch.equal(case["ours"].grids, theirs["video_grid_thw"]), case["name"]


def test_positions_are_the_models(cases):
    for case in cases:
        theirs = {key: value for key, value in case["theirs"].items() if key != "pixel_values_videos"}
        assert set(theirs) >= {"input_ids", "mm_token_type_ids", "video_grid_thw"}
        expected = case["plain"].model.get_rope_index(**theirs)[0][:, 0]
        assert torch.equal(case["ours"].positions, expected), case["name"]


def test_logits_are_the_models(cases):
    for case in [case for case in cases if case["small"]]:
        context = case["policy"].read(case["turns"])
        with torch.inference_mode():
            expected = case["plain"](**case["theirs"]).logits[0, -1]
            found = case["policy"].model.lm_head(context.state.last_hidden)
        torch.testing.assert_close(found, expected, atol=5e-5, rtol=1e-5)


def vllm_positions(ids, pad, grids):
    """vLLM's rule, a part at a time: text and video each begin one behind the largest position there is so far.

    `grids` are (time, rows, columns, positions from one time to the next) of every run of visual tokens.
    """
    parts, at, grids = [], 0, list(grids)
    while at < len(ids):
        start = int(max((part.max() for part in parts), default=torch.tensor(-1))) + 1
        if ids[at] != pad:
            end = next((i for i in range(at, len(ids)) if ids[i] == pad), len(ids))
            parts.append(torch.arange(end - at).expand(3, -1) + start)
        else:
            times, rows, columns, step = grids.pop(0)
            time, row, column = torch.meshgrid(*map(torch.arange, (times, rows, columns)), indexing="ij")
            parts.append(torch.stack([(time * step).long(), row, column]).flatten(1) + start)
            end = at + times * rows * columns
        at = end
    assert not grids
    return torch.cat(parts, 1)


def test_positions_are_vllms(cases):
    for case in cases:
        family, builder = case["builder"].family, case["builder"]
        clips = [(t, h // 2, w // 2) for t, h, w in case["theirs"]["video_grid_thw"].tolist()]
        if case["family"] == "qwen2_5_vl":
            builder = replace(builder, family=replace(family, text_after_time=True))  # the default
            seconds = case["theirs"]["second_per_grid_ts"].tolist()
            grids = [(*clip, family.tokens_per_second * s) for clip, s in zip(clips, seconds, strict=True)]
        else:  # a run for every temporal patch, its time as text before it
            grids = [(1, rows, columns, 0.0) for times, rows, columns in clips for _ in range(times)]
        expected = vllm_positions(case["theirs"]["input_ids"][0].tolist(), builder.pad, grids)
        assert torch.equal(builder.build(case["turns"]).positions, expected), case["name"]
