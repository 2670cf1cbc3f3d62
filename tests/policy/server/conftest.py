"""A real vLLM on this CPU with a small random Qwen3-VL; skipped where `make test-server` has not built it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ENVIRONMENT = os.environ.get("ZOOMZERO_VLLM", "")
START_S = float(os.environ.get("ZOOMZERO_VLLM_START_S", "900"))
# bare <|video_pad|>: transformers 5.10 and later put each pair of frames into markers of its own inside the template's
TEMPLATE = """{%- for message in messages %}<|im_start|>{{ message.role }}
{% if message.content is string %}{{ message.content }}{% else %}{%- for part in message.content %}
{%- if part.type == 'video' %}<|video_pad|>
{%- elif part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>
{%- elif part.type == 'text' %}{{ part.text }}{% endif %}{%- endfor %}{% endif %}<|im_end|>
{% endfor %}{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LENGTH = {"max_position_embeddings": 8192}
ROPE = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [12, 10, 10], "mrope_interleaved": True}
PIXELS = {"patch_size": 16, "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


@dataclass(frozen=True, slots=True)
class Served:
    """A running server."""

    url: str
    checkpoint: Path
    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random Qwen3-VL with all that vLLM and we read of a checkpoint."""
    from policy_models import make_config, make_model, small_tokenizer, token_ids

    tokenizer, where = small_tokenizer(), tmp_path_factory.mktemp("served")
    rows = tokenizer.get_vocab_size(with_added_tokens=True) + 7
    config = make_config("qwen3_vl", rows, token_ids(tokenizer), head_dim=64, rope_parameters=ROPE, **LENGTH)
    config.vision_config.hidden_size, config.vision_config.num_heads = 64, 2  # heads of sizes that vLLM's kernels take
    model = make_model(config)
    model.generation_config.eos_token_id = tokenizer.token_to_id("<|im_end|>")
    model.save_pretrained(where)
    tokenizer.save(str(where / "tokenizer.json"))
    image = {
        "image_processor_type": "Qwen2VLImageProcessorFast",
        "size": {"shortest_edge": 1024, "longest_edge": 1 << 24},
    }
    video = {"video_processor_type": "Qwen3VLVideoProcessor", "size": {"shortest_edge": 1024, "longest_edge": 1 << 24}}
    files = {
        "preprocessor_config.json": {**PIXELS, **image, "processor_class": "Qwen3VLProcessor"},
        "video_preprocessor_config.json": {**PIXELS, **video, "fps": 2, "processor_class": "Qwen3VLProcessor"},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "chat_template": TEMPLATE,
            "model_max_length": 8192,
        },
    }
    for name, values in files.items():
        (where / name).write_text(json.dumps(values))
    (where / "chat_template.jinja").write_text(TEMPLATE)
    return where


def start(checkpoint: Path, port: int, log: Path) -> subprocess.Popen[bytes]:
    """Start vLLM on loopback."""
    settings = {
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "2",
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    command = [
        f"{ENVIRONMENT}/bin/vllm",
        "serve",
        str(checkpoint),
        "--served-model-name",
        "small",
        "--host",
        "127.0.0.1",
    ]
    command += ["--port", str(port), "--dtype", "float32", "--enforce-eager", "--max-model-len", "8192"]
    command += ["--limit-mm-per-prompt", '{"image":64,"video":2}', "--max-logprobs", "30", "--trust-request-mm-kwargs"]
    with log.open("ab") as out:
        return subprocess.Popen(command, env=os.environ | settings, stdout=out, stderr=out, start_new_session=True)


def wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait for a server that loads its model."""
    began = time.monotonic()
    while time.monotonic() - began < START_S:
        if process.poll() is not None:
            pytest.fail(f"vLLM ended with {process.returncode}:\n{log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"{url.removesuffix('/v1')}/health", timeout=5) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(2.0)
    pytest.fail(f"vLLM was not ready after {START_S:g} s:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def vllm(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server, up for the whole session."""
    if not Path(ENVIRONMENT, "bin", "vllm").is_file():
        pytest.skip("needs vLLM in an environment of its own: make test-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    url = f"http://127.0.0.1:{port}/v1"
    process = start(checkpoint, port, log)
    try:
        wait_until_ready(process, url, log)
        yield Served(url, checkpoint, process, log)
    finally:
        process.terminate()
        process.wait(60)
