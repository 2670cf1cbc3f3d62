from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from made_runs import DIRECT, FEW, GONE, ZOOM, failed, found_in, row, write_questions, write_run

from cli_runner import make_runner
from zoomzero.errors import ConfigError
from zoomzero.pages.evaluation.page import evaluate_runs, evaluation_page, write_evaluation_page
from zoomzero.pages.evaluation.questions import TEXT_BUDGET, question_data, text_limit
from zoomzero.pages.evaluation.runs import read_runs

EVIL = "</script><img src=x onerror=alert(1)>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


# --- the page -------------------------------------------------------------------------------------------


def embedded(html: str):
    block = re.search(r'<script type="application/json" id="evaluation-data">(.*?)</script>', html, re.S)
    return json.loads(block[1])


def test_the_page_is_self_contained_and_shows_every_mode(run: Path, read) -> None:
    page = read(evaluation_page(found_in(run)))
    summary = page.all("table", "summary")[0]
    assert "zoom 50.0" in summary.text
    assert "100.0" in summary.text
    assert len(page.all("figure", "plot")) == 2
    assert len(page.all("g", "mark")) == 4
    bars = [one.text for one in page.all("title") if "of 4 (" in one.text]
    assert [bar for bar in bars if ": 0 of" not in bar] == [
        "no span named: 2 of 4 (50%)",
        "IoU 0.3 to 0.4: 1 of 4 (25%)",
        "IoU 0.9 to 1.0: 1 of 4 (25%)",
    ]
    assert len(bars) == 12
    assert page.one("p", "facts").text == "4 questions on 2 videos · 1 run · 8 answers"
    assert [one.attrs["data-failure"] for one in page.all("button", "link", type="button")] == ["0"]
    assert f"VIDEO: {GONE}" in page.one("td", "why").text
    identity = page.all("table", "identity")
    assert "0123456789abcdef" in identity[0].text
    assert "c0ffee" in identity[0].text
    assert "zoom.fps 1.0" in identity[1].text


def test_two_runs_on_one_page(tmp_path: Path, data: Path, run: Path, read) -> None:
    other = write_run(tmp_path / "other", data, {"zoom": DIRECT}, settings={"widen_s": 1.0})
    page = read(evaluation_page(found_in(run, other)))
    assert page.one("ul", "warnings").text.startswith("R1 and R2 differ in widen_s (0.5, 1.0)")
    assert page.one("ul", "named").text.count("tiny, settings") == 2
    assert "zoom R2 minus zoom R1 +50.0" in page.one("section", "comparisons").text
    assert "widen_s 0.5 1.0" in page.all("table", "identity")[1].text
    assert len(page.all("span", "hollow")) > 1


def test_the_official_measures_of_a_benchmark(tmp_path: Path, read) -> None:
    clue = {"question": "?", "answer": "?", "domain": "News", "sub_category": "Time", "choices": ["x", "y"]}
    rows = [
        {**clue, "qid": 1, "video_uid": "a", "right_answer": "A", "clue_intervals": [[0, 10]], "duration": 60},
        {**clue, "qid": 2, "video_uid": "b", "right_answer": "B", "clue_intervals": [[0, 10]], "duration": 4000},
    ]
    data = tmp_path / "cgbench"
    data.mkdir()
    (data / "cgbench_mini.json").write_text(json.dumps(rows))
    answers = [{**row("q1", "A", [[0, 10]]), "id": "1"}, {**failed("q2"), "id": "2"}]
    of_cgbench = {"benchmark": "cgbench", "split": "mini", "dataset": {"files": {}, "n": 2}}
    found = found_in(write_run(tmp_path / "run", data, {"zoom": answers}, **of_cgbench))
    official = {one.name: one.cells[0] for one in found.sections[0].official}
    figure, strict = official["long-acc"]
    assert (figure.value, strict) == (100, 50)  # the official evaluator leaves the failed one out
    text = read(evaluation_page(found)).one("section", "official").text
    assert "long-acc 100.0" in text
    assert "strict 50.0" in text
    assert not found_in(run_with_union_measures(tmp_path)).sections[0].official  # the same numbers need no second table


def run_with_union_measures(tmp_path: Path) -> Path:
    return write_run(tmp_path / "plain", write_questions(tmp_path / "plain-data"), {"zoom": ZOOM})


def test_what_is_embedded_of_a_question(run: Path, tmp_path: Path) -> None:
    data = embedded(evaluation_page(found_in(run)))
    assert [one["name"] for one in data["entries"]] == ["direct", "zoom"]
    q1, q2, q3, q4 = data["questions"]
    assert (q1["text"], q1["options"], q1["right"], q1["spans"]) == (
        "What is it, q1?",
        ["apple", "banana"],
        ["A"],
        [[10, 20]],
    )
    assert [[one["result"] for one in q["answers"]] for q in (q1, q2, q3, q4)] == [
        ["right", "right"],
        ["right", "wrong"],
        ["right", "failed"],
        ["right", "right"],
    ]
    assert q2["answers"][1]["iou"] == 0.333
    assert "iou" not in q2["answers"][0]  # direct names no spans
    assert q2["answers"][1]["passes"][0][:6] == ["coarse", [[0, 100]], [[5, 15]], "A", 0.5, 0.25]
    assert data["failures"][q3["answers"][1]["failure"]] == f"VIDEO: {GONE}"
    name, link = data["videos"][q1["video"]]
    assert name == "a.mp4"
    assert (tmp_path / link).resolve() == Path("/videos/a.mp4")


def test_only_close_looks_are_drawn_as_such(tmp_path: Path, data: Path) -> None:
    search = row("q1", "A", [[10, 20]])
    look = search["passes"][0]
    search["passes"] += [
        {**look, "name": "verify 1", "spans": [[5, 25]]},
        {**look, "name": "verify 2", "spans": [[20, 30.123]]},
    ]
    run = write_run(tmp_path / "run", data, {"search": [search]})
    (question,) = found_in(run).questions["questions"]
    assert question["answers"][0]["close"] == [[5, 30.12]]  # the union; the coarse pass sees all


def test_an_open_question_is_judged_by_its_words(tmp_path: Path) -> None:
    data = write_questions(tmp_path / "data", options=[], answer="an apple")
    for said, result in (("An apple.", "right"), ("a pear", "wrong")):
        run = write_run(tmp_path / result, data, {"zoom": [row("q1", said, [[10, 20]], said=said)]})
        found = found_in(run)
        (question,) = found.questions["questions"]
        assert question["answers"][0]["result"] == result
        assert all("guessing" not in one.picture for one in found.sections[0].plots)


def test_an_unread_answer_is_told_from_a_wrong_one(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"zoom": [row("q1", None, said="a pear"), *ZOOM[1:]]})
    found = found_in(run)
    (q1, *_) = found.questions["questions"]
    assert (q1["answers"][0]["result"], q1["answers"][0]["said"]) == ("unread", "a pear")
    assert found.sections[0].scores[0].unread == 1
    assert {one.reason for one in found.failures} == {
        f"VIDEO: {GONE}",
        "No answer could be read from the model's reply",
    }


def test_everything_is_escaped(tmp_path: Path, read) -> None:
    data = write_questions(tmp_path / "data", text=EVIL, options=[EVIL, "\u2028"], source=EVIL)
    row_ = row("q1", "A", reason=EVIL, notes=[EVIL])
    row_["passes"][0] |= {"text": EVIL, "name": EVIL}
    rows = [row_, {**failed("q2"), "failed": EVIL}]
    run = write_run(tmp_path / "run", data, {"zoom": rows}, model=EVIL, settings={EVIL: EVIL}, machine=EVIL)
    html = evaluation_page(found_in(run))
    page = read(html)
    assert "<img" not in html
    assert len(page.all("script")) == 2
    assert embedded(html)["questions"][0]["text"] == f"{EVIL}, q1?"


def test_the_models_words_are_cut_to_a_budget() -> None:
    def rows(count: int, length: int):
        return [{"passes": [{"text": "x" * length}]}] * count

    assert text_limit(rows(10, 9000)) == 4000
    assert text_limit(rows(TEXT_BUDGET // 1000, 3000)) == 1000
    assert text_limit(rows(TEXT_BUDGET // 100, 100)) == 4000  # short ones need no cut
    assert text_limit([]) == 4000


def test_long_words_are_marked_as_cut(tmp_path: Path, data: Path) -> None:
    long = row("q1", "A")
    long["passes"][0]["text"] = "y" * 5000
    found = read_runs([write_run(tmp_path / "run", data, {"zoom": [long]})])
    (question,) = question_data(found, tmp_path)["questions"]
    assert question["answers"][0]["passes"][0][8] == "y" * 4000 + "…"


def test_writing(run: Path, tmp_path: Path, read) -> None:
    found = found_in(run)
    read(write_evaluation_page(tmp_path / "new" / "report.html", found).read_text(encoding="utf-8"))
    with pytest.raises(ConfigError, match="--out: cannot write"):
        write_evaluation_page(run, found)


# --- in a browser ---------------------------------------------------------------------------------------

PROBE = """<script>
const form = document.querySelector("[data-browse]"), output = form.querySelector("output"), told = [];
const cards = () => [...document.querySelectorAll(".card h3")].map((h) => h.textContent.slice(-3, -1));
const tell = () => told.push([output.textContent, ...cards()].join(" "));
const change = (name, value) => { form.elements[name].value = value; form.dispatchEvent(new Event("change")); };
const show = () => document.body.replaceChildren(
  Object.assign(document.createElement("pre"), { id: "told", textContent: told.join("\\n") }));
tell();
change("result", "wrong"); tell();
change("result", "differ"); tell();
change("result", "failed"); tell();
change("result", "all"); change("text", "Q4"); tell();
change("text", ""); change("order", "iou"); tell();
form.reset(); document.querySelector("[data-failure]").click(); tell();
change("failure", ""); form.elements.entry[1].click(); tell();
form.elements.entry[0].click(); tell(); form.elements.entry[1].click(); tell();
const waiting = setInterval(() => {
  for (const one of document.querySelectorAll(".passes")) one.open = true;
  if (document.querySelectorAll(".pass").length < 3) return;  // the zoom answers of q1, q2 and q4
  clearInterval(waiting);
  told.push(document.querySelectorAll(".pass .block.found").length + " found");
  const { left, width } = document.querySelector(".block.true").style;
  told.push(left + " " + width);
  show();
}, 50);
</script>"""


@pytest.mark.skipif(BROWSER is None, reason="needs Chromium")
def test_the_page_filters_and_draws_in_a_browser(run: Path, tmp_path: Path) -> None:
    html = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", evaluation_page(found_in(run)))
    (tmp_path / "page.html").write_text(html.replace("</body>", PROBE + "</body>"), encoding="utf-8")
    command = [
        BROWSER,
        "--headless",
        "--disable-gpu",
        "--virtual-time-budget=9000",
        f"--user-data-dir={tmp_path / 'p'}",
    ]
    if os.geteuid() == 0:
        command.append("--no-sandbox")
    done = subprocess.run(
        [*command, "--dump-dom", (tmp_path / "page.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    told = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.S)
    assert told, done.stderr[-500:]
    assert told[1].split("\n") == [
        "4 questions q1 q2 q3 q4",
        "1 question of 4 q2",
        "2 questions of 4 q2 q3",
        "1 question of 4 q3",
        "1 question of 4 q4",
        "4 questions q3 q4 q2 q1",
        "1 question of 4 q3",
        "4 questions q1 q2 q3 q4",
        "0 questions of 4",
        "4 questions q1 q2 q3 q4",
        "2 found",
        "10% 10%",
    ]


# --- what `zoomzero eval` writes, and the command -------------------------------------------------------


@pytest.fixture(scope="module")
def real_runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two real runs of the embedded model on four world videos, one of them damaged."""
    from zoomzero.benchmarks.runner.evaluate import EvalSettings, evaluate
    from zoomzero.world.write import write_world

    place = tmp_path_factory.mktemp("real")
    write_world(place / "world", 4, 5, "short", workers=1)
    damaged = sorted((place / "world" / "videos").iterdir())[3]
    damaged.write_bytes(damaged.read_bytes()[:2000])
    common = {"benchmark": "world-short", "data": place / "world", "max_failed": 1.0, "resamples": 50}
    evaluate(EvalSettings(**common, out=place / "one", modes=("direct", "zoom"), faithfulness=True))
    evaluate(EvalSettings(**common, out=place / "two", modes=("zoom",), overrides=("widen_s=3",)))
    return place / "one", place / "two"


def test_the_numbers_are_those_of_the_runs_summary(real_runs: tuple[Path, Path]) -> None:
    one, _ = real_runs
    found = evaluate_runs([one], one.parent, draws=FEW)
    table = json.loads((one / "summary.json").read_text())["table"]
    for scores, line in zip(found.sections[0].scores, table, strict=True):
        assert scores.name == line["mode"]
        told = {"accuracy": scores.accuracy, "acc_gqa": scores.acc_gqa, "miou": scores.miou, "miop": scores.miop}
        assert {name: one and one.value for name, one in told.items()} == {name: line[name] for name in told}
        if line["miou"] is not None:
            assert [scores.miou.low, scores.miou.high] == line["miou_interval"]
        assert [scores.hit and scores.hit.value / 100, scores.gap and scores.gap.value / 100] == pytest.approx(
            [line["hit"], line["gap"]]
        )
        assert {name: line[name] for name in ("visual_tokens", "frames", "seconds")} == pytest.approx(
            {name: scores.costs[name] for name in ("visual_tokens", "frames", "seconds")}
        )
        assert (scores.counted, scores.failed) == (line["n"], line["failed"]) == (4, 1)


def test_the_command_reports_two_real_runs(
    real_runs: tuple[Path, Path],
    tmp_path: Path,
    read,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    zoomzero = make_runner(monkeypatch, capfd)
    out = tmp_path / "report.html"
    ran = zoomzero("report", *real_runs, "--out", out, "--resamples", 50)
    assert ran.code == 0, ran.err
    assert re.fullmatch(rf"{re.escape(str(out))}: 2 runs, 12 answers, 0\.\d MB\n", ran.out)
    assert "note: R1 and R2 differ in widen_s (0.5, 3.0)" in ran.err
    html = out.read_text(encoding="utf-8")
    page = read(html)
    assert page.one("h1").text == "world-short test"
    assert "zoom R2 minus zoom R1" in page.one("section", "comparisons").text
    questions = embedded(html)["questions"]
    assert [len(one["answers"]) for one in questions] == [3, 3, 3, 3]
    assert [one["result"] for one in questions[3]["answers"]] == ["failed"] * 3
    passes = [one[0] for one in questions[0]["answers"][1]["passes"]]
    assert passes[:1] == ["coarse"]


def test_wrong_use_of_the_command_is_one_line(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    zoomzero = make_runner(monkeypatch, capfd)
    for arguments, complaint in (
        ((tmp_path / "nothing",), "run.json: is not there; give the --out of a `zoomzero eval`"),
        ((run, run), "is given twice"),
        ((run, "--out", tmp_path), "--out: .* is a directory"),
        ((run, "--resamples", 0), "--resamples: 0 draws give no interval"),
        ((run, "--data", tmp_path / "gone"), "say with --data where it is now"),
        ((run, "--out", "/proc/none/report.html"), "--out: cannot write"),
    ):
        ran = zoomzero("report", *arguments)
        assert ran.code == 2
        assert re.search(complaint, ran.complaint)
