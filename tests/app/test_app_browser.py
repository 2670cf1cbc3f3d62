"""The app in a real browser: upload, ask, seek, stop, two users, bad files, hostile text, a phone (`-m browser`)."""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from app_questions import OPTIONS, QUESTION

from scripted_policy import ScriptedPolicy, rates, says
from zoomzero.answer.ask import answer
from zoomzero.app.asking import Stored
from zoomzero.app.public import view
from zoomzero.app.store import Video, new_token

sys.path.append(str(Path(__file__).parents[1] / "pages"))
from browser import Seen, chromium, watch
from hostile import PAYLOADS

pytestmark = pytest.mark.browser
DESK, PHONE = (1280, 900), (390, 844)
WAIT_MS = 120_000  # for the model on a busy machine
SHOTS = os.environ.get("ZOOMZERO_SHOTS")  # a folder for pictures of what was tested


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as started:
        yield started


@pytest.fixture
def visit(browser: Any, web: Any) -> Iterator[Any]:
    """Open the app as somebody new (or as the user with this secret) and return the page with what it did."""
    address, _ = web
    contexts = []

    def opened(size: tuple[int, int] = DESK, token: str | None = None, scheme: str = "light") -> tuple[Any, Seen]:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        if token is not None:
            context.add_cookies([{"name": "zoomzero_user", "value": token, "url": address}])
        page = context.new_page()
        seen = watch(page, (address, "data:", "blob:", "about:"))
        page.goto(address)
        page.wait_for_selector("#drop")
        return page, seen

    yield opened
    for one in contexts:
        one.close()


def harm(page: Any, seen: Seen) -> list[str]:
    return [*seen.harm, *(["a script ran"] if page.evaluate("() => window.__ran || 0") else [])]


def shot(page: Any, name: str) -> None:
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"), full_page=True)


def upload(page: Any, film: Path, name: str = "film") -> None:
    page.set_input_files("#file", str(film))
    page.wait_for_selector(f".mine .card-video[aria-pressed='true']:has-text('{name}')")


def fill(page: Any, question: str = QUESTION, options: list[str] = OPTIONS, modes: tuple[str, ...] = ("zoom",)) -> None:
    page.fill("#question", question)
    while page.locator("#offers li").count():
        page.locator("#offers .gone").first.click()
    for text in options:
        page.click("#offer")
        page.locator("#offers input").last.fill(text)
    for box in page.locator("#ways input").all():
        box.set_checked(box.get_attribute("value") in modes, force=True)


def ask(page: Any, **what: Any) -> None:
    fill(page, **what)
    page.click("#go")
    page.wait_for_selector("#stop", state="hidden")
    page.wait_for_selector("#verdict:not([hidden])")


def time_of(page: Any) -> float:
    found: float = page.evaluate("() => document.querySelector('#player').currentTime")
    return found


def test_upload_ask_seek(visit: Any, film: Path) -> None:
    page, seen = visit()
    upload(page, film)
    page.evaluate(
        """() => {
            window.typed = new Set();
            const look = () => document.querySelectorAll(".typed").forEach((one) => window.typed.add(one.textContent));
            new MutationObserver(look).observe(document.querySelector("#passes"), { subtree: true, childList: true });
        }"""
    )
    ask(page)
    assert page.evaluate("() => window.typed.size") > 1  # words came while they were written
    assert page.locator("#said .answer").inner_text()
    assert page.locator("#said .sure").inner_text().endswith("confident")
    assert {one.get_attribute("data-lane") for one in page.locator("#lanes [data-lane]").all()} >= {
        "final",
        "coarse",
        "zoom",
    }
    chip = page.locator("#said .chip").first
    start = float(chip.get_attribute("data-seek"))
    chip.click()
    page.wait_for_function(f"() => Math.abs(document.querySelector('#player').currentTime - {start}) < 1.5")
    page.evaluate("() => document.querySelector('#player').pause()")
    track = page.locator("#lanes [data-lane='coarse'] .track")
    box = track.bounding_box()
    track.click(position={"x": box["width"] * 0.75, "y": 3}, force=True)
    page.wait_for_timeout(300)
    seeked = time_of(page)
    assert seeked == pytest.approx(36.0, abs=1.0) or seeked == pytest.approx(0.0, abs=1.0)  # the place, or its block
    page.locator("#sheets .thumb").first.click()
    first = float(page.locator("#sheets .thumb").first.get_attribute("data-seek"))
    page.wait_for_function(f"() => Math.abs(document.querySelector('#player').currentTime - {first}) < 0.2")
    assert page.locator("#figures dd").first.inner_text() != "0"
    assert page.locator("#spent tbody tr").count() == 2
    assert not harm(page, seen)
    shot(page, "answer")


def test_downloads(visit: Any, film: Path) -> None:
    page, seen = visit()
    upload(page, film)
    ask(page)
    for name in ("clip.mp4", "answer.json", "answer.html"):
        with page.expect_download() as coming:
            page.click(f"[data-take='{name}']")
        path = coming.value.path()
        assert path.stat().st_size > 500
        assert coming.value.suggested_filename == "film-answer." + name.rpartition(".")[2]
    assert not harm(page, seen)


def test_modes_side_by_side_and_history(visit: Any, film: Path) -> None:
    page, seen = visit()
    upload(page, film)
    ask(page, modes=("direct", "coarse", "zoom", "search"))
    assert page.locator("#compared tbody tr").count() == 4
    shot(page, "comparison")
    page.click("#compared tr[data-mode='coarse'] .pick-mode")
    page.wait_for_function("() => document.querySelectorAll('#spent tbody tr').length === 1")  # its pictures come first
    ask(page, question="Which symbol is on the blue circle?", modes=("coarse",))
    assert page.locator("#asked li").count() == 5
    new = page.locator("#spent tbody tr td[data-label='New']").inner_text()
    assert (
        int(new) < int(page.locator("#spent tbody tr td[data-label='Prompt']").inner_text()) / 2
    )  # the frames were read
    page.reload()
    page.wait_for_selector("#asked li")
    assert page.locator("#asked li").count() == 5
    page.locator("#asked .past").last.click()
    page.wait_for_function("() => document.querySelectorAll('#compared tbody tr').length === 4")
    assert page.input_value("#question") == QUESTION
    assert not harm(page, seen)
    shot(page, "history")


def test_stop(visit: Any, web: Any, film: Path) -> None:
    page, seen = visit()
    _, place = web
    upload(page, film)
    fill(page, modes=("direct", "coarse", "zoom", "context", "search"))
    place.desk._turn.acquire()  # the model answers somebody else
    try:
        page.click("#go")
        page.wait_for_selector("#stop:not([hidden])")
        page.wait_for_timeout(1000)
        shot(page, "waiting")
        page.click("#stop")
        page.wait_for_selector("#problem:has-text('Stopped')")
        assert page.is_enabled("#go")
    finally:
        place.desk._turn.release()
    ask(page)
    assert page.is_hidden("#problem")
    assert not harm(page, seen)


def test_two_users(visit: Any, film: Path) -> None:
    (one, seen_one), (other, seen_other) = visit(), visit()
    upload(one, film)
    ask(one)
    other.reload()
    other.wait_for_selector("#drop")
    assert other.locator(".mine").count() == 0
    assert other.locator("#asked li").count() == 0
    src = one.evaluate("() => document.querySelector('#player').currentSrc")
    take = one.evaluate("() => document.querySelector('[data-take]').href")
    for address in (src, take):
        assert other.evaluate("async (url) => (await fetch(url)).status", address) == 404
        assert one.evaluate("async (url) => (await fetch(url)).status", address) == 200
    seen_other.said.clear()  # the browser's own lines about 404
    assert not harm(one, seen_one)
    assert not harm(other, seen_other)


def test_bad_files(visit: Any, tmp_path: Path) -> None:
    page, _ = visit()
    (tmp_path / "page.mp4").write_text("<script>window.__ran=1</script>")
    (tmp_path / "large.mp4").write_bytes(b"\0" * 5_100_000)
    (tmp_path / "cut.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + b"\1" * 4000)
    for name, said in (("page.mp4", "text, not a video"), ("large.mp4", "larger than 5 MB"), ("cut.mp4", "moov")):
        page.set_input_files("#file", str(tmp_path / name))
        page.wait_for_selector(f"#upload-problem:has-text('{said}')")
    shot(page, "bad-file")
    assert page.locator(".mine").count() == 0
    assert not page.evaluate("() => window.__ran || 0")


def test_a_full_queue(visit: Any, film: Path) -> None:
    page, _ = visit()
    upload(page, film)
    page.route("**/queue/join", lambda route: route.fulfill(status=503, body="{}"))
    fill(page)
    page.click("#go")
    page.wait_for_selector("#problem:has-text('Too many questions')")
    assert page.is_enabled("#go")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(visit: Any, film: Path, scheme: str) -> None:
    page, seen = visit(PHONE, scheme=scheme)
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    upload(page, film)
    assert page.evaluate(wide) <= 0
    shot(page, f"phone-{scheme}-before")
    ask(page, modes=("coarse", "zoom"))
    assert page.evaluate(wide) <= 0
    shot(page, f"phone-{scheme}")
    for target in ("#go", "#drop", "#said .chip >> nth=0", "[data-take] >> nth=0"):
        assert page.locator(target).bounding_box()["height"] >= 32
    assert not harm(page, seen)


def test_hostile_text(visit: Any, web: Any, film: Path) -> None:
    """Sixty payloads as question, options, answer, reason, notes, pass, model and file names: shown, never run."""
    _, place = web
    token = new_token()
    me = place.store.user(token, make=True)
    plain = place.find(None, "film.mp4")
    trace, _ = answer(
        ScriptedPolicy(says("A", [(1.0, 2.0)], p=0.9), rates(0.9, 0.1)),
        place.desk.settings,
        plain.info,
        "q?",
        ["a", "b"],
    )
    for number, text in enumerate(PAYLOADS):
        ident = f"u{number:024d}"
        me.videos[ident] = Video(ident, text, film, plain.info, "video/mp4", (text,))
        passes = tuple(
            replace(one, name=f"{one.name} {text}", text=text, answer=text, notes=(text,), problems=(text,))
            for one in trace.passes
        )
        hostile = replace(
            trace, question=text, options=(text, f"{text}2"), answer=text, reason=text, notes=(text,), model=text,
            video=text, passes=passes,
        )  # fmt: skip
        shown = view(hostile) | {
            "id": f"a{number:024d}", "video": ident, "video_name": text, "frames": [], "asked_at": text, "kept": True,
        }  # fmt: skip
        me.answer_file(shown["id"]).write_bytes(pickle.dumps(Stored(shown, hostile, ())))
        me.answers[shown["id"]] = ident
    page, seen = visit(token=token)
    cards = page.locator(".mine .card-video")
    assert cards.count() == len(PAYLOADS)
    for number, text in enumerate(PAYLOADS):
        cards.nth(number).click()
        page.wait_for_selector(f"#said [data-take][href*='a{number:024d}']")
        assert page.locator("#said .reason").text_content() == text.replace("\r\n", "\n")
        page.evaluate(
            """() => {
                for (const one of document.querySelectorAll("details")) one.open = true;
                for (const one of document.querySelectorAll("[title], [data-seek], input, button"))
                    for (const kind of ["mouseover", "focus", "pointerenter"])
                        one.dispatchEvent(new Event(kind, { bubbles: true }));
            }"""
        )
    page.wait_for_timeout(300)
    assert not harm(page, seen)


def test_hostile_replies_while_they_come(visit: Any, web: Any, film: Path) -> None:
    _, place = web
    before = place.desk.policy
    text = "".join(PAYLOADS) + "<answer>A</answer><glue>[(1.0, 2.0)]</glue>"
    place.desk.policy = ScriptedPolicy(says(text=text), rates(0.9, 0.1, 0.1, 0.1), forever=True)
    try:
        page, seen = visit()
        upload(page, film)
        ask(page, question=PAYLOADS[0], options=list(PAYLOADS[1:5]))
        for one in page.locator("#wrote details").all():
            one.evaluate("(one) => { one.open = true; }")
        assert "<script>" in page.locator("#wrote pre").first.inner_text()
        assert not harm(page, seen)
    finally:
        place.desk.policy = before
