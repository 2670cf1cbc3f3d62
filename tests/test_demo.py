"""The demo's numbers by hand, and a small demo from the first video to the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripted_policy import ScriptedPolicy, rates, says
from zoomzero import demo
from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.data.example import Example
from zoomzero.pages.report import DemoRow
from zoomzero.spans import Span
from zoomzero.world.write import write_world

SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=64, min_frame_tokens=1, max_frame_tokens=1),
    zoom=PassSettings(fps=1, max_tokens=144, min_frame_tokens=1),
    window=PassSettings(fps=1, max_tokens=32, max_frames=32, min_frame_tokens=1, max_frame_tokens=1),
)


def row(mode: str, option: str | None, spans: list[tuple[float, float]], visual: int, seconds: float) -> DemoRow:
    """Return an answer to a question whose truth is B, 10-20 s."""
    one = PassTrace("coarse", (), (0.0, 1.0), 32, 32, 2, visual, 9, 9, 0, seconds, 0.0, "", option, option, 0.5)
    shown = tuple(Span(*span) for span in spans)
    trace = Trace("v.mp4", 60.0, "q", ("x", "y"), mode, option, option, shown, 0.5, "why", (one,), "m", "hash", seconds)
    return DemoRow(mode, f"{mode}-{option}", "symbol", "q", ("x", "y"), "B", (Span(10.0, 20.0),), trace)


ROWS = [
    row("coarse", "B", [(10.0, 15.0)], 100, 1.0),  # IoU 5 / 10, IoP 5 / 5
    row("coarse", "A", [(15.0, 25.0)], 50, 3.0),  # 5 / 15, 5 / 10
    row("coarse", None, [], 0, 2.0),
    row("zoom", "B", [(10.0, 20.0)], 10, 0.5),
]


def test_scores_by_hand() -> None:
    scored = demo.scores(ROWS)
    assert list(scored) == ["coarse", "zoom"]
    coarse = scored["coarse"]
    assert (coarse.accuracy, coarse.n) == (pytest.approx(1 / 3), 3)
    assert coarse.miou == pytest.approx((1 / 2 + 1 / 3) / 3)
    assert coarse.miop == pytest.approx((1 + 1 / 2) / 3)
    assert (coarse.visual_tokens, coarse.seconds) == (50.0, 2.0)
    assert scored["zoom"] == demo.ModeScore(1.0, 1.0, 1.0, 10.0, 0.5, 1)


def test_the_table_line_by_line() -> None:
    modes = {"coarse": {"accuracy": 1 / 3, "miou": 0.2778, "miop": 0.5, "visual_tokens": 50.4, "seconds": 2.0, "n": 3}}
    assert demo.table(modes).splitlines() == [
        "mode       accuracy    mIoU    mIoP  visual tokens  seconds    n",
        "coarse        0.333   0.278   0.500             50     2.00    3",
    ]


def test_the_summary_holds_what_the_table_shows(tmp_path: Path) -> None:
    summary = demo.write_results(tmp_path, ROWS, {"model": "m"})
    read = json.loads((tmp_path / "summary.json").read_text())
    assert read == json.loads(json.dumps(summary))
    assert read["model"] == "m"
    assert set(read["modes"]["coarse"]) == {"accuracy", "miou", "miop", "visual_tokens", "seconds", "n"}
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_small_demo_from_the_first_video_to_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[tuple[str, int, int]] = []

    def small_world(out: Path, count: int, seed: int, kind: str, progress: Any) -> list[Example]:
        written.append((kind, count, seed))
        return write_world(out, 1, seed, "short", workers=1, progress=progress)

    monkeypatch.setattr(demo, "write_world", small_world)
    policy = ScriptedPolicy(says("A", [(2.0, 6.0)], p=0.6), rates(5, 2, 2, 1), forever=True)
    out = tmp_path / "new" / "demo"
    text = demo.run_demo(policy, SETTINGS, out)
    assert written == [("short", 24, 2026), ("long", 2, 2026)]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["short_videos"], summary["long_videos"], summary["model"]) == (1, 1, "scripted")
    modes = summary["modes"]
    assert {mode: scored["n"] for mode, scored in modes.items()} == {"direct": 2, "coarse": 2, "zoom": 2, "divide": 1}
    assert modes["direct"]["miou"] == 0.0
    assert modes["zoom"]["visual_tokens"] > modes["coarse"]["visual_tokens"]
    assert text.splitlines()[0].startswith("mode")
    assert text.endswith(f"{out / 'summary.json'}\n{out / 'report.html'}")
    report = (out / "report.html").read_text()
    assert all(mode in report for mode in modes)


def test_close_looks_are_those_that_zoomed() -> None:
    class Fake:
        def __init__(self, name: str) -> None:
            self.trace = (
                ROWS[0].trace.passes[0].__class__(name, (), (0.0,), 1, 1, 1, 1, 1, 1, 0, 0.0, 0.0, "", None, None, 0.0)
            )
            self.clip = type("Clip", (), {"frames": name})()

    every = ["coarse", "candidate 1", "verify 1", "verify outside 1", "outside 1", "zoom", "context", "window 1 of 2"]
    shown = [one.name for one in demo.close_looks([Fake(name) for name in every])]  # type: ignore[misc]
    assert shown == ["verify 1", "verify outside 1", "zoom", "context"]
    assert [one.name for one in demo.close_looks([Fake("coarse"), Fake("window 1 of 2")])] == ["coarse"]  # type: ignore[list-item]
