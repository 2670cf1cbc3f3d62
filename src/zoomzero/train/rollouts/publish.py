"""Getting trained weights to a server: whole ones through a folder that both see, adapters by name."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Protocol

import torch

from zoomzero.policy.local.save import as_released, tied_names, write_weights
from zoomzero.policy.remote.client import Client

FILE_BYTES = 5 << 30  # of one file of weights


class Publisher(Protocol):
    """Gives a server the weights of an update."""

    def publish(self, update: int) -> str:
        """Have the server draw with the weights as they are now; return the name requests must ask for.

        Raises:
            ServerError: it does not take them.
        """
        ...


class WholeWeights:
    """Writes all weights and has the server read them into the model it serves.

    vLLM needs VLLM_SERVER_DEV_MODE=1 for the path that does it. No request may be under way.

    Args:
        model: the transformers model that is trained.
        client: the server.
        folder: both see it under this path.
        dtype: number type of the files.
    """

    def __init__(self, model: Any, client: Client, folder: Path, dtype: torch.dtype) -> None:
        self.model, self.client, self.folder, self.dtype = model, client, folder, dtype

    def publish(self, update: int) -> str:
        """See `Publisher`."""
        where = _fresh(self.folder, f"weights-{update}")
        tied = tied_names(self.model)
        # written twice: on a CPU vLLM keeps a packed copy of a tied head, which it renews from a file alone (0.32)
        own = ((name, value.clone() if name in tied else value) for name, value in self.model.state_dict().items())
        write_weights(where, as_released(self.model, own), self.dtype, most_bytes=FILE_BYTES)
        reload_weights(self.client, where)
        _keep_only(self.folder, where)
        return self.client.settings.model


def reload_weights(client: Client, where: Path) -> None:
    """Have a vLLM read the weights in a folder, and forget what the old ones made of pictures.

    Its worker forgets by itself while its scheduler does not (0.32): the next request about a picture it has seen would
    end the server.
    """
    body = {"method": "reload_weights", "kwargs": {"weights_path": str(where)}}
    for path, told in (("/collective_rpc", body), ("/reset_encoder_cache", {}), ("/reset_mm_cache", {})):
        client.tell(path, told)


class Adapters:
    """Writes the adapter and has the server load it under a name of its own.

    vLLM needs --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=1.

    Args:
        model: the peft model that is trained.
        client: the server.
        folder: both see it under this path.
    """

    def __init__(self, model: Any, client: Client, folder: Path) -> None:
        self.model, self.client, self.folder = model, client, folder
        self._loaded = ""

    def publish(self, update: int) -> str:
        """See `Publisher`."""
        name = f"zoomzero-{update}"
        where = _fresh(self.folder, name)
        self.model.save_pretrained(str(where), save_embedding_layers=False)
        # a run that goes on may find the name taken by the one before
        self.client.tell("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(where), "load_inplace": True})
        if self._loaded:
            self.client.tell("/v1/unload_lora_adapter", {"lora_name": self._loaded})
        self._loaded = name
        _keep_only(self.folder, where)
        return name


def _fresh(folder: Path, name: str) -> Path:
    """Return an empty folder of that name."""
    where = folder / name
    if where.exists():
        shutil.rmtree(where)
    where.mkdir(parents=True)
    return where.resolve()


def _keep_only(folder: Path, newest: Path) -> None:
    """Remove the weights of earlier updates."""
    for other in folder.iterdir():
        if other.is_dir() and other.resolve() != newest and other.name.startswith(("weights-", "zoomzero-")):
            shutil.rmtree(other)
