"""The filter's page: what was kept, the bars of both histograms, and nothing of a question becomes markup."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_filter import judged, report

from zoomzero.data.difficulty import KEPT
from zoomzero.data.manifest import LeakReport
from zoomzero.errors import ConfigError
from zoomzero.pages.training.filter import filter_page, write_filter_page

EVIL = "</script><img src=x onerror=alert(1)>"


ROWS = (
    judged("a", KEPT, 0.25, 0.05),
    judged("b", KEPT, 0.25, 0.95),
    judged("c", "always_right", 1.0, 0.95),
    judged("d", "unreadable", None, detail="d.mp4: cannot open: empty"),
)


def test_what_was_kept_and_why_not(read) -> None:
    page = read(filter_page(report(*ROWS)))
    assert page.one("h1").text == "2 of 4 examples are worth learning from"
    assert page.one("p", "facts").text.startswith("in.jsonl · 4 answers each, by tiny · settings ")
    rows = [one.text for one in page.all("tr") if "table" in one.parents]
    assert rows[1:4] == [
        "kept 250 % there is something to learn",
        "unreadable 125 % its video cannot be read",
        "always right 125 % its answers are right too often",
    ]
    assert "made train 2 4" in rows
    assert any("d: d.mp4: cannot open: empty" in row for row in rows)
    assert [one.text for one in page.all("p", "problem")] == ["2 bad spans in the predictions"]


def test_bars_are_as_high_as_their_counts(read) -> None:
    page = read(filter_page(report(*ROWS)))
    assert [one.text for one in page.all("h2")][:2] == ["Right answers", "Overlap"]
    titles = [one.text for one in page.all("title") if "svg" in one.parents]
    assert titles[:5] == [
        "0/4: 0 kept, 0 dropped",
        "1/4: 2 kept, 0 dropped",
        "2/4: 0 kept, 0 dropped",
        "3/4: 0 kept, 0 dropped",
        "4/4: 0 kept, 1 dropped",
    ]


def test_without_answers_there_is_no_histogram(read) -> None:
    leaks = LeakReport(({"file": "eval.jsonl", "examples": 5, "videos": 4},), 2, 2, 0, ())
    page = read(filter_page(report(judged("a", KEPT, None), judged("b", "leaks", None), leaks=leaks, answered_by=())))
    assert not page.all("svg")
    assert "everything that is in no evaluation" in page.one("p", "rule").text
    assert (
        "Leak check: compared 2 items on 2 videos with eval.jsonl (5 items on 4 videos)" in page.one("p", "notes").text
    )
    assert not [one for one in page.all("th") if one.text == "Right"]


def test_text_never_becomes_markup(read) -> None:
    page = read(filter_page(report(judged(EVIL, KEPT, 0.5, question=EVIL), answered_by=(EVIL,))))
    assert not page.all("img")
    assert len(page.all("script")) == 1
    assert sum(EVIL in one.text for one in page.all("td", "asked")) == 1


def test_only_the_first_of_many_are_shown(read) -> None:
    page = read(filter_page(report(*(judged(str(i), KEPT, 0.5) for i in range(20)))))
    assert "Kept: the first 6 of 20" in [one.text for one in page.all("h2")]
    assert len(page.all("td", "asked")) == 6


def test_nothing_at_all(read, tmp_path: Path) -> None:
    page = read(filter_page(report()))
    assert page.one("h1").text == "0 of 0 examples are worth learning from"
    assert write_filter_page(tmp_path / "page.html", report()).read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(ConfigError, match="--html: cannot write"):
        write_filter_page(tmp_path / "page.html" / "below.html", report())
