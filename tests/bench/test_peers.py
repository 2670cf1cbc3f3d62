"""Beside the peers: contenders that take turns as real processes, ratios worked by hand, the table they end in."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPT = """
import sys
sys.path.append({bench!r})
from beside.turns import Turns

turns = Turns()
print("what a library prints")
turns.say(ready=turns.job["who"])
kept = []
while turns.told():
    with turns.watched() as took:
        kept.append(bytearray(turns.job["mb"] << 20))
        sum(range(turns.job["work"]))
    turns.say(**took, count=len(kept))
    if len(kept) == turns.job["ends_after"]:
        sys.exit("no more, I said")
"""


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(BENCH))
    import peers

    return peers


@pytest.fixture
def contender(peers: Any, tmp_path: Path) -> Any:
    """Start a contender that fills memory and counts."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(bench=str(BENCH)))

    def start(ends_after: int = 9) -> Any:
        job = {"who": "somebody", "mb": 64, "work": 10_000, "ends_after": ends_after}
        return peers.Contender("somebody", Path(sys.executable), str(script), job, tmp_path / "log.txt", {})

    return start


def test_a_contender_works_when_it_is_told_to(contender: Any, tmp_path: Path) -> None:
    one = contender()
    assert one.facts == {"ready": "somebody"}
    first, second = one.go(), one.go()
    assert (first["count"], second["count"]) == (1, 2)
    assert [turn["count"] for turn in one.turns] == [1, 2]
    for took in one.turns:
        assert took["seconds"] > 0
        assert took["cpu_s"] >= 0
    if sys.platform == "linux":
        assert first["over_mb"] > 50, "the 64 MB it took"
        assert second["peak_mb"] > first["peak_mb"]
    one.end()
    assert one.process.returncode == 0
    assert "what a library prints" in (tmp_path / "log.txt").read_text()


def test_a_contender_that_ends_is_named_with_its_last_words(contender: Any) -> None:
    one = contender(ends_after=1)
    one.go()
    with pytest.raises(SystemExit, match="somebody ended: no more, I said"):
        one.go()


def turn(seconds: float, cpu_s: float, over_mb: float = 10.0) -> dict[str, float]:
    return {"seconds": seconds, "cpu_s": cpu_s, "over_mb": over_mb}


def test_ratios_are_those_of_the_turns(peers: Any) -> None:
    """4 / 1, 6 / 2, 10 / 2 turn by turn: median 4, from 3 to 5; the medians alone would say 6 / 2 = 3."""
    ours = [turn(1, 1), turn(2, 1), turn(2, 1)]
    found = peers.spread("theirs", [turn(4, 3), turn(6, 3), turn(10, 3)], ours)
    assert found["ratio_seconds"] == [4, 3, 5]
    assert found["ratio_cpu_s"] == [3, 3, 3]
    assert found["seconds"] == [6, 4, 10]
    with pytest.raises(ValueError, match="longer"):
        peers.spread("theirs", [turn(4, 3)], ours)


def test_the_tables(peers: Any) -> None:
    ours = [turn(1, 0.5), turn(2, 1.5)]
    rows = [
        peers.spread("zoomzero", ours, ours) | {"per": 2},
        peers.spread("lmms-eval", [turn(4, 3, 1500), turn(6, 3, 20)], ours)
        | {"per": 2, "equal_prompts": 4, "equal_answers": 3, "questions": 4},
    ]
    rows[0] |= {"equal_prompts": 4, "equal_answers": 4, "questions": 4}
    text = peers.show(
        {
            "machine": "a machine",
            "versions": "torch 1",
            "date": "2026-11-29",
            "answers": {"about": "4 questions", "kinds": {"a letter": rows}},
        }
    )
    assert "| zoomzero | 0.5 (0.25-0.75) | 0.75 (0.5-1) | 10 |  |  | 4, 4 of 4 |" in text
    assert "| lmms-eval | 1.5 (1.5-1.5) | 2.5 (2-3) | 1,500 | 4 (2-6) | 3.5 (3-4) | 4, 3 of 4 |" in text


def test_the_tables_go_between_the_marks_of_a_page(peers: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{peers.BEGIN}\nold\n{peers.END}\nafter\n")
    peers.put(page, "new")
    assert page.read_text() == f"before\n{peers.BEGIN}\nnew\n{peers.END}\nafter\n"
    page.write_text("no marks")
    with pytest.raises(SystemExit, match="no place for the tables"):
        peers.put(page, "new")
    assert peers.BEGIN in (BENCH.parent / "docs" / "performance.md").read_text()


def test_an_answer_goes_with_the_prompt_it_was_given_to(peers: Any) -> None:
    """Ours looks at a prompt more often than once; the first of each question counts."""
    said = {"said": [" A", "B"], "prompts": ["p1", "p1-again", "p2", "p2-again"]}
    assert peers._pairs(said) == [("A", "p1"), ("B", "p2")]


def test_the_peers_find_the_ffmpeg_that_we_use(peers: Any, tmp_path: Path) -> None:
    from beside.environment import link_ffmpeg

    libraries = Path(sysconfig.get_path("purelib")) / "av.libs"
    if not libraries.is_dir():
        pytest.skip("PyAV brings no libraries here")
    link_ffmpeg(tmp_path)
    link_ffmpeg(tmp_path)  # a second time changes nothing
    (codec,) = libraries.glob("libavcodec-*")
    version = codec.name.partition(".so.")[2].partition(".")[0]
    assert (tmp_path / f"libavcodec.so.{version}").resolve() == (tmp_path / codec.name).resolve() == codec.resolve()
