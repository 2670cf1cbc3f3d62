"""What a training run refuses, before any model is loaded, and what stops one that runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpo_runs import grpo_settings
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from trainer_runs import log_rows, run, write_settings

from zoomzero.config import lay_over
from zoomzero.data.example import Example, read_examples, write_examples
from zoomzero.errors import ConfigError, DataError, ModelError, TrainingError
from zoomzero.policy.local.load import find
from zoomzero.train.engine.build import train
from zoomzero.train.rollouts.record import read_groups
from zoomzero.train.rollouts.stream import ExampleStream
from zoomzero.train.run.directory import claimed_run, last_checkpoint
from zoomzero.train.settings import GrpoSettings, load_grpo_settings

Make = Callable[..., GrpoSettings]


@pytest.fixture
def make(small_world: Path, tmp_path: Path) -> Make:
    """Settings of a run whose model is no model: who complains of something else has not tried to load it."""
    (tmp_path / "no-model").mkdir()

    def settings(**changes: Any) -> GrpoSettings:
        values = {"model": str(tmp_path / "no-model"), "out": str(tmp_path / "run")}
        return grpo_settings(lay_over(values | {"data": {"examples": [str(small_world)]}}, changes))

    return settings


def refuses(
    settings: GrpoSettings, message: str, *, resume: bool = False, error: type[Exception] = ConfigError
) -> None:
    with pytest.raises(error, match=f"^{message}$"):
        train(settings, resume=resume)


def test_the_model_would_be_missed(make: Make) -> None:
    """So that the other tests say what they seem to say; and nothing is left that a second try would stumble on."""
    refuses(make(), r"model .*no-model: has no config\.json.*", error=ModelError)
    refuses(make(model="/no/such/model"), r"model /no/such/model: no such directory.*", error=ModelError)


# --- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_batch_size": 3, "mini_batch_size": 2}, "must be a multiple of mini_batch_size"),
        ({"lora": {"rank": 4}, "train_vision": True}, "set train_vision = false, or train without lora"),
        ({"data": {"examples": []}}, "set data.examples or data.world"),
        ({"rollout": {"filter": {"low": 0.6, "high": 0.5}}}, "low must be less than high"),
        ({"rollout": {"num_generations": 1}}, "num_generations"),
        ({"objective": {"loss": {"kl_coeff": 0.1}}}, "kl_coeff"),
        ({"trainer": {"max_steps": 9}}, "max_steps is set by the run itself: write steps instead"),
    ],
)
def test_settings_that_cannot_be(make: Make, changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=message):
        make(**changes)
    path = tmp_path / "settings.json"
    path.write_text(json.dumps(lay_over(make().model_dump(mode="json"), changes)), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        load_grpo_settings(str(path))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"fsdp": True}, "fsdp: one process has nobody to share with; start several with torchrun, .*"),
        (
            {"objective": {"credit": {"estimator": "best"}}},
            "credit.estimator: unknown estimator 'best'; use one of .*select.*",
        ),
        (
            {"rollout": {"verifier": "off"}, "objective": {"reward": {"consensus": True}}},
            "objective.reward.consensus: needs verified spans .*; set rollout.verifier, or .*",
        ),
        ({"report_to": "paper"}, "report_to: 'paper' is unknown; .*tensorboard.*"),
        (
            {"trainer": {"optimizer": "adam"}},
            "trainer.optimizer: is no field of .* TrainingArguments; look .*",
        ),
        ({"report_to": "flyte"}, "report_to: flyte is not installed; install it, or choose none .*"),
    ],
)
def test_settings_that_do_not_work_here(make: Make, changes: dict[str, Any], message: str) -> None:
    refuses(make(**changes), message)


def test_the_paper_without_a_verifier_starts(make: Make) -> None:
    """What it would read is not there, so its zoom reward is left out: the model is looked for next."""
    refuses(make(preset="paper", rollout={"verifier": "off"}), r"model .*", error=ModelError)


def test_prompts_that_processes_cannot_share(small_world: Path, tmp_path: Path) -> None:
    changes = {"train_batch_size": 6, "mini_batch_size": 3, "model": str(tmp_path)}
    ended = run("train", write_settings(tmp_path, small_world, changes), folder=tmp_path, processes=2)
    refused = [screen for screen, code in zip(ended.screens, ended.codes, strict=True) if code == 2]
    start = "zoomzero: mini_batch_size: 3 prompts cannot be shared by 2 processes; choose a multiple of 2, "
    assert refused
    # what torch says about a process that has left may stand beside it
    assert all(screen.count(start) == 1 and "Traceback" not in screen for screen in refused), refused


# --- data ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def write(small_world: Path, tmp_path: Path) -> Callable[[Callable[[Example], Example]], str]:
    """Write the examples, each changed."""

    def changed(change: Callable[[Example], Example]) -> str:
        write_examples(tmp_path / "changed.jsonl", [change(example) for example in read_examples(small_world)])
        return str(tmp_path / "changed.jsonl")

    return changed


def test_examples_without_spans(make: Make, write: Any) -> None:
    path = write(lambda example: replace(example, spans=() if example.id == "0-order" else example.spans))
    message = "data.examples: 1 examples have no spans, first 0-order, and no other reward is left for them; give .*"
    weights = {"answer": 0.0, "zoom": 0.0}
    refuses(make(data={"examples": [path]}, objective={"reward": {"weights": weights}}), message)


def test_no_examples(make: Make, tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises((ConfigError, DataError), match=r"hold.* no example|no examples"):
        train(make(data={"examples": [str(tmp_path / "none.jsonl")]}))


def test_missing_examples(make: Make) -> None:
    refuses(make(data={"examples": ["/no/such.jsonl"]}), r"/no/such\.jsonl: .*", error=DataError)


def test_examples_of_an_evaluation(make: Make, small_world: Path, tmp_path: Path) -> None:
    settings = make(data={"evaluation": [str(small_world)]})
    refuses(settings, r"data\.evaluation: 5 of 5 training items .* set data\.allow_overlap = true")
    assert not (tmp_path / "run").exists()
    allowed = make(data={"evaluation": [str(small_world)], "allow_overlap": True})
    refuses(allowed, "model .*", error=ModelError)


# --- the run's directory ---------------------------------------------------------------------------------------------


def test_directory_that_is_not_empty(make: Make, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    refuses(make(), "out: .*run is not empty; add --resume, or choose another directory")
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "run").write_text("a file")
    refuses(make(), "out: .*run is a file; choose a directory")


def test_directory_that_is_being_claimed(make: Make, tmp_path: Path) -> None:
    """A kill in the moment between making it and writing what it is leaves it free."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.partial").write_text("{")
    refuses(make(), "model .*", error=ModelError)


def test_nothing_to_resume(make: Make) -> None:
    refuses(make(), "--resume: .*run holds no run; start the run without --resume", resume=True)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"rollout": {"temperature": 0.7}}, "rollout.temperature"),
        ({"learning_rate": 1e-3, "steps": 1}, "steps, learning_rate"),
        ({"lora": {"rank": 4}}, "lora.rank, lora.alpha, lora.dropout"),
        ({"data": {"examples": ["other.jsonl"]}}, "data.examples"),
    ],
)
def test_resume_with_other_settings(make: Make, tmp_path: Path, changes: dict[str, Any], names: str) -> None:
    with claimed_run(make(), tmp_path / "run"):
        pass
    message = f"--resume: .*run was started with other {names}; resume with the settings it was started with, .*"
    refuses(make(**changes), message, resume=True)


def test_two_runs_in_one_directory(make: Make, tmp_path: Path) -> None:
    """While one goes on, neither a new run nor a resumed one gets in; afterwards it can be resumed."""
    with claimed_run(make(), tmp_path / "run"):
        for resume in (False, True):
            refuses(make(), r"out: .*run is being written by process \d+; wait for it, or choose .*", resume=resume)
    refuses(make(), "model .*", resume=True, error=ModelError)


def test_resume_with_settings_that_may_change(make: Make, tmp_path: Path) -> None:
    """Also what messages tell to change."""
    with claimed_run(make(), tmp_path / "run"):
        pass
    changes = {"threads": 2, "save_every": 7, "steps": 9, "data": {"max_unreadable": 0.9, "timeout_s": 500.0}}
    refuses(make(**changes), "model .*", resume=True, error=ModelError)


def test_resume_with_another_number_of_processes(make: Make, tmp_path: Path) -> None:
    with claimed_run(make(), tmp_path / "run", processes=4):
        pass
    message = "--resume: .*run was started with 4 processes, now there are 1; start as many as before"
    refuses(make(), message, resume=True)


def test_checkpoints_that_are_not_whole_do_not_count(tmp_path: Path) -> None:
    for step, state in ((5, "{}"), (10, "{}"), (15, '{"global_step": '), (20, None)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if state is not None:
            (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-10"


# --- runs that go wrong ----------------------------------------------------------------------------------------------


@pytest.fixture
def broken(small_world: Path, tmp_path: Path) -> Path:
    """The examples with one more, whose video is none."""
    examples = read_examples(small_world)
    (tmp_path / "broken.mp4").write_text("no video")
    examples.append(replace(examples[0], id="broken", video=str(tmp_path / "broken.mp4")))
    write_examples(tmp_path / "broken.jsonl", examples)
    return tmp_path / "broken.jsonl"


def test_unreadable_videos_are_skipped_counted_and_listed(make: Make, broken: Path, tmp_path: Path) -> None:
    """Two epochs meet it twice and list it once."""
    settings = make(
        model="tiny",
        data={"examples": [str(broken)], "max_unreadable": 0.5},
        steps=2,
        train_batch_size=6,
        mini_batch_size=6,
        rollout={"filter": {"enabled": False}, "max_new_tokens": 4, "controls": 0},
        save_every=2,
    )
    train(settings)
    (line,) = (tmp_path / "run" / "unreadable.0.txt").read_text().splitlines()
    assert line.startswith(f"{tmp_path}/broken.mp4: cannot ")
    places = [group.index for group in read_groups(tmp_path / "run" / "rollouts.jsonl")]
    met = ExampleStream(read_examples(broken), settings.seed).take(max(places) + 1)
    skipped = [place for place, example in met if example.id == "broken"]
    assert len(places) == 12
    assert len(skipped) >= 2
    assert sorted([*places, *skipped]) == list(range(len(met)))
    assert sum(row["data/unreadable"] for row in log_rows(tmp_path / "run") if "loss" in row) == len(skipped)


def test_too_many_unreadable_videos(make: Make, broken: Path) -> None:
    settings = make(model="tiny", data={"examples": [str(broken)], "max_unreadable": 0.1}, train_batch_size=12)
    message = r"training stopped after step 0: 2 of 12 videos cannot be read, the last: .*; mend or remove them, .*"
    refuses(settings, message, error=TrainingError)


@pytest.mark.parametrize("updates", [1, 2])
def test_weights_that_explode(small_world: Path, tmp_path: Path, updates: int) -> None:
    """The loss is not finite, whether the rollouts were drawn before the weights exploded or after."""
    changes = {"learning_rate": 1e30, "train_batch_size": 2 * updates, "mini_batch_size": 2}
    settings = write_settings(tmp_path, small_world, changes | {"max_grad_norm": 1e9, "save_every": 5})
    (screen,) = run("train", settings, folder=tmp_path).check(5).screens
    path = tmp_path / "run" / "failed-step-1.0.jsonl"
    reason = f"zoomzero: training stopped after step 1: the loss is not finite (rollouts in {path}); start again in "
    assert screen.splitlines()[-1].startswith(reason)
    assert "Traceback" not in screen
    failed = list(read_groups(path))
    assert len(failed) == 2
    assert all(rollout.token_ids and rollout.advantages for group in failed for rollout in group.rollouts)


def test_gradients_that_explode(make: Make, tmp_path: Path) -> None:
    """A norm's weights times 1e30 and what reads it over 1e30 say the same, but their gradients are too large."""
    shutil.copytree(find("tiny"), tmp_path / "steep")
    weights = load_file(find("tiny") / "model.safetensors")
    layer = "model.language_model.layers.0."
    for name, factor in (("post_attention_layernorm", 1e30), ("mlp.gate_proj", 1e-30), ("mlp.up_proj", 1e-30)):
        key = f"{layer}{name}.weight"
        weights[key] = weights[key].float() * factor
    save_file({name: value.float() for name, value in weights.items()}, tmp_path / "steep" / "model.safetensors")
    message = r"training stopped after step 0: the gradient is not finite \(rollouts in .*failed-step-0.0.jsonl\); .*"
    refuses(make(model=str(tmp_path / "steep")), message, error=TrainingError)
    assert len(list(read_groups(tmp_path / "run" / "failed-step-0.0.jsonl"))) == 1
