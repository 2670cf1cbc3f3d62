"""The GRPO step: losses by hand, however groups are packed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_groups import RAGGED, make_group, plain_model, separate_log_probs
from grpo_runs import grpo_settings

from zoomzero.config import lay_over
from zoomzero.data.example import Example, read_examples
from zoomzero.errors import ConfigError, TrainingError
from zoomzero.train.engine.build import make_trainer
from zoomzero.train.engine.grpo import GrpoTrainer
from zoomzero.train.rollouts.record import RolloutGroup, read_groups
from zoomzero.train.run.monitor import pooled

pytestmark = pytest.mark.filterwarnings("ignore:.*checkpointing.* is deprecated:FutureWarning")  # renamed after 5.17


@pytest.fixture(scope="module")
def examples(small_world: Path) -> list[Example]:
    return read_examples(small_world)


def trainer_of(out: Path, model: Path | str, examples: Sequence[Example], changes: dict[str, Any]) -> GrpoTrainer:
    """A trainer that is ready to take its first step."""
    out.mkdir(exist_ok=True)
    settings = grpo_settings(lay_over({"model": str(model), "out": str(out)}, changes))
    return make_trainer(settings, examples, [], 0, 1, ())


def hand_groups(trainer: GrpoTrainer, examples: Sequence[Example]) -> list[RolloutGroup]:
    """Three groups of ragged completions, each about an example of its own."""
    codec = trainer.policy.builder.codec
    words = [i for i in range(codec.size) if i not in codec.special_ids]
    return [make_group(i, lengths, words, examples[i]) for i, lengths in enumerate(RAGGED)]


def step(trainer: GrpoTrainer, groups: Sequence[RolloutGroup]) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of an update and its gradients."""
    trainer.model.zero_grad()
    loss = float(trainer.training_step(trainer.model, {"groups": list(groups)}))
    return loss, {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}


def alike(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], by: float = 2e-5) -> None:
    assert ours.keys() == theirs.keys()
    for name, grad in theirs.items():
        assert (ours[name] - grad).abs().max() <= by * grad.abs().max() + 1e-7, name


# --- the loss of an update ---


@pytest.mark.parametrize("how", ["full", "lora"])
@pytest.mark.parametrize("loss_type", ["dapo", "grpo", "dr_grpo"])
def test_loss_does_not_depend_on_how_groups_are_packed(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path, loss_type: str, how: str
) -> None:
    changes = {"objective": {"loss": {"loss_type": loss_type, "beta": 0.1, "completion_length": 9}}}
    changes |= {"lora": {"rank": 2}} if how == "lora" else {}
    found: list[tuple[int, float, dict[str, torch.Tensor]]] = []
    sizes: list[int] = []
    for together in (1, 2, 3):  # so many groups fit into the first row
        changes["row_tokens"] = sum(sizes[:together]) or 1
        trainer = trainer_of(tmp_path, family_checkpoints["qwen3_vl"], examples, changes)
        for i, (name, weight) in enumerate(trainer.model.named_parameters()):
            if "lora_" in name:
                weight.data = torch.randn(weight.shape, generator=torch.Generator().manual_seed(i)) * 0.1
        groups = trainer._with_log_probs(hand_groups(trainer, examples))
        rows = trainer._rows(groups)
        sizes = sizes or [row.tokens for row in trainer._packed(groups, rows)]
        found.append((len(rows), *step(trainer, groups)))
    assert [rows for rows, _, _ in found] == [3, 2, 1]
    (_, loss, grads), *others = found
    for _, other, gradients in others:
        assert other == pytest.approx(loss, abs=2e-6)
        alike(gradients, grads, by=1e-4)


def test_loss_by_hand(family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path) -> None:
    """From transformers' own log-probabilities: -mean(ratio A) + kl mean(k3), values and gradients."""
    changes = {"objective": {"loss": {"beta": 0.1, "epsilon": 0.9, "epsilon_high": 9.0}}, "head_chunk": 7}
    where = family_checkpoints["qwen2_5_vl"]
    trainer = trainer_of(tmp_path, where, examples, changes)
    groups = trainer._with_log_probs(hand_groups(trainer, examples))
    plain = plain_model(where)
    for model in (trainer.policy.model, plain):  # an update was made since the rollouts
        model.model.language_model.norm.weight.data *= 1.1
    loss, grads = step(trainer, groups)
    prompted = [trainer.collector.prompt_of(group) for group in groups]
    new, _ = separate_log_probs(plain, trainer.policy, groups, prompted)
    old, reference, advantages = (
        torch.tensor([x for g in groups for r in g.rollouts for x in getattr(r, name)])
        for name in ("old_log_probs", "ref_log_probs", "advantages")
    )
    assert not torch.allclose(new, old, atol=1e-3)
    k3 = torch.exp(reference - new) - (reference - new) - 1
    expected = (-(new - old).exp() * advantages + 0.1 * k3).mean()
    expected.backward()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-6)
    tower_is_frozen = {
        name: p.grad for name, p in plain.named_parameters() if p.grad is not None and "visual" not in name
    }
    alike(grads, {f"model.{name}": grad for name, grad in tower_is_frozen.items()}, by=1e-4)


def test_a_teacher_credits_every_token(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path
) -> None:
    """At ratio 1 the loss is -mean(A + weight (log p_teacher - log p)), with the teacher's own log-probabilities."""
    where = family_checkpoints["qwen3_vl"]
    changes = {"teacher": {"model": str(where), "weight": 0.5, "most": 0.01}, "objective": {"loss": {"beta": 0.0}}}
    trainer = trainer_of(tmp_path, where, examples, changes)
    plain = plain_model(where)
    for model in (trainer.teacher.policy.model, plain):  # another model than the one that learns
        model.model.language_model.norm.weight.data *= 1.1
    groups = trainer._with_log_probs(hand_groups(trainer, examples))
    prompted = [trainer.collector.prompt_of(group) for group in groups]
    with torch.no_grad():
        expected, _ = separate_log_probs(plain, trainer.policy, groups, prompted)
    teacher, old, advantages = (
        torch.tensor([x for g in groups for r in g.rollouts for x in getattr(r, name)])
        for name in ("teacher_log_probs", "old_log_probs", "advantages")
    )
    torch.testing.assert_close(teacher, expected, atol=2e-5, rtol=0)
    assert (teacher - old).abs().max() > 0.01, "some differences are cut"
    loss, _ = step(trainer, groups)
    assert loss == pytest.approx(float(-(advantages + 0.5 * (teacher - old).clamp(-0.01, 0.01)).mean()), abs=1e-6)


def test_a_teacher_of_another_family_is_refused(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path
) -> None:
    changes = {"teacher": {"model": str(family_checkpoints["qwen2_5_vl"])}}
    with pytest.raises(ConfigError, match=r"teacher\.model: .* reads other tokens or frames than .*; choose"):
        trainer_of(tmp_path, family_checkpoints["qwen3_vl"], examples, changes)


def test_stored_log_probs_are_those_of_separate_forwards(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path
) -> None:
    where = family_checkpoints["qwen3_vl"]
    trainer = trainer_of(tmp_path, where, examples, {})
    groups = trainer._with_log_probs(hand_groups(trainer, examples))
    prompted = [trainer.collector.prompt_of(group) for group in groups]
    with torch.no_grad():
        expected, _ = separate_log_probs(plain_model(where), trainer.policy, groups, prompted)
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    stored = torch.tensor([x for r in rollouts for x in r.old_log_probs or ()])
    torch.testing.assert_close(stored, expected, atol=2e-5, rtol=1e-5)
    assert [r.ref_log_probs for r in rollouts] == [r.old_log_probs for r in rollouts], "the reference is the start"


@pytest.mark.parametrize(
    ("changes", "old", "reference"),
    [
        ({}, True, True),
        ({"train_batch_size": 1}, False, True),  # one update: the ratio is 1 whatever was stored
        ({"objective": {"loss": {"beta": 0.0}}}, True, False),
        ({"train_batch_size": 1, "objective": {"loss": {"beta": 0.0}}}, False, False),
    ],
)
def test_only_what_updates_need_is_stored(
    family_checkpoints: dict[str, Path],
    examples: list[Example],
    tmp_path: Path,
    changes: dict[str, Any],
    old: bool,
    reference: bool,
) -> None:
    trainer = trainer_of(tmp_path, family_checkpoints["qwen3_vl"], examples, changes)
    for group in trainer._with_log_probs(hand_groups(trainer, examples)):
        for rollout in group.rollouts:
            assert (rollout.old_log_probs is not None) is old
            assert (rollout.ref_log_probs is not None) is reference


@pytest.mark.parametrize("how", ["full", "recompute", "lora"])
def test_the_first_update_of_a_batch_starts_at_ratio_one_and_no_divergence(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path, how: str
) -> None:
    """Exactly: rollouts, reference and update compute the same rows in the same way; also in bfloat16."""
    changes: dict[str, Any] = {"train_batch_size": 4, "mini_batch_size": 2, "bf16": True}
    changes |= {"lora": {"rank": 2}} if how == "lora" else {"gradient_checkpointing": how == "recompute"}
    trainer = trainer_of(tmp_path, family_checkpoints["qwen3_vl"], examples, changes)
    groups = hand_groups(trainer, examples)
    groups = trainer._with_log_probs([*groups, replace(groups[0], index=3)])
    loss, _ = step(trainer, groups[:2])
    logged = pooled([trainer.monitor.take()])
    assert logged["loss/ratio"] == 1.0
    assert logged["loss/kl"] == 0.0
    assert logged["loss/clip_share"] == 0.0
    advantages = [x for g in groups[:2] for r in g.rollouts for x in r.advantages]
    assert loss == pytest.approx(-sum(advantages) / len(advantages), abs=1e-6)


def test_log_probs_are_stored_in_the_rows_of_the_updates(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU in bfloat16 another packing rounds otherwise, so that ratios would not start at 1."""
    changes = {"train_batch_size": 4, "mini_batch_size": 2}
    trainer = trainer_of(tmp_path, family_checkpoints["qwen3_vl"], examples, changes)
    groups = hand_groups(trainer, examples)
    packed: list[list[int]] = []
    forward = trainer.model.forward

    def noted(prompts: Any, *rest: Any, **named: Any) -> Any:
        packed.append([len(prompt) for prompt in prompts])
        return forward(prompts, *rest, **named)

    monkeypatch.setattr(trainer.model, "forward", noted)
    groups = trainer._with_log_probs([*groups, replace(groups[0], index=3)])
    stored, packed[:] = list(packed), []
    for first in (0, 2):
        step(trainer, groups[first : first + 2])
    assert stored == packed
    assert [len(row) for row in stored] == [2, 2]


def test_cut_off_completions_do_not_count_when_masked(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path
) -> None:
    changes = {
        "objective": {"credit": {"mask_truncated_completions": True}, "loss": {"beta": 0.0}},
        "train_batch_size": 1,
    }
    trainer = trainer_of(tmp_path, family_checkpoints["qwen3_vl"], examples, changes)
    group = hand_groups(trainer, examples)[0]
    cut = replace(group, rollouts=(replace(group.rollouts[0], finished=False), *group.rollouts[1:]))
    without = replace(group, rollouts=group.rollouts[1:])
    (loss, grads), (expected, theirs) = step(trainer, [cut]), step(trainer, [without])
    assert loss == pytest.approx(expected, abs=1e-6)
    alike(grads, theirs, by=1e-4)


def test_a_loss_that_is_not_finite_keeps_its_rollouts(
    family_checkpoints: dict[str, Path], examples: list[Example], tmp_path: Path
) -> None:
    trainer = trainer_of(tmp_path, family_checkpoints["qwen3_vl"], examples, {"objective": {"loss": {"beta": 0.0}}})
    groups = hand_groups(trainer, examples)
    trainer.policy.model.model.language_model.norm.weight.data[0] = torch.nan
    with pytest.raises(TrainingError, match="the loss is not finite"):
        trainer.training_step(trainer.model, {"groups": groups})
    (kept,) = tmp_path.glob("failed-step-*.jsonl")
    assert list(read_groups(kept)) == groups
