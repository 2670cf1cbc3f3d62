"""Files that are there whole or not at all."""

from __future__ import annotations

import multiprocessing
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from zoomzero.errors import ConfigError
from zoomzero.files import locked, write_whole

WRITE_OFTEN = """
import sys
from zoomzero.files import write_whole
for _ in range(300):
    write_whole(sys.argv[1], sys.argv[2] * 20000)
"""


@pytest.mark.parametrize("sync", [False, True])
@pytest.mark.parametrize(
    ("content", "held"), [("naïve 猫\n", "naïve 猫\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")]
)
def test_a_file_is_replaced_and_nothing_else_is_left(
    content: str | bytes, held: bytes, sync: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_text("old and longer")
    write_whole(str(path), content, sync=sync)
    assert path.read_bytes() == held
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # as a full disk does, in the middle
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            write_whole(path, "x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for wrong, why in ((tmp_path / "none" / "a.json", "No such file"), (folder, "Is a directory|File exists")):
        with pytest.raises(OSError, match=why) as caught:
            write_whole(wrong, "x")
        assert caught.value.filename == str(wrong)
    assert [*tmp_path.iterdir(), *folder.iterdir()] == [folder]


def test_two_processes_may_write_the_same_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE_OFTEN, str(path), letter], stderr=subprocess.PIPE, text=True)
        for letter in "ab"
    ]
    seen = set()
    while any(one.poll() is None for one in writers):
        if path.exists():
            seen.add(path.read_text())
    assert [one.communicate()[1] for one in writers] == ["", ""]
    assert seen | {path.read_text()} <= {"a" * 20000, "b" * 20000}
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_goes_with_its_process_though_a_forked_worker_lives_on(tmp_path: Path) -> None:
    """A training run that is killed leaves the worker that drew its next samples: --resume must not wait for that."""
    context = multiprocessing.get_context("fork")
    begun, end = context.Event(), context.Event()

    def work() -> None:
        begun.set()
        end.wait(60)

    with locked(tmp_path / "run.lock", "out", "take another"):
        worker = context.Process(target=work)
        worker.start()
        assert begun.wait(60)
        with (
            pytest.raises(ConfigError, match="is being written by process"),
            locked(tmp_path / "run.lock", "out", "take another"),
        ):
            pass
    try:
        with locked(tmp_path / "run.lock", "out", "take another"):
            assert worker.is_alive()
    finally:
        end.set()
        worker.join()
