"""Ctrl-C ends a command also where Python drops it, or an import makes another error of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from processes import alive
from zoomzero import cli
from zoomzero.errors import ModelError
from zoomzero.interrupts import LOOKED_S, watched_interrupts


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """A suite that runs in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def heard() -> None:
    """A process started by a suite in the background would ignore Ctrl-C, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Interrupted:
    """Ctrl-C comes while it is thrown away."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(0)  # Python looks for signals here at the latest


def test_an_interrupt_in_a_destructor_comes_again() -> None:
    seen, hook = [], sys.unraisablehook

    def command() -> None:
        with watched_interrupts() as came:
            Interrupted()
            seen.append(came.is_set())
            time.sleep(60)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        command()
    assert seen == [True], "it was dropped first"
    assert time.monotonic() - started < 50, "it ends what waits, too"
    assert sys.unraisablehook is hook
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_that_a_library_swallows_comes_again() -> None:
    seen = []

    def command() -> None:
        with watched_interrupts() as came:
            try:
                signal.raise_signal(signal.SIGINT)
            except BaseException:  # noqa: BLE001
                seen.append(came.is_set())
            time.sleep(60)

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        command()
    assert seen == [True]
    assert time.monotonic() - started < 50, "it ends what waits, too"


def test_one_that_is_on_its_way_does_not_come_twice() -> None:
    cleaned = []

    def command() -> None:
        with watched_interrupts():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                time.sleep(0.3)  # longer than AGAIN_AFTER_S
                cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        command()
    time.sleep(0.1)
    assert cleaned == [True]


def test_in_an_import_the_process_is_left_at_once(tmp_path: Path) -> None:
    (tmp_path / "interrupted.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\nprint('no')\n")
    script = "import sys; sys.path.insert(0, sys.argv[1])\nfrom zoomzero import cli, __main__\n"
    script += "cli.refuse_repeated = str\ncli.app = lambda **_: __import__('interrupted')\n__main__.main()"
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False, preexec_fn=heard
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "zoomzero: interrupted\n")


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ModelError("m", "damaged", "fetch it")])
def test_what_a_command_makes_of_an_interrupt_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def loading(**named: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            raise error from None

    monkeypatch.setattr(cli, "app", loading)
    monkeypatch.setattr(cli, "refuse_repeated", lambda arguments: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "zoomzero: interrupted\n")


def test_what_an_import_makes_of_an_interrupt_is_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def importing(**named: object) -> None:
        try:
            signal.raise_signal(signal.SIGINT)
            time.sleep(0)
        except KeyboardInterrupt as error:
            raise ImportError("cannot import name") from error

    monkeypatch.setattr(cli, "app", importing)
    monkeypatch.setattr(cli, "refuse_repeated", lambda arguments: None)  # it asks the real app for its options
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 130
    assert capsys.readouterr().err == "zoomzero: interrupted\n"


def test_other_errors_stay_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**named: object) -> None:
        raise ImportError("cannot import name")

    monkeypatch.setattr(cli, "app", broken)
    monkeypatch.setattr(cli, "refuse_repeated", lambda arguments: None)
    with pytest.raises(ImportError, match="cannot import name"):
        cli.main()


def test_an_ignored_interrupt_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with watched_interrupts() as came:
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert not came.is_set()


def test_ctrl_c_in_a_terminal_reaches_all_processes_and_one_speaks(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "zoomzero", "world", "--count", "4", "--out", tmp_path / "world"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heard,
    ) as process:
        deadline = time.monotonic() + 60
        while not list(tmp_path.glob("world/videos/.*")) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=60)
    assert (process.returncode, out, error) == (130, "", "zoomzero: interrupted\n")
    assert not list(tmp_path.glob("world/videos/*.mp4"))


ORPHAN = """
import multiprocessing, sys, time
from zoomzero.interrupts import end_with_parent

def work():
    end_with_parent()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(600)

if __name__ == "__main__":
    end_with_parent()  # this is no worker: nothing happens, and its worker watches all the same
    multiprocessing.get_context(sys.argv[1]).Process(target=work).start()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_worker_ends_when_its_parent_is_killed_and_not_before(tmp_path: Path, method: str) -> None:
    """Forked by the parent itself, or by a server in between, as Python 3.14 does."""
    (script := tmp_path / "orphan.py").write_text(ORPHAN)
    with subprocess.Popen([sys.executable, str(script), method], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        time.sleep(2 * LOOKED_S)
        assert alive(worker)
        parent.kill()
        parent.wait()
    until = time.monotonic() + 60
    while time.monotonic() < until and alive(worker):
        time.sleep(0.1)
    assert not alive(worker)
