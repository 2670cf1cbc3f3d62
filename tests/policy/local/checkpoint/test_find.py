"""What is fetched from the hub, with a repository that holds more than a checkpoint."""

import json

import pytest
from huggingface_hub.utils import filter_repo_objects

from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint import find

SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
FILES = [
    *("README.md", "config.json", "tokenizer.json", "chat_template.jinja", "model.safetensors.index.json"),
    *(*SHARDS, "consolidated.safetensors", "model.bin", "checkpoint-500/model.safetensors", "onnx/config.json"),
]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one repository; returns its directory and the files that were fetched, call by call."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3_vl"}))
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
        ({"model_type": "qwen3_vl", "quantization_config": {"quant_method": "exl3"}}, "quantised by exl3"),
        ({"model_type": "qwen3_5", "quantization": {"bits": 8}}, "MLX"),
    ],
)
def test_weights_of_no_use_are_not_fetched(hub, config, message):
    where, calls = hub
    (where / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match=message):
        find.find("a/b")
    assert len(calls) == 1
