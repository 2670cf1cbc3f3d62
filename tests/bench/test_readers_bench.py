"""The measures of the readers run, in small: the reader is scored on known meanings, the campaign finds what fails."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench"


@pytest.fixture(scope="module")
def scripts() -> tuple[Any, Any]:
    rooms = [str(BENCH / "reading"), str(BENCH / "fuzz")]
    sys.path[:0] = rooms
    try:
        return __import__("reading"), __import__("fuzz_readers")
    finally:
        del sys.path[: len(rooms)]


def test_replies_of_known_meaning_are_counted(scripts: tuple[Any, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tallies = scripts[0].main(["--replies", "60", "--seed", "1", "--show", "0"])
    assert tallies["answers"].n == tallies["spans"].n == 30
    for name, tally in tallies.items():
        assert 0 < tally.right <= tally.read, name
        assert tally.right / tally.read > 0.9, name
    assert capsys.readouterr().out.splitlines()[1].startswith("answers")


def test_a_wrong_reading_counts_against_precision(scripts: tuple[Any, Any]) -> None:
    reading = scripts[0]
    right = reading.judge(reading.Case("k", "The answer is B.", 4, ("p", "q", "r", "s"), "B"))
    wrong = reading.judge(reading.Case("k", "The answer is B.", 4, ("p", "q", "r", "s"), "A"))
    assert right[:3] == (True, True, True)
    assert wrong[:3] == (True, True, False)
    tally = reading.Tally()
    tally.add(*right[:3])
    tally.add(*wrong[:3])
    assert (tally.n, tally.meant, tally.read, tally.right) == (2, 2, 2, 1)
    assert tally.line("answers").split()[-2:] == ["50.00", "50.00"]


def test_a_round_is_the_same_again(scripts: tuple[Any, Any], tmp_path: Path) -> None:
    fuzz = scripts[1]
    whole = {"predictions": ['{"id": "q0", "answer": "B"}\n']}
    assert fuzz.play("predictions", 3, whole, tmp_path) == fuzz.play("predictions", 3, whole, tmp_path)


def test_every_reader_stands_a_few_rounds(scripts: tuple[Any, Any], tmp_path: Path) -> None:
    assert scripts[1].main(["--rounds", "6", "--out", str(tmp_path)]) == 0
    assert not list(tmp_path.glob("*.input"))


def test_what_fails_is_kept(scripts: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes, folder: Path, rng: Any) -> None:
        raise KeyError("x")

    monkeypatch.setitem(scripts[1].CHECKS, "settings", broken)
    assert scripts[1].main(["--rounds", "1", "--seed", "5", "--kinds", "settings", "--out", str(tmp_path)]) == 1
    assert "KeyError: 'x'" in (tmp_path / "settings-5.txt").read_text()
    assert (tmp_path / "settings-5.input").is_file()
