from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_runs import COSTS, DIRECT, GONE, ZOOM, failed, row, write_questions, write_run

from cli_runner import make_runner
from zoomzero.benchmarks.scoring.metrics import wilson
from zoomzero.benchmarks.scoring.score import BootstrapSettings
from zoomzero.errors import ConfigError, DataError
from zoomzero.pages.evaluation.page import evaluate_runs, evaluation_page, write_evaluation_page
from zoomzero.pages.evaluation.questions import TEXT_BUDGET, question_data, text_limit
from zoomzero.pages.evaluation.runs import read_runs
from zoomzero.pages.evaluation.scores import (
    DURATION_EDGES_S,
    DURATION_LABELS,
    compared_pairs,
    comparison,
    duration_label,
    group_tables,
    histogram,
    score_entry,
)

FEW = BootstrapSettings(resamples=50)
EVIL = "</script><img src=x onerror=alert(1)>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_questions(tmp_path / "data")


@pytest.fixture
def run(tmp_path: Path, data: Path) -> Path:
    return write_run(tmp_path / "run", data, {"direct": DIRECT, "zoom": ZOOM})


def found_in(*folders: Path, **options):
    return evaluate_runs(folders, folders[0].parent, draws=FEW, **options)


def only_set(*folders: Path):
    (found,) = read_runs(folders)
    return found


# --- numbers --------------------------------------------------------------------------------------------


def test_scores_worked_by_hand(run: Path) -> None:
    found = only_set(run)
    direct, zoom = (score_entry(found, entry, FEW) for entry in found.entries)
    # zoom: q1 right with IoU 1; q2 wrong, [5, 15] on [0, 10]: IoU 5/15, IoP 5/10; q3 failed; q4 right without a span
    assert zoom.accuracy.value == 50
    assert zoom.miou.value == pytest.approx((1 + 1 / 3) / 4 * 100)
    assert zoom.miop.value == pytest.approx((1 + 1 / 2) / 4 * 100)
    assert zoom.acc_gqa.value == 25
    assert (zoom.chosen, zoom.counted, zoom.failed, zoom.unread, zoom.skipped) == (4, 4, 1, 0, 0)
    assert zoom.costs == {name: pytest.approx(value) for name, value in COSTS.items()}  # the failed one cost nothing
    assert zoom.accuracy.low is None  # one video: every draw is the same, which says nothing
    assert (direct.miou, direct.miop, direct.acc_gqa, direct.hit, direct.gap) == (None,) * 5


def test_all_right_is_not_certain(run: Path) -> None:
    found = only_set(run)
    direct = score_entry(found, found.entries[0], FEW)
    assert direct.accuracy.value == 100
    assert (direct.accuracy.low, direct.accuracy.high) == tuple(100 * edge for edge in wilson(1.0, 2))  # two videos


def test_evidence_is_averaged_where_it_was_measured(tmp_path: Path, data: Path) -> None:
    rows = [
        row("q1", "A", evidence={"hit": 0.5, "gap": 1}),
        row("q2", "A", evidence={"hit": 1.0, "gap": -1}),
        row("q3", "A", evidence={"hit": None, "gap": 1}),
        row("q4", "A"),
    ]
    found = only_set(write_run(tmp_path / "run", data, {"zoom": rows}))
    scores = score_entry(found, found.entries[0], FEW)
    assert scores.hit.value == 75
    assert scores.gap.value == pytest.approx(100 / 3)


def test_histogram_worked_by_hand(run: Path) -> None:
    direct, zoom = (histogram(entry) for entry in only_set(run).entries)
    assert direct is None
    assert (zoom.without_span, zoom.apart, zoom.n) == (2, 0, 4)
    assert zoom.bins == (0, 0, 0, 1, 0, 0, 0, 0, 0, 1)  # 1/3 and 1


def test_groups_worked_by_hand(run: Path) -> None:
    (table,) = group_tables(only_set(run), FEW)
    assert table.name == "video length"
    assert [(one.value, one.n, one.counted) for one in table.rows] == [
        ("1 to 2 min", 2, (2, 2)),
        ("5 to 10 min", 2, (2, 2)),
    ]
    assert [[cell.value for cell in one.accuracy] for one in table.rows] == [[100, 50], [100, 50]]
    assert [one.miou[1].value for one in table.rows] == pytest.approx([(1 + 1 / 3) / 2 * 100, 0])
    assert [one.miou[0] for one in table.rows] == [None, None]


@given(st.floats(0.01, 1e6))
def test_a_length_has_one_label(length_s: float) -> None:
    label = duration_label(length_s)
    place = DURATION_LABELS.index(label)
    low = (0.0, *DURATION_EDGES_S)[place]
    high = (*DURATION_EDGES_S, float("inf"))[place]
    assert low <= length_s < high


def test_no_length_is_unknown() -> None:
    assert duration_label(0.0) == duration_label(float("nan")) == "unknown"


# --- comparing ------------------------------------------------------------------------------------------


def test_modes_are_compared_on_the_same_questions(run: Path) -> None:
    found = only_set(run)
    ((first, second),) = compared_pairs(found.entries)
    told = comparison(found, first, second, FEW)
    assert (told.first, told.second, told.n) == ("zoom", "direct", 4)
    assert (told.gained, told.lost) == (0, 2)  # q2 and q3
    assert set(told.differences) == {"Acc@QA"}
    assert told.differences["Acc@QA"].value == -50


def test_runs_are_compared_mode_by_mode_where_both_have_answered(tmp_path: Path, data: Path, run: Path) -> None:
    other = write_run(tmp_path / "other", data, {"zoom": [row("q2", "B", [[0, 10]]), row("q3", "B")]})
    found = only_set(run, other)
    pairs = compared_pairs(found.entries)
    assert [(one.name, two.name) for one, two in pairs] == [("zoom R2", "zoom R1"), ("zoom R1", "direct R1")]
    told = comparison(found, *pairs[0], FEW)
    assert (told.n, told.gained, told.lost) == (2, 1, 0)  # q2 gained; q3 failed there and is wrong here
    assert told.differences["Acc@QA"].value == 50
    assert told.differences["mIoU"].value == pytest.approx((1 - 1 / 3) / 2 * 100)
    low, high = told.differences["mIoU"].interval
    assert low <= told.differences["mIoU"].value <= high


def test_runs_without_a_common_mode_are_compared_with_the_first(tmp_path: Path, data: Path, run: Path) -> None:
    other = write_run(tmp_path / "other", data, {"search": ZOOM, "coarse": ZOOM})
    pairs = compared_pairs(only_set(run, other).entries)
    assert [(one.name, two.name) for one, two in pairs] == [
        ("search R2", "direct R1"),
        ("coarse R2", "direct R1"),
        ("zoom R1", "direct R1"),
        ("coarse R2", "search R2"),
    ]


def test_modes_are_also_compared_with_the_first_that_names_spans(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"direct": DIRECT, "coarse": ZOOM, "zoom": ZOOM})
    pairs = compared_pairs(only_set(run).entries)
    assert [(one.name, two.name) for one, two in pairs] == [
        ("coarse", "direct"),
        ("zoom", "direct"),
        ("zoom", "coarse"),
    ]


# --- what a reader must know ----------------------------------------------------------------------------


def test_a_clean_run_has_no_warnings(run: Path) -> None:
    assert found_in(run).warnings == ()


def test_a_half_finished_run_is_scored_on_what_is_done(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM[:2], "search": ()})
    with (run / "predictions.zoom.jsonl").open("a") as file:
        file.write('{"id": "q3", "answ')
    found = found_in(run)
    zoom, search = found.sections[0].scores
    assert (zoom.counted, zoom.chosen, zoom.accuracy.value) == (2, 4, 50)
    assert (search.counted, search.accuracy) == (0, None)
    assert found.warnings == (
        "zoom: 2 of 4 questions are done. Its numbers are over those and will change.",
        "search: not begun, 4 questions to answer.",
    )
    assert "not begun" in evaluation_page(found)


def test_questions_without_a_video_count_zero(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM[:2]}, missing_videos=["b.mp4"])
    found = found_in(run)
    (zoom,) = found.sections[0].scores
    assert (zoom.counted, zoom.skipped, zoom.accuracy.value) == (4, 2, 25)
    assert found.warnings == ("zoom: 2 questions were never asked, as their videos were not there; they count 0.",)
    assert [(one.n, one.reason) for one in found.failures] == [
        (2, "VIDEO: was not there when the run began, so it was never asked")
    ]


def test_a_limit_is_the_runs_own(tmp_path: Path, data: Path) -> None:
    from zoomzero.benchmarks.definitions.registry import benchmark
    from zoomzero.benchmarks.runner.planning import choose

    asked = {one.id for one in choose(benchmark("examples").load(data), 2, None).questions}
    rows = [one for one in DIRECT if one["id"] in asked]
    sessions = [{"asked": {"limit": 2, "only": None}}]
    run = write_run(tmp_path / "run", data, {"direct": rows}, sessions=sessions, dataset={"files": {}, "n": 2})
    found = found_in(run)
    assert found.warnings == ()
    assert (found.sections[0].questions, found.sections[0].scores[0].chosen) == (2, 2)
    assert {one["id"] for one in found.questions["questions"]} == asked


def test_ids_that_are_not_known_any_more(tmp_path: Path, data: Path) -> None:
    sessions = [{"asked": {"limit": None, "only": "gone.txt"}}]
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM[:3]}, sessions=sessions, dataset={"files": {}, "n": 3})
    found = found_in(run)
    assert found.sections[0].scores[0].chosen == 3
    assert found.warnings[0].startswith("it asked the ids in gone.txt, which cannot be read any more")


def test_settings_that_differ_are_named(tmp_path: Path, data: Path, run: Path) -> None:
    same = write_run(tmp_path / "same", data, {"zoom": ZOOM})
    assert found_in(run, same).warnings == ()
    settings = {"widen_s": 2.5, "zoom": {"fps": 2.0}}
    other = write_run(tmp_path / "other", data, {"zoom": ZOOM}, settings=settings, machine={"cores": 64})
    found = found_in(run, other)
    assert found.warnings == (
        "R1 and R2 differ in widen_s (0.5, 2.5), zoom.fps (1.0, 2.0): a difference between them is the effect of all "
        "of it together.",
        "R1 and R2 ran on another machine: their seconds do not compare.",
    )
    differ = {one.name for one in found.facts.settings if one.differs}
    assert differ == {"widen_s", "zoom.fps"}


def test_other_questions_under_the_same_name_are_not_compared(tmp_path: Path, run: Path) -> None:
    data = write_questions(tmp_path / "new", text="Who is it")
    found = found_in(run, write_run(tmp_path / "other", data, {"zoom": ZOOM}))
    assert [section.name for section in found.sections] == ["examples test (R1)", "examples test (R2)"]
    assert [len(section.comparisons) for section in found.sections] == [1, 0]
    assert found.warnings == (
        "R1 and R2 have different questions under the same name (examples test): they are not compared.",
    )


def test_annotation_that_has_gone_or_moved(tmp_path: Path, data: Path, run: Path) -> None:
    moved = data.rename(tmp_path / "moved")
    with pytest.raises(
        DataError, match=r"run.json: data: the annotation cannot be read .*; put it back, or say with"
    ) as e:
        read_runs([run])
    assert "\n" not in str(e.value)
    assert read_runs([run], moved)[0].entries[1].counted.sum() == 4


def test_annotation_that_has_changed(tmp_path: Path, data: Path) -> None:
    files = {str(data / "examples.jsonl"): "0" * 64}
    run = write_run(tmp_path / "run", data, {"zoom": ZOOM}, dataset={"files": files, "n": 4})
    assert found_in(run).warnings == (
        "examples.jsonl changed since it ran: its answers are judged by another annotation than it was asked.",
    )


def test_rows_of_unknown_questions_are_told(tmp_path: Path, data: Path) -> None:
    run = write_run(tmp_path / "run", data, {"zoom": [*ZOOM, {**ZOOM[0], "id": "q9"}]})
    found = found_in(run)
    assert found.sections[0].scores[0].accuracy.value == 50
    assert "1 of its rows" in found.warnings[0]


@pytest.mark.parametrize(
    ("name", "broken", "complaint"),
    [
        ("run.json", "{}", "lacks benchmark, split, data, modes, dataset"),
        ("run.json", "[", "cannot be read"),
        ("predictions.zoom.jsonl", '{"id": "q1"}\n{nonsense}\n{"id": "q2"}\n', "line 2"),
        ("predictions.zoom.jsonl", f"{json.dumps(ZOOM[0])}\n{json.dumps(ZOOM[0])}\n", "answered on line 1 already"),
    ],
)
def test_damaged_files_are_named(run: Path, name: str, broken: str, complaint: str) -> None:
    (run / name).write_text(broken)
    with pytest.raises(DataError, match=complaint):
        read_runs([run])


def test_no_run_or_one_run_twice(run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run is given"):
        read_runs([])
    with pytest.raises(ConfigError, match="is given twice"):
        read_runs([run, run.parent / "." / run.name])
    with pytest.raises(DataError, match="give the --out of a `zoomzero eval`"):
        read_runs([tmp_path])


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
    assert len(page.all("circle")) == 4
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
    assert "long-acc 100.00" in text
    assert "strict 50.00" in text
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
        assert (question["answers"][0]["result"], question["answers"][0]["said"]) == (result, said)
    assert found.failures == ()
    assert all(one.plot.chance_y is None for one in found.sections[0].plots)


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
    data = write_questions(tmp_path / "data", text=EVIL, options=[EVIL, "\u2028\ud800"], source=EVIL)
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
