"""One packed forward pass for reading, scoring and training: prompts, suffixes, who predicts which token."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from zoomzero.policy.local import vision
from zoomzero.policy.local.attention.group_attention import Group, PackedRow
from zoomzero.policy.local.positions import continue_positions
from zoomzero.policy.local.vision import VisualFeatures

if TYPE_CHECKING:
    from zoomzero.policy.local.families.base import Family

HEAD_CHUNK = 1024  # tokens whose logits exist at once: 0.6 GB of float32 for 152,000 tokens


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """A prompt ready for the model.

    Args:
        ids: (P,) int64 token ids; visual tokens hold the family's placeholder.
        positions: (3, P) int64 M-RoPE positions.
        visual_index: (N,) int64, where the visual tokens lie, from our own bookkeeping.
        patches: (M, C) float32 pixel patches of all its clips in order, or None when it has none.
        grids: (K, 3) int64, (time, height, width) in patches for each clip.
    """

    ids: Tensor
    positions: Tensor
    visual_index: Tensor
    patches: Tensor | None
    grids: Tensor

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def next_position(self) -> int:
        """The position of the first token after the prompt."""
        return int(self.positions.max()) + 1


@dataclass(frozen=True, slots=True, eq=False)
class PackedStates:
    """Hidden states that predict the suffix tokens of several groups.

    `states` is (T, D): for every suffix token, in order, the state whose logits predict it (the last prompt
    token's for a first token). `targets` is (T,) the token ids; `lengths[i][j]` the tokens of suffix j of
    prompt i.
    """

    states: Tensor
    targets: Tensor
    lengths: tuple[tuple[int, ...], ...]
    predictors: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))  # (T,) the states' places
    visual: tuple[Tensor, ...] = ()  # for each prompt, (N,) places in the row of its visual tokens
    watched: Mapping[int, tuple[Tensor, Tensor]] = field(default_factory=dict)  # queries and keys of watched layers

    def split(self, values: Tensor) -> list[list[Tensor]]:
        """Cut a (T, ...) tensor into one piece for every suffix of every prompt."""
        pieces = iter(torch.split(values, [n for group in self.lengths for n in group]))
        return [[next(pieces) for _ in group] for group in self.lengths]


def fill_rows(sizes: Sequence[int], most: int, order: Sequence[int] | None = None) -> list[list[int]]:
    """Return the places of things grouped into rows of at most `most` in all; a larger thing is a row of its own.

    Args:
        sizes: of the things.
        most: that a row may hold.
        order: in which places are taken; as they come when None.
    """
    rows: list[list[int]] = []
    room = 0
    for i in range(len(sizes)) if order is None else order:
        if not rows or sizes[i] > room:
            rows.append([])
            room = most
        rows[-1].append(i)
        room -= sizes[i]
    return rows


def core(model: Any) -> Any:
    """Return the module that holds `.visual` and `.language_model` (adapters such as peft unwrapped)."""
    return family(model).core(_unwrap(model))


def head(model: Any) -> Any:
    """Return the module that turns hidden states into logits."""
    return family(model).head(_unwrap(model))


def family(model: Any) -> type[Family]:
    """Return the family of a model that its `Family.prepare` was called for (adapters unwrapped)."""
    found: type[Family] = _unwrap(model).zoomzero_family
    return found


def _unwrap(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def encode_prompts(model: Any, prompts: Sequence[Prompt]) -> VisualFeatures | None:
    """Run the vision tower once over the clips of all prompts; None when there are none."""
    seen = [prompt for prompt in prompts if prompt.patches is not None]
    if not seen:
        return None
    device = core(model).visual.device
    patches = torch.cat([p.patches.to(device, non_blocking=True) for p in seen if p.patches is not None])
    return vision.encode(core(model), patches, torch.cat([p.grids for p in seen]))


def packed_states(
    model: Any,
    prompts: Sequence[Prompt],
    suffixes: Sequence[Sequence[Tensor]],
    features: VisualFeatures | None = None,
    positions: Sequence[Sequence[Tensor]] | None = None,
    watch: Collection[int] = (),
) -> PackedStates:
    """Run prompts, each with its suffixes, as ONE row; every suffix sees its own prompt and itself.

    Gradients flow through suffixes, prompt, deepstack features and vision tower unless switched off by the
    caller.

    Args:
        model: a Qwen-VL model prepared by `load.prepare`.
        prompts: N prompts.
        suffixes: for each prompt its suffixes, each (S,) int64. An empty one costs nothing and has no tokens; one of
            a single token costs nothing either, for the prompt's last state predicts it.
        features: what `encode_prompts` gave for these prompts, when the caller has it already.
        positions: for each suffix its (3, S) M-RoPE positions, where they do not simply go on after the prompt's
            largest (a prompt cut before its question, in a family whose text lies below the video's last time).
        watch: text layers whose queries and keys are returned as well.
    """
    device = core(model).language_model.embed_tokens.weight.device
    features = features if features is not None else encode_prompts(model, prompts)
    row = _row(prompts, suffixes, positions)
    hidden = text_forward(
        model,
        row.ids.to(device),
        row.positions.to(device),
        row.visual_index.to(device),
        features,
        attention := PackedRow(row.groups, device, watch=watch),
    )
    lengths = tuple(tuple(len(s) for s in group) for group in suffixes)
    targets = torch.cat([torch.empty(0, dtype=torch.int64), *(s.cpu() for group in suffixes for s in group)]).to(device)
    predictors = row.predictors.to(device)
    return PackedStates(hidden[predictors], targets, lengths, predictors, row.visual, attention.watched)


def text_forward(
    model: Any,
    ids: Tensor,
    positions: Tensor,
    where: Tensor,
    features: VisualFeatures | None,
    attention_pass: Any,
) -> Tensor:
    """Embed a row of tokens, put the visual features in their places and run the text model.

    Args:
        ids: (L,) int64.  positions: (3, L) int64.  where: (N,) int64, the places of the N visual tokens.

    Returns:
        (L, D) final hidden states.
    """
    text = core(model).language_model
    embeds = text.embed_tokens(ids)  # (L, D)
    extra: dict[str, Any] = {}
    if features is not None:
        embeds = embeds.index_copy(0, where, features.embeds.to(embeds.dtype))
        if features.deepstack:
            mask = torch.zeros(len(ids), dtype=torch.bool, device=ids.device).index_fill(0, where, True)
            extra = {"visual_pos_masks": mask[None], "deepstack_visual_embeds": list(features.deepstack)}
    out = text(
        inputs_embeds=embeds[None],
        position_ids=family(model).text_positions(positions[:, None]),
        use_cache=False,
        attention_pass=attention_pass,
        **extra,
    )
    hidden: Tensor = out.last_hidden_state[0]
    return hidden


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    ids: Tensor
    positions: Tensor
    visual_index: Tensor
    groups: tuple[Group, ...]
    predictors: Tensor  # (T,) row index of the state that predicts each suffix token
    visual: tuple[Tensor, ...]  # for each prompt, the row index of its visual tokens


class _RowBuilder:
    """Lays pieces of a row end to end and remembers where they went."""

    def __init__(self) -> None:
        self.ids: list[Tensor] = []
        self.positions: list[Tensor] = []
        self.length = 0

    def add(self, ids: Tensor, positions: Tensor) -> int:
        """Append one piece and return where it starts."""
        start = self.length
        self.ids.append(ids)
        self.positions.append(positions)
        self.length += len(ids)
        return start


def _row(
    prompts: Sequence[Prompt],
    suffixes: Sequence[Sequence[Tensor]],
    positions: Sequence[Sequence[Tensor]] | None = None,
) -> _Row:
    """Lay out a packed row. The last token of a suffix predicts nothing asked for, so it is left out."""
    bodies = [[suffix[:-1].cpu() for suffix in group] for group in suffixes]
    groups = tuple(
        Group(len(prompt), tuple(len(body) for body in group if len(body)))
        for prompt, group in zip(prompts, bodies, strict=True)
    )
    row = _RowBuilder()
    where: list[Tensor] = []
    last: list[int] = []
    starts: list[list[int]] = [[] for _ in prompts]

    def add_bodies(i: int) -> None:
        for j, body in enumerate(bodies[i]):
            after = continue_positions(prompts[i].next_position, len(body))
            starts[i].append(row.add(body, after if positions is None else positions[i][j][:, : len(body)]))

    for i, prompt in enumerate(prompts):
        start = row.add(prompt.ids, prompt.positions)
        where.append(prompt.visual_index + start)
        last.append(row.length - 1)
        if groups[i].chained:
            add_bodies(i)
    for i, group in enumerate(groups):
        if not group.chained:
            add_bodies(i)
    predictors = [
        torch.cat([torch.tensor([last[i]]), torch.arange(start, start + len(body))])
        for i in range(len(prompts))
        for start, body, suffix in zip(starts[i], bodies[i], suffixes[i], strict=True)
        if len(suffix)
    ]
    predictors.append(torch.empty(0, dtype=torch.int64))
    return _Row(
        torch.cat(row.ids), torch.cat(row.positions, 1), torch.cat(where), groups, torch.cat(predictors), tuple(where)
    )


def suffix_logprobs(model: Any, packed: PackedStates, temperature: float = 1.0, chunk: int = HEAD_CHUNK) -> Tensor:
    """Return the log-probability of every suffix token, (T,) float32, with gradients; see `suffix_scores`."""
    return suffix_scores(model, packed, temperature, chunk)[0]


def suffix_scores(
    model: Any,
    packed: PackedStates,
    temperature: float = 1.0,
    chunk: int = HEAD_CHUNK,
    entropy: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Return the log-probability of every suffix token, with gradients, and how undecided the model was there.

    Only suffix positions go through the head, `chunk` at a time; the backward pass computes a chunk's logits again. The
    logits of all tokens never exist at once. `packed.split(...)` cuts results into suffixes.

    Args:
        model: the model the states came from.
        packed: T states and the tokens they should predict.
        temperature: what logits are divided by.
        chunk: tokens whose logits are in memory at once; (chunk, V) float32 is about the memory it takes, thrice.
        entropy: whether to compute it, without gradients: a pass over the logits.

    Returns:
        log-probabilities (T,) float32, and entropies in nats (T,) float32 or None.
    """
    lm_head = head(model)
    parts = list(zip(torch.split(packed.states, chunk), torch.split(packed.targets, chunk), strict=True))
    parts += [(packed.states[:0], packed.targets[:0])] * (_passes(lm_head, len(parts)) - len(parts))
    again = torch.is_grad_enabled() and len(parts) > 1
    found = [
        checkpoint(_score_chunk, lm_head, *part, temperature, entropy, use_reentrant=False, preserve_rng_state=False)
        if again
        else _score_chunk(lm_head, *part, temperature, entropy)
        for part in parts
    ]
    columns = [torch.cat(column) for column in zip(*found, strict=True)]
    return columns[0], columns[1] if entropy else None


def _passes(lm_head: Any, own: int) -> int:
    """Return how often to call the head: ZeRO-3 gathers it for each call, so all processes make equally many."""
    if not hasattr(lm_head.weight, "ds_id"):
        return own
    most = torch.tensor(own, device=lm_head.weight.device)
    torch.distributed.all_reduce(most, torch.distributed.ReduceOp.MAX)
    return int(most)


def _score_chunk(
    lm_head: Any, states: Tensor, targets: Tensor, temperature: float, entropy: bool
) -> tuple[Tensor, ...]:
    """Return log-probabilities (c,) and, on request, entropies (c,) for states (c, D) and targets (c,)."""
    logits: Tensor = lm_head(states).float()
    if temperature != 1.0:
        logits = logits / temperature
    total = logits.logsumexp(1)
    logprobs = logits.gather(1, targets[:, None])[:, 0] - total
    if not entropy:
        return (logprobs,)
    with torch.no_grad():  # it is watched, not learned from: kept for a backward pass it would be most of the memory
        # sum of p (total - logit); -inf logits have weight 0, and 0 * inf would be NaN
        shares = (logits - total[:, None]).exp_()
        mean = shares.mul_(logits.clamp(min=torch.finfo(logits.dtype).min)).sum(1)
    return logprobs, total.detach() - mean
