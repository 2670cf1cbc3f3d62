"""Qwen3-VL with experts (30B-A3B, 235B-A22B): as Qwen3-VL, a router and experts in place of the text perceptrons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from zoomzero.policy.local.families.qwen3_vl import Qwen3VL

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Qwen3VLMoe(Qwen3VL):
    """Prompts and times are those of the dense models."""

    name: ClassVar[str] = "qwen3_vl_moe"
    title: ClassVar[str] = "Qwen3-VL-MoE"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_vl_moe",)
    layers: ClassVar[tuple[str, ...]] = ("Qwen3VLMoeTextDecoderLayer", "Qwen3VLMoeVisionBlock")

    @classmethod
    def network_class(cls) -> Any:
        """Return the transformers class of the network."""
        from transformers.models.qwen3_vl_moe.modeling_qwen3_vl_moe import Qwen3VLMoeForConditionalGeneration

        return Qwen3VLMoeForConditionalGeneration

    @staticmethod
    def step() -> Callable[..., Tensor] | None:
        """Return the written-out decoding step; experts want a row, as the network's own forward gives them."""
        from zoomzero.policy.local.attention.step import step

        return partial(step, perceptron=lambda module, x: module(x[None])[0])

    @staticmethod
    def recordable(text_config: Any) -> bool:
        """Return whether a step can be recorded: the loop over experts asks the host which of them were hit."""
        return getattr(text_config, "_experts_implementation", None) in ("grouped_mm", "batched_mm")

    @staticmethod
    def stored(name: str, value: Tensor) -> Tensor:
        """Return expert matrices as (expert, in, out), as released; the network holds (expert, out, in)."""
        experts = name.endswith(("experts.gate_up_proj", "experts.down_proj"))
        return value.transpose(1, 2) if experts else value
