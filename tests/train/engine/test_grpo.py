"""The GRPO step: losses by hand, however groups are packed; and a short real run with everything it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_groups import RAGGED, make_group, plain_model, separate_log_probs
from grpo_runs import SMALL, grpo_settings, make_collector, tiny_settings

from zoomzero import spans
from zoomzero.answer.ask import answer
from zoomzero.config import lay_over, load_model_settings
from zoomzero.data.example import Example, read_examples
from zoomzero.data.manifest import sha256
from zoomzero.errors import ConfigError, TrainingError
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine.build import make_trainer, train
from zoomzero.train.engine.grpo import GrpoTrainer
from zoomzero.train.merge import merge
from zoomzero.train.rollouts.record import RolloutGroup, read_groups
from zoomzero.train.run.monitor import pooled
from zoomzero.train.run.validate import Validation
from zoomzero.train.settings import GrpoSettings
from zoomzero.video.cache import FrameCache

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


# --- a short run ---


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> dict[str, Any]:
    """Three updates of the embedded model, two for each batch of rollouts."""
    out = tmp_path_factory.mktemp("grpo") / "run"
    changes = {
        "out": str(out),
        "steps": 3,
        "learning_rate": 1e-4,
        "data": {"examples": [str(small_world)]},
        "validation": {"examples": str(small_world), "every": 3, "limit": 3},
        "rollout": {"num_generations": 3, "max_new_tokens": 80, "controls": 1, "filter": {"max_tries": 2}},
        "ask": {"max_new_tokens": 80},
        "save_every": 2,
        "save_dtype": "float32",
    }
    values = lay_over(SMALL, changes)
    del values["report_to"]  # the default
    settings = GrpoSettings.model_validate(values)
    record = train(settings)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    watched = [row for row in rows if "validation/answer" in row]
    return {"out": out, "settings": settings, "record": record, "steps": steps, "watched": watched}


def test_log_has_everything_to_watch(run: dict[str, Any]) -> None:
    assert [row["step"] for row in run["steps"]] == [1, 2, 3]
    every = {"loss", "grad_norm", "learning_rate", "tokens_per_second", "memory/peak_mb"}
    every |= {f"loss/{name}" for name in ("clip_share", "clip_low_share", "clip_high_share", "ratio", "kl", "entropy")}
    phases = ("decode", "vision", "prefill", "generate", "zoom", "log_probs", "backward", "optimizer")
    every |= {f"seconds/{name}" for name in phases}
    drawing = {f"{kind}{name}{std}" for kind, std in (("reward/", ""), ("reward/", "_std"), ("zero_variance/", ""))
               for name in ("format", "iou", "answer", "zoom")}  # fmt: skip
    drawing |= {f"completion/{n}" for n in ("tokens", "truncated", "parse_failures", "no_answer", "no_span")}
    drawing |= {"filter/dropped", "filter/filled", "data/unreadable", "zoom/true_span", "zoom/random_span"}
    for row in run["steps"]:
        assert every <= row.keys()
        assert all(isinstance(value, int | float) for value in row.values())
    for row in (run["steps"][0], run["steps"][2]):  # where rollouts are drawn
        assert drawing <= row.keys()
        assert all(row[f"seconds/{name}"] > 0 for name in phases)
    assert not drawing & run["steps"][1].keys()
    assert run["steps"][1]["seconds/generate"] == 0
    assert 0 < run["steps"][0]["completion/tokens"] <= 80
    assert run["steps"][0]["loss/entropy"] > 0


def test_log_says_how_often_features_were_kept(run: dict[str, Any], tmp_path: Path) -> None:
    first, second, third = (row["features/hit_rate"] for row in run["steps"])
    assert second == 1.0, "a batch's later updates encode nothing"
    assert 0.0 < first < 1.0
    assert 0.0 < third <= 1.0
    values = run["settings"].model_dump(mode="json") | {"steps": 1, "validation": {}}
    values["data"] |= {"feature_cache_dir": str(tmp_path / "features")}
    for turn in ("one", "two"):
        train(GrpoSettings.model_validate(values | {"out": str(tmp_path / turn)}))
    rows = [json.loads((tmp_path / turn / "log.jsonl").read_text().splitlines()[0]) for turn in ("one", "two")]
    fresh, kept = (row["features/hit_rate"] for row in rows)
    assert fresh <= first, "nothing was on the disk yet, and no validation came before"
    assert kept > max(fresh, 0.9), "what the first run encoded was read from the disk"


def test_ratios_start_at_one_in_every_batch(run: dict[str, Any]) -> None:
    first, second, third = run["steps"]
    assert first["loss/ratio"] == third["loss/ratio"] == 1.0
    assert first["loss/kl"] == 0.0, "the model is the reference still"
    assert second["loss/ratio"] != 1.0
    assert second["loss/kl"] > 0.0
    assert third["loss/kl"] > 0.0


def test_rollouts_are_written_down(run: dict[str, Any], examples: list[Example]) -> None:
    groups = list(read_groups(run["out"] / "rollouts.jsonl"))
    assert {group.step for group in groups} == {0, 2}
    assert len({group.index for group in groups}) == len(groups) >= 4
    assert all(len(group.rollouts) == 3 for group in groups)
    assert {group.example.id for group in groups} <= {example.id for example in examples}
    for rollout in (rollout for group in groups for rollout in group.rollouts):
        assert rollout.old_log_probs is None, "log-probabilities are for learning"
        assert len(rollout.advantages) == len(rollout.token_ids)
        assert rollout.zoom is not None
    kept = [group for group in groups if group.step == 0][:2]
    rewards = [rollout.rewards.format for group in groups if group.step == 0 for rollout in group.rollouts]
    assert run["steps"][0]["reward/format"] == pytest.approx(sum(rewards) / len(rewards))
    assert [group.index for group in kept] == sorted(group.index for group in kept)


def test_the_record_says_what_was_learned_from(run: dict[str, Any], small_world: Path) -> None:
    record = json.loads((run["out"] / "training.json").read_text())
    assert record["settings"] == run["settings"].model_dump(mode="json")
    assert record["steps"] == run["record"].steps == 3
    assert record["final_loss"] == pytest.approx(run["steps"][-1]["loss"], abs=1e-6)
    data = record["data"]
    assert (data["examples"], data["videos"], data["splits"]) == (5, 2, {"test": {"train": 5}})
    assert data["files"] == [{"file": str(small_world), "sha256": sha256(small_world)}]
    assert data["leaks"]["leaks"] == []


def test_models_are_saved_as_plain_checkpoints(run: dict[str, Any]) -> None:
    out = run["out"]
    assert {path.name for path in out.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-3"}
    last, final = (load_policy(where, device="cpu").model.state_dict() for where in (out / "checkpoint-3", out))
    start = load_policy("tiny", device="cpu").model.state_dict()
    assert all(torch.equal(last[name], final[name]) for name in final)
    changed = {name for name in final if not torch.equal(final[name], start[name])}
    assert changed
    assert not any("visual" in name for name in changed), "the vision tower is frozen"
    assert load_model_settings(out).max_new_tokens == 80, "it is asked later as it was trained"
    for name in ("best-answer", "best-iou"):
        load_policy(out / name, device="cpu")


def test_best_models_are_those_of_the_best_validation(run: dict[str, Any]) -> None:
    out, watched = run["out"], run["watched"]
    assert [row["step"] for row in watched] == [0, 3]
    start = load_policy("tiny", device="cpu").model.state_dict()
    final = load_policy(out, device="cpu").model.state_dict()
    for name in ("answer", "iou"):
        better = watched[1][f"validation/{name}"] > watched[0][f"validation/{name}"]
        best = load_policy(out / f"best-{name}", device="cpu").model.state_dict()
        assert all(torch.equal(best[key], (final if better else start)[key]) for key in best)


def test_tensorboard_reads_the_same_numbers(run: dict[str, Any]) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    (events,) = run["out"].rglob("events.out.tfevents.*")
    held = accumulator.EventAccumulator(str(events))
    held.Reload()
    tags = held.Tags()["scalars"]
    for name in ("reward/iou", "loss/kl", "validation/answer", "seconds/zoom"):
        (tag,) = [one for one in tags if one.removeprefix("train/") == name]
        logged = [row[name] for row in [*run["steps"], *run["watched"]] if name in row]
        assert [event.value for event in held.Scalars(tag)] == pytest.approx(logged)


def test_validation_is_the_coarse_pass_of_the_product(run: dict[str, Any], examples: list[Example]) -> None:
    """Another way through the code: `zoomzero ask --mode coarse`, one question after the other."""
    settings, cache = tiny_settings(max_new_tokens=80), FrameCache(32 << 20)
    for row, where in ((run["watched"][0], "tiny"), (run["watched"][1], run["out"])):
        policy = load_policy(where, device="cpu")
        sums = dict.fromkeys(("answer", "iou", "format"), 0.0)
        for e in examples[:3]:
            trace, _ = answer(policy, settings, e.video, e.question, e.options, mode="coarse", cache=cache)
            sums["answer"] += float(trace.option == e.answer)
            sums["iou"] += spans.iou(trace.spans, e.spans)
            sums["format"] += float(not trace.passes[0].problems)
        for name, total in sums.items():
            assert row[f"validation/{name}"] == pytest.approx(total / 3), name
        assert row["validation/unreadable"] == 0
        assert 0 <= row["validation/zoom"] <= 1


def test_an_unreadable_video_counts_as_wrong_in_validation(
    examples: list[Example], tmp_path: Path, tiny_policy: Any
) -> None:
    settings = grpo_settings({"rollout": {"max_new_tokens": 80}})
    gone = replace(examples[0], video=str(tmp_path / "gone.mp4"))
    found = {}
    for name, held_out in (("all", [examples[1], gone]), ("one", [examples[1]])):
        sums = Validation(held_out, settings).run(make_collector(tiny_policy, examples, settings))
        found[name] = pooled([sums])
    assert found["all"].pop("validation/unreadable") == 0.5
    assert found["one"].pop("validation/unreadable") == 0.0
    assert found["all"] == pytest.approx({name: value / 2 for name, value in found["one"].items()})
    assert set(found["all"]) == {f"validation/{name}" for name in ("format", "iou", "answer", "zoom")}


def test_adapters_are_saved_with_what_merging_needs(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path
) -> None:
    start, out = family_checkpoints["qwen2_5_vl"], tmp_path / "run"
    changes = {
        "model": str(start),
        "out": str(out),
        "steps": 1,
        "train_batch_size": 1,
        "learning_rate": 1e-2,
        "lora": {"rank": 2},
        "data": {"examples": [str(small_world)]},
        "validation": {"examples": str(small_world), "limit": 1, "every": 1},
        "rollout": {"max_new_tokens": 6, "filter": {"max_tries": 1}},
        "ask": {"widen_s": 1.25},
        "objective": {"loss": {"beta": 1.0}},
    }
    settings = grpo_settings(changes)
    train(settings)
    for name in (".", "best-iou", "checkpoint-1"):
        assert (out / name / "adapter_model.safetensors").is_file()
        assert not (out / name / "model.safetensors").exists()
    merge(str(out), tmp_path / "merged", dtype="float32")
    assert load_model_settings(tmp_path / "merged").widen_s == 1.25
    load_policy(tmp_path / "merged", device="cpu")
