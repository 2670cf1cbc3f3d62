"""Supervised fine-tuning: the loss is the cross-entropy of the answers, and a resumed run is the run itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sft_models import SETTINGS, make_samples
from transformers import TrainerCallback

from zoomzero.config import ModelSettings, load_model_settings, settings_hash
from zoomzero.data.sft_sample import SFTSample
from zoomzero.errors import ConfigError, DataError, ModelError
from zoomzero.policy.base import Turn
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine import sft
from zoomzero.train.engine.sft import SFTLoss, train
from zoomzero.train.engine.sft_samples import pack_sft_samples
from zoomzero.train.run.progress import RichProgress
from zoomzero.train.settings import SftSettings
from zoomzero.video.types import Geometry
from zoomzero.world.curriculum import Stage

CLIPS = {"steps": 3, "clips": 2, "shortest_s": 6, "longest_s": 10, "questions": 1, "listing": 0.0, "train_vision": True}
ZOOMS = {"steps": 1, "zooms": 1, "contexts": 1, "train_vision": True}


def settings_of(checkpoint: Path | str, out: Path, **changes: Any) -> SftSettings:
    """A run of four tiny steps, three of the first stage and one of the second, that saves every second one."""
    values = {
        "model": str(checkpoint),
        "out": str(out),
        "learning_rate": 1e-2,
        "warmup_steps": 1,
        "bf16": False,
        "save_every": 2,
        "log_every": 2,
        "stages": [CLIPS, ZOOMS],
    }
    return SftSettings.model_validate(values | changes)


class Killed(Exception):
    """Stands for whatever ends a run in the middle."""


class KillAt(TrainerCallback):
    """Ends the run after a step, as a power cut would."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self.step:
            raise Killed


@pytest.fixture(scope="module")
def straight(family_checkpoints: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """An uninterrupted run of four steps."""
    out = tmp_path_factory.mktemp("straight") / "run"
    settings = settings_of(family_checkpoints["qwen3_vl"], out)
    return {"out": out, "settings": settings, "record": train(settings)}


@pytest.fixture
def steps_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps of the curriculum a run asks for, in order."""
    read: list[int] = []
    make = sft.step_samples

    def noted(seed: int, step: int, *rest: Any) -> list[SFTSample]:
        read.append(step)
        return make(seed, step, *rest)

    monkeypatch.setattr(sft, "step_samples", noted)
    return read


def inference_loss(policy: Any, samples: list[SFTSample]) -> float:
    """The weighted mean of what inference says each answer costs: the whole prompt read, then the answer scored."""
    total = counted = 0.0
    for sample in samples:
        for item in sample.items:
            context = policy.read([Turn("user", (sample.clip, sample.header + item.text))])
            (scores,) = policy.score_tokens(context, [item.target], end=True)
            weights = [item.weight] * len(scores)
            if item.untrained:
                weights[1] = 0.0  # the letter after <answer>
            total -= sum(weight * score for weight, score in zip(weights, scores, strict=True))
            counted += sum(weights)
    return total / counted


def packed_loss(policy: Any, samples: list[SFTSample]) -> float:
    packed = pack_sft_samples(samples, policy.builder, policy.end_of_turn)
    with torch.no_grad():
        return float(SFTLoss(policy.model)(packed)["loss"])


def test_loss_is_the_cross_entropy_of_each_item_alone(
    family_checkpoints: dict[str, Path], family_policies: dict[str, Any]
) -> None:
    """By hand from transformers' own forward, one row for each item, with its own positions and masks."""
    from transformers import AutoModelForImageTextToText

    policy, samples = family_policies["qwen3_vl"], make_samples("qwen3_vl")
    plain = AutoModelForImageTextToText.from_pretrained(family_checkpoints["qwen3_vl"], dtype=torch.float32).eval()
    total = counted = 0.0
    for sample in samples:
        for item in sample.items:
            prompt = policy.builder.build([Turn("user", (sample.clip, sample.header + item.text))])
            target = [*policy.builder.codec.encode(item.target), policy.end_of_turn]
            ids = torch.cat([prompt.ids, torch.tensor(target)])
            kinds = torch.zeros_like(ids)
            kinds[prompt.visual_index] = 2
            with torch.no_grad():
                logits = plain(
                    input_ids=ids[None],
                    mm_token_type_ids=kinds[None],
                    pixel_values_videos=prompt.patches,
                    video_grid_thw=prompt.grids,
                ).logits[0]
            weights = [item.weight] * len(target)
            if item.untrained:
                weights[1] = 0.0  # the letter after <answer>
            for i, (token, weight) in enumerate(zip(target, weights, strict=True)):
                row = logits[len(prompt) + i - 1]
                total += weight * float(row.logsumexp(0) - row[token])
                counted += weight
    loss = packed_loss(policy, samples)
    assert loss == pytest.approx(total / counted, rel=1e-5)
    assert loss == pytest.approx(inference_loss(policy, samples), rel=1e-5)
    assert 0.5 < loss < 50


def test_loss_of_qwen25_with_text_beside_time_is_what_inference_says(family_checkpoints: dict[str, Path]) -> None:
    settings = ModelSettings(text_after_time=False)
    policy = load_policy(family_checkpoints["qwen2_5_vl"], device="cpu", settings=settings)
    samples = make_samples("qwen2_5_vl")
    assert packed_loss(policy, samples) == pytest.approx(inference_loss(policy, samples), rel=1e-5)


def test_loss_of_qwen25_is_what_inference_says(family_policies: dict[str, Any]) -> None:
    policy, samples = family_policies["qwen2_5_vl"], make_samples("qwen2_5_vl")
    assert packed_loss(policy, samples) == pytest.approx(inference_loss(policy, samples), rel=1e-5)


def test_how_a_run_asks_reaches_the_model_and_its_settings_file(
    family_checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ask` lies over the checkpoint's own settings, in the positions that are trained on and in what is saved."""
    where, loaded = family_checkpoints["qwen2_5_vl"], []
    load_trained = sft.load_trained
    own = load_model_settings(where).text_after_time

    def watched(*args: Any, **kwargs: Any) -> Any:
        loaded.append(load_trained(*args, **kwargs))
        return loaded[-1]

    monkeypatch.setattr(sft, "load_trained", watched)
    one = {"steps": 1, "clips": 1, "shortest_s": 6, "longest_s": 8, "questions": 1, "listing": 0.0}
    train(settings_of(where, tmp_path / "run", stages=[one], ask={"text_after_time": not own}))
    assert loaded[0].family.text_after_time is not own
    assert load_model_settings(tmp_path / "run").text_after_time is not own


def test_run_changes_every_kind_of_weight_and_stays_finite(
    straight: dict[str, Any], family_checkpoints: dict[str, Path]
) -> None:
    before = load_file(family_checkpoints["qwen3_vl"] / "model.safetensors")
    after = load_file(straight["out"] / "checkpoint-4" / "model.safetensors")
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert torch.isfinite(value).all(), name
    for part in ("visual.patch_embed", "visual.merger", "visual.deepstack", "embed_tokens", "layers.0.self_attn"):
        names = [name for name in after if part in name]
        assert names
        assert any(not torch.equal(after[name], before[name]) for name in names), part


def test_killed_run_goes_on_as_if_nothing_had_happened(
    straight: dict[str, Any], family_checkpoints: dict[str, Path], tmp_path: Path, steps_read: list[int]
) -> None:
    out = tmp_path / "run"
    settings = settings_of(family_checkpoints["qwen3_vl"], out)
    with pytest.raises(Killed):
        train(settings, callbacks=[KillAt(3)])
    assert steps_read[:3] == [0, 1, 2], "one row a step"
    steps_read.clear()
    assert [p.name for p in out.glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (out / "training.json").exists()
    record = train(settings, resume=True)
    assert steps_read == [2, 3], "what the checkpoint has learned is not read again; the curriculum goes on"
    assert record.steps == 4
    assert record.final_loss == straight["record"].final_loss
    for name in ("checkpoint-4/model.safetensors", "model.safetensors"):
        mine, theirs = load_file(out / name), load_file(straight["out"] / name)
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[key], theirs[key]) for key in mine), name
    mine, theirs = (torch.load(p / "checkpoint-4" / "optimizer.pt") for p in (out, straight["out"]))
    for index, state in mine["state"].items():
        assert all(
            torch.equal(torch.as_tensor(v), torch.as_tensor(theirs["state"][index][k])) for k, v in state.items()
        )


def test_finished_run_that_is_resumed_stays_as_it_is(
    straight: dict[str, Any], family_checkpoints: dict[str, Path], tmp_path: Path, steps_read: list[int]
) -> None:
    shutil.copytree(straight["out"], tmp_path / "run")
    record = train(settings_of(family_checkpoints["qwen3_vl"], tmp_path / "run"), resume=True)
    assert steps_read == [], "it goes on from the later of its two checkpoints"
    assert (record.steps, record.final_loss) == (4, straight["record"].final_loss)
    mine, theirs = (load_file(p / "model.safetensors") for p in (tmp_path / "run", straight["out"]))
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_finished_run_is_a_checkpoint_like_any_other(straight: dict[str, Any]) -> None:
    out = straight["out"]
    policy = load_policy(out, device="cpu")
    assert load_model_settings(out) == SETTINGS
    assert {value.dtype for value in load_file(out / "model.safetensors").values()} == {torch.float16}
    exact = load_file(out / "checkpoint-4" / "model.safetensors")
    for name, value in policy.model.state_dict().items():
        if name in exact:
            assert torch.equal(value, exact[name].half().float()), name


def test_training_record_says_how_it_was_made(straight: dict[str, Any]) -> None:
    import transformers

    import zoomzero

    row = json.loads((straight["out"] / "training.json").read_text())
    assert row["settings"] == straight["settings"].model_dump(mode="json")
    assert [stage["steps"] for stage in row["settings"]["stages"]] == [3, 1]
    assert row["data"] == {"world_seed": 1}
    assert row["settings_hash"] == settings_hash(straight["settings"])
    assert row["steps"] == straight["record"].steps == 4
    assert row["minutes"] >= 0
    assert row["device"]
    assert row["versions"] == {
        "zoomzero": zoomzero.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    log = json.loads((straight["out"] / "checkpoint-4" / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert len(losses) == 2
    assert row["final_loss"] == pytest.approx(float(losses[-1]), abs=1e-4)
    assert losses[0] != losses[1], "the last one, not the mean of both, is reported"


def test_steps_lower_the_loss_on_a_sample_seen_again(family_checkpoints: dict[str, Path]) -> None:
    policy = load_policy(family_checkpoints["qwen3_vl"], device="cpu")
    packed = pack_sft_samples(make_samples("qwen3_vl"), policy.builder, policy.end_of_turn)
    policy.model.train().requires_grad_(True)
    loss_of = SFTLoss(policy.model)
    optimizer = torch.optim.AdamW(loss_of.parameters(), 1e-2)
    losses = []
    for _ in range(6):
        optimizer.zero_grad()
        loss = loss_of(packed)["loss"]
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0], losses


def test_run_from_examples_learns_text_alone(
    family_checkpoints: dict[str, Path], small_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps on real files, the vision tower left as it is, with lines of progress on stderr."""
    checkpoint = family_checkpoints["qwen3_vl"]
    changes = {
        "stages": [],
        "steps": 2,
        "rows_per_step": 1,
        "samples_per_row": 2,
        "train_only": "text",
        "log_every": 50,
    }
    settings = settings_of(checkpoint, tmp_path / "run", examples=str(small_world), **changes)
    record = train(settings, callbacks=[RichProgress()])
    assert record.steps == 2
    before = load_file(checkpoint / "model.safetensors")
    after = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert not any("visual" in name for name in changed)
    assert "step 2 of 2  loss " in capsys.readouterr().err


def test_directory_in_use_is_not_overwritten(family_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    settings = settings_of(family_checkpoints["qwen3_vl"], tmp_path)
    with pytest.raises(ConfigError, match=r"^out: .* is not empty; add --resume, or choose another directory$"):
        train(settings)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(ConfigError, match=r"^out: .*notes\.txt is a file; choose a directory$"):
        train(settings_of(family_checkpoints["qwen3_vl"], tmp_path / "notes.txt"))


def test_nothing_to_resume_is_said(family_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with pytest.raises(ConfigError, match=r"^--resume: .*run holds no run; start the run without --resume$"):
        train(settings_of(family_checkpoints["qwen3_vl"], tmp_path / "run"), resume=True)


def test_run_killed_before_its_first_checkpoint_starts_over(straight: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "run" / "checkpoint-2").mkdir(parents=True)  # cut off while it was written: no trainer_state.json
    shutil.copy(straight["out"] / "run.json", tmp_path / "run" / "run.json")
    settings = straight["settings"].model_copy(update={"out": str(tmp_path / "run")})
    assert train(settings, resume=True).steps == 4
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == (straight["out"] / "model.safetensors").read_bytes()


def test_checkpoint_of_another_model_is_not_resumed(
    straight: dict[str, Any], family_checkpoints: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(straight["out"] / "checkpoint-2", tmp_path / "run" / "checkpoint-2")
    shutil.copy(straight["out"] / "run.json", tmp_path / "run" / "run.json")
    weights = load_file(tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    from safetensors.torch import save_file

    weights["model.visual.other"] = torch.zeros(1)
    save_file(weights, tmp_path / "run" / "checkpoint-2" / "model.safetensors")
    with pytest.raises(ConfigError, match=r"--resume: .* holds another model"):
        train(settings_of(family_checkpoints["qwen3_vl"], tmp_path / "run"), resume=True)


def test_start_and_examples_that_cannot_be_read_are_named(family_checkpoints: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none"):
        train(settings_of(tmp_path / "none", tmp_path / "a"))
    changes = {"stages": [], "steps": 1, "examples": str(tmp_path / "none.jsonl")}
    settings = settings_of(family_checkpoints["qwen3_vl"], tmp_path / "b", **changes)
    with pytest.raises(DataError, match=r"none\.jsonl: file: no such file"):
        train(settings)


def test_runs_of_other_seeds_read_other_samples(tmp_path: Path) -> None:
    runs = [settings_of(tmp_path / "unused", tmp_path, world_seed=seed) for seed in (1, 1, 2)]
    stages = [Stage(**stage.model_dump()) for stage in runs[0].stages]
    first, again, other = (sft._step_maker(run, stages, SETTINGS, Geometry(16))(0) for run in runs)
    assert [sample.items for sample in first] == [sample.items for sample in again]
    assert [sample.items for sample in first] != [sample.items for sample in other]


def test_resume_refuses_settings_that_make_another_run(straight: dict[str, Any]) -> None:
    settings: SftSettings = straight["settings"]
    with pytest.raises(ConfigError, match="other samples_per_row"):
        train(settings.model_copy(update={"samples_per_row": settings.samples_per_row + 1}), resume=True)
    others = (settings.stages[0].model_copy(update={"clips": 3}), settings.stages[1])
    with pytest.raises(ConfigError, match="other stages"):
        train(settings.model_copy(update={"stages": others}), resume=True)
