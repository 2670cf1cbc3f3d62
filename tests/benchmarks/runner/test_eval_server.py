"""`zoomzero eval` of a model behind a server: several videos at once, and questions it was away for are asked again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli_runner import Run
from fake_server import Abilities, FakeServer
from scripted_policy import ScriptedPolicy, rates, says
from zoomzero.benchmarks.runner.run import read_rows, read_run
from zoomzero.policy.open import open_model

pytest.importorskip("openai")
KEY = "sk-a-key-nobody-may-see"


def brain() -> ScriptedPolicy:
    return ScriptedPolicy(says("B", [(8.0, 12.0)], p=0.6), rates(1, 8, 1, 1), forever=True)


def run_eval(zoom: Run, out: Path, world: Path, model: str, *more: object) -> Any:
    common = ("eval", "world-short", "--out", out, "--data", world, "--model", model, "--resamples", 50)
    return zoom(*common, *more)


def test_a_run_keeps_the_server_busy_and_records_what_it_is(
    zoom: Run, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOOMZERO_API_KEY", KEY)
    out = tmp_path / "run"
    modes = ("--mode", "zoom")
    with FakeServer(brain(), Abilities(key=KEY), slow_s=0.3) as server:
        ran = run_eval(zoom, out, small_world, server.model, *modes, "--concurrency", 3)
        assert ran.code == 0, ran.err
        assert 1 < server.most_running <= 3
        assert run_eval(zoom, out, small_world, server.model, *modes, "--concurrency", 2).code == 0
    record, rows = read_run(out), read_rows(out, "zoom")
    assert record["server"]["video_times"] == "exact"
    assert (record["dtype"], record["model_files"]) == ("server", {})
    assert {row["answer"] for row in rows} == {"B"}
    assert {one["tokens_from"] for row in rows for one in row["passes"]} == {"server"}
    assert len(rows) == record["dataset"]["n"] == 4
    assert not [path for path in out.rglob("*") if path.is_file() and KEY in path.read_text()]


def test_questions_a_server_was_away_for_are_asked_again_without_being_told(
    zoom: Run, small_world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    more = ("--mode", "direct", "--max-failed", 1, "--set", "server.retries=0", "--concurrency", 1)
    with FakeServer(brain()) as server:
        open_model(server.model)
        probe = len(server.seen)
        # after the probe, the first question meets a closed connection and the second a request that is refused
        server.faults = [*[""] * probe, "closes", "400 no"]
        assert run_eval(zoom, out, small_world, server.model, *more).code == 0
        before = len(server.seen)
        failed = [row for row in read_rows(out, "direct") if row["failed"]]
        reasons = sorted(row["failed"].partition(" (")[0].rpartition(": ")[2] for row in failed)
        assert reasons == ["cannot be reached", "refuses the request"]
        assert all((row["answer"], row["confidence"]) == (None, 0.0) for row in failed)
        assert run_eval(zoom, out, small_world, server.model, *more).code == 0
        assert len(server.seen) - before == probe + 1  # the question whose connection closed, and no other
    (left,) = [row for row in read_rows(out, "direct") if row["failed"]]
    assert "refuses the request" in left["failed"]
    assert "again" not in left


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        (("--workers", 2), "--workers: a model behind a server needs no processes; use --concurrency"),
        (("--concurrency", 2), "--concurrency: is for a model behind a server; use --workers"),
    ],
)
def test_what_does_not_go_together(
    zoom: Run, small_world: Path, tmp_path: Path, more: tuple[object, ...], complaint: str
) -> None:
    model = "tiny" if "--concurrency" in more else "http://127.0.0.1:9/v1#m"
    ran = run_eval(zoom, tmp_path / "run", small_world, model, *more)
    assert ran.code == 2
    assert ran.complaint.startswith(complaint)
