"""Open a model by its name: a checkpoint in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, lay_over, load_settings, parse_settings, read_settings
from zoomzero.errors import ConfigError
from zoomzero.policy.base import Policy
from zoomzero.policy.remote.settings import AskedServerSettings, ServerSettings, is_server, read_server


def open_model(
    model: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    overrides: Sequence[str] = (),
    processes: int = 1,
    adapter: str | None = None,
    quantize: str | None = None,
) -> tuple[Policy, ModelSettings]:
    """Open a model and read how it wants to be asked.

    Args:
        model: `tiny` (embedded), a checkpoint directory, a hub id, `http://HOST:PORT/v1#NAME`, or a TOML file with a
            table `[server]` (docs/servers.md).
        device, dtype: as `load_policy` takes them; a server has its own.
        overrides: of the model's settings, `key=value` each; `server.key=value` of the server's.
        processes: models that run side by side on this machine.
        adapter, quantize: of a checkpoint, as `load_policy` takes them.

    Raises:
        ConfigError: an unknown setting, or an adapter for a server.
        ModelError: the model cannot be found or loaded, or the server does not answer.
    """
    settings, server = open_settings(model, overrides, adapter, quantize)
    policy = open_policy(
        model,
        server,
        settings,
        device=device,
        dtype=dtype,
        processes=processes,
        adapter=adapter,
        quantize=quantize,
    )
    return policy, settings


def open_settings(
    model: str, overrides: Sequence[str] = (), adapter: str | None = None, quantize: str | None = None
) -> tuple[ModelSettings, ServerSettings | None]:
    """Return how a model is asked, and the server it is behind, None for a checkpoint.

    Raises:
        ConfigError: an unknown setting.
        ModelError: there is no such checkpoint.
    """
    if is_server(model):
        server, values, left = read_server(model, overrides)
        values = lay_over(_asked_as(server), values)
        settings = parse_settings(ModelSettings, lay_over(values, read_settings(None, left)), model)
        if settings.score_options_as != "letter":
            reason = "a server compares options by their letters, not their texts"
            raise ConfigError("score_options_as", reason, "set score_options_as=letter")
        return settings, server
    from zoomzero.policy.local.checkpoint.adapters import find_both
    from zoomzero.policy.local.load import settings_file

    found = find_both(model, adapter, quantize=quantize)
    return load_settings(ModelSettings, settings_file(found.where, found.adapter), overrides), None


def _asked_as(server: AskedServerSettings) -> dict[str, Any]:
    """Return how the checkpoint that is served wants to be asked, as far as it is known and says it."""
    if not server.checkpoint:
        return {}
    from zoomzero.policy.local.checkpoint.find import find_words

    file = find_words(server.checkpoint) / MODEL_SETTINGS_FILE
    return read_settings(file) if file.is_file() else {}


def open_policy(
    model: str,
    server: ServerSettings | None,
    settings: ModelSettings,
    *,
    device: str = "auto",
    dtype: str = "auto",
    processes: int = 1,
    adapter: str | None = None,
    quantize: str | None = None,
) -> Policy:
    """Open the model itself; see `open_model`."""
    if server is not None:
        refuse_weights(adapter, quantize)
        from zoomzero.policy.remote.policy import RemotePolicy

        return RemotePolicy(server)
    from zoomzero.policy.local.load import load_policy, settle_threads

    policy = load_policy(model, device=device, dtype=dtype, settings=settings, adapter=adapter, quantize=quantize)
    settle_threads(policy, processes)
    return policy


def refuse_weights(adapter: str | None, quantize: str | None) -> None:
    """Refuse what is for weights in this process, where the model is behind a server.

    Raises:
        ConfigError: one of them was given.
    """
    if adapter is not None or quantize is not None:
        name, value = ("--adapter", adapter) if adapter is not None else ("--quantize", quantize)
        raise ConfigError(name, f"{value} is for weights in this process", "start the server with it")
