"""Pages in a real browser: hostile text neither runs nor leaves; a phone is wide enough (`pytest -m browser`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Seen, chromium, watch
from hostile import PAYLOADS

from zoomzero.pages.page import PassFrames, evidence_page
from zoomzero.pages.report import DemoRow, demo_report
from zoomzero.spans import Span

pytestmark = pytest.mark.browser
SIZES = ((1280, 900), (390, 844))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def show(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Open a page in a window of its own and return it with what it did; the window before it is closed."""
    contexts = []

    def opened(html: str, size: tuple[int, int] = SIZES[0]) -> tuple[Any, Seen]:
        while contexts:  # a test opens dozens of pages
            contexts.pop().close()
        path = tmp_path / "page.html"
        path.write_text(html, encoding="utf-8", errors="surrogatepass")
        contexts.append(browser.new_context(viewport={"width": size[0], "height": size[1]}))
        page = contexts[-1].new_page()
        seen = watch(page)
        page.goto(path.as_uri())
        return page, seen

    yield opened
    for one in contexts:
        one.close()


def handle_everything(page: Any) -> None:
    """Open what is folded, point at everything that tells something, and let pending work happen."""
    page.evaluate(
        """() => {
            for (const one of document.querySelectorAll("details")) one.open = true;
            for (const one of document.querySelectorAll("[title], [data-seek], .mark, .reach, .t"))
                for (const kind of ["mouseover", "focus", "pointerenter", "pointermove"])
                    one.dispatchEvent(new Event(kind, { bubbles: true }));
        }"""
    )
    page.wait_for_timeout(100)


def harm(page: Any, seen: Seen) -> list[str]:
    ran = page.evaluate("() => window.__ran || 0")
    return [*seen.harm, *(["a script ran"] if ran else [])]


@pytest.fixture
def evidence(make_trace, make_pass, tmp_path: Path):
    def html(text: str) -> str:
        one = make_pass(
            text, found=[(20.0, 30.0)], text=text, answer=text, option=text, notes=(text,), problems=(text,)
        )
        trace = make_trace(
            question=text, options=(text, text + "2"), answer=text, option=text, reason=text, notes=(text,), model=text,
            video=text, settings_hash=text, passes=(one,),
        )  # fmt: skip
        video = tmp_path / "frames"
        video.mkdir(exist_ok=True)
        frames = PassFrames(text, (0.0, 50.0), np.zeros((2, 8, 8, 3), np.uint8))
        return evidence_page(trace, video=video, frames=[frames], true_spans=[(1.0, 2.0)])

    return html


def test_the_marks_work_where_a_page_lets_text_run(show) -> None:
    """The test itself can fail: a page that does not escape is caught."""
    page, seen = show(f"<!doctype html><p>{PAYLOADS[7]}<img src=http://evil.test/x>")
    page.wait_for_timeout(200)
    assert "a script ran" in harm(page, seen)
    assert seen.dialogs == ["1"]
    assert "http://evil.test/x" in seen.asked


@pytest.mark.parametrize("first", range(0, len(PAYLOADS), 13))
def test_an_evidence_page_runs_no_text(show, evidence, first: int) -> None:
    for payload in PAYLOADS[first : first + 13]:
        page, seen = show(evidence(payload))
        handle_everything(page)
        assert not harm(page, seen), payload
        assert payload.split()[0][:6] in page.inner_text("main")


def test_a_report_runs_no_text(show, make_trace) -> None:
    rows = []
    for i, text in enumerate(PAYLOADS):
        trace = make_trace(answer=text, reason=text, notes=(text,), video=text, options=(text, "b", "c"), option="A")
        rows.append(DemoRow(f"coarse {text}", f"{i} {text}", text, text, trace.options, "A", (Span(1.0, 2.0),), trace))
    modes = {row.mode: {"accuracy": 0.5, "visual_tokens": 10.0 + i, "n": 4} for i, row in enumerate(rows)}
    page, seen = show(demo_report({"modes": modes, "model": PAYLOADS[0], PAYLOADS[7]: PAYLOADS[8]}, rows))
    handle_everything(page)
    assert not harm(page, seen)
    assert len(page.query_selector_all("article")) == len(PAYLOADS)


def test_a_rollouts_page_runs_no_text(show, tmp_path: Path) -> None:
    from rollout_groups import EXAMPLE, group, rollout, write_run

    from zoomzero.pages.training.rollouts import read_run, rollouts_page

    groups = [
        group(
            i, i, prompt=text, rollouts=(rollout(text, problems=(text,), option=text),),
            example=replace(EXAMPLE, id=f"{i}{text}", question=text, options=(text, "b"), video=text),
        )
        for i, text in enumerate(PAYLOADS)
    ]  # fmt: skip
    run = write_run(tmp_path / "run", *groups)
    (run / "log.jsonl").write_text(
        '{"step": 1, "<img src=x onerror=alert(1)>": 2, "</svg><script>alert(1)</script>": 1}\n'
    )
    page, seen = show(rollouts_page(read_run(run)))
    for _ in PAYLOADS:
        handle_everything(page)
        assert not harm(page, seen)
        page.evaluate("() => [...document.querySelectorAll('.turn button')].find((b) => !b.disabled).click()")


def test_a_filter_page_runs_no_text(show) -> None:
    from made_filter import judged, report

    from zoomzero.data.difficulty import KEPT

    for first in range(0, len(PAYLOADS), 6):
        texts = PAYLOADS[first : first + 6]
        page, seen = show(filter_html(report, [judged(text, KEPT, 0.5, question=text, detail=text) for text in texts]))
        handle_everything(page)
        assert not harm(page, seen), texts


def filter_html(report, rows) -> str:
    from zoomzero.pages.training.filter import filter_page

    return filter_page(report(*rows, answered_by=(rows[0].detail,)))


def test_an_evaluation_page_runs_no_text(show, tmp_path: Path) -> None:
    from made_runs import QUESTIONS, failed, row, write_questions, write_run

    from zoomzero.benchmarks.scoring.score import BootstrapSettings
    from zoomzero.pages.evaluation.page import evaluate_runs, evaluation_page

    for i, text in enumerate(PAYLOADS):
        data = write_questions(tmp_path / f"data{i}", text=text, options=[text, "b"], source=text)
        answered = row("q1", "A", [[1, 2]], reason=text, notes=[text], said=text)
        answered["passes"][0] |= {"text": text, "name": text}
        rows = [answered, {**failed("q2"), "failed": text}, *(row(one[0], "B") for one in QUESTIONS[2:])]
        run = write_run(tmp_path / f"run{i}", data, {"zoom": rows}, model=text, settings={text: text}, machine=text)
        page, seen = show(evaluation_page(evaluate_runs([run], tmp_path, draws=BootstrapSettings(resamples=20))))
        handle_everything(page)
        assert not harm(page, seen), text


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_nothing_is_wider_than_the_window(show, evidence, size: tuple[int, int], scheme: str) -> None:
    page, seen = show(evidence("What does the man with the very long hat pick up from the table?"), size)
    page.emulate_media(color_scheme=scheme)
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    ink, paper = page.evaluate(
        "() => { const s = getComputedStyle(document.body); return [s.color, s.backgroundColor] }"
    )
    assert ink != paper
    assert not seen.harm


def test_costs_of_a_pass_are_all_readable_on_a_phone(show, evidence) -> None:
    page, _ = show(evidence("What?"), SIZES[1])
    boxes = page.evaluate(
        """() => [...document.querySelectorAll(".costs-table td[data-label]")].map((one) => {
            const box = one.getBoundingClientRect();
            return [one.dataset.label, box.left, box.right, box.height];
        })"""
    )
    assert {"Frames", "Visual", "Seconds"} <= {label for label, *_ in boxes}
    assert all(0 <= left < right <= 390 and height > 0 for _, left, right, height in boxes)


def test_a_curve_is_read_off_under_the_pointer(show, tmp_path: Path) -> None:
    import json

    from rollout_groups import group, write_run

    from zoomzero.pages.training.rollouts import read_run, rollouts_page

    run = write_run(tmp_path / "run", group(0, 0), group(1, 10))
    lines = [json.dumps({"step": step, "loss": float(step)}) for step in range(11)]
    (run / "log.jsonl").write_text("\n".join(lines) + "\n")
    page, _ = show(rollouts_page(read_run(run)))
    page.evaluate("() => { for (const one of document.querySelectorAll('details')) one.open = true }")
    figure = page.locator("figure.chart", has_text="loss").last
    area = figure.locator(".area")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert figure.locator("b").inner_text() == "5"
    assert area.locator(".cross").get_attribute("data-step") == "5"
