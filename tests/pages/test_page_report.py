from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from zoomzero.errors import ConfigError
from zoomzero.pages import report
from zoomzero.pages.report import DemoRow, Look, demo_report, write_demo_report
from zoomzero.spans import Span

EVIL = "</script><img src=x onerror=alert(1)>"
MODES = {
    "coarse": {"accuracy": 0.5, "miou": 0.61, "miop": 0.7, "visual_tokens": 1500.0, "seconds": 0.84, "n": 2},
    "zoom": {"accuracy": 1.0, "miou": None, "miop": 0.7, "visual_tokens": 3000.0, "seconds": 2.5, "n": 2},
}
SUMMARY = {
    "worlds": {"short": MODES},
    "model": "tiny",
    "settings_hash": "0123456789ab",
    "nested": {"left": "out"},
}


@pytest.fixture
def rows(make_trace):
    def row(mode: str, example: str, option: str | None, spans, kind: str = "symbol") -> DemoRow:
        trace = make_trace(option=option, answer=option and "text " + option, spans=spans, video=example)
        return DemoRow(
            mode, example, kind, f"Question {example}?", trace.options, "B", (Span(20.0, 30.0),), trace, "short"
        )

    return [
        row("coarse", "one", "A", [(25, 35)]),
        row("coarse", "two", "B", [], "count"),
        row("zoom", "one", "B", [(20, 30)]),
        row("zoom", "two", None, [(0, 10)], "count"),
    ]


def test_modes_table(rows, read) -> None:
    page = read(demo_report(SUMMARY, rows))
    assert [one.text for one in page.all("tr")] == [
        "Mode Accuracy mIoU mIoP Visual tokens Seconds n",
        "coarse 50.0 %9–91 % 0.610 0.700 1,500 0.84 2",
        "zoom 100.0 %34–100 % – 0.700 3,000 2.50 2",
    ]
    assert page.one("p", "facts").text == ("2 questions on 2 videos · model tiny · settings hash 0123456789ab")


def test_plot_has_a_point_a_mode_and_the_guessing_line(rows, read) -> None:
    page = read(demo_report(SUMMARY, rows))
    assert [one.text for one in page.all("g", "mark")] == [
        "coarse: 50.0% of 2 right, 1,500 visual tokens; 95 % interval 9% to 91%",
        "zoom: 100.0% of 2 right, 3,000 visual tokens; 95 % interval 34% to 100%",
    ]
    assert {"coarse", "zoom", "guessing"} <= {one.text for one in page.all("text")}


def test_kinds_of_videos_have_tables_and_plots_of_their_own(rows, make_trace, read) -> None:
    """Guessing is right half the time in one world and a quarter of it in the other."""
    trace = make_trace(option="A", options=("a", "b", "c", "d"))
    far = DemoRow("divide", "far", "last", "Far?", trace.options, "A", (), trace, "long")
    long = {"divide": {"accuracy": 1.0, "miou": 0.5, "miop": 0.5, "visual_tokens": 9.0, "seconds": 1.0, "n": 1}}
    page = read(demo_report({"worlds": {"short": MODES, "long": long}}, [*rows, far]))
    assert [one.text for one in page.all("h2")] == ["Short videos", "Long videos", "Every question"]
    assert [one.attrs["aria-label"] for one in page.all("section", "modes")] == [
        "Modes, short videos",
        "Modes, long videos",
    ]
    tables = [one.text for one in page.all("tr")]
    assert [text.split()[0] for text in tables] == ["Mode", "coarse", "zoom", "Mode", "divide"]
    drawn = {one.text for one in page.all("text")}
    assert {"coarse", "zoom", "divide"} <= drawn
    options = len(rows[0].options)
    assert report._chance(rows) == 1 / options
    assert report._chance([far]) == 0.25
    assert [one.attrs["value"] for one in page.all("input", name="mode")] == ["coarse", "zoom", "divide"]


def test_answers_show_what_was_looked_at_closely(make_trace, read) -> None:
    """Each frame with its moment, no larger than a thumbnail; an answer without a close look shows none."""
    trace = make_trace(option="B")
    frames = [np.full((128, 256, 3), level, np.uint8) for level in (0, 255)]
    looks = (Look(21.0, frames[0]), Look(24.5, frames[1]))
    looked = DemoRow("zoom", "x", "symbol", "What?", trace.options, "B", (), trace, "short", looks)
    plain = DemoRow("coarse", "x", "symbol", "What?", trace.options, "B", (), trace, "short")
    page = read(demo_report({"worlds": {}}, [plain, looked]))
    (shown,) = page.all("ul", "looked")
    assert shown.text == "21.0 s 24.5 s"
    pictures = page.all("img")
    assert [one.attrs["alt"] for one in pictures] == ["frame at 21.0 s", "frame at 24.5 s"]
    for one, frame in zip(pictures, frames, strict=True):
        assert (one.attrs["width"], one.attrs["height"]) == ("96", "48")
        kind, _, data = one.attrs["src"].partition(";base64,")
        assert kind.startswith("data:image/")
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        assert pixels.shape == (48, 96, 3)
        assert np.abs(pixels.astype(int) - int(frame[0, 0, 0])).max() < 8


def test_one_card_a_question_with_every_mode(rows, read) -> None:
    page = read(demo_report(SUMMARY, rows))
    assert [(one.attrs["data-kind"]) for one in page.all("article", "card")] == ["symbol", "count"]
    assert [one.text for one in page.all("h3")] == ["Question one?", "Question two?"]
    answers = [one for one in page.all("div", "result") if "data-mode" in one.attrs]
    assert [(one.attrs["data-mode"], one.attrs["data-result"]) for one in answers] == [
        ("coarse", "wrong"),
        ("zoom", "right"),
        ("coarse", "right"),
        ("zoom", "wrong"),
    ]
    assert "no answer" in answers[3].text
    assert [li.text for li in page.all("li", "right")] == ["B a cat (right)"] * 2


def test_timelines_show_true_found_and_zoomed(rows, read) -> None:
    page = read(demo_report(SUMMARY, rows))

    def places(cls: str) -> list[str]:
        return [one.attrs["style"].partition(";--row")[0] for one in page.all("span", "block") if cls in one.classes]

    assert places("true") == ["left:20.0%;width:10.0%"] * 2
    assert places("final") == ["left:25.0%;width:10.0%", "left:20.0%;width:10.0%", "left:0.0%;width:10.0%"]
    assert places("seen") == ["left:10.0%;width:30.0%"] * 4  # the zoom pass; the coarse pass sees all
    overlaps = [one.text for one in page.all("span", "n") if one.text.startswith("IoU ")]
    assert overlaps == ["IoU 0.33", "IoU 1.00", "IoU –", "IoU 0.00"]


def test_candidates_of_a_search_are_no_close_looks(make_trace, make_pass, read) -> None:
    """They are drawn after one look at the whole video; what verifies them lies at 10-40 s."""
    passes = (make_pass(), make_pass("candidate 1"), make_pass("verify 1", [(10.0, 40.0)]))
    trace = make_trace(passes=passes, mode="search", spans=[])
    row = DemoRow("search", "x", "symbol", "What?", trace.options, "B", (), trace, "long")
    page = read(demo_report({"worlds": {}}, [row]))
    blocks = [one.attrs["style"].partition(";--row")[0] for one in page.all("span", "block") if "seen" in one.classes]
    assert blocks == ["left:10.0%;width:30.0%"]


def test_filters_offer_what_there_is(rows, read) -> None:
    page = read(demo_report(SUMMARY, rows))
    assert [one.attrs["value"] for one in page.all("input", name="mode")] == ["coarse", "zoom"]
    assert [one.attrs["value"] for one in page.all("input", name="result")] == ["all", "right", "wrong"]
    assert [one.text for one in page.all("option")] == ["all", "count", "symbol"]
    assert not read(demo_report(SUMMARY, rows[::2])).all("select")


def test_an_open_question_is_not_judged(make_trace, read) -> None:
    trace = make_trace(options=(), option=None, answer="a cat")
    page = read(demo_report({"worlds": {}}, [DemoRow("zoom", "x", "", "What?", (), None, (), trace)]))
    assert page.one("div", data_mode="zoom").attrs["data-result"] == "unjudged"
    assert not page.all("span", "verdict-mark")
    assert not page.all("svg", role="img")


def test_everything_is_escaped(make_trace, read) -> None:
    trace = make_trace(question=EVIL, options=(EVIL, "b"), answer=EVIL, option="A", reason=EVIL, notes=(EVIL,))
    row = DemoRow(EVIL, EVIL, EVIL, EVIL, (EVIL, "b"), "A", (), trace)
    html = demo_report({"worlds": {EVIL: {EVIL: {"accuracy": 1.0, "visual_tokens": 5, "n": 1}}}, EVIL: EVIL}, [row])
    page = read(html)
    assert "<img" not in html
    assert len(page.all("script")) == 1
    assert page.one("h3").text == EVIL


def test_an_empty_report_says_so(read) -> None:
    page = read(demo_report({"worlds": {}}, []))
    assert any(one.text == "No question was answered." for one in page.all("p", "none"))
    assert not page.all("table")


def test_writing(rows, tmp_path, read) -> None:
    path = write_demo_report(tmp_path / "demo" / "report.html", SUMMARY, rows)
    read(path.read_text(encoding="utf-8"))
    with pytest.raises(ConfigError, match="--out: cannot write"):
        write_demo_report(tmp_path, SUMMARY, rows)
