"""Open a model by its name: a checkpoint in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Sequence

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, lay_over, load_settings, parse_settings, read_settings
from zoomzero.policy.base import Policy
from zoomzero.policy.remote.settings import is_server, read_server


def open_model(
    model: str, *, device: str = "auto", dtype: str = "auto", overrides: Sequence[str] = (), processes: int = 1
) -> tuple[Policy, ModelSettings]:
    """Open a model and read how it wants to be asked.

    Args:
        model: `tiny` (embedded), a checkpoint directory, a hub id, `http://HOST:PORT/v1#NAME`, or a TOML file with a
            table `[server]` (docs/servers.md).
        device, dtype: as `load_policy` takes them.
        overrides: of the model's settings, `key=value` each; `server.key=value` of the server's.
        processes: models that run side by side on this machine.

    Raises:
        ConfigError: an unknown setting.
        ModelError: the model cannot be found or loaded, or the server does not answer.
    """
    if is_server(model):
        from zoomzero.policy.remote.policy import RemotePolicy

        server, values, left = read_server(model, overrides)
        settings = parse_settings(ModelSettings, lay_over(values, read_settings(None, left)), model)
        return RemotePolicy(server), settings
    from zoomzero.policy.local.load import find, load_policy, settle_threads

    path = find(model) / MODEL_SETTINGS_FILE
    settings = load_settings(ModelSettings, path if path.is_file() else None, overrides)
    policy = load_policy(model, device=device, dtype=dtype)
    settle_threads(policy, processes)
    return policy, settings
