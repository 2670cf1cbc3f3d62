"""The report and the two commands, on miniatures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from made_benchmarks import activitynet, nextgqa, rextime
from made_files import write_lines

from zoomzero.benchmarks.scoring.score import BootstrapSettings, report_text, score
from zoomzero.cli import app, main
from zoomzero.data.example import read_examples

GOOD = [
    {"id": "11_0", "answer": "B", "spans": [[10, 20]]},
    {"id": "11_1", "answer": "C", "spans": [[0, 5]]},
    {"id": "22_0", "answer": "A", "spans": [[0, 8]]},
    {"id": "22_7", "answer": "D", "spans": [[10, 20]]},
]


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    app([str(argument) for argument in arguments], standalone_mode=False)
    return capsys.readouterr().out


def failing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str | Path
) -> tuple[Any, str]:
    monkeypatch.setattr(sys, "argv", ["zoomzero", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    return stop.value.code, capsys.readouterr().err


def test_score_json_is_one_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_lines(tmp_path / "run.jsonl", GOOD[:3])
    out = command(capsys, "score", "nextgqa", "--data", nextgqa(tmp_path / "d"), "--predictions", run, "--json")
    found = json.loads(out)
    assert (found["benchmark"], found["split"]) == ("nextgqa", "val")
    assert (found["n"], found["missing"], found["unparsed"], found["failed"]) == (4, 1, 0, 0)
    names = {"Acc@GQA", "Acc@QA", "mIoP", "IoP@0.3", "IoP@0.5", "mIoU", "IoU@0.3", "IoU@0.5"}
    assert set(found["official"]) == set(found["strict"]) == set(found["union"]) == names
    assert found["official"]["Acc@GQA"] == 100
    assert found["strict"]["Acc@GQA"] == 75
    low, high = found["intervals"]["strict"]["Acc@GQA"]
    assert low <= 75 <= high
    assert found["by"]["type"]["CW"] == {
        "n": 1,
        "official": found["by"]["type"]["CW"]["official"],
        "strict": {**dict.fromkeys(names, 100.0)},
    }
    assert set(found["sha256"]) == {"val.csv", "gsub_val.json", "map_vid_vidorID.json", "run.jsonl"}
    assert found["settings"]["bootstrap_unit"] == "video"


def test_score_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [*GOOD[:2], {"id": "22_0", "answer": "Z", "spans": [[3, 1]]}]
    run = write_lines(tmp_path / "run.jsonl", rows)
    out = command(capsys, "score", "nextgqa", "--data", nextgqa(tmp_path / "d"), "--predictions", run)
    assert "nextgqa val: 4 questions, 1 missing, 1 unparsed, 0 failed" in out
    assert "in the predictions: 1 out of range answers, 1 reversed spans" in out
    assert "in the annotation: 1 right answer twice" in out
    assert any(line.startswith("Acc@GQA") and "66.67 [" in line and "50.00 [" in line for line in out.splitlines())
    assert "strict, by type" in out


def test_comparison_of_two_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = nextgqa(tmp_path / "d")
    first, second = write_lines(tmp_path / "a.jsonl", GOOD), write_lines(tmp_path / "b.jsonl", GOOD[:1])
    report = score("nextgqa", folder, [first], against=[second], draws=BootstrapSettings(resamples=200))
    assert report.against["Acc@GQA"].value == 75
    assert report.against["union mIoU"].value == pytest.approx(report.union.values["mIoU"] - 25)
    assert "first - second" in report_text(report)
    out = command(capsys, "score", "nextgqa", "--data", folder, "--predictions", second, "--against", first, "--json")
    assert json.loads(out)["difference"]["Acc@GQA"]["value"] == -75


def test_the_same_files_give_the_same_numbers(tmp_path: Path) -> None:
    folder, run = rextime(tmp_path / "d"), write_lines(tmp_path / "r.jsonl", [{"qid": "anet_val1", "ans": "B"}])
    assert score("rextime", folder, [run]).to_dict() == score("rextime", folder, [run]).to_dict()


def test_intervals_by_question(tmp_path: Path) -> None:
    folder, run = nextgqa(tmp_path / "d"), write_lines(tmp_path / "r.jsonl", GOOD[:2])
    by_video = score("nextgqa", folder, [run], draws=BootstrapSettings(unit="video"))
    by_question = score("nextgqa", folder, [run], draws=BootstrapSettings(unit="question"))
    # video 11 has both answers, video 22 none: draws of two videos reach 0 and 100
    assert by_video.strict.intervals["Acc@QA"] == (0, 100)
    assert by_question.strict.values == by_video.strict.values


def test_convert_writes_examples_and_manifest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "examples.jsonl"
    text = command(capsys, "convert", "nextgqa", nextgqa(tmp_path / "d"), "--out", out, "--videos", tmp_path / "v")
    assert "4 examples on 2 videos" in text
    assert "1 clipped spans" in text
    assert "1 negative starts" in text
    examples = read_examples(out)
    assert examples[1].video == str(tmp_path / "v/1001/11.mp4")
    assert examples[1].spans == ((0, 5), (20, 30))
    assert examples[2].spans == ((0, 8),)
    manifest = json.loads((tmp_path / "examples.jsonl.manifest.json").read_text())
    assert (manifest["benchmark"], manifest["split"], manifest["examples"]) == ("nextgqa", "val", 4)
    assert [len(source["sha256"]) for source in manifest["sources"]] == [64, 64, 64]


def test_convert_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (
        "convert",
        "activitynet",
        activitynet(tmp_path),
        "--out",
        tmp_path / "e.jsonl",
        "--seed",
        "4",
        "--json",
    )
    found = json.loads(command(capsys, *arguments))
    assert (found["seed"], found["split"], found["examples"]) == (4, "train", 5)
    assert found["repairs"]["reversed_spans"] == 1
    assert found["notes"]["left_out_unclear_order"] == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("score", "imagenet", "--data", ".", "--predictions", "p"), 2, "choose from nextgqa"),
        (("score", "nextgqa", "--data", "none", "--predictions", "p"), 2, "none: path: does not exist"),
        (("score", "nextgqa", "--data", ".", "--predictions", "p", "--unit", "frame"), 2, "choose video or question"),
        (("score", "nextgqa", "--data", ".", "--predictions", "p", "--resamples", "0"), 2, "--resamples"),
        (("convert", "plm", ".", "--out", "e.jsonl", "--fps", "0"), 2, "--fps: 0.0 is no frame rate"),
        (("convert", "nextgqa", "d", "--out", "no/such/place.jsonl"), 2, "place.jsonl"),
        (("convert", "nextgqa", "d", "--split", "best", "--out", "e.jsonl"), 2, "choose from test, val"),
    ],
)
def test_errors_are_one_line(
    arguments: tuple[str, ...],
    code: int,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    nextgqa(tmp_path / "d")
    found, err = failing(monkeypatch, capsys, *arguments)
    assert found == code
    assert message in err
    assert err.count("\n") == 1


def test_the_command_line_loads_nothing_heavy() -> None:
    check = "import sys, zoomzero.cli; print(sorted({'numpy', 'torch', 'transformers', 'pyarrow'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_scoring_loads_no_torch() -> None:
    check = "import sys, zoomzero.benchmarks.scoring.score; print(sorted({'torch', 'transformers'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
