"""What a checkpoint needs in memory, from its configuration and its budgets alone: nothing is downloaded or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomzero.answer.modes import MODES
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.find import check_family, one_line, read_json
from zoomzero.policy.local.checkpoint.quantised import quant_method

GIB = 2**30
CARDS_GIB = (12, 16, 24, 48, 80)
USABLE = 0.92  # of a card: the rest is the driver's, and holes between what is allocated
TEXT_TOKENS = 700  # of a question with its template, options and an example
BITS = {"awq": 4.5, "gptq": 4.5, "fp8": 8.0, "compressed-tensors": 8.5, "4bit": 4.5, "8bit": 8.5}  # with their scales


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a network is made of, in bytes.

    Args:
        weights: of all parameters.
        token: keys and values of one token of context.
        state: recurrent states of one sequence.
        activation: what a token takes while a row is read.
    """

    weights: float
    token: float
    state: float
    activation: float


@dataclass(frozen=True, slots=True)
class Need:
    """What a mode takes at its peak, in bytes, and the setting that makes it less."""

    mode: str
    context: float
    activations: float
    change: str

    def total(self, sizes: Sizes) -> float:
        """Return all of it, the weights too."""
        return sizes.weights + self.context + self.activations


def sizes_of(model: str, where: Path, *, bytes_per_weight: float = 2.0, quantize: str | None = None) -> Sizes:
    """Return a checkpoint's sizes; its network is built without memory for weights.

    Args:
        model: what the user called it.
        where: a directory with its config.json.
        bytes_per_weight: of the number type it would be loaded in.
        quantize: `4bit` or `8bit`, as `load_policy` takes it.

    Raises:
        ModelError: another architecture, or a configuration that makes no network.
    """
    import torch
    from transformers import AutoConfig

    from zoomzero.policy.quiet import quiet

    raw = read_json(model, where / "config.json")
    family = check_family(model, raw)
    method = quantize or quant_method(raw)
    with quiet():
        try:
            config = AutoConfig.from_pretrained(where, local_files_only=True)
            if hasattr(config, "quantization_config"):
                del config.quantization_config
            with torch.device("meta"):
                network = family.network_class()(config)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            reason = f"config.json makes no network ({one_line(error)})"
            raise ModelError(model, reason, "download it again") from error
    core, text = family.core(network), config.text_config
    whole = sum(p.numel() for p in network.parameters())
    matrices = sum(p.numel() for p in core.language_model.layers.parameters() if p.ndim > 1)
    rounded = BITS.get(method or "", 8 * bytes_per_weight) / 8
    weights = (whole - matrices) * bytes_per_weight + matrices * rounded
    kinds = family.layer_kinds(text)
    head_width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    token = kinds.count("attention") * 2 * text.num_key_value_heads * head_width * bytes_per_weight
    state = kinds.count("recurrent") * _state_bytes(text, bytes_per_weight)
    inner = getattr(text, "moe_intermediate_size", None)
    inner = inner * text.num_experts_per_tok if inner else text.intermediate_size
    activation = (2 * inner + 8 * text.hidden_size) * bytes_per_weight
    return Sizes(weights, token, state, activation)


def _state_bytes(text: Any, bytes_per_weight: float) -> float:
    """Return the bytes of one recurrent layer's state."""
    if not hasattr(text, "linear_num_value_heads"):
        return 0.0
    keys, values = text.linear_num_key_heads * text.linear_key_head_dim, text.linear_value_head_dim
    inputs = (2 * keys + text.linear_num_value_heads * values) * (text.linear_conv_kernel_dim - 1)
    memory = 4.0 * text.linear_num_value_heads * text.linear_key_head_dim * values
    return float(memory + inputs * bytes_per_weight)


def needs(sizes: Sizes, settings: ModelSettings) -> list[Need]:
    """Return what every mode takes at its peak.

    Args:
        sizes: of the checkpoint.
        settings: how it is asked; a window's and a pass's `max_tokens` are what a long video spends.
    """
    from zoomzero.answer.windows import WINDOWS_AT_ONCE

    coarse, zoom, window = (_read(one) for one in (settings.coarse, settings.zoom, settings.window))
    written = settings.max_new_tokens
    plans = {
        "direct": ([coarse], 0, coarse, "coarse.max_tokens"),
        "coarse": ([coarse], written, coarse, "coarse.max_tokens"),
        "zoom": ([coarse, zoom], written, max(coarse, zoom), "coarse.max_tokens"),
        "context": ([coarse + zoom], written, max(coarse, zoom), "zoom.max_tokens"),
        "divide": ([window] * WINDOWS_AT_ONCE, WINDOWS_AT_ONCE * written, window, "window.max_tokens"),
        "search": ([coarse, zoom], settings.candidates * written, max(coarse, zoom), "candidates"),
    }
    assert set(plans) == set(MODES)
    found = []
    for mode, (contexts, more, row, change) in plans.items():
        held = sum(contexts) * sizes.token + len(contexts) * sizes.state + more * sizes.token
        found.append(Need(mode, held, row * sizes.activation, change))
    return found


def _read(one: PassSettings) -> int:
    return one.max_tokens + TEXT_TOKENS


def table(model: str, sizes: Sizes, settings: ModelSettings) -> str:
    """Return what fits which card, a line for each mode."""
    lines = [
        f"{model}: weights {sizes.weights / GIB:.1f} GiB, keys and values {sizes.token / 1024:.0f} KiB a token"
        + (f", recurrent states {sizes.state / 2**20:.0f} MiB a sequence" if sizes.state else ""),
        f"{'mode':<8} {'context':>9} {'work':>9} {'in all':>9}  "
        + " ".join(f"{size:>3} GB" for size in CARDS_GIB)
        + "  to need less",
    ]
    for need in needs(sizes, settings):
        total = need.total(sizes)
        marks = ["fits" if total <= USABLE * size * 1e9 else "no" for size in CARDS_GIB]
        amounts = " ".join(f"{value / GIB:>5.1f} GiB" for value in (need.context, need.activations, total))
        shown = " ".join(f"{mark:>6}" for mark in marks)
        lines.append(f"{need.mode:<8} {amounts} {shown}  lower {need.change}, or --quantize")
    return "\n".join(lines)
