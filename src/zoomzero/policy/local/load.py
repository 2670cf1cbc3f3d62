"""Find, check and load a checkpoint: `load_policy("tiny" | directory | hub id)`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, load_settings
from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.adapters import changed_weights, find_base, find_both, is_adapter, merged
from zoomzero.policy.local.checkpoint.find import check_family, find, read_json
from zoomzero.policy.local.checkpoint.network import load_network, pick_device, pick_dtype, stored_parameters
from zoomzero.policy.local.checkpoint.quantised import check_quantised
from zoomzero.policy.local.checkpoint.words import (
    check_special_tokens,
    load_codec,
    load_template,
    make_family,
    stop_tokens,
)
from zoomzero.policy.local.families import family_of
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.quiet import quiet

__all__ = [
    "check_family",
    "find",
    "load_codec",
    "load_network",
    "load_policy",
    "make_family",
    "prepare",
    "quiet",
    "read_json",
    "settings_file",
    "settle_threads",
]

SMALL_MODEL_PARAMETERS = 100_000_000


def load_policy(
    model: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    revision: str | None = None,
    settings: ModelSettings | None = None,
    adapter: str | Path | None = None,
    quantize: str | None = None,
) -> QwenPolicy:
    """Load a checkpoint of a known family (`families`).

    Args:
        model: `tiny` (shipped with the package), a local directory, or a hub id such as
            `Qwen/Qwen3-VL-2B-Instruct`.
        device: `auto` (a GPU when there is one; layers go to further ones when it does not take them all), `cpu`,
            `cuda`, `cuda:1`, ...
        dtype: `auto` (bfloat16 on a GPU, float32 on a CPU), `float32`, `bfloat16` or `float16`.
        revision: branch, tag or commit on the hub.
        settings: how it is asked: what its prompts look like depends on them; by default the checkpoint's own.
        adapter: directory or hub id of a LoRA adapter that is added to the weights. `model` itself may be one: then
            the base it names is loaded.
        quantize: `4bit` or `8bit`: round the text model's matrices while they are loaded (needs bitsandbytes).

    Raises:
        ModelError: it cannot be found, is not whole, or is of a family that is not supported.
    """
    base = BaseModel(model, device=device, dtype=dtype, revision=revision, quantize=quantize, adapter=adapter)
    return base.policy(base.found.adapter, settings, last=True)


class BaseModel:
    """A checkpoint that is read once, for policies of it with one adapter after the other.

    The weights that an adapter changes are kept on the CPU and put back before the next one comes, so that each policy
    equals one that was loaded alone. A policy must not be used any more once the next was made.

    Args:
        model, device, dtype, revision, quantize, adapter: see `load_policy`.

    Raises:
        ModelError: it cannot be found, is not whole, or is of a family that is not supported.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        device: str = "auto",
        dtype: str = "auto",
        revision: str | None = None,
        quantize: str | None = None,
        adapter: str | Path | None = None,
    ) -> None:
        self.name = str(model)
        self.found = find_both(self.name, None if adapter is None else str(adapter), revision, quantize)
        where = self.found.where
        self.config = read_json(self.name, where / "config.json")
        self.family = check_family(self.name, self.config)
        self.codec = load_codec(self.name, where)
        self.plain = not (quantize or check_quantised(self.name, self.config))
        if self.found.adapter is not None:
            self._check_plain(self.found.adapter)
        target = pick_device(self.name, device)
        self.dtype = pick_dtype(self.name, dtype, target, stored_parameters(where))
        spread = device == "auto"
        self.network = load_network(self.name, where, self.family, self.dtype, target, quantize=quantize, spread=spread)
        self._own: dict[str, Tensor] = {}  # weights of the base that an adapter has changed

    def _check_plain(self, adapter: Path) -> None:
        if not self.plain:
            raise ModelError(str(adapter), "cannot be added to quantised weights", "use the plain base model")

    def policy(self, adapter: Path | None, settings: ModelSettings | None = None, *, last: bool = False) -> QwenPolicy:
        """Return the policy of this model with an adapter, or without one.

        Args:
            adapter: its directory.
            settings: how it is asked; by default the adapter's own, or the checkpoint's.
            last: no other will be asked for: the weights it changes need not be kept.

        Raises:
            ModelError: the adapter does not fit.
        """
        where = self.found.where
        if settings is None:
            settings = load_settings(ModelSettings, settings_file(where, adapter))
        self._put_back()
        if adapter is not None:
            self._check_plain(adapter)
            if not last:
                self._keep(adapter)
            self.network = merged(str(adapter), adapter, self.network, self.dtype)
        self.network.eval().requires_grad_(False)
        prepare(self.network)
        check_special_tokens(self.name, self.family, self.network.config, self.codec)
        options = {"text_after_time": settings.text_after_time}
        made = make_family(self.name, where, self.family, self.network.config, options)
        template = load_template(self.name, where, made, settings.think)
        builder = PromptBuilder(made, self.codec, template, self.network.config.video_token_id)
        stops = stop_tokens(self.name, where, self.network, self.codec)
        return QwenPolicy(self.name, self.network, builder, stops, where)

    @torch.no_grad()
    def _keep(self, adapter: Path) -> None:
        """Keep the weights that an adapter will change; one whose file does not fit is told so when it is added."""
        if not (adapter / "adapter_model.safetensors").is_file():
            return
        held = dict(self.network.named_parameters())
        names = [name for name in changed_weights(adapter) if name in held]
        self._own = {name: held[name].to("cpu", copy=True) for name in names}

    @torch.no_grad()
    def _put_back(self) -> None:
        """Put the base's own weights back."""
        held = dict(self.network.named_parameters())
        for name, value in self._own.items():
            held[name].copy_(value)
        self._own = {}


def settings_file(where: Path, adapter: Path | None = None) -> Path | None:
    """Return the file that says how a checkpoint wants to be asked, None when there is none.

    Args:
        where: the checkpoint's directory, or an adapter's.
        adapter: directory of an adapter that is added to it; what lies there comes first.
    """
    places = [place for place in (adapter, where) if place is not None]
    if is_adapter(where):
        places.append(find_base(str(where), where))
    return next((place / MODEL_SETTINGS_FILE for place in places if (place / MODEL_SETTINGS_FILE).is_file()), None)


def settle_threads(policy: QwenPolicy, processes: int = 1) -> None:
    """Choose torch's threads for a model on the CPU: one for a small model, else a fair share of the cores.

    A small model loses more to waiting threads than it gains (docs/policy.md).

    Args:
        policy: the model.
        processes: models that run side by side on this machine.
    """
    if policy.device.type != "cpu":
        return
    if sum(p.numel() for p in policy.model.parameters()) < SMALL_MODEL_PARAMETERS:
        torch.set_num_threads(1)
    elif processes > 1:
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))


def prepare(model: Any) -> Any:
    """Give a transformers model of a known family the project's attention (text and vision) and return it.

    The model keeps working through its own `forward` and `generate`.
    """
    family_of(model).prepare(model)
    return model
