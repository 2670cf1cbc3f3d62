"""Every benchmark from annotation and video files to scores: a miniature, the embedded model, two modes."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from made_files import write_lines

from cli_runner import Run, load_once
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.runner.evaluate import EvalSettings, evaluate
from zoomzero.benchmarks.scoring.export import WRITERS, export
from zoomzero.benchmarks.scoring.score import BootstrapSettings, Report, score
from zoomzero.data.annotation import Question
from zoomzero.policy.local import load
from zoomzero.world.miniature import FORMATS, Miniature, write_miniature
from zoomzero.world.miniatures.material import film
from zoomzero.world.write import world_item, write_videos

FEW = BootstrapSettings(resamples=20)
FILMS = 2
ASKED = 4
MODES = ("coarse", "zoom")
# Numbers that every question of the miniature counts in, by the benchmark's own names.
MEASURES = {
    "nextgqa": ("Acc@GQA", "Acc@QA", "mIoP", "mIoU", "IoU@0.5"),
    "rextime": ("MR-mIoU", "R1@0.5", "VQA", "VQA,mIoU@0.5"),
    "cgbench": ("long-acc", "mIoU", "rec@IoU", "acc@IoU"),
    "qvhighlights": ("MR-full-R1@0.5", "MR-full-mAP"),
    "activitynet": ("R1@0.5", "mIoU", "Acc@QA"),
    "videomme": ("Overall", "short"),
    "mlvu": ("M-Avg", "micro", "findNeedle", "order"),
    "lvbench": ("Overall", "KIR", "ER"),
    "plm": ("mIoU", "Acc@QA"),
    "timelens": ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU"),
    "charades": ("R1@0.3", "R1@0.5", "R1@0.7", "mIoU"),
    "videomme-v2": ("total", "Acc@QA", "relevance_score", "logic_score"),
    "longvideobench": ("Overall", "15-60 s"),
    "videozerobench": ("Level-3_acc", "Level-4_score", "Level-4_mean_tIoU"),
    "mcq": ("Acc@QA",),
}


@pytest.fixture(scope="module")
def seed() -> int:
    """The world with the shortest first videos."""
    return min(range(60), key=lambda one: sum(world_item("short", one, i).scene.duration_s for i in range(FILMS)))


@pytest.fixture(scope="module")
def films(seed: int, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The videos, encoded once: they are the same in every miniature."""
    folder = tmp_path_factory.mktemp("films")
    paths = [folder / f"{i}.mp4" for i in range(FILMS)]
    write_videos("short", seed, paths)
    return paths


def make(name: str, folder: Path, films: list[Path], seed: int) -> Miniature:
    """Write a miniature around videos that are there already: they are kept."""
    if name == "videomme":
        pytest.importorskip("pyarrow", reason="Video-MME is a parquet file")
    layout = FORMATS[name].lay_out([film("short", seed, i) for i in range(FILMS)])
    for source, path in zip(films, layout.videos, strict=True):
        target = folder / "videos" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, target)
    return write_miniature(name, folder, FILMS, seed, workers=1)


def run_it(name: str, mini: Miniature, out: Path, checkpoint: Path) -> dict[str, Any]:
    settings = EvalSettings(
        benchmark=name,
        data=mini.annotation,
        videos=mini.videos,
        out=out,
        model=str(checkpoint),
        modes=MODES,
        limit=ASKED,
        device="cpu",
        resamples=20,
    )
    return evaluate(settings)


def read_rows(path: Path, questions: dict[str, Question], asked: int) -> list[dict[str, Any]]:
    """Return the rows: one for every question that was asked, none of them failed."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == asked
    for row in rows:
        assert not row.get("error"), row
        question = questions[row["id"]]
        assert row["answer"] is None or question.in_words or row["answer"] in question.labels
        assert all(0 <= start < end for start, end in row["spans"])
    return rows


def finite(report: Report, names: tuple[str, ...]) -> None:
    strict, official = report.strict.values, report.official.values
    assert set(names) <= set(strict)
    assert all(math.isfinite(value) and 0 <= value <= 100 for value in (*strict.values(), *official.values()))
    assert strict[names[0]] <= official.get(names[0], 100.0), "what is missing counts as 0"


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_a_miniature_is_asked_scored_and_exported(
    name: str,
    tmp_path: Path,
    films: list[Path],
    seed: int,
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    threads: None,
) -> None:
    monkeypatch.setattr(load, "load_policy", load_once)
    mini = make(name, tmp_path / "mini", films, seed)
    questions = {one.id: one for one in benchmark(name).load(mini.annotation).questions}
    asked = min(ASKED, len(questions))
    summary = run_it(name, mini, tmp_path / "run", checkpoint)
    assert (summary["n"], summary["split"]) == (asked, mini.split)
    for mode in MODES:
        path = tmp_path / "run" / f"predictions.{mode}.jsonl"
        rows = read_rows(path, questions, asked)
        report = score(name, mini.annotation, [path], draws=FEW)
        assert report.counts["n"] == len(questions)
        assert report.counts["missing"] == len(questions) - asked
        key = "answer" if benchmark(name).scores_answers else "spans"
        assert (report.counts["failed"], report.counts["unparsed"]) == (0, sum(not row[key] for row in rows))
        assert report.counts["without_spans"] == sum(not row["spans"] for row in rows)
        assert not any(report.faults.values()), report.faults
        finite(report, MEASURES[name])
        if name in WRITERS:
            done = export(name, mini.annotation, [path], tmp_path / mode / "submission")
            read = [file for file in done.files if file.parent.name != "cg_annotations"]
            again = score(name, mini.annotation, read, draws=FEW)
            assert again.official.values == pytest.approx(
                {key: value for key, value in report.official.values.items() if key in again.official.values}
            )
            assert set(report.official.values) == set(again.official.values)


@pytest.mark.parametrize("name", sorted(MEASURES))
def test_the_truth_scores_full_marks(name: str, tmp_path: Path, films: list[Path], seed: int) -> None:
    """As sets of spans, so that no rule on several spans gets in the way; one wrong answer costs its share."""
    mini = make(name, tmp_path / "mini", films, seed)
    questions = benchmark(name).load(mini.annotation).questions
    rows = [{"id": one.id, "answer": one.answer, "spans": [list(span) for span in one.spans]} for one in questions]
    report = score(name, mini.annotation, [write_lines(tmp_path / "run.jsonl", rows)], draws=FEW)
    answers, spans = any(one.answer for one in questions), any(one.spans for one in questions)
    wanted = [("Acc@QA", answers), ("mIoU", spans), ("mIoP", spans), ("Acc@GQA", answers and spans)]
    assert [name in report.union.values for name, _ in wanted] == [there for _, there in wanted]
    assert set(report.union.values.values()) == {100.0}
    if not answers:
        return
    rows[0] |= {"answer": next(letter for letter in questions[0].labels if letter != questions[0].answer)}
    report = score(name, mini.annotation, [write_lines(tmp_path / "run.jsonl", rows)], draws=FEW)
    assert report.union.values["Acc@QA"] == pytest.approx(100 - 100 / len(questions))


def test_the_commands_say_the_same(zoom: Run, tmp_path: Path, seed: int, films: list[Path], checkpoint: Path) -> None:
    """From `zoomzero world --as` to `zoomzero score`, as a user types it."""
    mini = tmp_path / "mini"
    made = make("mlvu", mini, films, seed)
    ran = zoom("world", "--as", "mlvu", "--out", mini, "--count", FILMS, "--seed", seed)
    assert ran.code == 0, ran.err
    where = ("--data", made.annotation, "--videos", made.videos)
    assert " ".join(map(str, where)) in ran.out
    run = tmp_path / "run"
    ran = zoom("eval", "mlvu", *where, "--model", checkpoint, "--mode", "direct", "--out", run, "--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    ran = zoom("score", "mlvu", *where[:2], "--predictions", run / "predictions.direct.jsonl", "--json")
    scored = json.loads(ran.out)
    assert (scored["n"], scored["missing"], scored["failed"]) == (FILMS, 0, 0)
    assert said["n"] == FILMS
    assert scored["official"]["M-Avg"] == said["modes"]["direct"]["official"]["M-Avg"]
