"""Open a model by its name: a checkpoint in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Sequence

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, lay_over, load_settings, parse_settings, read_settings
from zoomzero.policy.base import Policy
from zoomzero.policy.remote.settings import ServerSettings, is_server, read_server


def open_model(
    model: str, *, device: str = "auto", dtype: str = "auto", overrides: Sequence[str] = (), processes: int = 1
) -> tuple[Policy, ModelSettings]:
    """Open a model and read how it wants to be asked.

    Args:
        model: `tiny` (embedded), a checkpoint directory, a hub id, `http://HOST:PORT/v1#NAME`, or a TOML file with a
            table `[server]` (docs/servers.md).
        device, dtype: as `load_policy` takes them; a server has its own.
        overrides: of the model's settings, `key=value` each; `server.key=value` of the server's.
        processes: models that run side by side on this machine.

    Raises:
        ConfigError: an unknown setting.
        ModelError: the model cannot be found or loaded, or the server does not answer.
    """
    settings, server = open_settings(model, overrides)
    return open_policy(model, server, device=device, dtype=dtype, processes=processes), settings


def open_settings(model: str, overrides: Sequence[str] = ()) -> tuple[ModelSettings, ServerSettings | None]:
    """Return how a model is asked, and the server it is behind, None for a checkpoint.

    Raises:
        ConfigError: an unknown setting.
        ModelError: there is no such checkpoint.
    """
    if is_server(model):
        server, values, left = read_server(model, overrides)
        return parse_settings(ModelSettings, lay_over(values, read_settings(None, left)), model), server
    from zoomzero.policy.local.load import find

    path = find(model) / MODEL_SETTINGS_FILE
    return load_settings(ModelSettings, path if path.is_file() else None, overrides), None


def open_policy(
    model: str, server: ServerSettings | None, *, device: str = "auto", dtype: str = "auto", processes: int = 1
) -> Policy:
    """Open the model itself; see `open_model`."""
    if server is not None:
        from zoomzero.policy.remote.policy import RemotePolicy

        return RemotePolicy(server)
    from zoomzero.policy.local.load import load_policy, settle_threads

    policy = load_policy(model, device=device, dtype=dtype)
    settle_threads(policy, processes)
    return policy
