"""The packed path equals G separate forward passes of the plain model: values, entropies, gradients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_groups import RAGGED, make_group, make_prompted, plain_model, separate_log_probs
from grpo_runs import grpo_settings
from hypothesis import given
from hypothesis import strategies as st
from sft_models import FAMILIES

from zoomzero.policy.local.attention.packed import core, fill_rows
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine.build import make_reference
from zoomzero.train.engine.loading import add_adapter, load_trained
from zoomzero.train.rollouts.scores import GroupScores, PackedGroups, pack_groups, plan_rows
from zoomzero.train.settings import LoraSettings

TEMPERATURE, CHUNK = 0.7, 5
pytestmark = pytest.mark.filterwarnings("ignore:.*checkpointing.* is deprecated:FutureWarning")  # renamed after 5.17


def words_of(policy: Any) -> list[int]:
    """Tokens that a completion may hold: no vision tokens."""
    size = policy.builder.codec.size
    return [i for i in range(size) if i not in policy.builder.codec.special_ids]


def make_batch(family: str, policy: Any) -> tuple[list[Any], list[Any]]:
    """Three groups of ragged completions after prompts of different lengths, the longest first."""
    groups = [make_group(i, lengths, words_of(policy)) for i, lengths in enumerate(RAGGED)]
    asked = [(8, "Which symbol is on the red circle?\n"), (6, "What?\n"), (4, "What?\n")]
    return groups, [make_prompted(family, g, *one) for g, one in zip(groups, asked, strict=True)]


def order_of(packed: PackedGroups, groups: list[Any]) -> list[int]:
    return [groups.index(group) for group in packed.groups]


def stir(model: Any) -> None:
    """Give adapters the same weights everywhere, and make them change something: they start at 0."""
    generator = torch.Generator().manual_seed(9)
    for name, weight in model.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.2


def gradients(model: Any, log_probs: torch.Tensor) -> dict[str, torch.Tensor]:
    weights = torch.randn(len(log_probs), generator=torch.Generator().manual_seed(5))
    model.zero_grad()
    (log_probs * weights).sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="module")
def plain_models(family_checkpoints: dict[str, Path]) -> dict[str, Any]:
    return {family: plain_model(where) for family, where in family_checkpoints.items()}


WAYS = [(f, how, again) for f in FAMILIES for how in ("full", "full+vision", "lora") for again in ("keep", "recompute")]


@pytest.fixture(params=WAYS, ids="-".join)
def learner(
    request: pytest.FixtureRequest, family_checkpoints: dict[str, Path], plain_models: dict[str, Any]
) -> Iterator[tuple[str, Any, Any, bool]]:
    """(family, the policy that learns, the plain model with the same weights, whether the tower learns too)."""
    family, how, again = request.param
    changes: dict[str, Any] = {"model": str(family_checkpoints[family]), "train_vision": how == "full+vision"}
    changes["gradient_checkpointing"] = again == "recompute"
    if how == "lora":
        changes["lora"] = {"rank": 4, "alpha": 8}
    policy = load_trained(grpo_settings(changes))
    layers = core(policy.model).language_model.layers
    assert all(layer.gradient_checkpointing is (again == "recompute") for layer in layers)
    if how != "full+vision":
        policy.features = FeatureCache(8 << 20)
    plain = plain_models[family]
    if how == "lora":
        plain = add_adapter(plain_model(family_checkpoints[family]), LoraSettings(rank=4, alpha=8))
        for model in (policy.model, plain):
            stir(model)
    yield family, policy, plain, how == "full+vision"
    plain.zero_grad()


def test_values_and_gradients_equal_separate_forwards(learner: tuple[str, Any, Any, bool]) -> None:
    family, policy, plain, sees = learner
    policy.model.train()
    groups, prompted = make_batch(family, policy)
    packed = pack_groups(policy, groups, prompted, frozen_vision=not sees)
    order = order_of(packed, groups)
    assert order == [2, 1, 0], "the shortest prompt first"
    scores = GroupScores(policy.model, TEMPERATURE, CHUNK)
    found = scores(packed.prompts, packed.completions, packed.features, entropy=True)
    mine = gradients(policy.model, found["log_probs"])
    expected, entropies = separate_log_probs(
        plain, policy, [groups[i] for i in order], [prompted[i] for i in order], TEMPERATURE
    )
    theirs = gradients(plain, expected)
    torch.testing.assert_close(found["log_probs"], expected, atol=2e-5, rtol=1e-5)
    torch.testing.assert_close(found["entropy"], entropies, atol=2e-5, rtol=1e-5)
    learned = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert mine.keys() == learned
    assert any("visual" in name for name in learned) is sees
    assert all("lora_" in name for name in learned) or not any("lora_" in name for name in learned)
    for name in learned:
        grad = theirs[name]
        assert (mine[name] - grad).abs().max() <= 3e-5 * grad.abs().max() + 1e-6, name
        assert grad.abs().max() > 0 or "visual" in name


def test_groups_do_not_see_each_other(family_checkpoints: dict[str, Path]) -> None:
    """A group scores the same alone and beside others, and so does a completion."""
    policy = load_policy(family_checkpoints["qwen3_vl"], device="cpu")
    policy.features = FeatureCache(8 << 20)
    scores = GroupScores(policy.model, 1.0, 1024)
    groups, prompted = make_batch("qwen3_vl", policy)

    def score(some: list[Any]) -> dict[int, list[torch.Tensor]]:
        packed = pack_groups(policy, some, [prompted[g.index] for g in some], frozen_vision=True)
        with torch.no_grad():
            values = packed.split(scores(packed.prompts, packed.completions, packed.features)["log_probs"])
        found = iter(values)
        return {group.index: [next(found) for _ in group.rollouts] for group in packed.groups}

    together = score(groups)
    for group in groups:
        for alone, beside in zip(score([group])[group.index], together[group.index], strict=True):
            torch.testing.assert_close(alone, beside, atol=1e-5, rtol=1e-5)


def test_reference_under_lora_is_the_start_model(family_checkpoints: dict[str, Path]) -> None:
    where = str(family_checkpoints["qwen3_vl"])
    settings = grpo_settings({"model": where, "lora": {"rank": 4}})
    policy = load_trained(settings)
    policy.features = FeatureCache(8 << 20)
    stir(policy.model)
    reference = make_reference(settings, policy)
    assert reference is not None
    packed = pack_groups(policy, *make_batch("qwen3_vl", policy), frozen_vision=True)
    start = load_policy(where, device="cpu")
    with torch.no_grad():
        expected = GroupScores(start.model, 1.0, 1024)(packed.prompts, packed.completions, packed.features)
        trained = GroupScores(policy.model, 1.0, 1024)(packed.prompts, packed.completions, packed.features)
    found = reference.log_probs(packed)
    assert torch.equal(found, expected["log_probs"])
    assert not torch.allclose(found, trained["log_probs"], atol=1e-2)
    assert not found.requires_grad
    assert any(p.requires_grad for p in policy.model.parameters()), "the adapter learns on"


def test_features_come_from_the_cache_and_can_be_learned_beside(family_checkpoints: dict[str, Path]) -> None:
    """Features that rollouts left there in inference mode must not break the backward pass."""
    policy = load_trained(grpo_settings({"model": str(family_checkpoints["qwen2_5_vl"])}))
    policy.features = FeatureCache(8 << 20)
    groups, prompted = make_batch("qwen2_5_vl", policy)
    policy.read_many([one.chat for one in prompted])
    packed = pack_groups(policy, groups, prompted, frozen_vision=True)
    assert policy.features.counts.misses == 9, "2 frames each of 8 + 6 + 4, in rollouts"
    assert all(prompt.patches is None for prompt in packed.prompts)
    GroupScores(policy.model, 1.0, 64)(packed.prompts, packed.completions, packed.features)[
        "log_probs"
    ].sum().backward()
    assert policy.model.model.language_model.norm.weight.grad is not None


def test_padding_splitting_and_filling(family_policies: dict[str, Any]) -> None:
    policy = family_policies["qwen3_vl"]
    policy.features = None
    groups, prompted = make_batch("qwen3_vl", policy)
    packed = pack_groups(policy, groups[:2], prompted[:2], frozen_vision=False)
    assert order_of(packed, groups) == [1, 0]
    assert packed.tokens == sum(map(len, packed.prompts)) + 4 + 4 + 5 + 3 + 7 + 1
    values = torch.arange(24.0)
    assert [len(part) for part in packed.split(values)] == [4, 4, 5, 3, 7, 1]
    padded = packed.padded(values, fill=-1.0)
    assert padded.shape == (6, 7)
    assert padded[0].tolist() == [0, 1, 2, 3, -1, -1, -1]
    assert padded[5].tolist() == [23, -1, -1, -1, -1, -1, -1]
    filled = packed.filled(values / 3, None)
    assert [group.index for group in filled] == [1, 0]
    stored = [r.old_log_probs for group in filled for r in group.rollouts]
    assert [x for part in stored if part is not None for x in part] == (values / 3).tolist()
    assert all(r.ref_log_probs is None for group in filled for r in group.rollouts)
    assert filled[1].rollouts[2].token_ids == groups[0].rollouts[2].token_ids


def test_rows_are_planned_by_prompt_length(family_policies: dict[str, Any]) -> None:
    policy = family_policies["qwen3_vl"]
    groups, prompted = make_batch("qwen3_vl", policy)
    packed = pack_groups(policy, groups, prompted, frozen_vision=False)
    prompts = {g.index: len(p) for g, p in zip(packed.groups, packed.prompts, strict=True)}
    sizes = [prompts[i] + sum(RAGGED[i]) for i in range(3)]
    assert prompts[2] < prompts[1] < prompts[0]
    assert plan_rows(policy, groups, prompted, 10**6) == [[2, 1, 0]]
    assert plan_rows(policy, groups, prompted, 1) == [[2], [1], [0]]
    assert plan_rows(policy, groups, prompted, sizes[2] + sizes[1]) == [[2, 1], [0]]
    assert plan_rows(policy, groups, prompted, sizes[2] + sizes[1] - 1)[0] == [2]


@given(st.lists(st.integers(1, 100), max_size=20), st.integers(1, 200))
def test_filling_rows(sizes: list[int], most: int) -> None:
    rows = fill_rows(sizes, most)
    assert [i for row in rows for i in row] == list(range(len(sizes)))
    assert all(len(row) == 1 or sum(sizes[i] for i in row) <= most for row in rows)
    for row, after in pairwise(rows):  # a row ends only where the next would not fit
        assert sum(sizes[i] for i in row) + sizes[after[0]] > most
