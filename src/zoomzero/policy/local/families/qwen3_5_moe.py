"""Qwen3.5 and 3.6 with experts (35B-A3B to 397B-A17B): as Qwen3.5, a router and experts in place of perceptrons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from zoomzero.policy.local.families.qwen3_5 import Qwen35


@dataclass(frozen=True, slots=True)
class Qwen35Moe(Qwen35):
    """Prompts, times and states are those of the dense models."""

    name: ClassVar[str] = "qwen3_5_moe"
    title: ClassVar[str] = "Qwen3.5-MoE"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5_moe",)
    layers: ClassVar[tuple[str, ...]] = ("Qwen3_5MoeDecoderLayer", "Qwen3_5MoeVisionBlock")

    @classmethod
    def network_class(cls) -> Any:
        """Return the transformers class of the network."""
        from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeForConditionalGeneration

        return Qwen3_5MoeForConditionalGeneration
