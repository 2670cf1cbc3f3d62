"""`zoomzero filter` and `zoomzero merge` as a user meets them: files, printed lines, exit codes, Ctrl-C and kill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cli_runner import Run, find_checkpoint
from small_videos import write_small
from zoomzero.data.example import Example, read_examples, write_examples
from zoomzero.data.fingerprint import content_key
from zoomzero.data.manifest import manifest_of, read_manifest, write_manifest
from zoomzero.spans import Span

QUICK = ("--set", "sampling.max_new_tokens=24")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_checkpoint(tmp_path_factory.mktemp("checkpoint"))


def example(id_: str, video: str = "videos/small.mp4", **changes: Any) -> Example:
    question = "Which symbol is on the red circle?"
    values = {"options": ("E", "H", "M", "T"), "answer": "B", "spans": (Span(10.0, 20.0),), "duration_s": 48.0}
    values = {"id": id_, "video": video, "question": question, "source": "made", "split": "train", **values}
    return Example(**(values | changes))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six examples about one small video and one that is not there."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "videos").mkdir()
    write_small(folder / "videos" / "small.mp4")
    rows = [example(str(i)) for i in range(5)]
    write_examples(folder / "e.jsonl", [*rows, example("gone", "videos/gone.mp4")])
    return folder


ANSWERS = {
    "0": [("B", [[10, 20]]), ("A", [])],  # half right, the best far above the mean: kept
    "1": [("B", [[10, 20]]), ("B", [])],  # always right
    "2": [("A", [[30, 40]]), ("C", [])],  # nobody near it
    "3": [("A", [[10, 12]]), ("C", [[19, 25]])],  # never far, none misses: kept
}


@pytest.fixture
def predictions(tmp_path: Path) -> Path:
    rows = [{"id": id_, "answer": a, "spans": s} for id_, drawn in ANSWERS.items() for a, s in drawn]
    rows += [{"id": "gone", "error": "videos/gone.mp4: cannot open: no such file"}, {"id": "stranger", "answer": "A"}]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


# --- filter: predictions -------------------------------------------------------------------------------------


def test_filter_by_predictions(zoom: Run, data: Path, predictions: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept.jsonl"
    ran = zoom("filter", data / "e.jsonl", "--out", out, "--predictions", predictions)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[:6] == [
        "kept              2 of 6",
        "dropped           4",
        "  unreadable      1  its video cannot be read",
        "  not answered    1  there are no predictions for it",
        "  always right    1  its answers are right too often",
        "  overlap alike   1  none of its spans is better than the others",
    ]
    assert "1/2                 1        0" in ran.out
    assert "1 unknown ids in the predictions" in ran.out
    assert "unreadable: videos/gone.mp4: cannot open: no such file" in ran.out
    assert ran.out.endswith(f"\n{out}\n{out}.html\n")
    kept = read_examples(out)
    assert [one.id for one in kept] == ["0", "3"]
    assert all(Path(one.video).samefile(data / "videos" / "small.mp4") for one in kept)
    manifest = read_manifest(Path(f"{out}.manifest.json"))
    assert (manifest.examples, manifest.videos, manifest.splits) == (2, 1, {"made": {"train": 2}})
    assert [source["file"] for source in manifest.sources] == ["e.jsonl", "p.jsonl"]
    assert manifest.notes["dropped_always_right"] == 1
    assert manifest.listing[0].content == content_key(data / "videos" / "small.mp4")
    assert "2 of 6 examples are worth learning from" in Path(f"{out}.html").read_text()


def test_filter_writes_down_every_verdict(zoom: Run, data: Path, predictions: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept.jsonl"
    ran = zoom("filter", data / "e.jsonl", "--out", out, "--predictions", predictions, "--json")
    printed, record = json.loads(ran.out), json.loads(Path(f"{out}.filter.json").read_text())
    assert printed == {key: value for key, value in record.items() if key != "items"} | {"page": f"{out}.html"}
    assert record["counts"]["kept"] == 2
    assert len(record["settings_hash"]) == 12
    verdicts = {item["id"]: item["verdict"] for item in record["items"]}
    assert verdicts["gone"] == "unreadable"
    assert [verdicts[str(i)] for i in range(5)] == ["kept", "always_right", "overlap_alike", "kept", "not_answered"]
    first = record["items"][0]
    assert (first["n"], first["mean_hit"], first["mean_iou"], first["max_iou"]) == (2, 0.5, 0.5, 1.0)
    assert record["items"][5]["detail"] == "videos/gone.mp4: cannot open: no such file"


def test_thresholds_are_settings(zoom: Run, data: Path, predictions: Path, tmp_path: Path) -> None:
    arguments = ("filter", data / "e.jsonl", "--out", tmp_path / "k.jsonl", "--predictions", predictions, "--set")
    assert zoom(*arguments, "rule.max_hit=0.5").code == 0
    assert [one.id for one in read_examples(tmp_path / "k.jsonl")] == ["3"]
    assert "--set rule.max_hit=2: must be" in zoom(*arguments, "rule.max_hit=2").complaint
    assert "nown here are max_hit, min_iou, min_spread" in zoom(*arguments, "rule.hit=1").complaint


def test_several_files_of_one_answer_each(zoom: Run, data: Path, tmp_path: Path) -> None:
    for number, (answer, spans) in enumerate(ANSWERS["0"]):
        row = {"id": "0", "answer": answer, "spans": spans}
        (tmp_path / f"{number}.jsonl").write_text(json.dumps(row) + "\n")
    given = ("--predictions", tmp_path / "0.jsonl", "--predictions", tmp_path / "1.jsonl")
    assert zoom("filter", data / "e.jsonl", "--out", tmp_path / "k.jsonl", *given).code == 0
    assert [one.id for one in read_examples(tmp_path / "k.jsonl")] == ["0"]


def test_a_file_below_the_new_one_keeps_its_videos_relative(zoom: Run, data: Path, tmp_path: Path) -> None:
    row = {"id": "0", "answer": "A", "spans": [[10, 20]]}
    (data / "p.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"spans": []}) + "\n")
    assert zoom("filter", data / "e.jsonl", "--out", data / "k.jsonl", "--predictions", data / "p.jsonl").code == 0
    assert json.loads((data / "k.jsonl").read_text())["video"] == "videos/small.mp4"


# --- filter: leaks -------------------------------------------------------------------------------------------


def test_filter_drops_what_leaks(zoom: Run, data: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "held_out.jsonl"
    write_examples(held_out, [example("x", "elsewhere/gone.mp4"), example("y", "other.mp4")])
    manifest = write_manifest(held_out, manifest_of(held_out))
    ran = zoom("filter", data / "e.jsonl", "--out", tmp_path / "clean.jsonl", "--without", manifest)
    assert ran.code == 0
    assert ran.out.splitlines()[0].startswith("compared 6 items on 2 videos with ")
    assert "  leaks           1  its video or question is in an evaluation" in ran.out
    assert [one.id for one in read_examples(tmp_path / "clean.jsonl")] == ["0", "1", "2", "3", "4"]
    items = json.loads((tmp_path / "clean.jsonl.filter.json").read_text())["items"]
    assert items[5] == {"id": "gone", "verdict": "leaks", "detail": f"{manifest}: the same name, the same question"}
    page = (tmp_path / "clean.jsonl.html").read_text()
    assert "<svg" not in page


# --- filter: a model draws the answers -------------------------------------------------------------------------


def test_filter_draws_answers_and_remembers_them(zoom: Run, data: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "kept.jsonl"
    given = ("filter", data / "e.jsonl", "--out", out, "--model", model, *QUICK)
    ran = zoom(*given, "--samples", 3)
    assert ran.code == 3
    assert "1 of 2 videos cannot be read (first" in ran.complaint
    assert ran.complaint.endswith("or raise sampling.max_unreadable")
    assert not out.exists()
    allowed = (*given, "--samples", 3, "--set", "sampling.max_unreadable=0.5")
    ran = zoom(*allowed)
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in Path(f"{out}.samples.jsonl").read_text().splitlines()]
    assert len(rows) == 3 * 5 + 1
    assert json.loads(Path(f"{out}.filter.json").read_text())["answered_by"] == [str(model)]
    started = time.perf_counter()
    assert zoom(*allowed).out == ran.out  # the same, from the file
    assert time.perf_counter() - started < 10
    assert "was drawn with other sampling.n" in zoom(*given, "--samples", 4).complaint


def test_filter_killed_in_the_middle_goes_on(zoom: Run, data: Path, model: Path, tmp_path: Path) -> None:
    write_examples(data / "many.jsonl", [example(str(i)) for i in range(8)])
    fast = ("--set", "sampling.at_once=1", "--set", "sampling.seed=3")
    arguments = ("filter", data / "many.jsonl", "--model", model, "--samples", 2, *QUICK, *fast, "--out")
    file = tmp_path / "k.jsonl.samples.jsonl"
    command = [sys.executable, "-m", "zoomzero", *map(str, arguments), str(tmp_path / "k.jsonl")]
    process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True)
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not (file.is_file() and file.stat().st_size):
            time.sleep(0.01)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    half = file.read_bytes()
    assert 0 < half.count(b"\n") < 16, "killed too early or too late"
    assert not (tmp_path / "k.jsonl").exists()
    ran = zoom(*arguments, tmp_path / "k.jsonl")
    assert (ran.code, ran.err) == (0, "")
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(row["id"], row["sample"]) for row in rows] == [(str(i), k) for i in range(8) for k in range(2)]
    assert file.read_bytes().startswith(half[: half.rfind(b"\n") + 1])


# --- filter: what is refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "filter: nothing says what to drop; give --predictions FILE, --model MODEL or --without MANIFEST"),
        (("--samples", 4), "--samples: nobody draws answers; add --model"),
        (("--predictions", "none.jsonl"), "none.jsonl: file: cannot be read"),
        (("--without", "none.jsonl"), "none.jsonl: file: no such file"),
        (("--without", "none.manifest.json"), "none.manifest.json: file: cannot be read"),
        (("--model", "/gone"), "model /gone: no such directory"),
        (("--model", "tiny", "--samples", 0), "sampling.n=0: must be greater than or equal to 1"),
        (("--predictions", "p", "--html", "/gone/page.html"), "--html: /gone/page.html cannot be written"),
    ],
)
def test_filter_refuses_in_one_line(zoom: Run, data: Path, tmp_path: Path, arguments: tuple, message: str) -> None:
    assert message in zoom("filter", data / "e.jsonl", "--out", tmp_path / "k.jsonl", *arguments).complaint
    assert not (tmp_path / "k.jsonl").exists()


def test_filter_refuses_odd_files(zoom: Run, data: Path, predictions: Path, tmp_path: Path) -> None:
    both = ("--predictions", predictions)
    assert "no such file" in zoom("filter", tmp_path / "no.jsonl", "--out", tmp_path / "k.jsonl", *both).complaint
    same = zoom("filter", data / "e.jsonl", "--out", data / "e.jsonl", *both)
    assert "is the file that is read; give another one" in same.complaint
    nowhere = zoom(
        "filter", data / "e.jsonl", "--out", tmp_path / "a" / "k.jsonl", *both, "--html", tmp_path / "x.html"
    )
    assert "--out: nothing can be written to" in nowhere.complaint
    two = zoom("filter", data / "e.jsonl", "--out", tmp_path / "k.jsonl", *both, "--model", "tiny")
    assert "--predictions: and --model both give answers; give one of the two" in two.complaint
    (tmp_path / "other.jsonl").write_text('{"id": "stranger", "answer": "A"}\n')
    strange = zoom("filter", data / "e.jsonl", "--out", tmp_path / "k.jsonl", "--predictions", tmp_path / "other.jsonl")
    assert "is no question of this split" in strange.complaint


# --- merge -----------------------------------------------------------------------------------------------------


def test_merge_a_checkpoint(zoom: Run, model: Path, tmp_path: Path) -> None:
    ran = zoom("merge", model, "--out", tmp_path / "half", "--dtype", "float16")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith(f"{tmp_path / 'half'}: ")
    assert ran.out.endswith("tensors, float16 (plain)\n")
    assert json.loads((tmp_path / "half" / "merge.json").read_text())["dtype"] == "float16"
    again = zoom("merge", model, "--out", tmp_path / "half")
    assert (again.code, "is there and not empty; choose another directory" in again.complaint) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("/gone",), 4, "model /gone: no such directory"),
        (("tiny", "--dtype", "int4"), 2, "--dtype: 'int4' is unknown; use bfloat16, float16, float32"),
        (("tiny", "--base", "tiny"), 2, "--base: tiny is a whole checkpoint already; leave it out"),
    ],
)
def test_merge_refuses_in_one_line(zoom: Run, tmp_path: Path, arguments: tuple, code: int, message: str) -> None:
    ran = zoom("merge", *arguments, "--out", tmp_path / "out")
    assert ran.code == code
    assert message in ran.complaint
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["filter", "merge"])
def test_help_loads_no_model_code(command: str) -> None:
    code = f"import sys; sys.argv = ['zoomzero', '{command}', '--help']\nfrom zoomzero import cli\ntry: cli.main()\n"
    code += "except SystemExit: print('torch' in sys.modules or 'transformers' in sys.modules or 'peft' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.rstrip().endswith("False")
    assert "Examples:" in ran.stdout
