"""What a run is made of: its model, its copies, its examples."""

from __future__ import annotations

import copy
import warnings
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import PartialState

from zoomzero.config import load_model_settings
from zoomzero.data.example import Example, read_examples
from zoomzero.errors import ConfigError
from zoomzero.policy.capabilities import require
from zoomzero.policy.local.attention.packed import core
from zoomzero.policy.local.checkpoint.network import pick_dtype
from zoomzero.policy.local.families import family_of
from zoomzero.policy.local.load import find, load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.train.engine.sharded import forget_weights
from zoomzero.train.engine_settings import EngineSettings, LoraSettings
from zoomzero.train.run.worlds import written_world
from zoomzero.train.settings import DataSettings
from zoomzero.world.labels import with_span_labels

# --- models --------------------------------------------------------------------------------------------------------


def own_device() -> str:
    """Return this process's own device."""
    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def load_whole(settings: EngineSettings, dtype: str, device: str | None = None) -> QwenPolicy:
    """Load the start model onto this process's own device, or onto another one."""
    model_settings = settings.model_settings(load_model_settings(find(settings.model)))
    policy = load_policy(settings.model, device=device or own_device(), dtype=dtype, settings=model_settings)
    require(policy, "train", "training")
    return policy


def load_trained(settings: EngineSettings, *, sees: bool = False) -> QwenPolicy:
    """Load the model that is trained, with its adapter, what is frozen switched off.

    One that will be sharded is loaded into the machine's memory, one process after the other. Under FSDP2 all but the
    first forget its weights again.

    Args:
        settings: of the run.
        sees: keep a frozen tower whole, so that the policy can encode frames while its model is in shards.
    """
    if not settings.sharded:
        return _made_trainable(load_whole(settings, settings.dtype if settings.lora else "float32"), settings)
    state = PartialState()
    number = str(pick_dtype(settings.model, settings.dtype, torch.device(own_device()))).removeprefix("torch.")
    for turn in range(state.num_processes):  # the machine's memory holds it twice at most
        if turn == state.process_index:
            policy = _made_trainable(load_whole(settings, number if settings.lora else "float32", "cpu"), settings)
            if sees and not settings.learns_vision:
                policy.sees = _tower_alone(policy, getattr(torch, number))
            if settings.fsdp and turn:
                forget_weights(policy.model)
        state.wait_for_everyone()
    return policy


def _made_trainable(policy: QwenPolicy, settings: EngineSettings) -> QwenPolicy:
    """Return a policy with what learns switched on, its adapter added."""
    model: Any = policy.model
    if settings.lora is not None:
        policy.model = add_adapter(model, settings.lora)
    else:
        model.requires_grad_(True)
        model.model.visual.requires_grad_(settings.learns_vision)
    if settings.gradient_checkpointing:
        # the second name is that of transformers before 5.2x
        enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    return policy


def _tower_alone(policy: QwenPolicy, dtype: torch.dtype) -> Any:
    """Return a copy of a frozen vision tower on this process's own device, with what encoding asks of its model."""
    whole = core(policy.model)
    tower = copy.deepcopy(whole.visual).to(own_device(), dtype).requires_grad_(False).eval()
    return SimpleNamespace(visual=tower, config=whole.config)


def load_copy(settings: EngineSettings) -> QwenPolicy:
    """Load the whole copy that writes for a model in shards; it takes the weights, or the adapter, that learn."""
    policy = load_whole(settings, settings.dtype)
    if settings.lora is not None:
        policy.model = add_adapter(policy.model, settings.lora).requires_grad_(False)
    return policy


def add_adapter(model: Any, lora: LoraSettings) -> Any:
    """Return the model with fresh low-rank adapters on the text model's matrices; only they learn."""
    from peft import LoraConfig, get_peft_model

    targets = family_of(model).lora_targets
    config = LoraConfig(r=lora.rank, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=targets)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that will be another
        return get_peft_model(model, config)


# --- examples ------------------------------------------------------------------------------------------------------


def read_sources(data: DataSettings) -> tuple[list[Example], list[str]]:
    """Return the examples that are learned from, and the files they came from; world videos are written here.

    Raises:
        ConfigError: there are none.
        DataError: a file cannot be read.
    """
    files = [*data.examples, *([written_world(data.world)] if data.world else [])]
    examples = [example for file in data.examples for example in read_examples(file)]
    if data.world is not None:
        examples += with_span_labels(read_examples(files[-1]), data.world.spans)
    if not examples:
        raise ConfigError("data.examples", "holds no example", "give files that do (docs/reference/formats.md)")
    return examples, files
