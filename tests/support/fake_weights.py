"""What a server does with weights it is told of: they become those of the policy that answers, as in vLLM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

WEIGHT_PATHS = (
    "/reset_encoder_cache",
    "/reset_mm_cache",
    "/collective_rpc",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
)


def take_weights(fake: Any, path: str, body: dict[str, Any]) -> None:
    """Do what a request to one of `WEIGHT_PATHS` asks for.

    Args:
        fake: a `FakeServer`.
        path, body: of the request.
    """
    if path.startswith("/reset_"):
        return
    if path == "/collective_rpc":
        assert body["method"] == "reload_weights"
        held = load_file(Path(body["kwargs"]["weights_path"]) / "model.safetensors")
        assert not fake.brain.model.load_state_dict(held, strict=False).unexpected_keys
    elif path == "/v1/load_lora_adapter":
        from peft import PeftModel

        plain = fake.brain.model.unload() if fake.adapters else fake.brain.model
        fake.brain.model = PeftModel.from_pretrained(plain, body["lora_path"]).eval()
        fake.adapters.add(body["lora_name"])
    else:
        fake.adapters.remove(body["lora_name"])
