from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from zoomzero.errors import ConfigError
from zoomzero.pages.page import PassFrames, evidence_page, winning_pass, write_evidence_page
from zoomzero.prompts import PROBLEMS

EVIL = "</script><img src=x onerror=alert(1)>"


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not looked into")
    return path


def pictures(name: str = "zoom", n: int = 3) -> PassFrames:
    return PassFrames(name, tuple(10 + i / 3 for i in range(n)), np.full((n, 36, 64, 3), 90, np.uint8))


def places(page, cls: str) -> list[tuple[str, str]]:
    return [(one.attrs["style"].partition(";--row")[0], one.attrs["data-seek"]) for one in page.all("button", cls)]


def test_spans_stand_at_their_places_and_seek_to_their_starts(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(), video=video, true_spans=[(18.25, 32)]))
    assert places(page, "true") == [("left:18.25%;width:13.75%", "18.25")]
    assert places(page, "final") == [("left:20.0%;width:10.0%", "20")]
    assert places(page, "seen") == [("left:0.0%;width:100.0%", "0"), ("left:10.0%;width:30.0%", "10")]
    assert places(page, "found") == [("left:20.0%;width:10.0%", "20")]
    assert page.one("button", "final").attrs["data-until"] == "30"
    assert page.one("section", "timeline").attrs["data-axis"] == "100.0"
    assert page.one("input", type="range").attrs["max"] == "100.0"
    assert all(one.attrs["title"] == one.attrs["aria-label"] for one in page.all("button", "block"))


def test_frames_are_thumbnails_that_seek_to_their_own_times(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(), video=video, frames=[pictures(), pictures("coarse", 2)]))
    thumbs = page.all("button", "thumb")
    assert [(one.attrs["data-frame"], one.attrs["data-seek"]) for one in thumbs] == [
        ("zoom", "10"),
        ("zoom", "10.334"),
        ("zoom", "10.667"),
        ("coarse", "10"),
        ("coarse", "10.334"),
    ]
    images = [one for one in page.all("img") if "thumb" in str(one.parents) or one.attrs.get("src")]
    assert len(images) == 5
    assert all((one.attrs["src"] or "").startswith("data:image/jpeg;base64,") for one in images)
    assert images[0].attrs["alt"] == "zoom at 00:10.0"
    assert ["open" in one.attrs for one in page.all("details", "sheet")] == [True, False]


def test_wide_looks_alone_are_open(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(), video=video, frames=[pictures("coarse"), pictures("window 1")]))
    assert ["open" in one.attrs for one in page.all("details", "sheet")] == [True, False]


def test_frames_and_times_must_agree(make_trace, video) -> None:
    with pytest.raises(ValueError, match="zip"):
        evidence_page(make_trace(), video=video, frames=[PassFrames("zoom", (1.0,), np.zeros((2, 8, 8, 3), np.uint8))])


def test_options_show_the_chosen_one_and_the_winning_probabilities(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(), video=video))
    rows = [one for one in page.all("li") if "options" not in one.classes and one.parents[-1] == "ol"]
    assert [one.text for one in rows] == ["A a dog 6.0 %", "B a cat chosen 90 %", "C a bird 4.0 %"]
    assert ["chosen" in one.classes for one in rows] == [False, True, False]
    assert page.one("p", "answer").text == "B a cat"
    assert page.one("p", "sure").text == "90 % confident"
    assert page.one("p", "reason").text == "The zoom pass is the most certain."
    assert any(one.text == "Probabilities from the pass “zoom”." for one in page.all("p", "hint"))


def test_without_probabilities_none_are_made_up(make_trace, make_pass, video, read) -> None:
    page = read(evidence_page(make_trace(passes=(make_pass(),)), video=video))
    assert not page.all("span", "chance")


def test_the_winner_is_the_last_pass_with_the_final_answer_and_confidence(make_trace, make_pass) -> None:
    trace = make_trace()
    assert winning_pass(trace) is trace.passes[1]
    assert winning_pass(make_trace(confidence=0.5)) is None
    assert winning_pass(make_trace(answer=None, option=None, confidence=0.4)) is None
    open_pass = make_pass(answer="a cat", option=None, confidence=0.7)
    assert winning_pass(make_trace(options=(), option=None, confidence=0.7, passes=(open_pass,))) is open_pass


def test_the_table_has_every_cost(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(), video=video))
    rows = [one.text for one in page.all("tr")]
    assert rows[1] == ("coarse 00:00 – 01:40 00:20 – 00:30 A 40 % 2 4 160 × 96 1,500 1,700 1,600 30 1.25")
    assert rows[2].startswith("zoom answer 00:10 – 00:40 – B 90 % 4 4")
    assert rows[3] == "All 6 8 3,000 3,200 60 2.50"
    assert [one.text for one in page.all("dd")] == ["3,000", "3,200", "60", "6", "8", "2.5"]
    widths = dict.fromkeys(range(4), 0)
    table = [one for one in page.elements if one.tag in {"tr", "th", "td"}]
    row = -1
    for one in table:
        row += one.tag == "tr"
        widths[row] += one.tag != "tr"
    assert set(widths.values()) == {13}


def test_everything_is_escaped(make_trace, make_pass, video, read) -> None:
    one = make_pass(EVIL, text=EVIL, answer=EVIL, option=None, problems=(EVIL, "no_answer"), notes=(EVIL,))
    trace = make_trace(
        question=EVIL,
        options=(EVIL, "<answer>B</answer>", '" onmouseover="alert(1)'),
        answer=EVIL,
        option="A",
        reason=EVIL,
        model=EVIL,
        mode=EVIL,
        video="/tmp/" + EVIL,
        settings_hash=EVIL,
        notes=(EVIL,),
        passes=(one,),
    )
    html = evidence_page(trace, video=video, frames=[pictures(EVIL)])
    page = read(html)  # asserts that no element has an on... attribute
    assert "<img src=x" not in html
    assert len(page.all("script")) == 1
    assert all((img.attrs.get("src") or "data:").startswith("data:") for img in page.all("img"))
    assert page.one("h1").text == EVIL
    assert page.one("pre").text == EVIL
    assert page.one("p", "reason").text == EVIL
    assert [li.text.split(" ", 1)[1] for li in page.all("li") if li.parents[-1] == "ol"] == [
        EVIL + " chosen",
        "<answer>B</answer>",
        '" onmouseover="alert(1)',
    ]
    assert any(PROBLEMS["no_answer"] in p.text for p in page.all("p", "problem"))


def test_only_our_script_may_run_and_nothing_may_load(make_trace, video, read) -> None:
    html = evidence_page(make_trace(), video=video)
    policy = read(html).one("meta", http_equiv="Content-Security-Policy").attrs["content"] or ""
    script = re.search(r"<script>(.*?)</script>", html, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "http" not in policy
    assert "http:" not in html
    assert "https:" not in html


def test_the_raw_text_keeps_its_lines_and_is_folded(make_trace, make_pass, video, read) -> None:
    page = read(evidence_page(make_trace(passes=(make_pass(text="<think>one\n  two</think>"),)), video=video))
    pre = page.one("pre")
    assert "".join(pre.texts) == "<think>one\n  two</think>"
    assert pre.parents[-2] == "details"
    assert "open" not in page.all("details")[-1].attrs


def test_notes_are_warnings(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(notes=("The file is damaged.",)), video=video))
    assert page.one("ul", "warnings").text == "The file is damaged."
    assert not read(evidence_page(make_trace(), video=video)).all("ul", "warnings")


def test_no_evidence_and_no_answer_are_said(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(answer=None, option=None, spans=[], confidence=0.0), video=video))
    assert page.one("p", "answer").text == "No answer could be read from what the model wrote."
    assert any("named no moment" in one.text for one in page.all("p", "none"))
    assert not page.all("button", "chip")
    assert "none found" in page.one("div", "strong").text


def test_an_open_question_has_no_options(make_trace, make_pass, video, read) -> None:
    one = make_pass(answer="It lands on a branch.", option=None, confidence=0.9)
    trace = make_trace(options=(), option=None, answer="It lands on a branch.", passes=(one,))
    page = read(evidence_page(trace, video=video))
    assert page.one("p", "answer").text == "It lands on a branch."
    assert not page.all("ol")
    assert len(page.all("tr", "winner")) == 1


def test_forty_windows_thirty_options_and_a_long_question(make_trace, make_pass, video, read) -> None:
    windows = tuple(make_pass(f"window {i + 1}", [(i * 30.0, i * 30.0 + 30)]) for i in range(40))
    options = tuple(f"option {i}" for i in range(30))
    trace = make_trace(duration_s=1200.0, passes=windows, options=options, option="AD", question="why " * 25_000)
    page = read(evidence_page(trace, video=video))
    assert len(page.all("button", "seen")) == 40
    assert len(page.all("div", "track")) == 2
    assert [li.text for li in page.all("li") if li.parents[-1] == "ol"][-1] == "AD option 29 chosen"
    assert page.one("div", "long").attrs["tabindex"] == "0"
    assert len(page.one("title").text) < 120


def test_a_pass_with_many_spans_says_how_many(make_trace, make_pass, video, read) -> None:
    spans = [(i * 10.0, i * 10.0 + 5) for i in range(9)]
    page = read(evidence_page(make_trace(passes=(make_pass("zoom", spans),)), video=video))
    assert len(page.all("button", "seen")) == 9
    assert page.all("td", "times")[0].text.endswith("00:30 – 00:35 and 5 more")


def test_an_hour_long_video_has_hours(make_trace, video, read) -> None:
    page = read(evidence_page(make_trace(duration_s=7200.0, spans=[(3725.0, 3730.5)]), video=video))
    assert page.one("button", "chip").text == "1:02:05 – 1:02:10"
    assert [one.text for one in page.all("span", "tick")][-1] == "2:00:00"


def test_a_directory_of_images_shows_frames_where_the_player_would_be(make_trace, tmp_path, read) -> None:
    page = read(evidence_page(make_trace(), video=tmp_path, frames=[pictures()]))
    assert not page.all("video")
    assert page.one("figure", "stage").parents[-1] == "div"
    assert "directory of images" in page.one("div", "player").text
    assert "stage" not in page.one("div", "viewer").classes


def test_a_large_video_is_linked_relative_to_the_page(make_trace, video, tmp_path, read) -> None:
    path = write_evidence_page(tmp_path / "pages" / "new" / "a.html", make_trace(), video=video, embed_video_bytes=3)
    page = read(path.read_text(encoding="utf-8"))
    assert page.one("video").attrs["src"] == "../../clip.mp4"
    assert list(path.parent.iterdir()) == [path]


def test_a_page_is_replaced_whole(make_trace, video, tmp_path) -> None:
    path = tmp_path / "a.html"
    path.write_text("old")
    write_evidence_page(path, make_trace(question="naïve – 猫?"), video=video)
    assert "naïve – 猫?" in path.read_text(encoding="utf-8")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.html", "clip.mp4"]


def test_an_unwritable_path_names_the_option(make_trace, video, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for wrong in (
        tmp_path / "file" / "a.html",
        tmp_path / "folder",
        tmp_path / ("x" * 300),
        Path(),
        tmp_path / "a\0b",
    ):
        with pytest.raises(ConfigError, match="--html: cannot write"):
            write_evidence_page(wrong, make_trace(), video=video)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["clip.mp4", "file", "folder"]


def test_importing_the_pages_loads_neither_models_nor_pictures() -> None:
    code = (
        "import sys, zoomzero.pages.page, zoomzero.pages.report; "
        "print([m for m in ('torch', 'transformers', 'PIL', 'jinja2', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
