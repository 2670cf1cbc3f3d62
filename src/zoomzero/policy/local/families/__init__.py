"""The registry of model families: a line for each, read only when a model of it is met."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from zoomzero.policy.local.families.base import Family

__all__ = ["FAMILIES", "Family", "family_class", "family_of", "supported"]

# model type of config.json -> file in this folder and class
FAMILIES = {
    "qwen2_5_vl": "qwen2_5_vl.Qwen25VL",
    "qwen3_5": "qwen3_5.Qwen35",
    "qwen3_5_moe": "qwen3_5_moe.Qwen35Moe",
    "qwen3_vl": "qwen3_vl.Qwen3VL",
    "qwen3_vl_moe": "qwen3_vl_moe.Qwen3VLMoe",
}


def family_class(model_type: str) -> type[Family]:
    """Return the family of a configuration's model type.

    Raises:
        KeyError: none that is known.
    """
    file, _, name = FAMILIES[model_type].partition(".")
    found: type[Family] = getattr(import_module(f"{__name__}.{file}"), name)
    return found


def supported() -> str:
    """Return the families' names for people."""
    return ", ".join(family_class(kind).title for kind in FAMILIES)


def family_of(model: Any) -> type[Family]:
    """Return the family of a transformers model.

    Raises:
        KeyError: none that is known.
    """
    return family_class(model.config.model_type)
