"""What a training run will hold in every process's memory, computed from its settings and the model's configuration.

Weights, gradients, optimizer and copies are counted exactly, on a model without memory. Activations, keys and values
are counted from shapes: what the packed update and the rollouts keep at their largest, without the allocator's waste.

Source: docs/reference/training.md, "Will it fit?".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zoomzero.config import ModelSettings
from zoomzero.train.settings import GrpoSettings, SftSettings

GIB = 2**30
TEXT_TOKENS = 400  # of a prompt: the template, a question and its options
ADAM_BYTES = 8  # two float32 numbers a weight
SPARE = 0.92  # share of a GPU that torch can fill before the allocator's gaps end it


@dataclass(frozen=True, slots=True)
class Sizes:
    """A model in numbers: parameters by part, and the shapes that activations follow from.

    Args:
        text, vision: parameters of the text model with its head, of the vision tower.
        shared: those of the embeddings and the head, which sharding keeps together (`text` has them too).
        adapted: the sum of (in + out) over the matrices that LoRA adapts.
        layers, width, inner, heads_width, kv_width, vocabulary: of the text model; `heads_width` and `kv_width` are the
            numbers of a token's queries, and of its keys.
        levels: places in the text model that get visual features.
        head_norms: queries and keys are normed (Qwen3).
    """

    text: int
    vision: int
    shared: int
    adapted: int
    layers: int
    width: int
    inner: int
    heads_width: int
    kv_width: int
    vocabulary: int
    levels: int
    head_norms: bool = False

    @property
    def total(self) -> int:
        """All parameters."""
        return self.text + self.vision


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """Bytes one process holds: `always`, and besides while an `update` is made or `rollouts` are drawn.

    Each maps what it is to bytes; supervised runs draw nothing. `gpus` and `memory` (bytes of one GPU) are what it was
    planned for.
    """

    always: Mapping[str, float]
    update: Mapping[str, float]
    rollouts: Mapping[str, float]
    gpus: int
    memory: float

    @property
    def peak(self) -> float:
        """The most bytes at any time."""
        return sum(self.always.values()) + max(sum(self.update.values()), sum(self.rollouts.values()))

    @property
    def fits(self) -> bool:
        """Whether a GPU of this size takes it."""
        return self.peak <= SPARE * self.memory


def measure_model(model: str) -> Sizes:
    """Count a checkpoint's parameters from its configuration alone; nothing of its weights is read.

    Args:
        model: `tiny`, a directory, or a hub id, of which all but the weights is fetched.

    Raises:
        ModelError: the configuration cannot be found or read.
    """
    import re

    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from zoomzero.errors import ModelError
    from zoomzero.policy.local.checkpoint.find import find_words
    from zoomzero.policy.local.families import family_of
    from zoomzero.policy.local.load import quiet

    where = find_words(model)
    try:
        config = AutoConfig.from_pretrained(where)
        with quiet(), torch.device("meta"):
            network: Any = AutoModelForImageTextToText.from_config(config)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(model, f"its configuration cannot be read ({reason})", "give the whole checkpoint") from error
    text = network.config.get_text_config()
    targets = family_of(network).lora_targets
    vision = sum(weight.numel() for weight in network.model.visual.parameters())
    ends = {id(w): w.numel() for w in (network.get_input_embeddings().weight, network.get_output_embeddings().weight)}
    adapted = [
        module.in_features + module.out_features
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear) and re.fullmatch(targets, name)
    ]
    width_of_head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return Sizes(
        text=sum(weight.numel() for weight in network.parameters()) - vision,
        vision=vision,
        shared=sum(ends.values()),
        adapted=sum(adapted),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        inner=text.intermediate_size,
        heads_width=text.num_attention_heads * width_of_head,
        kv_width=text.num_key_value_heads * width_of_head,
        vocabulary=text.vocab_size,
        levels=1 + len(getattr(network.config.vision_config, "deepstack_visual_indexes", ()) or ()),
        head_norms=any(name.endswith("q_norm") for name, _ in network.named_modules()),
    )


def plan_memory(
    settings: GrpoSettings | SftSettings,
    sizes: Sizes,
    asked: ModelSettings,
    *,
    gpus: int,
    memory: float,
    teacher: Sizes | None = None,
    text_tokens: int = TEXT_TOKENS,
) -> MemoryPlan:
    """Return what one process of a run holds.

    Args:
        settings: of the run.
        sizes: of its model.
        asked: how the model is asked.
        gpus: processes, one GPU each.
        memory: bytes of one GPU.
        teacher: of the teacher's model.
        text_tokens: of a prompt, besides its frames.
    """
    low = 4 if settings.dtype == "float32" else 2  # bytes of a number in copies that do not learn
    shares = gpus if settings.sharded else 1
    learned = _learned(settings, sizes)
    weights = low * sizes.total + 4 * learned if settings.lora else 4 * sizes.total
    copy = float(low * sizes.total + (4 * learned if settings.lora else 0))
    always = {"weights": weights / shares, "optimizer": ADAM_BYTES * learned / shares}
    visiting: dict[str, float] = {}
    rollouts: dict[str, float] = {}
    if isinstance(settings, SftSettings):
        if settings.sharded and not settings.learns_vision:
            always["whole vision tower"] = float(low * sizes.vision)
        if settings.sharded and (settings.validation.examples or settings.validation.world):
            always["copy that is validated"] = copy
    else:
        if settings.sharded:
            always["copy that draws rollouts"] = copy
        if settings.needs_reference and settings.lora is None:
            where = visiting if settings.offload_reference else always
            where["reference, visiting" if settings.offload_reference else "reference"] = float(low * sizes.total)
        if teacher is not None:
            always["teacher"] = low * teacher.total
        rollouts = _rollouts(settings, sizes, asked, low, text_tokens) | visiting
    update = _update(settings, sizes, _row_tokens(settings, asked, text_tokens), asked, shares, learned)
    if gpus > 1 and not settings.sharded:
        update["buckets that gradients travel in"] = 4.0 * learned
    return MemoryPlan(always, update, rollouts, gpus, memory)


def _learned(settings: GrpoSettings | SftSettings, sizes: Sizes) -> int:
    """Return how many numbers learn."""
    if settings.lora is not None:
        return settings.lora.rank * sizes.adapted
    return sizes.text + (sizes.vision if settings.learns_vision else 0)


def _row_tokens(settings: GrpoSettings | SftSettings, asked: ModelSettings, text_tokens: int) -> int:
    """Return the tokens of the largest row of an update."""
    if isinstance(settings, SftSettings):
        sample = max(asked.coarse.max_tokens, asked.zoom.max_tokens) + text_tokens
        return max(sample, min(settings.row_tokens, settings.samples_per_row * sample))
    group = asked.coarse.max_tokens + text_tokens
    group += settings.rollout.num_generations * settings.rollout.max_new_tokens
    return group if settings.sharded else max(group, settings.row_tokens)


def _update(
    settings: GrpoSettings | SftSettings, sizes: Sizes, tokens: int, asked: ModelSettings, shares: int, learned: int
) -> dict[str, float]:
    """Return what is there besides while a row of so many tokens goes forward and back."""
    compute = 2 if settings.bf16 else 4  # a plan is for GPUs, where "auto" is bfloat16
    norms = 1 if settings.lora is not None else 2  # what a norm keeps: its result, and what its weights learn from
    # what one layer keeps of a token for its backward pass: its two norms, queries, keys, values, attention's result
    # twice, and the gate, the up-projection, their product and the activation of the MLP
    heads = 3 * sizes.heads_width + 2 * sizes.kv_width
    heads += norms * (sizes.heads_width + sizes.kv_width) if sizes.head_norms else 0
    kept = compute * (2 * norms * sizes.width + heads + 4 * sizes.inner) + 8 * sizes.width
    inputs = compute * sizes.width * sizes.layers  # of every layer, from which the rest is computed again
    of_layers = inputs + kept if settings.gradient_checkpointing else kept * sizes.layers
    activations = tokens * (of_layers + norms * compute * sizes.width)  # and of the last norm
    found = {
        "gradients": 4.0 * learned / shares,
        "activations of a row": float(activations),
        "visual features of a row": float(compute * sizes.width * sizes.levels * min(tokens, asked.coarse.max_tokens)),
    }
    passing = {  # one after the other: the larger one counts
        "logits of a chunk": 3.0 * 4 * min(settings.head_chunk, tokens) * sizes.vocabulary,
        "gradients inside a layer": 3.0 * compute * sizes.inner * tokens,
    }
    largest = max(passing, key=passing.__getitem__)
    found[largest] = passing[largest]
    if settings.sharded:
        layer = (sizes.text - sizes.shared) / sizes.layers
        found["weights gathered for a layer"] = compute * (2 * layer + sizes.shared)
        found["gradients of embeddings and head"] = float(compute * sizes.shared)  # whole until the pass's end
    elif settings.lora is None and settings.bf16:
        found["bfloat16 weights of the forward pass"] = 2.0 * sizes.text  # autocast keeps them until its end
    return found


def _rollouts(
    settings: GrpoSettings, sizes: Sizes, asked: ModelSettings, low: int, text_tokens: int
) -> dict[str, float]:
    """Return what is there besides while completions are drawn."""
    rows = settings.rollout.num_generations
    tokens = asked.coarse.max_tokens + text_tokens + rows * settings.rollout.max_new_tokens
    prompts = settings.rollout.prompts_at_once
    prefill = settings.row_tokens * 2 * (4 * sizes.width + 2 * sizes.heads_width + 3 * sizes.inner)
    return {
        "keys and values": float(prompts * tokens * 2 * sizes.kv_width * sizes.layers * low),
        "logits of a step": 4.0 * prompts * rows * sizes.vocabulary * 2,
        "a row that is read": float(prefill),
    }


def advice(settings: GrpoSettings | SftSettings, plan: MemoryPlan) -> list[str]:
    """Return settings that would make a plan smaller, the most helpful first; empty when it fits."""
    if plan.fits:
        return []
    found: list[tuple[float, str]] = []
    if settings.lora is None:
        saved = sum(plan.always.values()) + plan.update["gradients"]
        found.append((0.75 * saved, "train adapters: [lora] rank = 64"))
    if not settings.sharded and plan.gpus > 1:
        whole = plan.always["weights"] + plan.always["optimizer"] + plan.update["gradients"]
        found.append((whole * (1 - 1 / plan.gpus), "fsdp = true"))
    if "reference" in plan.always:
        found.append((plan.always["reference"], "offload_reference = true"))
    activations = plan.update["activations of a row"]
    if not settings.gradient_checkpointing:
        found.append((0.8 * activations, "gradient_checkpointing = true"))
    if isinstance(settings, SftSettings) or not settings.sharded:
        found.append((0.5 * activations, f"row_tokens = {settings.row_tokens // 2}"))
    if isinstance(settings, SftSettings):
        found.append((activations / 2, f"samples_per_row = {max(settings.samples_per_row // 2, 1)}"))
    else:
        halved = max(settings.rollout.prompts_at_once // 2, 1)
        found.append((0.5 * plan.rollouts["keys and values"], f"rollout.prompts_at_once = {halved}"))
    found.append((0.5 * plan.update.get("logits of a chunk", 0.0), f"head_chunk = {max(settings.head_chunk // 2, 1)}"))
    return [text for saved, text in sorted(found, key=lambda one: -one[0]) if saved > 0.005 * plan.memory]


def plan_text(settings: GrpoSettings | SftSettings, plan: MemoryPlan) -> str:
    """Return a plan as lines for the terminal."""
    lines = [f"each of {plan.gpus} processes, GiB"]
    for title, part in (("always", plan.always), ("while updating", plan.update), ("while drawing", plan.rollouts)):
        if not part:
            continue
        lines.append(f"  {title:<48}{sum(part.values()) / GIB:>8.2f}")
        lines += [f"    {name:<46}{size / GIB:>8.2f}" for name, size in part.items()]
    room = SPARE * plan.memory / GIB
    lines.append(f"  {'peak':<48}{plan.peak / GIB:>8.2f}   of {room:.1f} usable")
    if plan.fits:
        lines.append("it fits")
    else:
        lines.append("it does not fit; what helps most first:")
        lines += [f"  {text}" for text in advice(settings, plan)]
    return "\n".join(lines)
