"""Supervised fine-tuning on real videos: one mean over an update, features kept, videos read ahead and replaced."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sft_models import SETTINGS, TWO_ROWS

from zoomzero.config import ModelSettings
from zoomzero.data.example import read_examples, write_examples
from zoomzero.errors import ConfigError, TrainingError
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine import sft, sft_trainer
from zoomzero.train.engine.sft import SFTLoss, train
from zoomzero.train.engine.sft_samples import ExampleSFTSamples, pack_sft_samples
from zoomzero.train.engine.sft_trainer import SampleLoader, plan_sft_rows
from zoomzero.train.merge import merge
from zoomzero.train.settings import SftSettings
from zoomzero.video.types import Geometry

GEOMETRY = Geometry(16)


def settings_of(model: Path | str, out: Path, examples: Path, **changes: Any) -> SftSettings:
    """One update of four samples in two rows."""
    values: dict[str, Any] = {
        "model": str(model),
        "out": str(out),
        "examples": str(examples),
        "steps": 1,
        "save_every": 1,
        "keep": 5,
    }
    return SftSettings.model_validate(TWO_ROWS | values | changes)


def losses(out: Path, step: int) -> list[float]:
    log = json.loads((out / f"checkpoint-{step}" / "trainer_state.json").read_text())["log_history"]
    return [row["loss"] for row in log if "loss" in row]


def same(one: Path, other: Path, name: str = "model.safetensors") -> bool:
    mine, theirs = load_file(one / name), load_file(other / name)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


@pytest.mark.parametrize("shape", [(4, 1), (1, 4)], ids=["one-row", "four-rows"])
def test_the_loss_is_one_mean_over_the_update(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path, shape: tuple[int, int]
) -> None:
    """However many rows it is accumulated over: the mean over all four samples' tokens, not a mean of rows' means."""
    model = family_checkpoints["qwen3_vl"]
    rows = dict(zip(("samples_per_row", "rows_per_step"), shape, strict=True))
    out = tmp_path / "run"
    train(settings_of(model, out, small_world, **rows))
    policy = load_policy(model, device="cpu")
    samples = ExampleSFTSamples(read_examples(small_world), SETTINGS, policy.geometry, seed=0)
    parts = [pack_sft_samples([samples(i)], policy.builder, policy.end_of_turn) for i in range(4)]
    weights = [float(sum(w.sum() for group in part.weights for w in group)) for part in parts]
    with torch.no_grad():
        means = [float(SFTLoss(policy.model)(part)["loss"]) for part in parts]
    whole = sum(mean * weight for mean, weight in zip(means, weights, strict=True)) / sum(weights)
    assert whole != pytest.approx(sum(means) / 4, rel=1e-3), "the two means differ here"
    assert losses(out, 1) == [pytest.approx(whole, rel=1e-4)]


def test_rows_hold_no_more_than_they_may(family_policies: dict[str, Any], small_world: Path, tmp_path: Path) -> None:
    """Samples by length, as many as tokens and count allow; more rows where the other processes need more."""
    policy = family_policies["qwen3_vl"]
    samples = ExampleSFTSamples(read_examples(small_world), SETTINGS, policy.geometry)
    read = [samples(i) for i in range(4)]
    sizes = sorted(pack_sft_samples([one], policy.builder, policy.end_of_turn).tokens for one in read)

    def planned(row_tokens: int, per_row: int, agree: Any = lambda count: count) -> list[int]:
        settings = settings_of("tiny", tmp_path, small_world, row_tokens=row_tokens, samples_per_row=per_row)
        rows = plan_sft_rows(read, policy.builder, policy.end_of_turn, settings, agree)
        assert sum(row.packed.tokens for row in rows) == sum(sizes)
        return [len(row.samples) for row in rows]

    assert planned(10**6, 4) == [4]
    assert planned(10**6, 3) == [3, 1]
    assert planned(1, 4) == [1, 1, 1, 1]
    assert planned(10**6, 4, lambda count: 3) == [1, 1, 2]
    assert planned(10**6, 4, lambda count: max(count, 4)) == [1, 1, 1, 1]


def test_features_of_a_frozen_tower_are_kept(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight samples about two videos: the tower runs in the first epoch alone, and what is learned is the same."""
    kept: list[Any] = []
    make = sft_trainer.FeatureCache

    def noted(*arguments: Any) -> Any:
        kept.append(make(*arguments))
        return kept[-1]

    monkeypatch.setattr(sft_trainer, "FeatureCache", noted)
    model = family_checkpoints["qwen3_vl"]
    for name, size in (("kept", 64), ("anew", 0)):
        data = {"feature_cache_mb": size}
        train(settings_of(model, tmp_path / name, small_world, steps=2, data=data))
    first, second = (cache.counts for cache in kept)
    assert first.misses > 0
    assert first.memory_hits + first.repeats > 0.4 * first.lookups, "the second epoch sees what the first has seen"
    assert second.memory_hits == 0
    assert same(tmp_path / "kept" / "checkpoint-2", tmp_path / "anew" / "checkpoint-2")


def test_a_longer_run_goes_on_from_a_shorter_one(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path
) -> None:
    """`steps` may be raised at a resume, and what comes out is the run that was longer from the start."""
    model = family_checkpoints["qwen3_vl"]
    train(settings_of(model, tmp_path / "long", small_world, steps=2))
    train(settings_of(model, tmp_path / "short", small_world, steps=1))
    record = train(settings_of(model, tmp_path / "short", small_world, steps=2), resume=True)
    assert record.steps == 2
    assert same(tmp_path / "short", tmp_path / "long")
    assert losses(tmp_path / "short", 2) == losses(tmp_path / "long", 2)
    with pytest.raises(ConfigError, match=r"^--resume: .*other steps; .*--set steps=2"):
        train(settings_of(model, tmp_path / "short", small_world, steps=1), resume=True)


def test_adapters_are_small_and_can_be_merged(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path
) -> None:
    model, out = family_checkpoints["qwen3_vl"], tmp_path / "run"
    changes = {"lora": {"rank": 4, "alpha": 8}, "ask": {"widen_s": 1.5}}
    train(settings_of(model, out, small_world, **changes))
    assert not (out / "model.safetensors").exists()
    assert any(float(value.abs().max()) > 0 for key, value in load_file(out / "adapter_model.safetensors").items())
    merge(str(out), tmp_path / "merged", dtype="float32")
    before, after = load_file(model / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    changed = {name.split(".")[-2] for name in after if not torch.equal(after[name], before[name])}
    assert changed == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert ModelSettings.model_validate_json((tmp_path / "merged" / "zoomzero.json").read_text()).widen_s == 1.5


def test_processes_read_what_one_would(small_world: Path, tmp_path: Path) -> None:
    """The next update's samples are under way when one is taken."""
    samples = ExampleSFTSamples(read_examples(small_world), SETTINGS, GEOMETRY, seed=3)
    step = [0]
    settings = settings_of("tiny", tmp_path, small_world, steps=3)
    loaders = [SampleLoader(samples, settings, tmp_path, rank, 2, lambda: step[0]) for rank in range(2)]
    alone = SampleLoader(samples, settings, tmp_path, 0, 1, lambda: step[0])
    streams = [iter(loader) for loader in (*loaders, alone)]
    orders = []
    for step[0] in range(3):
        *shares, whole = ([one.items for one in next(stream)["samples"]] for stream in streams)
        assert shares[0] + shares[1] == whole
        assert list(alone._coming) == ([step[0] + 1] if step[0] < 2 else [])
        orders.append(whole)
    assert orders[0] != orders[1], "other questions, or another order of the videos"
    step[0] = 3
    assert [list(stream) for stream in streams] == [[], [], []]
    for loader in (*loaders, alone):
        loader.close()


def test_processes_that_do_not_fit_are_refused(small_world: Path, tmp_path: Path) -> None:
    settings = settings_of("tiny", tmp_path, small_world)
    with pytest.raises(ConfigError, match=r"^samples_per_row x rows_per_step: 4 samples cannot be shared by 3"):
        sft._check(settings, 3)
    with pytest.raises(ConfigError, match=r"^fsdp: one process has nobody to share with"):
        sft._check(settings.model_copy(update={"fsdp": True}), 1)
    staged = SftSettings.model_validate({"model": "tiny", "out": "o", "stages": [{"steps": 1, "clips": 1}]})
    with pytest.raises(ConfigError, match=r"^stages: a step of one reads 1 samples, which 2 processes cannot share"):
        sft._check(staged, 2)


def test_a_video_that_cannot_be_read_is_replaced(small_world: Path, tmp_path: Path) -> None:
    examples = read_examples(small_world)
    (tmp_path / "empty.mp4").write_bytes(b"")
    broken = dataclasses.replace(examples[0], id="broken", video=str(tmp_path / "empty.mp4"))
    samples = ExampleSFTSamples([*examples, broken], SETTINGS, GEOMETRY)

    def read(loader: SampleLoader) -> list[Any]:
        return [loader._taken(loader._pool.submit(loader._read, place), 0).items for place in range(6)]

    allowed = settings_of("tiny", tmp_path, small_world, data={"max_unreadable": 0.9})
    loaders = [SampleLoader(samples, allowed, tmp_path, 0, 1) for _ in range(2)]
    first, again = (read(loader) for loader in loaders)
    assert first == again, "by always the same video"
    assert first[:4] == [samples(place).items for place in range(4)]
    assert loaders[0].unreadable >= 2
    assert loaders[0].seen == 6 + loaders[0].unreadable
    assert "empty.mp4" in (tmp_path / "unreadable.0.txt").read_text()
    strict = SampleLoader(samples, settings_of("tiny", tmp_path, small_world), tmp_path, 0, 1)
    with pytest.raises(TrainingError, match=r" of \d+ videos cannot be read.*empty\.mp4.*raise data\.max_unreadable"):
        read(strict)
    for one in (*loaders, strict):
        one.close()


def test_a_loss_that_is_not_finite_ends_the_run(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path
) -> None:
    settings = settings_of(family_checkpoints["qwen3_vl"], tmp_path / "run", small_world, learning_rate=1e30, steps=3)
    with pytest.raises(TrainingError, match=r"is not finite; start again in another directory with a lower"):
        train(settings)


def test_examples_that_must_stay_unseen_are_refused(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path
) -> None:
    """And nothing is left behind that the second try would stumble on."""
    write_examples(tmp_path / "test.jsonl", read_examples(small_world)[:1])
    data = {"evaluation": [str(tmp_path / "test.jsonl")]}
    settings = settings_of(family_checkpoints["qwen3_vl"], tmp_path / "run", small_world, data=data)
    with pytest.raises(ConfigError, match=r"evaluation"):
        train(settings)
    assert not (tmp_path / "run").exists()
