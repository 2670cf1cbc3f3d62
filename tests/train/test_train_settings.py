"""Settings of training runs: every one has a sentence, every settings file parses, and the documentation is true."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial, reduce
from pathlib import Path
from typing import Any, get_args

import pytest
from grpo_runs import SMALL, grpo_settings, tiny_settings, write_config
from pydantic import BaseModel, ValidationError

from zoomzero.config import ModelSettings, Settings, load_settings
from zoomzero.errors import ConfigError
from zoomzero.train.credit.advantages import estimator_names
from zoomzero.train.engine.build import arguments
from zoomzero.train.settings import GrpoSettings, SftSettings, load_grpo_settings, schedule_of
from zoomzero.train.settings_table import KINDS, settings_rows, settings_table, with_tables

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "configs").rglob("*.toml"))
PAGE = (ROOT / "docs" / "reference" / "training.md").read_text(encoding="utf-8")
LEAST = 'model = "tiny"\nout = "o"\nsteps = 1\n[data]\nexamples = ["e.jsonl"]\n'


def value_at(settings: BaseModel, name: str) -> Any:
    """The value of a dotted name."""
    return reduce(getattr, name.split("."), settings)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_settings_file_parses(path: Path) -> None:
    """Its first lines say with which command; it writes where no other writes."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(ROOT / "configs").as_posix()
    (command,) = set(re.findall(rf"^#   .*zoomzero (sft|train) configs/{re.escape(name)}$", text, re.MULTILINE))
    settings = load_settings(SftSettings, path) if command == "sft" else load_grpo_settings(str(path))
    others = [other.read_text(encoding="utf-8") for other in CONFIGS if other != path]
    assert settings.out == f"outputs/{name.removesuffix('.toml')}"
    assert not any(f'out = "{settings.out}"' in other for other in others)


@pytest.mark.parametrize("kind", [*KINDS.values(), ModelSettings], ids=lambda kind: kind.__name__)
def test_every_setting_has_a_sentence(kind: type[BaseModel]) -> None:
    rows = list(settings_rows(kind))
    assert len({name for name, _, _ in rows}) == len(rows) > 10
    for name, _, text in rows:
        assert re.fullmatch(r"([A-Z`]|transformers).{12,}\.", text), f"{name}: {text!r} is no sentence"
        assert "|" not in text


STAGE = {"steps": 2, "clips": 1}
RUN = {"model": "random", "out": "o"}
FROM_FILE = {"model": "tiny", "out": "o", "examples": "e.jsonl", "steps": 1}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({**RUN, "steps": 1}, "nothing to learn from: set examples, or stages of the procedural world"),
        ({**RUN, "examples": "e", "stages": [STAGE]}, "examples and stages of the procedural world do not mix"),
        ({**RUN, "stages": [STAGE, STAGE], "steps": 5}, "steps is not the sum of the stages' steps: leave it out"),
        ({**RUN, "model": "tiny", "stages": [STAGE], "vision": {"steps": 1}}, 'set model = "random", or leave'),
        ({**RUN, "stages": [{"steps": 2}]}, "a stage that reads nothing"),
        ({**RUN, "stages": [{**STAGE, "shortest_s": 9, "longest_s": 8}]}, "shortest_s is more than longest_s"),
        ({**RUN, "stages": [{**STAGE, "clips": -1}]}, "greater than or equal to 0"),
        ({**RUN, "stages": [{"clips": 1}]}, "stages.0.steps"),
        ({**RUN, "stages": [STAGE], "optimizer": "sgd"}, "'adamw' or 'muon'"),
        ({**RUN, "stages": [STAGE], "lora": {}}, "stages of the procedural world train all weights: leave [lora] out"),
        ({**RUN, "stages": [STAGE], "fsdp": True}, "stages of the procedural world are not sharded: set fsdp = false"),
        ({**FROM_FILE, "lora": {}, "train_only": "embeddings"}, 'leave train_only = "embeddings" out'),
        ({**FROM_FILE, "fsdp": True, "optimizer": "muon"}, 'muon needs whole matrices: set optimizer = "adamw"'),
        ({**FROM_FILE, "ask": {"cores": 2}}, "cores"),
    ],
)
def test_supervised_runs_that_make_no_sense_are_refused(values: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        SftSettings.model_validate(values)


def test_stages_say_how_many_steps_a_run_has() -> None:
    settings = SftSettings.model_validate({**RUN, "stages": [STAGE, {"steps": 3, "windows": 2, "contexts": 1}]})
    assert settings.steps == 5
    assert [stage.samples for stage in settings.stages] == [1, 3]
    assert SftSettings.model_validate(settings.model_dump()) == settings, "what a run writes down is read back"
    assert SftSettings(model="tiny", out="o", stages=settings.stages).steps == 5


def test_examples_of_a_supervised_run_are_named_in_two_ways() -> None:
    settings = SftSettings.model_validate({**FROM_FILE, "data": {"examples": ["f.jsonl"], "timeout_s": 5}})
    assert settings.sources.examples == ("e.jsonl", "f.jsonl")
    assert settings.sources.timeout_s == 5
    assert SftSettings.model_validate({"model": "tiny", "out": "o", "steps": 1, "data": {"examples": ["f"]}})
    assert [SftSettings.model_validate({**FROM_FILE, **more}).learns_vision for more in VISION] == [True, False, False]


VISION: tuple[dict[str, Any], ...] = ({}, {"train_only": "text"}, {"lora": {}})


def test_the_page_has_the_settings_as_they_are() -> None:
    assert with_tables(PAGE) == PAGE, "run: python -m zoomzero.train.settings_table docs/reference/training.md"


def test_the_table_of_settings_by_hand() -> None:
    rows = {name: (default, text) for name, default, text in settings_rows(GrpoSettings)}
    assert rows["model"][0] == "required"
    assert rows["rollout.num_generations"] == ("`8`", "Completions of each prompt (G).")
    assert rows["rollout.zoom_widen_s"][0] == rows["lora."][0] == rows["data.world."][0] == "none"
    assert rows["data.examples"][0] == "`[]`"
    assert rows["data.world.count"][0] == "required"
    assert rows["lora.rank"][0] == "`64`"
    assert rows["rollout."][0] == ""
    assert "| `objective.loss.epsilon_high` | `0.28` |" in settings_table(GrpoSettings)
    zoom = {name: default for name, default, _ in settings_rows(ModelSettings)}
    assert (zoom["coarse.fps"], zoom["zoom.fps"], zoom["zoom.max_frames"]) == ("`1.0`", "`2.0`", "`256`")


def test_a_page_without_a_place_for_the_table_is_said() -> None:
    with pytest.raises(ValueError, match="no place for the table of `zoomzero train`"):
        with_tables("# Training\n")


def test_reading_settings_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, zoomzero.train.settings, zoomzero.train.settings_table, zoomzero.train.rollouts.record;"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- presets ---


def test_what_the_page_says_about_the_presets(tmp_path: Path) -> None:
    ours = load_grpo_settings(str(write_config(tmp_path / "a.toml", LEAST)))
    paper = load_grpo_settings(str(write_config(tmp_path / "b.toml", f'preset = "paper"\n{LEAST}')))
    rows = re.findall(r"^\| .* \| `([a-z_.]+)` \| `(\S+)` \| `(\S+)` \|$", PAGE, re.MULTILINE)
    assert len(rows) == 8
    for name, default, published in rows:
        assert value_at(ours, name) == json.loads(default), name
        assert value_at(paper, name) == json.loads(published), name
    told = {name for name, _, _ in rows} | {"preset"}
    differ = {name for name in dict(leaves(ours)) if dict(leaves(ours))[name] != dict(leaves(paper))[name]}
    assert differ <= told, "and the page leaves no difference out"
    for name in ("grpo", "separate", "select", "select_paper"):
        assert name in estimator_names()


def leaves(settings: BaseModel, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        found += leaves(value, f"{prefix}{name}.") if isinstance(value, BaseModel) else [(prefix + name, value)]
    return found


def test_a_file_has_the_last_word_over_its_preset(tmp_path: Path) -> None:
    text = f'preset = "paper"\n{LEAST}[rollout]\nthink_leak = false\n[objective.reward]\nzoom = "hard"\n'
    settings = load_grpo_settings(str(write_config(tmp_path / "a.toml", text)), ["rollout.zoom_joined=false"])
    assert not settings.rollout.think_leak
    assert not settings.rollout.zoom_joined
    assert settings.rollout.zoom_widen_s == 0.0
    assert settings.rollout.num_generations == 8
    assert (settings.objective.reward.zoom, settings.objective.reward.letters) == ("hard", "a_to_f")
    assert settings.objective.credit.estimator == "select_paper"


def test_the_preset_holds_whoever_makes_the_settings(tmp_path: Path) -> None:
    read = load_grpo_settings(str(write_config(tmp_path / "a.toml", f'preset = "paper"\n{LEAST}')))
    made = GrpoSettings(model="tiny", out="o", steps=1, preset="paper", data={"examples": ("e.jsonl",)})
    assert made == read
    assert GrpoSettings.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize("stage", [1, 2])
def test_published_numbers_are_in_the_stages(stage: int) -> None:
    settings = load_grpo_settings(str(ROOT / "configs" / f"qwen2.5-vl-7b-stage{stage}.toml"))
    assert settings.preset == "paper"
    assert (settings.train_batch_size, settings.mini_batch_size, settings.mini_batches) == (64, 8, 8)
    assert (settings.learning_rate, settings.weight_decay, settings.max_grad_norm) == (1e-6, 1e-2, 1.0)
    rollout, loss = settings.rollout, settings.objective.loss
    assert (rollout.num_generations, rollout.temperature, rollout.max_new_tokens) == (8, 1.0, 512)
    assert (loss.epsilon, loss.epsilon_high, loss.beta, loss.importance_sampling_level) == (0.2, 0.28, 1e-2, "token")
    asked = settings.model_settings(ModelSettings())
    # one visual token is 28 x 28 pixels of two frames: 8192 x 28 x 28 pixels are 4096 tokens
    assert (asked.coarse.fps, asked.coarse.max_tokens, asked.coarse.min_frame_tokens) == (2.0, 8192 // 2, 16)
    assert (asked.zoom.fps, asked.zoom.max_tokens, asked.zoom.max_frames) == (2.0, 4096 // 2, 256)
    assert asked.think
    assert asked.long_after_s == 600


# --- how the model is asked ---


@pytest.mark.parametrize("kind", [SftSettings, GrpoSettings])
def test_positions_of_text_can_be_chosen_in_both_trainers(kind: type[SftSettings] | type[GrpoSettings]) -> None:
    """As the checkpoint's zoomzero.json says, unless the run says otherwise (Qwen2.5-VL, docs/models.md)."""
    least = {"model": "m", "out": "o", "steps": 1}
    least |= {"examples": "e"} if kind is SftSettings else {"data": {"examples": ["e"]}}
    own = ModelSettings(text_after_time=False)
    assert not kind.model_validate(least).model_settings(own).text_after_time
    said = kind.model_validate(least | {"ask": {"text_after_time": True}})
    assert said.model_settings(own).text_after_time
    with pytest.raises(ValidationError, match="did you mean text_after_time"):
        kind.model_validate(least | {"ask": {"text_after_times": True}})


def test_ask_lies_over_what_the_checkpoint_says() -> None:
    own = tiny_settings()
    settings = grpo_settings({"ask": {"coarse": {"fps": 0.5}, "think": False}})
    asked = settings.model_settings(own)
    assert (asked.coarse.fps, asked.think) == (0.5, False)
    assert asked.coarse.max_tokens == own.coarse.max_tokens
    assert asked.zoom == own.zoom
    assert grpo_settings().model_settings(own) == own


@pytest.mark.parametrize(
    ("ask", "says"),
    [({"colour": 1}, "colour"), ({"coarse": {"fpss": 1}}, "coarse.fpss"), ({"coarse": {"fps": -1}}, "coarse.fps")],
)
def test_what_cannot_be_asked_is_refused_at_once(tmp_path: Path, ask: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(says)):
        grpo_settings({"ask": ask})
    path = write_config(tmp_path / "run.json", json.dumps({**SMALL, "ask": ask}))
    with pytest.raises(ConfigError, match=rf"run\.json: ask: .*{re.escape(says)}"):
        load_grpo_settings(str(path))


# --- schedules ---


@pytest.mark.parametrize("rates", [[[5, 1.0], [3, 0.5]], [[3, 1.0], [3, 0.5]], [[0, 1.0], [9, -0.1]]])
def test_rates_that_say_nothing_clear_are_refused(rates: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="rates: pairs \\[step, factor\\], steps rising, factors 0 or more"):
        SftSettings(model="random", out="x", stages=[{"steps": 3, "clips": 1}], rates=rates)


@pytest.mark.parametrize(
    ("schedule", "warmup", "name"),
    [
        ("constant", 0, "constant"),
        ("constant", 5, "constant_with_warmup"),  # transformers' `constant` would not warm up
        ("constant_with_warmup", 5, "constant_with_warmup"),
        ("cosine", 5, "cosine"),
    ],
)
def test_a_warm_up_is_made_under_every_schedule(tmp_path: Path, schedule: str, warmup: int, name: str) -> None:
    settings = grpo_settings({"schedule": schedule, "warmup_steps": warmup, "steps": 20})
    assert schedule_of(settings) == name
    assert arguments(settings, tmp_path, validates=False).lr_scheduler_type == name
    assert first_rates(settings, tmp_path)[0] == pytest.approx(0.0 if warmup else 1e-6)
    assert first_rates(settings, tmp_path)[1] == pytest.approx(0.2e-6 if warmup else 1e-6)


def test_the_trainer_table_is_passed_on(tmp_path: Path) -> None:
    """Over what the run would say itself; a value that transformers does not know is refused in its words."""
    settings = grpo_settings({"trainer": {"optim": "adamw_torch_fused", "ddp_timeout": 7200, "adam_epsilon": 1e-6}})
    made = arguments(settings, tmp_path, validates=False)
    assert (made.optim, made.ddp_timeout, made.adam_epsilon) == ("adamw_torch_fused", 7200, 1e-6)
    odd = grpo_settings({"trainer": {"optim": "newton"}})
    with pytest.raises(ConfigError, match=r"^trainer: transformers refuses it \(.*newton.*\); correct the table$"):
        arguments(odd, tmp_path, validates=False)


def first_rates(settings: GrpoSettings, out: Path) -> list[float]:
    """The learning rates of the first two updates, from the engine's own schedule."""
    import torch
    from transformers import get_scheduler

    made = arguments(settings, out, validates=False)
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], made.learning_rate)
    schedule = get_scheduler(made.lr_scheduler_type, optimizer, made.warmup_steps, made.max_steps)
    rates = []
    for _ in range(2):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


# every name that was changed: what is read, the old name with a value, what the line says
RENAMED = [
    (GrpoSettings, "prompts_per_update=8", "mini_batch_size"),
    (GrpoSettings, "prompts_per_rollout=8", "train_batch_size"),
    (GrpoSettings, "rollout.group_size=4", "num_generations"),
    (GrpoSettings, "data.decode_ahead=4", "rollout.prompts_at_once"),
    (GrpoSettings, "data.decode_threads=4", "rollout.prompts_at_once"),
    (GrpoSettings, "objective.loss.clip_low=0.1", "epsilon"),
    (GrpoSettings, "objective.loss.clip_high=0.1", "epsilon_high"),
    (GrpoSettings, "objective.loss.kl_coef=0.1", "beta"),
    (GrpoSettings, "objective.loss.aggregation=token", "loss_type (token: dapo, sequence: grpo, constant: dr_grpo)"),
    (GrpoSettings, "objective.loss.constant_length=512", "completion_length"),
    (GrpoSettings, "objective.loss.ratio=sequence", "importance_sampling_level"),
    (GrpoSettings, "objective.credit.normalize_std=true", "scale_rewards"),
    (GrpoSettings, "objective.credit.mask_truncated=true", "mask_truncated_completions"),
    (SftSettings, "lessons_per_row=2", "samples_per_row"),
    (SftSettings, "stage.clips=2", "stages"),
]


@pytest.mark.parametrize(("kind", "old", "new"), RENAMED)
def test_old_names_are_refused_and_name_the_new_ones(kind: type[Settings], old: str, new: str) -> None:
    read = load_grpo_settings if kind is GrpoSettings else partial(load_settings, kind)
    sources = ["data.examples=['a']"] if kind is GrpoSettings else []
    with pytest.raises(ConfigError) as caught:
        read(None, ["model=tiny", "out=x", "steps=1", *sources, old])
    assert str(caught.value).endswith(f"{old}: renamed to {new}; write the new name")


def tables(kind: type[Settings], inside: str = "") -> Iterator[tuple[str, type[Settings]]]:
    """Every table of settings below one, with its name."""
    yield inside, kind
    for name, field in kind.model_fields.items():
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, Settings):
                yield from tables(part, f"{inside}{name}.")


def test_no_name_was_changed_without_being_tested_and_every_new_name_is_there() -> None:
    changed = {
        (kind, f"{inside}{old}"): (table, new)
        for kind in (GrpoSettings, SftSettings)
        for inside, table in tables(kind)
        for old, new in table.RENAMED.items()
        if kind is GrpoSettings or inside != "data."  # supervised runs never had the old names of that table
    }
    assert changed.keys() == {(kind, old.partition("=")[0].removesuffix(".clips")) for kind, old, _ in RENAMED}
    for (kind, old), (table, new) in changed.items():
        name = new.split()[0]
        assert name in table.model_fields or name in {
            f"{inside}{n}" for inside, t in tables(kind) for n in t.model_fields
        }
        assert old.rpartition(".")[2] not in table.model_fields


def test_a_cpu_computes_in_float32_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"model": "m", "out": "o", "steps": 1, "examples": "e"}
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [SftSettings(**values, bf16=wish).in_bf16 for wish in ("auto", True, False)] == [False, True, False]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda: True)
    assert [SftSettings(**values, bf16=wish).in_bf16 for wish in ("auto", True, False)] == [True, True, False]
