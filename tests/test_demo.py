"""The demo's numbers by hand, and a small demo from the first video to the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scripted_policy import ScriptedPolicy, rates, says
from zoomzero import demo
from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.data.example import Example
from zoomzero.errors import ConfigError
from zoomzero.pages.report import DemoRow
from zoomzero.spans import Span
from zoomzero.world.write import write_world

SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=64, min_frame_tokens=1, max_frame_tokens=1),
    zoom=PassSettings(fps=1, max_tokens=144, min_frame_tokens=1),
    window=PassSettings(fps=1, max_tokens=32, max_frames=32, min_frame_tokens=1, max_frame_tokens=1),
)


def row(
    mode: str, option: str | None, spans: list[tuple[float, float]], visual: int, seconds: float, world: str = "short"
) -> DemoRow:
    """Return an answer to a question whose truth is B, 10-20 s."""
    one = PassTrace("coarse", (), (0.0, 1.0), 32, 32, 2, visual, 9, 9, 0, seconds, 0.0, "", option, option, 0.5)
    shown = tuple(Span(*span) for span in spans)
    trace = Trace("v.mp4", 60.0, "q", ("x", "y"), mode, option, option, shown, 0.5, "why", (one,), "m", "hash", seconds)
    return DemoRow(mode, f"{mode}-{option}", "symbol", "q", ("x", "y"), "B", (Span(10.0, 20.0),), trace, world)


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


def test_the_summary_holds_what_the_tables_show(tmp_path: Path) -> None:
    """The two kinds of videos apart: a mode's questions about long ones are not mixed with those about short ones."""
    rows = [*ROWS, row("coarse", "A", [], 30, 4.0, world="long")]
    summary = demo.write_results(tmp_path, rows, {"model": "m"})
    read = json.loads((tmp_path / "summary.json").read_text())
    assert read == json.loads(json.dumps(summary))
    assert read["model"] == "m"
    assert {world: list(modes) for world, modes in read["worlds"].items()} == {
        "short": ["coarse", "zoom"],
        "long": ["coarse"],
    }
    assert set(read["worlds"]["short"]["coarse"]) == {"accuracy", "miou", "miop", "visual_tokens", "seconds", "n"}
    assert [read["worlds"][world]["coarse"]["n"] for world in ("short", "long")] == [3, 1]
    assert read["worlds"]["long"]["coarse"]["accuracy"] == 0.0
    assert (tmp_path / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_small_demo_from_the_first_video_to_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Six modes, four on each kind of videos; here both kinds are one short video each, to be quick."""
    written: list[tuple[str, int, int]] = []

    def small_world(out: Path, count: int, seed: int, kind: str, progress: Any) -> list[Example]:
        written.append((kind, count, seed))
        return write_world(out, 1, seed, "short", workers=1, progress=progress)

    monkeypatch.setattr(demo, "write_world", small_world)
    policy = ScriptedPolicy(says("A", [(2.0, 6.0)], p=0.6), rates(5, 2, 2, 1), forever=True)
    out = tmp_path / "new" / "demo"
    text = demo.run_demo(policy, SETTINGS, out)
    assert written == [("short", 24, 2026), ("long", 16, 2026)]
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["short_videos"], summary["long_videos"], summary["model"]) == (1, 1, "scripted")
    worlds = summary["worlds"]
    assert {world: {mode: scored["n"] for mode, scored in modes.items()} for world, modes in worlds.items()} == {
        "short": {"direct": 1, "coarse": 1, "zoom": 1, "context": 1},
        "long": {"coarse": 1, "zoom": 1, "divide": 1, "search": 1},
    }
    assert worlds["short"]["direct"]["miou"] == 0.0
    assert worlds["short"]["zoom"]["visual_tokens"] > worlds["short"]["coarse"]["visual_tokens"]
    lines = text.splitlines()
    assert lines[0] == "videos of 48 to 80 seconds"
    assert lines[7] == "videos of 20 minutes"
    assert [lines[1].split()[0], lines[8].split()[0]] == ["mode", "mode"]
    assert [line.split()[0] for line in lines[2:6]] == ["direct", "coarse", "zoom", "context"]
    assert text.endswith(f"{out / 'summary.json'}\n{out / 'report.html'}")
    report = (out / "report.html").read_text()
    assert all(f'data-mode="{mode}"' in report for modes in worlds.values() for mode in modes)
    assert "Short videos" in report
    assert "Long videos" in report
    # frames of the close looks, and none where no pass looked closely
    assert {mode: has_pictures(report, mode) for mode in ("direct", "zoom", "context", "divide", "search")} == {
        "direct": False,
        "zoom": True,
        "context": True,
        "divide": True,
        "search": True,
    }


def has_pictures(report: str, mode: str) -> bool:
    """Whether the first answer of a mode shows frames."""
    answer = report.split(f'data-mode="{mode}"')[1].split("data-mode=")[0]
    return "data:image/" in answer.split("</article>")[0]


@pytest.mark.parametrize(("count", "long"), [(1, 16), (24, 16), (60, 20), (100, 33)])
def test_a_third_as_many_long_videos_and_at_least_sixteen(
    count: int, long: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, tuple[str, int]] = {}
    monkeypatch.setattr(demo, "write_world", lambda out, n, seed, kind, progress: written.update({kind: (out.name, n)}))
    monkeypatch.setattr(demo, "read_examples", lambda path: [path.parent.name])
    examples = demo.write_worlds(tmp_path, count, lambda done, total: None)
    assert written == {"short": ("short", count), "long": ("long", long)}
    assert examples == {"short": ["short"], "long": ["long"]}


def test_no_video_is_no_demo(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--count: 0 is not a number of videos; give 1 or more$"):
        demo.run_demo(ScriptedPolicy(), SETTINGS, tmp_path / "demo", count=0)
    assert not (tmp_path / "demo").exists()


class Passed:
    """A pass of so many frames, one a second, frame i all of value i."""

    def __init__(self, name: str, frames: int = 1) -> None:
        old = ROWS[0].trace.passes[0]
        self.trace = replace(old, name=name, times_s=tuple(float(i) for i in range(frames)))
        pixels = np.arange(frames, dtype=np.uint8)[:, None, None, None]
        self.clip = SimpleNamespace(frames=np.broadcast_to(pixels, (frames, 2, 2, 3)), name=name)


def test_close_looks_are_those_that_zoomed() -> None:
    every = ["coarse", "candidate 1", "verify 1", "verify outside 1", "outside 1", "zoom", "context", "window 1 of 2"]
    shown = [one.name for one in demo.close_looks([Passed(name) for name in every])]  # type: ignore[misc]
    assert shown == ["verify 1", "verify outside 1", "zoom", "context"]
    assert [one.name for one in demo.close_looks([Passed("coarse"), Passed("window 1 of 2")])] == ["coarse"]  # type: ignore[list-item]


@pytest.mark.parametrize(
    ("frames", "shown"),
    [(1, [0]), (2, [0, 1]), (3, [0, 1, 2]), (4, [0, 1, 2, 3]), (7, [0, 2, 4, 6]), (24, [0, 8, 15, 23])],
)
def test_a_few_frames_of_the_last_close_look(frames: int, shown: list[int]) -> None:
    passes = [Passed("coarse", 40), Passed("verify 1", 3), Passed("verify 2", frames), Passed("window 1 of 2", 9)]
    looks = demo.closest_look(passes)  # type: ignore[arg-type]
    assert [one.time_s for one in looks] == shown
    assert [int(one.frame[0, 0, 0]) for one in looks] == shown, "each picture at its own time"


def test_a_coarse_answer_has_no_close_look() -> None:
    assert demo.closest_look([Passed("coarse", 4), Passed("window 1 of 2", 4)]) == ()  # type: ignore[list-item]
