"""Open a model by its name: a checkpoint in this process, or one behind a server."""

from __future__ import annotations

from collections.abc import Sequence

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, load_settings
from zoomzero.policy.base import Policy


def open_model(
    model: str, *, device: str = "auto", dtype: str = "auto", overrides: Sequence[str] = (), processes: int = 1
) -> tuple[Policy, ModelSettings]:
    """Open a model and read how it wants to be asked.

    Args:
        model: `tiny` (embedded), a checkpoint directory or a hub id.
        device, dtype: as `load_policy` takes them.
        overrides: of the model's settings, `key=value` each.
        processes: models that run side by side on this machine.

    Raises:
        ConfigError: an unknown setting.
        ModelError: the model cannot be found or loaded.
    """
    from zoomzero.policy.local.load import find, load_policy, settle_threads

    path = find(model) / MODEL_SETTINGS_FILE
    settings = load_settings(ModelSettings, path if path.is_file() else None, overrides)
    policy = load_policy(model, device=device, dtype=dtype)
    settle_threads(policy, processes)
    return policy, settings
