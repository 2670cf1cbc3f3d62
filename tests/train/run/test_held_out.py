"""What is watched while a run goes on: shares worked out by hand from scripted answers, and a log that stays whole."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from zoomzero.config import ModelSettings
from zoomzero.data.example import Example, read_examples
from zoomzero.spans import Span
from zoomzero.train.run import held_out
from zoomzero.train.run.held_out import LOG_FILE, MEASURES, HeldOut, score, summary
from zoomzero.train.settings import ValidationSettings
from zoomzero.world import write

SETTINGS = ModelSettings()


def example(name: str, answer: str, *spans: tuple[float, float]) -> Example:
    return Example(
        id=name,
        video=f"{name}.mp4",
        question="?",
        options=("E", "H", "K", "M"),
        answer=answer,
        spans=tuple(Span(*span) for span in spans),
        duration_s=60.0,
        source="test",
        split="train",
    )


def one_pass(option: str | None, text: str = "said", problems: tuple[str, ...] = ()) -> SimpleNamespace:
    return SimpleNamespace(option=option, text=text, problems=problems)


EXAMPLES = [
    example("short-1-00000-symbol", "A", (0, 10)),
    example("short-1-00001-order", "B", (10, 20)),
    example("short-1-00004-symbol", "C", (20, 30)),
    example("short-1-00005-order", "D", (30, 40)),
]
TRACES = {
    # right after a wrong first look; half of the span found; one of two passes writes
    "short-1-00000-symbol": SimpleNamespace(
        option="A", spans=(Span(0, 5),), passes=[one_pass("B"), one_pass("A", text="")]
    ),
    # right at once, spans exact
    "short-1-00001-order": SimpleNamespace(option="B", spans=(Span(10, 20),), passes=[one_pass("B")]),
    # wrong, nothing found, not in the format
    "short-1-00004-symbol": SimpleNamespace(option=None, spans=(), passes=[one_pass(None, problems=("no_glue",))]),
    # wrong after a right first look, elsewhere
    "short-1-00005-order": SimpleNamespace(
        option="A", spans=(Span(50, 60),), passes=[one_pass("D"), one_pass("A", text="")]
    ),
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Answer from the script, and note whose questions were asked."""
    said: list[str] = []

    def scripted(policy: Any, settings: Any, video: str, question: str, options: Any, **more: Any) -> Any:
        assert more == {"as_annotated": True}
        said.append(video)
        return TRACES[video.removesuffix(".mp4")], None

    monkeypatch.setattr(held_out, "answer", scripted)
    return said


def test_shares_by_hand(asked: list[str]) -> None:
    """Overlaps 1/2, 1, 0 and 0; of four passes that wrote, three kept to the format."""
    found = score(None, SETTINGS, EXAMPLES)
    assert found == {
        "accuracy": 0.5,
        "coarse_accuracy": 0.5,
        "miou": 0.375,
        "format": 0.75,
        "symbol_accuracy": 0.5,
        "symbol_miou": 0.25,
        "order_accuracy": 0.5,
        "order_miou": 0.5,
    }
    assert asked == [e.video for e in EXAMPLES]


def test_examples_without_kinds_have_no_shares_by_kind(asked: list[str]) -> None:
    names = [one.id for one in EXAMPLES[:2]]
    for one, name in zip(EXAMPLES[:2], names, strict=True):
        TRACES[f"{name}x"] = TRACES[name]
        assert one.id == name
    unlike = [dataclasses.replace(e, id=f"{e.id}{i}") for i, e in enumerate(EXAMPLES[:2])]
    assert set(score(None, SETTINGS, unlike)) == {"accuracy", "coarse_accuracy", "miou", "format"}


def write_examples_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> ValidationSettings:
    monkeypatch.setattr(held_out, "read_examples", lambda given: EXAMPLES if Path(given) == path else [])
    return ValidationSettings(examples=str(path), limit=3, every=5)


def step_end(callback: HeldOut, step: int, most: int = 12) -> None:
    model = nn.Dropout()
    callback.on_step_end(None, SimpleNamespace(global_step=step, max_steps=most), None, model=model)
    assert model.training, "the model goes on learning"


def log_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text().splitlines()]


def test_examples_are_asked_when_due_and_at_the_end(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = HeldOut(None, SETTINGS, write_examples_file(tmp_path / "e.jsonl", monkeypatch), tmp_path)
    for step in range(1, 13):
        step_end(callback, step)
    assert [row["step"] for row in log_of(tmp_path)] == [5, 10, 12]
    assert len(asked) == 9, "at most three each time"
    assert all(row["accuracy"] == 0.6667 and row["minutes"] >= 0 for row in log_of(tmp_path))


def test_the_start_model_is_asked_first_and_stands_beside_the_last_and_the_best(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert summary(tmp_path) == {}
    callback = HeldOut(None, SETTINGS, write_examples_file(tmp_path / "e.jsonl", monkeypatch), tmp_path)
    model = nn.Dropout()
    with monkeypatch.context() as untrained:
        untrained.setitem(TRACES, "short-1-00000-symbol", TRACES["short-1-00004-symbol"])
        callback.on_train_begin(None, SimpleNamespace(global_step=0, max_steps=6), None, model=model)
    assert model.training
    step_end(callback, 5, most=6)
    with monkeypatch.context() as spoilt:
        spoilt.setitem(TRACES, "short-1-00001-order", TRACES["short-1-00004-symbol"])
        step_end(callback, 6, most=6)
    rows = summary(tmp_path)
    assert [(which, row["step"], row["accuracy"]) for which, row in rows.items()] == [
        ("start", 0, 0.3333),
        ("last", 6, 0.3333),
        ("best", 5, 0.6667),
    ]
    assert set(MEASURES) < set(rows["start"])


def test_a_resumed_run_does_not_ask_the_start_model_again(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback = HeldOut(None, SETTINGS, write_examples_file(tmp_path / "e.jsonl", monkeypatch), tmp_path)
    callback.on_train_begin(None, SimpleNamespace(global_step=7, max_steps=12), None, model=nn.Dropout())
    step_end(callback, 10)
    assert [row["step"] for row in log_of(tmp_path)] == [10]
    assert "start" not in summary(tmp_path)


def test_resumed_run_writes_its_steps_anew(asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after step 10, resumed from step 7: the row of step 10 is replaced, that of step 5 stays."""
    settings = write_examples_file(tmp_path / "e.jsonl", monkeypatch)
    for step in (5, 10):
        step_end(HeldOut(None, SETTINGS, settings, tmp_path), step)
    first = log_of(tmp_path)[0]
    again = HeldOut(None, SETTINGS, settings, tmp_path)
    step_end(again, 8)
    assert [row["step"] for row in log_of(tmp_path)] == [5, 10], "nothing is due"
    monkeypatch.setitem(TRACES, "short-1-00001-order", TRACES["short-1-00004-symbol"])
    step_end(again, 10)
    rows = log_of(tmp_path)
    assert rows[0] == first
    assert [(row["step"], row["accuracy"]) for row in rows] == [(5, 0.6667), (10, 0.3333)]
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_model_rests_while_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Dropout()
    monkeypatch.setattr(held_out, "score", lambda *rest: {"resting": float(not model.training)})
    callback = HeldOut(None, SETTINGS, write_examples_file(tmp_path / "e.jsonl", monkeypatch), tmp_path)
    callback.on_step_end(None, SimpleNamespace(global_step=5, max_steps=9), None, model=model)
    assert log_of(tmp_path)[0]["resting"] == 1.0
    assert model.training


def test_nothing_to_ask_is_nothing() -> None:
    assert HeldOut(None, SETTINGS, ValidationSettings(), Path("unused")).examples == []


def test_world_is_written_once_for_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "worlds" / "short-5-4"
    (folder / "videos").mkdir(parents=True)
    names = [write.world_item("short", 5, index).id for index in range(4)]
    for name in names:
        (folder / "videos" / f"{name}.mp4").write_bytes(name.encode())  # there already: nothing is drawn
    world = {"kind": "short", "count": 4, "seed": 5, "folder": str(tmp_path / "worlds")}
    settings = ValidationSettings.model_validate({"world": world, "limit": 3})
    asked = HeldOut(None, SETTINGS, settings, tmp_path).examples
    assert [one.id for one in asked] == names[:3]
    assert Path(asked[0].video).read_bytes() == names[0].encode()
    assert [one.id for one in read_examples(folder / "examples.jsonl")] == names
