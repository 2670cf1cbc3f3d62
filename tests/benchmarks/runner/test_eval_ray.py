"""A run on a cluster: Ray on this machine, two actors, one of them killed."""

from __future__ import annotations

import json
import os
import signal
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from eval_rows import timeless

from cli_runner import time_limit
from zoomzero.benchmarks.runner import ray_workers
from zoomzero.benchmarks.runner.asking import Item, ModelSpec, make_batches
from zoomzero.benchmarks.runner.executors import Alone
from zoomzero.benchmarks.runner.ray_workers import ModelActor, RayActors, import_ray
from zoomzero.config import ModelSettings, load_model_settings
from zoomzero.data.annotation import Question
from zoomzero.data.example import read_examples
from zoomzero.errors import ConfigError, ModelError

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="needs ray (pip install 'ray>=2.40')")
SPEC = ModelSpec("m", ModelSettings())


def test_without_ray_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(ray_workers, "importlib", SimpleNamespace(import_module=missing))
    with pytest.raises(ConfigError, match=r"--ray: ray is not installed; run `pip install 'ray>=2.40'`"):
        RayActors(SPEC, "local", 1).start()


def test_no_actors_are_refused() -> None:
    with pytest.raises(ConfigError, match="--workers: 0 actors ask nothing"):
        RayActors(SPEC, "local", 0)


def test_an_actor_whose_model_does_not_load_says_why(tmp_path: Path) -> None:
    kind, error = ModelActor(ModelSpec(str(tmp_path / "none"), ModelSettings())).load()
    assert (kind, type(error)) == ("error", ModelError)
    assert "no such directory" in str(error)


@needs_ray
def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = import_ray()

    def nobody(**_: Any) -> None:
        raise ConnectionError("Could not find any running Ray\ninstance")

    monkeypatch.setattr(ray, "init", nobody)
    with pytest.raises(
        ConfigError, match=r"--ray: no cluster answers at auto \(Could not find any running Ray instance\)"
    ):
        RayActors(SPEC, "auto", None).start()


@needs_ray
def test_two_actors_one_of_them_killed_give_the_rows_of_one_process(
    small_world: Path, checkpoint: Path, threads: None, patience: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    settings = load_model_settings(checkpoint).model_copy(update={"max_new_tokens": 24})
    spec = ModelSpec(str(checkpoint), settings, "cpu", "float32")
    examples = read_examples(small_world / "examples.jsonl")
    questions = [Question(e.id, e.video, e.question, e.options, e.answer, e.spans, e.duration_s) for e in examples]
    batches = make_batches(Item(one, one.video, "direct") for one in questions)

    alone = Alone(spec)
    alone.start()
    expected = {one.key: timeless(json.loads(row)) for one, row in alone.rows(batches)}
    assert [row["failed"] for row in expected.values()] == [None] * 4

    executor = RayActors(spec, "local", 2)
    rows: dict[tuple[str, str], Any] = {}
    with time_limit():
        try:
            facts = executor.start()
            assert facts["dtype"] == "float32"
            for one, row in executor.rows(batches):
                if not rows:  # it has its next question already
                    os.kill(facts["process"], signal.SIGKILL)
                assert one.key not in rows
                rows[one.key] = timeless(json.loads(row))
        finally:
            executor.close()
    assert rows == expected
    assert not import_ray().is_initialized()
