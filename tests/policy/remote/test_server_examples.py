"""The example files for servers are what the page says, and are read as they stand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from zoomzero.policy.remote.settings import ServerSettings, read_server
from zoomzero.train.settings import load_grpo_settings

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "servers"
PAGES = (ROOT / "docs" / "servers.md").read_text(encoding="utf-8")


def compose() -> Any:
    return yaml.safe_load((EXAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"]


def test_compose_serves_with_the_flags_of_the_page() -> None:
    words = shlex.split(compose()["vllm"]["command"])
    told = set(re.findall(r"--[a-z][a-z-]+", PAGES.partition("## vLLM")[2].partition("## Other")[0]))
    assert {word for word in words if word.startswith("--")} <= {*told, "--model", "--max-logprobs"}
    assert "--trust-request-mm-kwargs" in words
    assert '{"video": 1, "image": 256}' in words, "what is quoted stays one word"


def test_compose_asks_the_server_it_starts() -> None:
    vllm, asking = compose()["vllm"], compose()["zoomzero"]
    script = asking["entrypoint"][2]
    server, _, _ = read_server(script.rpartition("--model ")[2])
    words = shlex.split(vllm["command"])
    assert server.url == "http://vllm:8000/v1", "the service's name is its host"
    assert server.model == words[words.index("--served-model-name") + 1]
    assert ServerSettings(url=server.url).api_key_env in asking["environment"]
    assert vllm["environment"]["VLLM_API_KEY"] == asking["environment"]["ZOOMZERO_API_KEY"]
    assert '"$$@"' in script, "compose itself would replace one dollar sign"
    assert (EXAMPLES / asking["build"] / "Dockerfile").resolve().is_file()


def test_the_settings_files_are_read() -> None:
    server, model, _ = read_server(str(EXAMPLES / "server.toml"))
    assert (server.concurrency, model) == (16, {"widen_s": 5.0})
    train = load_grpo_settings(str(EXAMPLES / "train-on-vllm.toml"))
    assert train.rollout.server is not None
    assert (train.rollout.server.url, train.bf16) == ("http://localhost:8000/v1", False)
