"""What is fetched from the hub, with a repository that holds more than a checkpoint."""

import json

import pytest
from huggingface_hub.utils import filter_repo_objects

from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint import find
from zoomzero.policy.local.checkpoint.adapters import find_both

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
FILES = [
    *("README.md", "config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"),
    *(*SHARDS, "consolidated.safetensors", "model.bin", "checkpoint-500/model.safetensors", "onnx/config.json"),
]

SEES = {"model_type": "qwen3_vl", "vision_config": {}}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository; returns its directory and the files that were fetched, call by call."""
    (tmp_path / "config.json").write_text(json.dumps(SEES))
    index = {"weight_map": {"a": SHARDS[0], "b": SHARDS[1], "c": SHARDS[0]}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    calls = []

    def fetch(model, *, revision, allow_patterns, ignore_patterns):
        kept = filter_repo_objects(FILES, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns)
        calls.append(list(kept))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return tmp_path, calls


def test_only_the_checkpoint_itself_is_fetched(hub):
    where, calls = hub
    assert find.find("a/b") == where
    words = ["config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"]
    assert calls == [words, [*words, *SHARDS]]


def test_words_alone(hub):
    _, calls = hub
    find.find_words("a/b")
    assert len(calls) == 1
    assert not any(name.endswith(".safetensors") for name in calls[0])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "llama"}, "model type llama is not supported"),
        ({"model_type": "qwen3_5"}, "sees nothing: its config.json has no vision_config"),
        ({**SEES, "quantization_config": {"quant_method": "exl3"}}, "quantised by exl3"),
        ({**SEES, "quantization_config": {"quant_method": "gptq"}}, "the package optimum that reads it is missing"),
        ({**SEES, "quantization": {"bits": 8}}, "MLX"),
        ({**SEES, "tie_word_embeddings": False}, "writes nothing: it has no lm_head"),
    ],
)
def test_weights_of_no_use_are_not_fetched(hub, config, message, monkeypatch):
    monkeypatch.setattr("zoomzero.policy.local.checkpoint.quantised.find_spec", lambda package: None)
    where, calls = hub
    (where / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        find.find("a/b")
    assert len(calls) == 1


def test_what_cannot_be_rounded_is_not_fetched(hub):
    where, calls = hub
    (where / "config.json").write_text(json.dumps({**SEES, "text_config": {"num_experts": 128}}))
    with pytest.raises(ModelError, match="has experts, which --quantize cannot round"):
        find_both("a/b", quantize="4bit")
    assert len(calls) == 1
    with pytest.raises(ModelError, match="is an adapter, which cannot be added to rounded weights"):
        find_both("a/b", "c/d", quantize="4bit")
    assert not any(name.endswith(".safetensors") for names in calls for name in names)
