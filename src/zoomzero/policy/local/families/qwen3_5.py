"""Qwen3.5, 3.6 and later: Qwen3-VL's prompts, no deepstack, three of four text layers gated delta nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from zoomzero.policy.local.families.base import Family, LayerKind
from zoomzero.policy.local.families.qwen3_vl import Qwen3VL

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Qwen35(Qwen3VL):
    """Recurrent layers keep a state instead of keys and values; it is forked where a prompt is shared."""

    name: ClassVar[str] = "qwen3_5"
    title: ClassVar[str] = "Qwen3.5"
    model_types: ClassVar[tuple[str, ...]] = ("qwen3_5",)
    layers: ClassVar[tuple[str, ...]] = ("Qwen3_5DecoderLayer", "Qwen3_5VisionBlock")
    lora_targets: ClassVar[str] = Family.lora_targets.replace("(q_proj", "(in_proj_qkv|in_proj_z|out_proj|q_proj")

    @classmethod
    def network_class(cls) -> Any:
        """Return the transformers class of the network."""
        from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5ForConditionalGeneration

        return Qwen3_5ForConditionalGeneration

    @classmethod
    def prepare(cls, model: Any) -> None:
        """Give a network the project's attention, and recurrent layers that can begin at a given state."""
        from zoomzero.policy.local.attention import delta_net

        Family.prepare.__func__(cls, model)  # type: ignore[attr-defined]  # slots break super() in class methods
        delta_net.install(cls.core(model).language_model.layers)

    @staticmethod
    def layer_kinds(text_config: Any) -> tuple[LayerKind, ...]:
        """Return what each text layer keeps of what it has read."""
        return tuple("recurrent" if kind == "linear_attention" else "attention" for kind in text_config.layer_types)

    @staticmethod
    def step() -> Callable[..., Tensor] | None:
        """Return None: the network's own forward decodes."""
        return None
