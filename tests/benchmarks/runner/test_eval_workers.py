"""Many models: who asks what, what becomes of a dead worker's questions, and real processes, one of them killed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from eval_rows import timeless
from hypothesis import given
from hypothesis import strategies as st

from cli_runner import time_limit
from zoomzero.benchmarks.runner.asking import Asker, Item, ModelSpec, load_asker, make_batches
from zoomzero.benchmarks.runner.executors import Alone, Crowd, Event, Schedule
from zoomzero.benchmarks.runner.workers import LOG_FILE, Processes
from zoomzero.config import ModelSettings, load_model_settings
from zoomzero.data.annotation import Question
from zoomzero.data.example import read_examples
from zoomzero.errors import ConfigError, ModelError

SPEC = ModelSpec("m", ModelSettings())


def item(name: str) -> Item:
    """Return an item; the letter is its video."""
    return Item(Question(name, name[0], "?", ("x", "y"), "A", ()), name[0], "direct")


def batches(*names: str) -> list[tuple[Item, ...]]:
    return make_batches(item(name) for name in names)


def name(given: Item | None) -> str | None:
    return given.question.id if given is not None else None


# --- the schedule ---


def test_a_worker_keeps_its_video_until_it_is_done() -> None:
    schedule = Schedule(batches("a1", "a2", "b1", "b2"))
    assert (name(schedule.give(0)), name(schedule.give(1))) == ("a1", "b1")
    assert name(schedule.done(1)) == "b1"
    assert name(schedule.give(1)) == "b2"
    assert schedule.give(2) is None
    for worker in (0, 1):
        schedule.done(worker)
    assert name(schedule.give(0)) == "a2"
    assert schedule.give(1) is None
    assert not schedule.finished
    schedule.done(0)
    assert schedule.finished


def test_a_lost_question_is_asked_next_and_with_the_rest_of_its_video() -> None:
    schedule = Schedule(batches("a1", "a2", "b1"))
    schedule.give(0)
    schedule.done(0)
    assert name(schedule.give(0)) == "a2"
    assert schedule.lost(0, "killed") is None
    assert name(schedule.give(1)) == "a2"


def test_a_question_that_kills_its_worker_three_times_becomes_a_failed_row() -> None:
    schedule = Schedule(batches("a1", "a2"))
    for _ in range(2):
        assert name(schedule.give(0)) == "a1"
        assert schedule.lost(0, "exit code -9") is None
    schedule.give(0)
    lost = schedule.lost(0, "exit code -9")
    assert lost is not None
    row = json.loads(lost[1])
    assert (name(lost[0]), row["id"]) == ("a1", "a1")
    assert row["failed"].startswith("its process died 3 times (exit code -9); ask it alone")
    assert name(schedule.give(0)) == "a2"  # its neighbour is not its fault


def test_an_idle_worker_that_dies_loses_nothing() -> None:
    assert Schedule(batches("a1")).lost(0, "killed") is None


class Script:
    """A pool whose workers die when a random sequence says so; it checks that nobody is given two things at once."""

    spec = SPEC

    def __init__(self, count: int, dies: Iterator[bool]) -> None:
        self.dies = dies
        self.queue: list[Event] = [Event(worker, "ready", {"dtype": "float32"}) for worker in range(count)]
        self.busy: set[int] = set()

    def events(self) -> Sequence[Event]:
        assert self.queue, "nothing will ever happen"
        event = self.queue.pop(0)
        self.busy.discard(event.worker)
        return [event]

    def send(self, worker: int, given: Item) -> None:
        assert worker not in self.busy
        self.busy.add(worker)
        row = Event(worker, "row", json.dumps({"id": given.question.id, "failed": None}))
        self.queue.append(Event(worker, "dead", "killed") if next(self.dies, False) else row)

    def replace(self, worker: int) -> None:
        self.queue.append(Event(worker, "ready", {"dtype": "float32"}))


@given(st.lists(st.sampled_from("abcd"), max_size=12), st.integers(1, 4), st.lists(st.booleans(), max_size=40))
def test_whoever_dies_every_question_has_one_row(videos: list[str], count: int, dies: list[bool]) -> None:
    asked = batches(*(f"{video}{i}" for i, video in enumerate(videos)))
    crowd = Crowd(Script(count, iter(dies)))
    assert crowd.first_ready() == {"dtype": "float32"}
    rows = [(given.question.id, json.loads(row)["failed"]) for given, row in crowd.rows(asked)]
    assert sorted(id_ for id_, _ in rows) == sorted(one.question.id for batch in asked for one in batch)
    assert sum(failed is not None for _, failed in rows) <= sum(dies) // 3


def test_models_that_die_while_they_load_end_the_run() -> None:
    class Dying(Script):
        def replace(self, worker: int) -> None:
            self.queue.append(Event(worker, "dead", "exit code -9"))

    pool = Dying(1, iter(()))
    pool.queue = [Event(0, "dead", "exit code -9")]
    with pytest.raises(ModelError, match=r"model m: its process dies while loading it \(exit code -9\); use fewer"):
        Crowd(pool).first_ready()


# --- processes ---


@pytest.fixture(scope="module")
def asked(small_world: Path) -> list[Item]:
    examples = read_examples(small_world / "examples.jsonl")
    questions = [Question(e.id, e.video, e.question, e.options, e.answer, e.spans, e.duration_s) for e in examples]
    return [Item(one, one.video, "direct") for one in questions] + [Item(questions[0], questions[0].video, "coarse")]


@pytest.fixture
def spec(checkpoint: Path) -> ModelSpec:
    settings = load_model_settings(checkpoint).model_copy(update={"max_new_tokens": 24})
    return ModelSpec(str(checkpoint), settings, "cpu", "float32")


def comparable(row: str) -> dict[str, Any]:
    return dict(timeless(json.loads(row)))


@pytest.fixture(scope="module")
def alone(asked: list[Item], checkpoint: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The rows of one process."""
    import torch

    threads = torch.get_num_threads()
    settings = load_model_settings(checkpoint).model_copy(update={"max_new_tokens": 24})
    executor = Alone(ModelSpec(str(checkpoint), settings, "cpu", "float32"))
    assert executor.start()["dtype"] == "float32"
    rows = {one.key: comparable(row) for one, row in executor.rows(make_batches(asked))}
    executor.close()
    torch.set_num_threads(threads)
    assert [row["failed"] for row in rows.values()] == [None] * 5
    return rows


def test_two_processes_one_of_them_killed_give_the_rows_of_one(
    asked: list[Item], alone: dict[tuple[str, str], dict[str, Any]], spec: ModelSpec, tmp_path: Path, patience: None
) -> None:
    executor = Processes(spec, 2, tmp_path)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    with time_limit():
        try:
            facts = executor.start()
            assert (facts["dtype"], facts["device"]) == ("float32", "cpu")
            first = set(executor.pids)
            for one, row in executor.rows(make_batches(asked)):
                if not rows:
                    working = min(executor._crowd._loaded - executor._crowd._idle)  # it has its next question already
                    os.kill(executor._pool.workers[working].process.pid, signal.SIGKILL)
                assert one.key not in rows
                rows[one.key] = comparable(row)
            assert len(first & set(executor.pids)) == 1
        finally:
            executor.close()
    assert rows == alone
    assert executor.pids == []


def test_a_model_that_does_not_load_is_the_same_error_as_in_one_process(
    spec: ModelSpec, tmp_path: Path, patience: None
) -> None:
    wrong = ModelSpec(str(tmp_path / "none"), spec.settings)
    with pytest.raises(ModelError, match="no such directory") as here:
        load_asker(wrong)
    executor = Processes(wrong, 1, tmp_path)
    with time_limit(), pytest.raises(ModelError) as there:
        executor.start()
    executor.close()
    assert str(there.value) == str(here.value)
    assert (tmp_path / LOG_FILE).is_file()


@pytest.mark.parametrize("count", [0, -1])
def test_no_processes_are_refused(count: int, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--workers: {count} processes ask nothing"):
        Processes(SPEC, count, tmp_path)


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    import torch

    from zoomzero.policy.local import load

    chosen: list[str] = []

    def note(model: str, *, device: str, **others: Any) -> Any:
        chosen.append(device)
        raise ModelError(model, "stop here", "-")

    monkeypatch.setattr(load, "load_policy", note)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device, index, count in (("auto", 0, 3), ("cuda", 1, 3), ("auto", 2, 3), ("auto", 0, 1), ("cpu", 1, 2)):
        with pytest.raises(ModelError):
            load_asker(ModelSpec(str(checkpoint), ModelSettings(), device), index, count)
    assert chosen == ["cuda:0", "cuda:1", "cuda:0", "auto", "cpu"]


def test_one_process_asks_in_order(spec: ModelSpec) -> None:
    class Echo(Asker):
        def ask(self, given: Item) -> str:
            return given.question.id

    executor = Alone(spec, lambda one: (Echo(None, one), {}))  # type: ignore[arg-type]
    executor.start()
    assert [row for _, row in executor.rows(batches("b1", "a1", "b2"))] == ["b1", "b2", "a1"]
