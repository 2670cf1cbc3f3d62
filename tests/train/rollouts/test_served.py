"""Rollouts drawn by a server: the same run as in this process, weights that follow, and a server that is lost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_runs import grpo_settings
from safetensors.torch import load_file
from transformers import TrainerCallback

from fake_server import Abilities, FakeServer
from zoomzero.errors import ConfigError, ServerError, TrainingError
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine.build import train
from zoomzero.train.run.directory import last_checkpoint
from zoomzero.train.settings import GrpoSettings

pytest.importorskip("openai")
RUN: dict[str, Any] = {
    "steps": 4,
    "train_batch_size": 2,
    "mini_batch_size": 1,
    "learning_rate": 1e-3,
    "save_every": 100,
    "rollout": {"verifier": "off", "filter": {"enabled": False}},
    "objective": {"loss": {"beta": 0.0}},
}


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A server of the embedded model; it answers from weights of its own."""
    with FakeServer(load_policy("tiny", device="cpu", dtype="float32")) as fake:
        yield fake


def settings_of(out: Path, world: Path, server: FakeServer | None = None, **more: Any) -> GrpoSettings:
    changes: dict[str, Any] = {**RUN, **more, "out": str(out), "data": {"examples": [str(world)]}}
    if server is not None:
        own = {"url": server.url, "retries": 0, **more.get("rules", {})}
        changes["rollout"] = {**changes["rollout"], "server": own}
    changes.pop("rules", None)
    return grpo_settings(changes)


def rollouts(out: Path) -> list[tuple[int, str, int | None]]:
    rows = [json.loads(line) for line in (out / "rollouts.jsonl").read_text().splitlines()]
    return [(row["index"], one["text"], one["drawn_at"]) for row in rows for one in row["rollouts"]]


def logged(out: Path, name: str) -> list[float]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [row[name] for row in rows if name in row]


@pytest.mark.parametrize("lora", [None, {"rank": 2, "alpha": 4}])
def test_it_is_the_run_of_this_process(
    server: FakeServer, small_world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lora: Any
) -> None:
    """The same draws, the same updates; only that a server made them is told."""
    own, theirs = tmp_path / "own", tmp_path / "theirs"
    train(settings_of(own, small_world, lora=lora))
    train(settings_of(theirs, small_world, server, lora=lora))
    assert [one[:2] for one in rollouts(theirs)] == [one[:2] for one in rollouts(own)]
    assert [one[2] for one in rollouts(theirs)] == [0] * 4 + [2] * 4  # two updates from each batch of 2 x 2
    name = "model.safetensors" if lora is None else "adapter_model.safetensors"
    found, wanted = load_file(theirs / name), load_file(own / name)
    # AdamW makes a whole step of the sign of a gradient that is nearly 0: single weights may differ by two steps
    apart = torch.cat([(found[one].float() - wanted[one].float()).abs().flatten() for one in wanted])
    assert apart.mean() < 1e-4
    assert (apart > 1e-3).float().mean() < 1e-3
    assert apart.max() < 2 * 4 * 1e-3
    assert max(logged(theirs, "server/gap_max")) < 1e-3
    assert logged(theirs, "server/weight") == pytest.approx([1.0, 1.0], abs=1e-3)
    assert (logged(theirs, "server/truncated"), logged(theirs, "server/staleness")) == ([0.0] * 2, [0.0] * 2)
    assert "tiny" not in server.url
    assert f"{server.url}#fake draws the rollouts; log-probabilities of " in capsys.readouterr().err
    kinds = [path for path, _ in server.told]
    whole = ["/collective_rpc", "/reset_encoder_cache", "/reset_mm_cache"] * 2
    assert kinds == (whole if lora is None else ["/v1/load_lora_adapter"] * 2 + ["/v1/unload_lora_adapter"])
    (served,) = (theirs / "served").iterdir()  # weights of earlier updates are removed
    if lora is None:
        weights = load_file(served / "model.safetensors")
        assert torch.equal(weights["lm_head.weight"], weights["model.language_model.embed_tokens.weight"])


def test_what_is_kept_of_prompts_is_kept_for_one_update(server: FakeServer, small_world: Path, tmp_path: Path) -> None:
    train(settings_of(tmp_path / "run", small_world, server))
    salts = [one.body["cache_salt"] for one in server.seen if "cache_salt" in one.body]
    assert len(set(salts)) == 2
    forbidden = server.brain.never_drawn
    drawn = [one.body for one in server.seen if one.body.get("n") == 2 and "logit_bias" in one.body]
    assert all((body["top_k"], body["repetition_penalty"]) == (-1, 1.0) for body in drawn)
    assert all(body["logit_bias"] == {str(token): -100.0 for token in forbidden} for body in drawn)


def test_the_next_batch_is_drawn_while_this_one_is_learned_from(
    server: FakeServer, small_world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    train(settings_of(out, small_world, server, rules={"max_staleness": 3}, steps=6))
    assert [one[2] for one in rollouts(out)] == [0] * 8 + [2] * 4
    assert logged(out, "server/staleness") == [0.0, 2.0, 2.0]
    assert max(logged(out, "server/gap_max")) > 1e-3, "the model had learned meanwhile"


@pytest.mark.parametrize("ahead", [False, True])
def test_a_lost_server_stops_the_run_with_its_state_kept(
    server: FakeServer, small_world: Path, tmp_path: Path, ahead: bool
) -> None:
    class Lose(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == 2:
                server.faults[:] = ["503 gone"] * 50

    out = tmp_path / "run"
    more: dict[str, Any] = {"rules": {"max_staleness": 3}, "steps": 6} if ahead else {}
    settings = settings_of(out, small_world, server, **more)
    stop = r"^training stopped after step 2: model http://.*: is not ready \(503: gone\); wait .*; its state is kept"
    with pytest.raises(TrainingError, match=stop):
        train(settings, callbacks=[Lose()])
    assert last_checkpoint(out) == out / "checkpoint-2"
    server.faults.clear()
    train(settings, resume=True)
    straight = tmp_path / "straight"
    server.brain = load_policy("tiny", device="cpu", dtype="float32")
    train(settings_of(straight, small_world, server, **more))
    if not ahead:  # what was drawn ahead of a loss is drawn again, with newer weights
        assert rollouts(out) == rollouts(straight)
    assert [one[0] for one in rollouts(out)] == [one[0] for one in rollouts(straight)]


def scale_weights(policy: Any, by: float) -> None:
    with torch.no_grad():
        for weight in policy.model.parameters():
            weight.mul_(by)


def test_another_model_is_refused_before_anything_is_learned(
    server: FakeServer, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fake_server.take_weights", lambda *told: None)
    scale_weights(server.brain, 1.5)
    with pytest.raises(TrainingError, match="draws with other weights or numbers than are trained: log-prob"):
        train(settings_of(tmp_path / "run", small_world, server))


def test_a_server_that_drifts_stops_the_run_with_its_state_kept(
    server: FakeServer, small_world: Path, tmp_path: Path
) -> None:
    """It changes after the check of the second batch's weights: the batch's own tokens tell."""
    write, drawn = server.brain.write, []

    def drifting(turns: Any, n: int, sampling: Any) -> Any:
        drawn.append(n)
        if len(drawn) == 5:  # check, two prompts, check, and now the second batch's first prompt
            scale_weights(server.brain, 1.5)
        return write(turns, n, sampling)

    server.brain.write, out = drifting, tmp_path / "run"
    with pytest.raises(TrainingError, match=r"after step 2: .* has drifted from what is trained: log-probabilities of"):
        train(settings_of(out, small_world, server))
    assert last_checkpoint(out) == out / "checkpoint-2"


def test_another_prompt_is_refused(small_world: Path, tmp_path: Path) -> None:
    can = Abilities(outer_pair=True)
    with (
        FakeServer(load_policy("tiny", device="cpu"), can) as server,
        pytest.raises(TrainingError, match=r"reads another prompt: \d+ tokens instead of \d+, first other one 1, near"),
    ):
        train(settings_of(tmp_path / "run", small_world, server))


@pytest.mark.parametrize(
    ("can", "said"),
    [
        (Abilities(new_weights=False), r"has no such path or model \(404"),
        (Abilities(trust=False), "start vLLM with --trust-request-mm-kwargs"),
    ],
)
def test_a_server_that_cannot_is_named_with_the_fix(
    small_world: Path, tmp_path: Path, can: Abilities, said: str
) -> None:
    with (
        FakeServer(load_policy("tiny", device="cpu"), can) as server,
        pytest.raises((TrainingError, ServerError), match=said),
    ):
        train(settings_of(tmp_path / "run", small_world, server))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rollout": {"server": {"url": "localhost"}}}, "is no address"),
        ({"rollout": {"server": {"url": "http://h/v1", "layout": "interleaved"}}}, "leave layout and image_format out"),
        ({"rollout": {"server": {"url": "http://h/v1", "max_staleness": 0}}}, "must be 1 or more"),
        ({"rollout": {"server": {"url": "http://h/v1", "headers": {"X-Key": "sk-1"}}}}, "write env:NAME"),
        ({"rollout": {"server": {"url": "http://h/v1"}}, "fsdp": True}, "set fsdp = false"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=said):
        grpo_settings(changes)
