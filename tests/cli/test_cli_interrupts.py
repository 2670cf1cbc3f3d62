"""Ctrl-C ends a command also where Python drops it, or an import makes another error of it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator

import pytest

from zoomzero import cli
from zoomzero.cli.interrupts import watched_interrupts


@pytest.fixture(autouse=True)
def interrupts() -> Iterator[None]:
    """A suite that runs in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


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
            time.sleep(30)

    with pytest.raises(KeyboardInterrupt):
        command()
    assert seen == [True], "it was dropped first"
    assert sys.unraisablehook is hook
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


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
