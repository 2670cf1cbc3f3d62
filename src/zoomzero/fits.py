"""What a checkpoint needs in memory, from its configuration and its budgets alone: nothing is downloaded or run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomzero.answer.names import MODES
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.errors import ModelError
from zoomzero.policy.local.checkpoint.find import check_family, one_line, read_json
from zoomzero.policy.local.checkpoint.quantised import has_experts, is_fp8, quant_method
from zoomzero.policy.local.memory import SPENT, TokenBytes, token_bytes

GIB = 2**30
CARDS_GB = (12, 16, 24, 48, 80)
USABLE = 0.92  # of a card: the rest is the driver's, and holes between what is allocated
TEXT_TOKENS = 700  # of a question with its template, options and an example
BITS = {"awq": 4.5, "gptq": 4.5, "fp8": 8.0, "4bit": 4.5, "8bit": 8.0}  # with their scales
LEAST_BUDGET = 512  # visual tokens below which a pass is of little use
PASS_OF = {"direct": "coarse", "coarse": "coarse", "zoom": "coarse", "context": "coarse", "divide": "window"}
# what a CPU does in bfloat16, in billions of products a second, and of bytes read a second
LAPTOP = (250.0, 40.0)


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a network is made of.

    Args:
        weights: bytes of all parameters.
        tokens: what a token takes beside them.
        active: parameters that a token is multiplied with, embeddings left out.
        tower: parameters of the vision tower.
        patches: patches that become one visual token.
        bits: of a number in the text model's matrices, scales included.
        quantisable: whether `--quantize` makes it smaller.
    """

    weights: float
    tokens: TokenBytes
    active: float
    tower: float
    patches: int
    bits: float
    quantisable: bool


@dataclass(frozen=True, slots=True)
class Need:
    """What a mode takes at its peak beside the weights, in bytes.

    Args:
        mode: its name.
        context: keys, values and recurrent states, with as much at once as the mode can use.
        least: the same with one chat at a time, which is what happens where memory is short.
        work: of the vision tower or of reading a row, whichever is more.
    """

    mode: str
    context: float
    least: float
    work: float


def sizes_of(model: str, where: Path, *, bytes_per_weight: float = 2.0, quantize: str | None = None) -> Sizes:
    """Return a checkpoint's sizes; its network is built without memory for weights.

    Args:
        model: what the user called it.
        where: a directory with its config.json.
        bytes_per_weight: of the number type it would be loaded in.
        quantize: `4bit` or `8bit`, as `load_policy` takes it.

    Raises:
        ModelError: another architecture, a configuration that makes no network, or one that cannot be quantised.
    """
    import torch
    from transformers import AutoConfig

    from zoomzero.policy.quiet import quiet

    raw = read_json(model, where / "config.json")
    family, method = check_family(model, raw), quant_method(raw)
    if quantize and (method or has_experts(raw)):
        why = f"is quantised already ({method})" if method else "has experts, which --quantize cannot round"
        raise ModelError(model, why, "leave --quantize out")
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
    named = dict(core.language_model.layers.named_parameters())
    layers = sum(p.numel() for p in named.values())
    matrices = sum(p.numel() for p in named.values() if p.ndim > 1)
    whole = sum(p.numel() for p in network.parameters())
    # of what compressed-tensors packs only FP8 stays packed
    kind = "fp8" if method == "compressed-tensors" and is_fp8(raw) else quantize or method or ""
    bits = BITS.get(kind, 8 * bytes_per_weight)
    experts = sum(p.numel() for name, p in named.items() if ".experts." in name)
    used = experts * text.num_experts_per_tok / text.num_experts if experts else 0.0
    return Sizes(
        weights=(whole - matrices) * bytes_per_weight + matrices * bits / 8,
        tokens=token_bytes(family, config, bytes_per_weight),
        active=layers - experts + used + text.vocab_size * text.hidden_size,
        tower=sum(p.numel() for p in core.visual.parameters()),
        patches=config.vision_config.spatial_merge_size**2,
        bits=bits,
        quantisable=not (quantize or method or experts),
    )


def needs(sizes: Sizes, settings: ModelSettings) -> list[Need]:
    """Return what every mode takes at its peak.

    Args:
        sizes: of the checkpoint.
        settings: how it is asked; a window's and a pass's `max_tokens` are what a long video spends.
    """
    from zoomzero.answer.windows import WINDOWS_AT_ONCE

    coarse, zoom, window = (_read(one) for one in (settings.coarse, settings.zoom, settings.window))
    written, more = settings.max_new_tokens, settings.candidates * settings.max_new_tokens
    plans = {
        "direct": ([coarse], 0, 1),
        "coarse": ([coarse], written, 1),
        "zoom": ([coarse, zoom], written, 1),
        "context": ([coarse + zoom], written, 1),
        "divide": ([window], written, WINDOWS_AT_ONCE),
        "search": ([coarse, zoom], more, 1),
    }
    assert set(plans) == set(MODES)
    found = []
    for mode, (chats, words, together) in plans.items():
        least = (sum(chats) + words) * sizes.tokens.kept + len(chats) * sizes.tokens.state
        row = max(chats)
        work = max(row * sizes.tokens.work, (row - TEXT_TOKENS) * sizes.tokens.seen)
        found.append(Need(mode, together * least, least, work))
    return found


def _read(one: PassSettings) -> int:
    return one.max_tokens + TEXT_TOKENS


def fit(sizes: Sizes, need: Need, card_gb: float) -> str:
    """Return whether a card takes a mode: `yes`, `slower` (less is done at once), or `no`.

    Args:
        sizes: of the checkpoint.
        need: of the mode.
        card_gb: memory of the card, in 10^9 bytes.
    """
    room = USABLE * card_gb * 1e9 - sizes.weights
    if need.least + need.work > room:
        return "no"
    return "yes" if need.context <= need.least or need.context <= SPENT * room else "slower"


def smallest_card(sizes: Sizes, need: Need) -> int | None:
    """Return the smallest of the usual cards that takes a mode, None when none does."""
    return next((card for card in CARDS_GB if fit(sizes, need, card) != "no"), None)


def change(sizes: Sizes, mode: str, settings: ModelSettings) -> str:
    """Return the setting that lets the next smaller card take a mode, "" where the smallest takes it already.

    Args:
        sizes: of the checkpoint.
        mode: its name.
        settings: how it is asked.
    """
    now = smallest_card(sizes, _need(sizes, settings, mode))
    smaller = [card for card in CARDS_GB if now is None or card < now]
    if not smaller:
        return ""
    card, name = smaller[-1], PASS_OF.get(mode, "coarse")
    tokens = getattr(settings, name).max_tokens // 2
    while tokens >= LEAST_BUDGET:
        less = settings.model_copy(update={name: getattr(settings, name).model_copy(update={"max_tokens": tokens})})
        if fit(sizes, _need(sizes, less, mode), card) != "no":
            return f"{card} GB: --set {name}.max_tokens={tokens}"
        tokens //= 2
    if sizes.quantisable:
        return f"{card} GB: --quantize 4bit or 8bit"
    return f"{card} GB: several of them with --device auto"


def _need(sizes: Sizes, settings: ModelSettings, mode: str) -> Need:
    return next(need for need in needs(sizes, settings) if need.mode == mode)


def seconds_on(sizes: Sizes, settings: ModelSettings, gflops: float, gbytes: float) -> float:
    """Return about how long a question in `zoom` takes where products and memory are the limit.

    Args:
        sizes: of the checkpoint.
        settings: how it is asked.
        gflops: billions of multiplications and additions a second in the model's number type.
        gbytes: billions of bytes of memory read a second.
    """
    seen = settings.coarse.max_tokens + settings.zoom.max_tokens
    products = 2 * (sizes.active * (seen + 2 * TEXT_TOKENS) + sizes.tower * sizes.patches * seen)
    read = settings.max_new_tokens / 2 * sizes.active * sizes.bits / 8  # an answer takes half of what it may
    return products / gflops / 1e9 + read / gbytes / 1e9


def table(model: str, sizes: Sizes, settings: ModelSettings, cards: Sequence[int] = CARDS_GB) -> str:
    """Return what fits which card, a line for each mode."""
    kept, state = sizes.tokens.kept, sizes.tokens.state
    lines = [
        f"{model}: weights {sizes.weights / GIB:.1f} GiB, keys and values {kept / 1024:.0f} KiB a token"
        + (f", recurrent states {state / 2**20:.0f} MiB a sequence" if state else ""),
        f"{'mode':<8} {'context':>9} {'work':>9} {'in all':>9} {'at least':>9}  "
        + " ".join(f"{size:>3} GB" for size in cards)
        + "  a smaller card",
    ]
    for need in needs(sizes, settings):
        rest = sizes.weights + need.work
        amounts = (need.context, need.work, rest + need.context, rest + need.least)
        shown = " ".join(f"{value / GIB:>5.1f} GiB" for value in amounts)
        marks = " ".join(f"{fit(sizes, need, size):>6}" for size in cards)
        lines.append(f"{need.mode:<8} {shown} {marks}  {change(sizes, need.mode, settings)}".rstrip())
    lines.append("slower: fewer windows at once. Figures are computed, with the budgets of its settings.")
    zoom = _need(sizes, settings, "zoom")
    laptop = f"laptop: {(sizes.weights + zoom.work + zoom.least) / GIB:.1f} GiB of memory"
    if sizes.bits < 16:
        lines.append(f"{laptop}; rounded weights are unpacked on a CPU, so it is no faster than the plain checkpoint")
        return "\n".join(lines)
    minutes = seconds_on(sizes, settings, *LAPTOP) / 60
    speed = f"at {LAPTOP[0]:.0f} GFLOP/s and {LAPTOP[1]:.0f} GB/s"
    lines.append(f"{laptop}, about {minutes:.0f} minutes a question in zoom {speed}")
    return "\n".join(lines)
