"""`zoomzero eval` from end to end: real videos, the embedded model, killed and gone on with, refused where due."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from eval_rows import timeless

from cli_runner import Ran, Run
from zoomzero.benchmarks.runner import evaluate as evaluate_module
from zoomzero.benchmarks.runner.asking import Asker
from zoomzero.benchmarks.runner.evaluate import EvalSettings, make_executor
from zoomzero.benchmarks.runner.executors import Alone
from zoomzero.benchmarks.runner.planning import make_plan
from zoomzero.benchmarks.runner.ray_workers import RayActors
from zoomzero.benchmarks.runner.run import read_rows, read_run
from zoomzero.benchmarks.runner.workers import Processes

PATIENCE_S = 600  # for a process that loads a model on a busy machine
SHORT = ("--set", "max_new_tokens=40", "--resamples", 50)
Eval = Callable[..., Ran]


@pytest.fixture
def run_eval(zoom: Run, checkpoint: Path) -> Eval:
    """Run `zoomzero eval` with the embedded model."""

    def run(name: str, out: Path, *more: object) -> Ran:
        usual = {"--out": out, "--model": checkpoint, "--device": "cpu"}
        given = (word for name, value in usual.items() if name not in more for word in (name, value))
        return zoom("eval", name, *given, *SHORT, *more)

    return run


def rows_of(out: Path, mode: str) -> dict[str, Any]:
    return {row["id"]: timeless(row) for row in read_rows(out, mode)}


def own_examples(folder: Path, world: Path, videos: list[str]) -> Path:
    """Write an examples file with one question for each video named; `bad` is no video."""
    first = json.loads((world / "examples.jsonl").read_text().splitlines()[0])
    (folder / "videos").mkdir(parents=True, exist_ok=True)
    lines = []
    for i, name in enumerate(videos):
        target = folder / "videos" / f"{name}.mp4"
        if name.startswith("bad"):
            target.write_text("no video")
        elif not name.startswith("gone") and not target.exists():
            shutil.copy(world / first["video"], target)
        lines.append(json.dumps(first | {"id": f"q{i}", "video": f"videos/{name}.mp4", "source": "mine"}))
    (folder / "examples.jsonl").write_text("\n".join(lines) + "\n")
    return folder


# --- a run, and going on with it ---


def test_a_table_of_modes_and_what_lies_in_the_folder(
    run_eval: Eval, zoom: Run, small_world: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "run"
    modes = ("--mode", "direct", "--mode", "coarse", "--mode", "zoom")
    ran = run_eval("world-short", out, "--data", small_world, *modes)
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert [line.split()[0] for line in lines[1:4]] == ["direct", "coarse", "zoom"]
    assert lines[-2:] == [f"{out / 'summary.json'}", f"{out / 'predictions.*.jsonl'}"]
    record, summary = read_run(out), json.loads((out / "summary.json").read_text())
    assert (record["benchmark"], record["modes"], record["dataset"]["n"]) == (
        "world-short",
        ["direct", "coarse", "zoom"],
        4,
    )
    assert record["settings"]["max_new_tokens"] == 40
    assert record["dtype"] == "float32"
    assert set(record) >= {"settings_hash", "model_hash", "code", "seed", "created", "versions", "machine", "split"}
    (session,) = record["sessions"]
    assert session["rows"] == 12
    assert 0 < session["answering_seconds"] <= session["seconds"]
    assert [one["n"] for one in summary["table"]] == [4, 4, 4]
    assert summary["table"][2]["visual_tokens"] > summary["table"][1]["visual_tokens"] > 0
    assert summary["modes"]["zoom"]["union"]["Acc@QA"] == summary["table"][2]["accuracy"]
    for mode in record["modes"]:
        scored = zoom("score", "world-short", "--data", small_world, "--predictions", out / f"predictions.{mode}.jsonl",
                      "--resamples", 50, "--json")  # fmt: skip
        report = json.loads(scored.out)
        assert report["union"] == summary["modes"][mode]["union"]
        assert (report["missing"], report["failed"]) == (0, 0)


def test_a_finished_run_asks_nothing_and_a_mode_can_be_added(
    run_eval: Eval, small_world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_eval("world-short", tmp_path, "--data", small_world, "--mode", "coarse", "--json")
    files = {path.name: path.read_bytes() for path in tmp_path.glob("predictions.*")}
    asked: list[str] = []
    real = Asker.ask
    monkeypatch.setattr(Asker, "ask", lambda self, item: asked.append(item.mode) or real(self, item))
    again = run_eval("world-short", tmp_path, "--data", small_world, "--mode", "coarse", "--json")
    assert asked == []
    assert {path.name: path.read_bytes() for path in tmp_path.glob("predictions.*")} == files
    one, two = json.loads(first.out), json.loads(again.out)
    assert one.pop("scoring_seconds") >= 0 <= two.pop("scoring_seconds")
    assert one == two
    more = run_eval("world-short", tmp_path, "--data", small_world, "--mode", "direct", "--json")
    assert asked == ["direct"] * 4
    assert list(json.loads(more.out)["modes"]) == ["coarse", "direct"]
    assert len(read_run(tmp_path)["sessions"]) == 3


def wait_for(rows: int, path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not path.is_file() or path.read_bytes().count(b"\n") < rows:
        assert process.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < end
        time.sleep(0.005)


def test_interrupted_killed_and_cut_a_run_ends_with_the_rows_of_one_never_stopped(
    run_eval: Eval, small_world: Path, tmp_path: Path, checkpoint: Path, patience: None
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "stopped"
    asked = ("--data", small_world, "--mode", "direct", "--mode", "coarse")
    assert run_eval("world-short", whole, *asked).code == 0
    command = ["eval", "world-short", "--out", out, "--model", checkpoint, "--device", "cpu", *SHORT, *asked]
    direct, coarse = out / "predictions.direct.jsonl", out / "predictions.coarse.jsonl"
    for stop, path, rows in ((signal.SIGINT, direct, 1), (signal.SIGKILL, coarse, 2)):
        process = subprocess.Popen(
            [sys.executable, "-m", "zoomzero", *map(str, command)],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            # a suite that runs in the background hands its children an ignored Ctrl-C
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        wait_for(rows, path, process)
        process.send_signal(stop)
        _, said = process.communicate(timeout=PATIENCE_S)
        if stop == signal.SIGINT:
            assert (process.returncode, said) == (130, b"zoomzero: interrupted\n")
    kept = coarse.read_bytes()
    coarse.write_bytes(kept[: kept.rstrip(b"\n").rfind(b"\n") + 20])  # the last row half written
    assert run_eval("world-short", out, *asked).code == 0
    assert rows_of(out, "direct") == rows_of(whole, "direct")
    resumed, expected = rows_of(out, "coarse"), rows_of(whole, "coarse")
    assert resumed == expected
    assert len(read_run(out)["sessions"]) == 3


def test_who_asks_is_as_told_and_never_more_than_there_is_to_ask(
    small_world: Path, checkpoint: Path, tmp_path: Path
) -> None:
    def executor(**more: Any) -> Any:
        given = EvalSettings(benchmark="world-short", data=small_world, out=tmp_path, model=str(checkpoint), **more)
        return make_executor(given, make_plan(given, small_world), tmp_path, batches=3)

    assert isinstance(executor(), Alone)
    two, three = executor(workers=2), executor(workers=9)
    assert isinstance(two, Processes)
    assert (two.models, three.models, two.folder) == (2, 3, tmp_path)
    assert two.spec.settings.max_new_tokens > 40
    assert executor(workers=1, overrides=("max_new_tokens=40",), dtype="float32").spec.settings.max_new_tokens == 40
    cluster, local = executor(ray="10.0.0.1:6379"), executor(ray="local", workers=2)
    assert isinstance(cluster, RayActors)
    assert (cluster.address, cluster.count, local.address, local.count) == ("10.0.0.1:6379", None, "local", 2)


# --- what is asked ---


def test_a_limit_is_spread_grows_and_is_scored_on_its_own(run_eval: Eval, small_world: Path, tmp_path: Path) -> None:
    asked = ("--data", small_world, "--mode", "direct", "--json")
    two = json.loads(run_eval("world-short", tmp_path, *asked, "--limit", 2).out)
    before = rows_of(tmp_path, "direct")
    assert (two["n"], len(before)) == (2, 2)
    every = json.loads(run_eval("world-short", tmp_path, *asked).out)
    assert (every["n"], len(rows_of(tmp_path, "direct"))) == (4, 4)
    assert {id_: rows_of(tmp_path, "direct")[id_] for id_ in before} == before
    again = json.loads(run_eval("world-short", tmp_path, *asked, "--limit", 2).out)
    assert again["table"] == two["table"]


def test_only_the_named_questions(run_eval: Eval, small_world: Path, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("short-5-00002-count\n")
    asked = ("--data", small_world, "--mode", "direct")
    assert run_eval("world-short", tmp_path / "run", *asked, "--only", tmp_path / "ids").code == 0
    assert list(rows_of(tmp_path / "run", "direct")) == ["short-5-00002-count"]
    (tmp_path / "ids").write_text("short-5-00002-count\nnobody\n")
    refused = run_eval("world-short", tmp_path / "run", *asked, "--only", tmp_path / "ids")
    assert refused.code == 2
    assert "1 of 2 ids are no questions of this split: nobody" in refused.complaint


def test_a_world_is_written_where_there_is_none(run_eval: Eval, tmp_path: Path) -> None:
    ran = run_eval("world-short", tmp_path / "run", "--count", 1, "--seed", 5, "--mode", "direct", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert (tmp_path / "world-short-5-1" / "examples.jsonl").is_file()
    assert json.loads(ran.out)["n"] == 1


# --- failures ---


def test_failures_are_rows_until_there_are_too_many(run_eval: Eval, small_world: Path, tmp_path: Path) -> None:
    data = own_examples(tmp_path / "data", small_world, ["a", "b", "c", *["bad"] * 22])
    asked = ("--data", data, "--mode", "direct", "--max-failed", 0.3)
    ran = run_eval("examples", tmp_path / "run", *asked)
    assert (ran.code, ran.out) == (6, "")
    note, error = ran.err.splitlines()
    assert note.startswith("zoomzero: note: 1 of 4 sampled videos cannot be read, first ")
    assert "17 of 20 questions failed, more than --max-failed 0.3 allows; see `failed` in " in error
    assert error.endswith("mend it, and give --retry-failed")
    assert len(rows_of(tmp_path / "run", "direct")) == 20
    again = run_eval("examples", tmp_path / "run", *asked)
    assert (again.code, len(rows_of(tmp_path / "run", "direct"))) == (6, 20)  # stopped before the model is loaded
    shutil.copy(data / "videos/a.mp4", data / "videos/bad.mp4")
    mended = run_eval("examples", tmp_path / "run", *asked, "--retry-failed", "--json")
    assert mended.code == 0
    assert (json.loads(mended.out)["table"][0]["failed"], len(rows_of(tmp_path / "run", "direct"))) == (0, 25)


def test_all_failures_may_be_allowed_and_count_as_wrong(run_eval: Eval, small_world: Path, tmp_path: Path) -> None:
    data = own_examples(tmp_path / "data", small_world, ["a", "bad1", "bad2"])
    ran = run_eval("examples", tmp_path / "run", "--data", data, "--mode", "direct", "--max-failed", 1, "--json")
    assert ran.code == 0
    (line,) = json.loads(ran.out)["table"]
    assert (line["n"], line["failed"]) == (3, 2)
    assert line["accuracy"] in (0.0, pytest.approx(100 / 3))


def test_missing_videos_stop_the_run_or_count_as_missing(run_eval: Eval, small_world: Path, tmp_path: Path) -> None:
    data = own_examples(tmp_path / "data", small_world, ["a", "gone1", "gone2"])
    asked = ("--data", data, "--mode", "direct", "--json")
    refused = run_eval("examples", tmp_path / "run", *asked)
    assert refused.code == 2
    assert (
        "2 of 3 videos are missing (2 questions): videos/gone1.mp4, videos/gone2.mp4; fetch them" in refused.complaint
    )
    ran = run_eval("examples", tmp_path / "run", *asked, "--skip-missing")
    summary = json.loads(ran.out)
    assert ran.err.endswith("they are skipped and count as missing\n")
    assert summary["skipped_missing_videos"] == {"videos": 2, "questions": 2}
    assert (summary["table"][0]["n"], summary["table"][0]["missing"]) == (3, 2)
    for name in ("gone1", "gone2"):  # fetched later
        shutil.copy(data / "videos/a.mp4", data / f"videos/{name}.mp4")
    later = json.loads(run_eval("examples", tmp_path / "run", *asked).out)
    assert later["table"][0]["missing"] == 0


# --- what does not belong together ---


@pytest.fixture
def begun(run_eval: Eval, small_world: Path, tmp_path: Path) -> Path:
    """A run of one question on a copy of the world's annotation."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "examples.jsonl").write_text((small_world / "examples.jsonl").read_text())
    asked = ("--data", data, "--videos", small_world, "--mode", "direct", "--limit", 1)
    assert run_eval("world-short", tmp_path / "run", *asked).code == 0
    return tmp_path


def test_runs_that_differ_are_not_mixed(
    begun: Path, run_eval: Eval, zoom: Run, small_world: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--data", begun / "data", "--videos", small_world, "--mode", "direct", "--limit", 1)
    before = read_rows(begun / "run", "direct")

    def refused(*more: object) -> str:
        ran = run_eval("world-short", begun / "run", *asked, *more)
        assert ran.code == 2
        return ran.complaint

    assert "the settings (coarse.fps) was 1.0, now 2.0; give the same --set and --budget" in refused(
        "--set", "coarse.fps=2"
    )
    assert "the settings (coarse.max_tokens) was 40, now 64; " in refused("--budget", 64)
    assert "whether faithfulness is measured was False, now True" in refused("--faithfulness")
    assert "the seed was 0, now 1; give its --seed" in refused("--seed", 1)
    assert "the number type was float32, now bfloat16; give its --dtype" in refused("--dtype", "bfloat16")
    other = begun / "model"
    shutil.copytree(checkpoint, other)
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config, indent=3))
    assert "the model's files was " in refused("--model", other)
    with monkeypatch.context() as patch:
        code = {"zoomzero": "9", "commit": None, "source_hash": "other"}
        patch.setattr(evaluate_module, "code_identity", lambda: code)
        assert "the code that answers was " in refused()
    table = begun / "data/examples.jsonl"
    table.write_text(table.read_text().replace("Which", "What", 1))
    assert "the annotation was " in refused()
    assert read_rows(begun / "run", "direct") == before


# --- what cannot be asked ---


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("nosuch", "--data", "{world}", "--videos", "{world}"), "nosuch: is no benchmark; choose from nextgqa"),
        (("nextgqa",), "--data: nextgqa has annotation of its own; give its folder"),
        (("nextgqa", "--data", "{world}"), "--videos: nextgqa's videos are needed; give the folder"),
        (("nextgqa", "--data", "{world}", "--videos", "{world}"), "there is no test.csv in this folder"),
        (("nextgqa", "--data", "/nowhere", "--videos", "{world}"), "/nowhere: path: does not exist"),
        (("examples", "--data", "{world}", "--videos", "/nowhere"), "/nowhere: --videos: there is no such folder"),
        (("examples", "--data", "{world}", "--count", 3), "--count: only a world is written; use --limit"),
        (("world-short", "--data", "{world}", "--split", "val"), "--split: world-short has no split 'val'"),
        (("world-short", "--data", "{world}", "--mode", "look"), "--mode: 'look' is unknown; use one of direct"),
        (
            ("world-short", "--data", "{world}", "--mode", "zoom", "--mode", "zoom"),
            "--mode: the same mode is given twice; give each once",
        ),
        (("world-short", "--data", "{world}", "--limit", 0), "limit: must be greater than or equal to 1, not 0"),
        (
            ("world-short", "--data", "{world}", "--max-failed", 2),
            "max_failed: must be less than or equal to 1",
        ),
        (("world-short", "--data", "{world}", "--device", "abacus"), "--device: 'abacus' is unknown"),
        (("world-short", "--data", "{world}", "--model", "nosuch"), "model nosuch: no such directory"),
        (("world-short", "--data", "{world}", "--set", "colour=1"), "--set colour=1: there is no such setting"),
        (("world-short", "--data", "{world}", "--budget", 1), "--budget: 1 visual tokens cannot hold the smallest"),
        (("world-short", "--data", "{world}", "--budget", 40000), "tokens, the model has positions for 32768; lower"),
        (("world-short", "--data", "{world}", "--only", "/nowhere"), "/nowhere: --only: cannot be read"),
        (("world-short", "--data", "{world}", "--out", "/proc/run"), "--out: /proc/run cannot be written"),
    ],
)
def test_what_cannot_be_asked_is_one_line(
    run_eval: Eval, small_world: Path, tmp_path: Path, words: tuple[object, ...], complaint: str
) -> None:
    name, *more = (str(word).format(world=small_world) for word in words)
    ran = run_eval(name, tmp_path / "run", *more)
    assert ran.code in (2, 4)
    assert complaint in ran.complaint
    assert not list(tmp_path.glob("run/predictions.*"))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"spans": [[1, float("nan")]]}, "line 2: spans and duration_s must be finite numbers"),
        ({"spans": [[5, 2]]}, "line 2: span [5.0, 2.0] is not 0 <= start < end"),
        ({"answer": "Z"}, "line 2: answer 'Z' is no option's label; give A to D"),
        ({"id": "short-5-00000-symbol"}, "line 2: id 'short-5-00000-symbol' was used on line 1 already"),
        ({"colour": 1}, "line 2: has unknown fields colour"),
        ({"options": None}, "line 2: options must be a list of texts"),
    ],
)
def test_damaged_annotation_is_named(
    run_eval: Eval, small_world: Path, tmp_path: Path, change: dict[str, Any], complaint: str
) -> None:
    lines = (small_world / "examples.jsonl").read_text().splitlines()
    lines[1] = json.dumps(json.loads(lines[1]) | change)
    (tmp_path / "examples.jsonl").write_text("\n".join(lines))
    ran = run_eval("examples", tmp_path / "run", "--data", tmp_path, "--videos", small_world)
    assert ran.code == 2
    assert complaint in ran.complaint
