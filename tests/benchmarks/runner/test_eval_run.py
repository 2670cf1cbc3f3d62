"""A run's folder: rows that survive anything, one writer, no mixing of runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomzero.benchmarks.runner import run as run_module
from zoomzero.benchmarks.runner.identity import code_identity, files_hash, model_files
from zoomzero.benchmarks.runner.run import (
    MUST_MATCH,
    RunFolder,
    differences,
    make_folder,
    open_run,
    predictions_path,
    read_rows,
    read_run,
)
from zoomzero.benchmarks.scoring.costs import COST_NAMES
from zoomzero.errors import ConfigError, DataError, EvaluationError

IDENTITY: dict[str, Any] = {
    "benchmark": "nextgqa",
    "split": "val",
    "seed": 0,
    "fps": None,
    "data_hash": "d1",
    "model_hash": "m1",
    "settings": {"coarse": {"fps": 1.0}, "widen_s": 10.0},
    "dtype": None,
    "device": None,
    "faithfulness": False,
    "source_hash": "s1",
    "modes": ["zoom"],
    "created": "now",
    "sessions": [{"started": "now"}],
}


def line(id_: str, failed: str | None = None, **more: Any) -> str:
    costs = dict.fromkeys(COST_NAMES, 0.0)
    row: dict[str, Any] = {"id": id_, "mode": "zoom", "answer": "A", "spans": [], "failed": failed, "duration_s": 9.0}
    return json.dumps(row | {"costs": costs, "passes": [], "evidence": {}} | more)


def written(folder: Path, *lines: str) -> Path:
    with open_run(folder, IDENTITY) as run:
        for one in lines:
            run.append("zoom", one)
    return predictions_path(folder, "zoom")


def ids(run: RunFolder) -> list[str]:
    return list(run.rows["zoom"])


# --- rows ---


def test_rows_are_there_as_soon_as_they_are_appended(tmp_path: Path) -> None:
    with open_run(tmp_path / "new" / "run", IDENTITY) as run:
        assert run.append("zoom", line("a"))["id"] == "a"
        run.append("zoom", line("é\u2028"))  # whatever an id holds
        assert [row["id"] for row in read_rows(run.folder, "zoom")] == ["a", "é\u2028"]
        assert read_run(run.folder)["modes"] == ["zoom"]
    assert read_rows(run.folder, "direct") == []


def test_a_file_cut_at_any_byte_keeps_its_whole_rows(tmp_path: Path) -> None:
    lines = [line("a", text="x" * 30), line("b"), line("ü")]
    path = written(tmp_path, *lines)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in {*range(len(whole) - 40, len(whole) + 1), *range(0, len(whole), 11)}:
        path.write_bytes(whole[:cut])
        kept = sum(end <= cut for end in ends)
        assert len(read_rows(tmp_path, "zoom")) == kept  # reading alone changes nothing
        assert path.stat().st_size == cut
        with open_run(tmp_path, IDENTITY) as run:
            assert ids(run) == ["a", "b", "ü"][:kept]
            for one in lines[kept:]:
                run.append("zoom", one)
        assert path.read_bytes() == whole


@given(st.lists(st.text(), min_size=1, max_size=6, unique=True), st.data())
@settings(max_examples=25, deadline=None)
def test_any_ids_survive_any_cut(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("run")
    path = written(folder, *(line(name) for name in names))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
    with open_run(folder, IDENTITY) as run:
        for name in names:
            if name not in run.rows["zoom"]:
                run.append("zoom", line(name))
    assert path.read_bytes() == whole


def test_zeros_where_a_crash_lost_the_last_block_are_cut(tmp_path: Path) -> None:
    path = written(tmp_path, line("a"))
    path.write_bytes(path.read_bytes() + bytes(500))
    with open_run(tmp_path, IDENTITY) as run:
        assert ids(run) == ["a"]
    assert path.read_text() == line("a") + "\n"


@pytest.mark.parametrize("damage", ["{", "[]", '"text"', "null", "{}", '{"no": "id"}', "\0\0\0"])
def test_a_damaged_line_is_named(tmp_path: Path, damage: str) -> None:
    path = written(tmp_path, line("a"))
    path.write_text(path.read_text() + damage + "\n" + line("b") + "\n")
    with pytest.raises(DataError, match=r"predictions\.zoom\.jsonl: line 2: is no row .*remove this line"):
        read_rows(tmp_path, "zoom")
    with pytest.raises(DataError, match="line 2"), open_run(tmp_path, IDENTITY):
        pass


def test_a_question_answered_twice_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, line("a"), line("b"))
    path.write_text(path.read_text() + line("a") + "\n")
    with pytest.raises(DataError, match="line 3: question 'a' was answered on line 1 already"):
        read_rows(tmp_path, "zoom")


def test_retry_failed_forgets_the_failed_rows_alone(tmp_path: Path) -> None:
    path = written(tmp_path, line("a"), line("b", failed="no such file"), line("c"))
    with open_run(tmp_path, IDENTITY) as run:
        assert ids(run) == ["a", "b", "c"]
    with open_run(tmp_path, IDENTITY, retry_failed=True) as run:
        assert ids(run) == ["a", "c"]
        run.append("zoom", line("b"))
    assert path.read_text().splitlines() == [line("a"), line("c"), line("b")]


# --- one run, one writer ---


def test_what_a_run_has_is_kept_and_what_comes_is_added(tmp_path: Path) -> None:
    written(tmp_path, line("a"))
    later = IDENTITY | {"modes": ["direct", "zoom"], "created": "later", "sessions": [{"started": "later"}]}
    with open_run(tmp_path, later) as run:
        assert list(run.rows) == ["zoom", "direct"]
        run.record["dtype"] = "float32"
        run.write_record()
    record = read_run(tmp_path)
    assert (record["created"], record["modes"]) == ("now", ["zoom", "direct"])
    assert [one["started"] for one in record["sessions"]] == ["now", "later"]
    with open_run(tmp_path, IDENTITY) as run:
        assert run.record["dtype"] == "float32"


@pytest.mark.parametrize("key", MUST_MATCH)
def test_whatever_differs_is_named_with_the_way_out(tmp_path: Path, key: str) -> None:
    first = IDENTITY | {"dtype": "float32"}
    other: Any = {"coarse": {"fps": 2.0}, "widen_s": 10.0} if key == "settings" else "other"
    with open_run(tmp_path, first):
        pass
    with (
        pytest.raises(ConfigError, match=r"--out: .* holds another run: ") as caught,
        open_run(tmp_path, first | {key: other}),
    ):
        pass
    what, fix = MUST_MATCH[key]
    assert what in str(caught.value)
    assert str(caught.value).endswith(fix)
    assert "give" in fix or "take" in fix or "install" in fix or "do as" in fix
    if key == "settings":
        assert "the settings (coarse.fps) was 1.0, now 2.0" in str(caught.value)


def test_all_differences_are_named() -> None:
    found = differences(IDENTITY, IDENTITY | {"seed": 1, "model_hash": "m2"})
    assert [(one.what, one.was, one.now) for one in found] == [
        ("the seed", "0", "1"),
        ("the model's files", "m1", "m2"),
    ]
    assert differences(IDENTITY, IDENTITY | {"dtype": "bfloat16", "modes": ["search"]}) == []  # not known before


def test_a_second_process_is_kept_out_until_the_first_is_gone(tmp_path: Path) -> None:
    code = (
        "import sys, json\nfrom zoomzero.benchmarks.runner.run import open_run\n"
        f"with open_run({str(tmp_path)!r}, json.loads(sys.argv[1])):\n    print('open', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(IDENTITY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        with (
            pytest.raises(ConfigError, match=f"being written by process {holder.pid}; wait for it"),
            open_run(tmp_path, IDENTITY),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with open_run(tmp_path, IDENTITY) as run:  # the lock died with its holder
        run.append("zoom", line("a"))


def test_predictions_without_a_run_are_not_touched(tmp_path: Path) -> None:
    (tmp_path / "predictions.zoom.jsonl").write_text(line("a") + "\n")
    with (
        pytest.raises(ConfigError, match=r"holds predictions\.zoom\.jsonl but no run\.json"),
        open_run(tmp_path, IDENTITY),
    ):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "\0"])
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(DataError, match=r"run\.json: file: .*give another --out"), open_run(tmp_path, IDENTITY):
        pass


def test_a_folder_that_holds_no_run(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"run\.json: is not there; give the --out of a `zoomzero eval`"):
        read_run(tmp_path)


# --- disks ---


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--out: .*file/run cannot be written \(Not a directory\)"):
        make_folder(tmp_path / "file" / "run")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line_and_the_run_goes_on_later(tmp_path: Path) -> None:
    def fill() -> None:
        with open_run(tmp_path, IDENTITY) as run:
            run.append("zoom", line("a"))
            os.close(run._files["zoom"])
            run._files["zoom"] = os.open("/dev/full", os.O_WRONLY)
            run.append("zoom", line("b"))

    with pytest.raises(EvaluationError) as caught:
        fill()
    text = str(caught.value)
    assert text.startswith(f"{tmp_path}: predictions.zoom.jsonl cannot be written (No space left on device); make room")
    assert "the run goes on where it stopped" in text
    assert caught.value.exit_code == 6
    with open_run(tmp_path, IDENTITY) as run:
        assert ids(run) == ["a"]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Callable[[str], Path]:
    """Mount a file system in memory; skips where that is not allowed."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        place = tmp_path / "disk"
        place.mkdir(exist_ok=True)
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            pytest.skip("there is no mount command")
        if done.returncode:
            pytest.skip("may not mount here")
        mounted.append(place)
        return place

    yield mount  # type: ignore[misc]
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True)


def test_a_really_full_disk(tiny_disk: Callable[[str], Path]) -> None:
    disk = tiny_disk("size=64k")
    done: list[str] = []

    def fill() -> None:
        with open_run(disk / "run", IDENTITY) as run:
            for i in range(100):
                run.append("zoom", line(str(i), text="x" * 3000))
                done.append(str(i))

    with pytest.raises(EvaluationError, match=r"predictions\.zoom\.jsonl cannot be written \(No space left"):
        fill()
    assert 5 < len(done) < 30
    with pytest.raises(ConfigError, match=r"\(No space left on device\); make room, or give another --out"):
        fill()
    subprocess.run(["mount", "-o", "remount,size=640k", str(disk)], check=True)
    with open_run(disk / "run", IDENTITY) as run:
        assert ids(run) == done
        run.append("zoom", line("last"))
    assert not list((disk / "run").glob("*.partial"))


def test_a_read_only_disk(tiny_disk: Callable[[str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"--out: .*run cannot be written \(Read-only file system\); give another"):
        make_folder(tiny_disk("ro,size=64k") / "run")


# --- what a run is made of ---


def test_model_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "zoomzero.json").write_text("{}")
    (tmp_path / "README.md").write_text("")
    first = model_files(tmp_path, {})
    assert list(first) == ["config.json", "model.safetensors"]
    read: list[Path] = []
    monkeypatch.setattr("zoomzero.benchmarks.runner.identity.sha256", lambda path: read.append(path) or "new")
    assert model_files(tmp_path, first) == first
    assert read == []
    (tmp_path / "config.json").write_text("{ }")
    changed = model_files(tmp_path, first)
    assert [path.name for path in read] == ["config.json"]
    assert files_hash(changed) != files_hash(first)


def test_a_file_of_the_hubs_cache_is_known_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "blobs").mkdir()
    (tmp_path / "snapshot").mkdir()
    (tmp_path / "blobs" / ("ab" * 32)).write_bytes(b"large")
    os.symlink(tmp_path / "blobs" / ("ab" * 32), tmp_path / "snapshot" / "model.safetensors")
    assert model_files(tmp_path / "snapshot", {})["model.safetensors"]["sha256"] == "ab" * 32


def test_the_code_that_answers_has_a_hash() -> None:
    found = code_identity()
    assert set(found) == {"zoomzero", "commit", "source_hash"}
    assert found["source_hash"] == code_identity()["source_hash"]
    assert len(found["source_hash"]) == 16


def test_rows_reach_the_disk_at_least_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    now = [0.0]
    monkeypatch.setattr(run_module.os, "fsync", lambda descriptor: synced.append(descriptor))
    monkeypatch.setattr(run_module.time, "monotonic", lambda: now[0])
    with open_run(tmp_path, IDENTITY) as run:
        synced.clear()
        for i, now[0] in enumerate((0.1, 0.5, 1.2, 1.3, 2.3)):
            run.append("zoom", line(str(i)))
        assert len(synced) == 2
    assert len(synced) == 3  # and when it is closed
