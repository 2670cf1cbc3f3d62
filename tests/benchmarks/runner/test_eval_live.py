"""What a run says while it works, by hand."""

from __future__ import annotations

import pytest

from zoomzero.benchmarks.runner import live as live_module
from zoomzero.benchmarks.runner.live import ModeTally, Tally, clock, live
from zoomzero.data.annotation import Question
from zoomzero.spans import Span

ASKED = Question("q", "v.mp4", "?", ("x", "y"), "B", (Span(10, 20),))
OPEN = Question("o", "v.mp4", "?", (), "", ())


def row(answer: str | None, *spans: tuple[float, float], failed: str | None = None, seconds: float = 2.0) -> dict:
    return {"answer": answer, "spans": [list(span) for span in spans], "failed": failed, "seconds": seconds}


def test_the_line_says_done_failed_left_and_measures() -> None:
    tally = Tally({"zoom": ModeTally(10)})
    assert tally.line() == "0/10, 0 failed"
    tally.add("zoom", ASKED, row("B", (10, 20)), now=False)  # of an earlier process: its pace says nothing
    assert tally.left_s() is None
    tally.add("zoom", ASKED, row("A", (15, 20), seconds=4.0))
    tally.add("zoom", ASKED, row(None, failed="no such file", seconds=0.0))
    tally.add("zoom", ASKED, row("B"))
    assert tally.left_s() == pytest.approx(6 * (4 + 0 + 2) / 3)
    # right 2 of 4: Wilson 15.0..85.0; IoU 1, 0.5, 0, 0: mean 37.5, spread sqrt(1.25 / 4 - 0.375^2) / 2 = 0.2073
    assert tally.line() == "4/10, 1 failed, 12 s left, right 50.0 % [15.0, 85.0], IoU 37.5 % [0.0, 78.1]"


def test_every_mode_has_a_pace_of_its_own_and_models_share_the_rest() -> None:
    tally = Tally({"direct": ModeTally(4), "divide": ModeTally(4), "zoom": ModeTally(4)}, models=2)
    tally.add("direct", ASKED, row("A", seconds=1.0))
    tally.add("divide", ASKED, row("B", seconds=9.0))
    assert tally.left_s() == pytest.approx((3 * 1 + 3 * 9 + 4 * 5) / 2)  # zoom, unseen, goes at the mean pace
    assert tally.line().startswith("2/12, 0 failed, 25 s left, divide: right 100.0 %")


def test_questions_without_truth_are_in_no_measure() -> None:
    tally = Tally({"zoom": ModeTally(1)})
    tally.add("zoom", OPEN, row(None))
    assert tally.line() == "1/1, 0 failed, 0 s left"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (89, "89 s"), (95, "2 min"), (3600, "60 min"), (5400, "1 h 30 min"), (36300, "10 h 05 min")],
)
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_without_a_terminal_there_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [100.0]
    monkeypatch.setattr(live_module.time, "monotonic", lambda: now[0])
    tally = Tally({"zoom": ModeTally(3)})
    with live("asking") as shown:
        for now[0] in (100.0, 159.0, 161.0, 200.0, 222.0):
            shown.show(tally)
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "asking: 0/3, 0 failed\n" * 2)
