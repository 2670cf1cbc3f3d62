"""A short run on the embedded model: its log, its record, its rollouts, what it saves and how it validates."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_runs import SMALL, grpo_settings, make_collector, tiny_settings

from zoomzero import spans
from zoomzero.answer.ask import answer
from zoomzero.config import lay_over, load_model_settings
from zoomzero.data.example import Example, read_examples
from zoomzero.data.manifest import sha256
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine.build import train
from zoomzero.train.merge import merge
from zoomzero.train.rollouts.record import read_groups
from zoomzero.train.run.monitor import pooled
from zoomzero.train.run.validate import Validation
from zoomzero.train.settings import GrpoSettings
from zoomzero.video.cache import FrameCache

pytestmark = pytest.mark.filterwarnings("ignore:.*checkpointing.* is deprecated:FutureWarning")  # renamed after 5.17


@pytest.fixture(scope="module")
def examples(small_world: Path) -> list[Example]:
    return read_examples(small_world)


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
    every = {"loss", "grad_norm", "learning_rate", "tokens_per_second", "memory/peak_mb", "minutes"}
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
