"""A real vLLM on this CPU with a small random Qwen3-VL; skipped where `make test-server` has not built it.

ZOOMZERO_VLLM names its environment. Whoever writes tests starts one by hand and sets ZOOMZERO_VLLM_URL to its
address and ZOOMZERO_VLLM_CHECKPOINT to what it serves under the name `small`; tests that kill it are skipped then.
"""

from __future__ import annotations

import json
import os
import signal
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
START_S = float(os.environ.get("ZOOMZERO_VLLM_START_S", "1800"))
RUNNING = os.environ.get("ZOOMZERO_VLLM_URL", "")
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


@dataclass(slots=True)
class Served:
    """A running server.

    Args:
        url: its address.
        checkpoint: what it serves.
        log: what it says.
        process: None for one that was started by hand.
    """

    url: str
    checkpoint: Path
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.log.open("ab") as out:
            command, environment = command_line(self.checkpoint, self.url), ENVIRONMENT_VARIABLES | os.environ
            self.process = subprocess.Popen(command, env=environment, stdout=out, stderr=out, start_new_session=True)
        self._wait_until_ready()

    def kill(self) -> None:
        """Kill it and what it started, as a crash would."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def _wait_until_ready(self) -> None:
        assert self.process is not None
        began = time.monotonic()
        while time.monotonic() - began < START_S:
            if self.process.poll() is not None:
                pytest.fail(f"vLLM ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
            try:
                with urllib.request.urlopen(f"{self.url.removesuffix('/v1')}/health", timeout=5) as reply:
                    if reply.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                time.sleep(2.0)
        pytest.fail(f"vLLM was not ready after {START_S:g} s:\n{self.log.read_text()[-3000:]}")


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


ENVIRONMENT_VARIABLES = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "2",
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS": "36000",  # a step of a busy machine may take minutes
    "TORCHDYNAMO_DISABLE": "1",  # some kernels are compiled even with --enforce-eager: minutes for nothing
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_SERVER_DEV_MODE": "1",  # weights of an update: /collective_rpc
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",  # and adapters: /v1/load_lora_adapter
}


def command_line(checkpoint: Path, url: str) -> list[str]:
    """Return the command that serves a checkpoint as `small` at an address of this machine."""
    port = url.removesuffix("/v1").rpartition(":")[2]
    command = [f"{ENVIRONMENT}/bin/vllm", "serve", str(checkpoint), "--served-model-name", "small"]
    command += ["--host", "127.0.0.1", "--port", port, "--dtype", "float32", "--enforce-eager"]
    command += ["--max-model-len", "8192", "--limit-mm-per-prompt", '{"image":64,"video":2}', "--max-logprobs", "30"]
    command += ["--trust-request-mm-kwargs", "--enable-prompt-tokens-details", "--skip-mm-profiling"]
    # a seeded draw whose prompt is read in pieces ends a CPU's server (0.32)
    command += ["--no-enable-chunked-prefill"]
    return [*command, "--trust-request-chat-template", "--enable-lora", "--max-lora-rank", "8"]


@pytest.fixture(scope="session")
def vllm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The server, up for the whole session."""
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    if RUNNING:
        yield Served(RUNNING, Path(os.environ["ZOOMZERO_VLLM_CHECKPOINT"]), log)
        return
    if not Path(ENVIRONMENT, "bin", "vllm").is_file():
        pytest.skip("needs vLLM in an environment of its own: make test-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    served = Served(f"http://127.0.0.1:{port}/v1", request.getfixturevalue("checkpoint"), log)
    try:
        served.start()
        yield served
    finally:
        if served.process is not None and served.process.poll() is None:
            served.kill()
