"""Sharded training (FSDP2 through accelerate): weights, gradients and optimizer spread over the processes.

The model to be sharded is loaded into the machine's memory, one process after the other; all but the first forget its
weights again, and each GPU gets its shards from the first process. No GPU ever holds all of it.

Rollouts do not run on shards: every process draws from a whole copy, which takes the new weights before each batch
(`LocalEngine.update`). Checkpoints hold whole weights, so that anything reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor, distribute_tensor

from zoomzero.errors import ConfigError
from zoomzero.policy.local.load import check_family, find, read_json
from zoomzero.train.engine_settings import EngineSettings


def fsdp_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Return the `TrainingArguments` keywords of a sharded run.

    Activations are recomputed by the model itself (`gradient_checkpointing`), as without sharding.

    Raises:
        ModelError: the start checkpoint cannot be found, or is of another family.
    """
    family = check_family(settings.model, read_json(settings.model, find(settings.model) / "config.json"))
    return {
        "fsdp": True,
        "fsdp_config": {
            "version": 2,
            "transformer_layer_cls_to_wrap": list(family.layers),
            "reshard_after_forward": True,
            "state_dict_type": "FULL_STATE_DICT",
            "cpu_ram_efficient_loading": True,  # the first process hands out the weights
            "activation_checkpointing": False,
        },
    }


def forget_weights(model: Any) -> None:
    """Let go of a model's parameters: of each stays one number, spread over its shape. Shared ones stay shared.

    On the meta device they would all lie at address 0, by which accelerate tells them apart in the optimizer.
    """
    empty: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if id(weight) not in empty:
                one = torch.zeros(1, dtype=weight.dtype).expand(weight.shape)
                empty[id(weight)] = nn.Parameter(one, requires_grad=weight.requires_grad)
            setattr(module, name, empty[id(weight)])


def shard_with(accelerator: Any, plugin_arguments: dict[str, Any], settings: EngineSettings) -> None:
    """Make an accelerator shard as this project wants it, before it prepares the model.

    By default accelerate would turn log-probabilities and gradient sums into bfloat16, and shard on GPUs alone.

    Args:
        accelerator: of a run with several processes.
        plugin_arguments: what `TrainingArguments` made of `fsdp_arguments`.
        settings: of the run.
    """
    from accelerate import DistributedType, FullyShardedDataParallelPlugin, PartialState

    state = accelerator.state
    if getattr(state, "fsdp_plugin", None) is None:
        state.fsdp_plugin = FullyShardedDataParallelPlugin(**plugin_arguments)
        state.distributed_type = PartialState._shared_state["distributed_type"] = DistributedType.FSDP
    dtype = torch.bfloat16 if settings.in_bf16 else None
    state.fsdp_plugin.mixed_precision_policy = MixedPrecisionPolicy(
        param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


@torch.no_grad()
def trained_weights(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights of a model that learn, under their names in it, gathered where they are sharded.

    All processes must take all of them: each is a message to everybody.
    """
    for name, value in model.named_parameters():
        if value.requires_grad:
            yield name, _whole(value)


def _whole(value: Tensor) -> Tensor:
    """Return a weight gathered from where its shards are."""
    if isinstance(value, DTensor):
        return value.full_tensor()
    if hasattr(value, "ds_id"):  # DeepSpeed's mark of a weight in shards
        from deepspeed import zero

        with zero.GatheredParameters([value]):
            return value.detach().clone()
    return value.detach()


@torch.no_grad()
def load_whole_weights(model: Any, path: Path, prefix: str = "", *, adapter: bool = False) -> None:
    """Put whole weights into a sharded model; every process reads its own part of the file.

    Args:
        model: the sharded model.
        path: a safetensors file.
        prefix: what the model's names have before those of the file.
        adapter: the file holds an adapter, whose names lack peft's `default`; other weights stay as they are.

    Raises:
        ConfigError: the file holds another model.
    """
    with safe_open(path, framework="pt") as held:
        names = set(held.keys())
        for full_name, parameter in model.named_parameters():
            if adapter and not parameter.requires_grad:
                continue
            name = full_name.removeprefix(prefix)
            name = name.replace(".default.", ".") if adapter else name
            if name not in names or held.get_slice(name).get_shape() != list(parameter.shape):
                fix = "resume with the settings the run was started with"
                raise ConfigError("--resume", f"{path} holds another model ({name} differs)", fix)
            whole = held.get_tensor(name).to(parameter.device, parameter.dtype)
            shard = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)
            parameter.copy_(shard)
