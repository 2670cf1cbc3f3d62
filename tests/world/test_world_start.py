"""The embedded model before training: it loads like any checkpoint, and a warm start carries rows over by meaning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from zoomzero.config import load_model_settings
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.load import load_codec, load_policy
from zoomzero.spans import Span
from zoomzero.video.types import Clip
from zoomzero.world.start import TINY_SETTINGS, _same_meaning, write_start
from zoomzero.world.vocabulary import build_tokenizer

EMBEDDING = "model.language_model.embed_tokens.weight"
SAME = {  # our token: the word of a word-level vocabulary that means the same
    " red": "red",
    "red": "red",
    " diamond": "diamond",
    "E": "sE",
    " Z": "sZ",
    "7": "d7",
    "B": "B",
    " (C)": "(C)",
    " seconds>": "seconds>",
    "<think>": "<think>",
    "</glue>": "</glue>",
    "<|im_end|>": "<eos>",
    "<|video_pad|>": "<vid>",
}


def words_before() -> list[str]:
    """A word-level vocabulary in an order of its own, with words that mean nothing to us."""
    words = ["<pad>", "<eos>", "<user>", "<asst>", "<vs>", "<ve>", "<vid>", "<img>", "once", "upon", "seconds>"]
    words += [f"s{s}" for s in "ZXTPMKHE"] + [f"d{d}" for d in range(9, -1, -1)]
    words += ["diamond", "triangle", "square", "circle", "orange", "purple", "yellow", "blue", "green", "red"]
    words += [*"DCBA", *(f"({x})" for x in "ABCD"), *"()[],.<", "symbol", "on", "the", "visible", "total"]
    words += ["which", "options", "list", "letter", "say"]
    return words + [f"<{end}{tag}>" for tag in ("think", "answer", "glue", "time") for end in ("", "/")]


@pytest.fixture(scope="module")
def before(start: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up half-precision checkpoint of the same shape: other weights, its own vocabulary."""
    directory = tmp_path_factory.mktemp("before")
    vocabulary = {word: i for i, word in enumerate(words_before())}
    generator = torch.Generator().manual_seed(9)
    weights = {name: (value + 0.5).half() for name, value in load_file(start / "model.safetensors").items()}
    weights[EMBEDDING] = torch.randn(len(vocabulary), weights[EMBEDDING].shape[1], generator=generator).half()
    save_file(weights, directory / "model.safetensors")
    (directory / "vocab.json").write_text(json.dumps(vocabulary))
    return directory


def row_of(directory: Path, weights: dict[str, torch.Tensor], text: str) -> torch.Tensor:
    codec = load_codec(str(directory), directory)
    (index,) = [codec.special[text]] if text in codec.special else codec.encode(text)
    return weights[EMBEDDING][index]


def test_start_loads_like_any_checkpoint(start: Path) -> None:
    policy = load_policy(start, device="cpu")
    assert policy.geometry.factor == 32
    assert policy.builder.codec.tokenizer.id_to_token(policy.end_of_turn) == "<|im_end|>"
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 64, 3), np.uint8)
    clip = Clip(frames, (0.0, 1.0, 2.0, 3.0), 1.0, (Span(0, 4),), 4)
    context = policy.read([Turn("user", (clip, "Which symbol is on the red circle?"))])
    assert context.visual_tokens == 2 * 1 * 2
    (completion,) = policy.generate(context, 1, Sampling(max_tokens=3))
    assert all(np.isfinite(completion.logprobs))
    assert len(completion.token_ids) <= 3


def test_start_carries_its_settings_and_is_small(start: Path) -> None:
    assert load_model_settings(start) == TINY_SETTINGS
    count = sum(value.numel() for value in load_file(start / "model.safetensors").values())
    assert 2 * count <= 12e6, "12 MB in half precision"
    assert "lm_head.weight" not in load_file(start / "model.safetensors"), "tied to the embedding"


def test_start_is_a_pure_function_of_its_seed(start: Path, tmp_path: Path) -> None:
    write_start(tmp_path / "same", seed=3)
    write_start(tmp_path / "other", seed=4)
    name = "model.visual.blocks.0.attn.qkv.weight"
    mine = load_file(start / "model.safetensors")
    same = load_file(tmp_path / "same" / "model.safetensors")
    assert mine.keys() == same.keys()
    assert all(torch.equal(mine[key], same[key]) for key in mine)
    assert not torch.equal(mine[name], load_file(tmp_path / "other" / "model.safetensors")[name])


def test_warm_start_carries_rows_by_meaning(before: Path, tmp_path: Path) -> None:
    write_start(tmp_path, warm_start=before, seed=5)
    old, new = load_file(before / "model.safetensors"), load_file(tmp_path / "model.safetensors")
    vocabulary = json.loads((before / "vocab.json").read_text())
    for ours, theirs in SAME.items():
        row = row_of(tmp_path, new, ours)
        assert torch.equal(row, old[EMBEDDING][vocabulary[theirs]].float()), (ours, theirs)
    carried = {tuple(row.tolist()) for row in old[EMBEDDING].float()}
    assert tuple(row_of(tmp_path, new, "q").tolist()) not in carried
    for name in old.keys() - {EMBEDDING}:
        assert torch.equal(new[name], old[name].float()), name
    load_policy(tmp_path, device="cpu")


def test_every_token_that_is_carried_over_is_a_token() -> None:
    tokenizer = build_tokenizer()
    assert [token for token in _same_meaning() if tokenizer.token_to_id(token) is None] == []


def test_warm_start_takes_only_the_words_both_know(before: Path, tmp_path: Path) -> None:
    poor = tmp_path / "poor"
    poor.mkdir()
    vocabulary = json.loads((before / "vocab.json").read_text())
    (poor / "model.safetensors").write_bytes((before / "model.safetensors").read_bytes())
    (poor / "vocab.json").write_text(json.dumps({w: i for w, i in vocabulary.items() if w not in ("red", "d7")}))
    write_start(tmp_path / "out", warm_start=poor)
    old, new = load_file(before / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(row_of(tmp_path / "out", new, " blue"), old[EMBEDDING][vocabulary["blue"]].float())
    assert not torch.equal(row_of(tmp_path / "out", new, " red"), old[EMBEDDING][vocabulary["red"]].float())


def test_warm_start_of_another_shape_is_refused(before: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    weights = load_file(before / "model.safetensors") | {"model.extra.weight": torch.zeros(2)}
    save_file(weights, other / "model.safetensors")
    (other / "vocab.json").write_bytes((before / "vocab.json").read_bytes())
    with pytest.raises(SystemExit, match=r"do not fit.*model\.extra\.weight"):
        write_start(tmp_path / "out", warm_start=other)
