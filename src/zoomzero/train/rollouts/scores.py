"""The model as the GRPO trainer sees it: groups of rollouts in, the log-probability of every written token out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from zoomzero.policy.local.attention.packed import Prompt, fill_rows, packed_states, suffix_scores
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.vision import VisualFeatures, join_features, plain_features
from zoomzero.train.rollouts.prompted import Prompted
from zoomzero.train.rollouts.record import RolloutGroup
from zoomzero.train.settings import EngineSettings, GrpoSettings
from zoomzero.video.types import Clip


class GroupScores(nn.Module):
    """Runs prompts, each with its completions, as one packed row: the only path log-probabilities and gradients take.

    Args:
        model: the prepared transformers model, with or without an adapter.
        temperature: that of sampling.
        chunk: tokens whose logits are in memory at once.
    """

    def __init__(self, model: Any, temperature: float, chunk: int) -> None:
        super().__init__()
        self.model, self.temperature, self.chunk = model, temperature, chunk

    def tie_weights(self) -> None:
        """Let the head share the embeddings' weights again, after others moved or loaded them (sharding does)."""
        self.model.tie_weights()

    def forward(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[Tensor]],
        features: VisualFeatures | None = None,
        entropy: bool = False,
    ) -> dict[str, Tensor]:
        """Return `log_probs` (T,) of all completions' tokens in order and, on request, `entropy` (T,)."""
        packed = packed_states(self.model, prompts, completions, features)
        log_probs, spread = suffix_scores(
            self.model, packed, temperature=self.temperature, chunk=self.chunk, entropy=entropy
        )
        return {"log_probs": log_probs} | ({"entropy": spread} if spread is not None else {})


@dataclass(frozen=True, slots=True, eq=False)
class PackedGroups:
    """Several groups ready for one forward pass.

    `completions[i][j]` is (S,) int64, the tokens of rollout j of group i; `features` the visual features of all prompts
    when the vision tower is frozen, else the prompts carry their patches.
    """

    groups: tuple[RolloutGroup, ...]
    prompts: tuple[Prompt, ...]
    completions: tuple[tuple[Tensor, ...], ...]
    features: VisualFeatures | None

    @property
    def tokens(self) -> int:
        """Tokens in the row."""
        return sum(map(len, self.prompts)) + sum(len(c) for group in self.completions for c in group)

    def padded(self, values: Tensor, fill: float = 0.0) -> Tensor:
        """Return (T,) values of all tokens as (N, S), one row for every rollout, padded at the right."""
        return nn.utils.rnn.pad_sequence(self.split(values), batch_first=True, padding_value=fill)

    def split(self, values: Tensor) -> list[Tensor]:
        """Return (T,) values of all tokens as one tensor for every rollout."""
        return list(torch.split(values, [len(c) for group in self.completions for c in group]))

    def filled(self, old: Tensor | None, reference: Tensor | None, teacher: Tensor | None = None) -> list[RolloutGroup]:
        """Return the groups with log-probabilities (T,) of all tokens stored in their rollouts; None: none are."""
        columns = [
            [None] * sum(map(len, self.completions))
            if values is None
            else [tuple(map(float, part.tolist())) for part in self.split(values)]
            for values in (old, reference, teacher)
        ]
        found = zip(*columns, strict=True)
        return [
            replace(
                group,
                rollouts=tuple(
                    replace(rollout, old_log_probs=first, ref_log_probs=second, teacher_log_probs=third)
                    for rollout, (first, second, third) in zip(group.rollouts, found, strict=False)
                ),
            )
            for group in self.groups
        ]


def pack_groups(
    policy: QwenPolicy, groups: Sequence[RolloutGroup], prompted: Sequence[Prompted], *, frozen_vision: bool
) -> PackedGroups:
    """Return groups with the prompts their rollouts were drawn from, the shortest prompt first.

    Args:
        policy: builds the prompts.
        groups: at least one.
        prompted: what the model was asked, for each group.
        frozen_vision: take features from the policy's cache instead of carrying patches.
    """
    built = []
    for group, one in zip(groups, prompted, strict=True):
        clips = [part for turn in one.chat for part in turn.parts if isinstance(part, Clip)]
        prompt = policy.builder.layout(policy.builder.messages(one.chat), () if frozen_vision else clips)
        built.append((group, prompt, clips))
    built.sort(key=lambda parts: len(parts[1]))  # equal lengths side by side are one batch in attention
    features = None
    if frozen_vision:
        with torch.no_grad():
            found = [policy.encode(clips) for _, _, clips in built]
        features = plain_features(join_features([one for one in found if one is not None]))
    return PackedGroups(
        groups=tuple(group for group, _, _ in built),
        prompts=tuple(prompt for _, prompt, _ in built),
        completions=tuple(
            tuple(torch.tensor(r.token_ids, dtype=torch.int64) for r in group.rollouts) for group, _, _ in built
        ),
        features=features,
    )


def plan_rows(
    policy: QwenPolicy, groups: Sequence[RolloutGroup], prompted: Sequence[Prompted], most_tokens: int
) -> list[list[int]]:
    """Return which groups share a forward pass, those with the shortest prompts first.

    Args:
        policy: builds the prompts.
        groups: with their rollouts.
        prompted: what the model was asked, for each group.
        most_tokens: in one row, prompts and completions together; a larger group is a row of its own.
    """
    prompts = [policy.prompt_length(one.chat) for one in prompted]
    sizes = [
        length + sum(len(rollout.token_ids) for rollout in group.rollouts)
        for length, group in zip(prompts, groups, strict=True)
    ]
    return fill_rows(sizes, most_tokens, sorted(range(len(groups)), key=prompts.__getitem__))


class Reference:
    """The frozen start model: a model of its own, or the trained one with its adapter switched off.

    Args:
        policy: the model that answers.
        settings: of the run.
        adapter: a peft model whose adapter is switched off while the reference answers; None: `policy` is a copy.
        visits: the device the model is brought to while it is asked, its weights staying where they are; None: it
            lives where it is asked.
    """

    def __init__(
        self, policy: QwenPolicy, settings: GrpoSettings, adapter: Any = None, visits: torch.device | None = None
    ) -> None:
        self.policy, self.adapter, self.visits = policy, adapter, visits
        self._home: list[tuple[nn.Parameter, Tensor]] = []  # while the model is away: its weights at home
        self.scores = GroupScores(policy.model, settings.rollout.temperature, settings.head_chunk)

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Make the policy the reference for a while."""
        with self.present(), nullcontext() if self.adapter is None else self.adapter.disable_adapter():
            yield

    @contextmanager
    def present(self) -> Iterator[None]:
        """Have the model on the device that asks it; what is asked inside needs no further journey."""
        if self.visits is None or self._home:
            yield
            return
        self._home = [(weight, weight.data) for weight in self.policy.model.parameters()]
        try:
            for weight, at_home in self._home:
                weight.data = at_home.to(self.visits)
            yield
        finally:
            for weight, at_home in self._home:
                weight.data = at_home  # it is frozen: the copy that travelled is dropped
            self._home = []

    def log_probs(self, row: PackedGroups) -> Tensor:
        """Return the reference's log-probability of every token of a row, (T,)."""
        with self.guard(), torch.no_grad():
            scores: Tensor = self.scores(row.prompts, row.completions, row.features)["log_probs"]
        return scores


class Teacher:
    """A model to be imitated, which reads the same tokens and frames with a vision tower of its own.

    Args:
        policy: the model.
        settings: of the run.
    """

    def __init__(self, policy: QwenPolicy, settings: GrpoSettings) -> None:
        self.policy = policy
        self.scores = GroupScores(policy.model, settings.rollout.temperature, settings.head_chunk)

    def log_probs(self, row: PackedGroups, prompted: Sequence[Prompted]) -> Tensor:
        """Return the teacher's log-probability of every token of a row, (T,); `prompted` belongs to its groups."""
        own = pack_groups(self.policy, row.groups, prompted, frozen_vision=True)
        with torch.no_grad():
            scores: Tensor = self.scores(own.prompts, own.completions, own.features)["log_probs"]
        return scores


def computing(settings: EngineSettings, device: torch.device) -> AbstractContextManager[Any]:
    """Return how forward passes compute: rollouts, reference and updates alike, so that ratios start at exactly 1."""
    return torch.autocast(device.type, torch.bfloat16, enabled=settings.in_bf16)
