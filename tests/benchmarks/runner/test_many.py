"""Many questions at once: a file of rows, labelled or not, and one question about a folder of videos."""

from __future__ import annotations

import csv
import json
import re
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from cli_runner import Run, load_once
from small_videos import write_small
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.runner.asking import Asker, Item, ModelSpec
from zoomzero.benchmarks.runner.many import answer_row, one_question_each
from zoomzero.config import ModelSettings, load_settings
from zoomzero.data.annotation import Question
from zoomzero.errors import ConfigError

ROWS: list[dict[str, Any]] = [
    {
        "id": "a",
        "video": "small.mp4",
        "question": "Which symbol is on the red circle?",
        "options": ["E", "H", "M", "T"],
    },
    {"id": "b", "video": "small.mp4", "question": "What is shown?"},
    {"id": "c", "video": "broken.mp4", "question": "What is shown?", "options": ["E", "H"]},
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    write_small(folder / "small.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def address(videos: Path) -> Iterator[str]:
    """A server of this machine with the folder of videos."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(SimpleHTTPRequestHandler, directory=str(videos))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_answers_come_out_as_rows_went_in(
    zoom: Run, videos: Path, tmp_path: Path, checkpoint: Path, patience: None
) -> None:
    file = written(tmp_path / "q.jsonl", ROWS)
    asked = ("ask", "--questions", file, "--videos", videos, "--out", tmp_path / "run", "--model", checkpoint)
    ran = zoom(*asked, "--mode", "direct", "--set", "max_new_tokens=20")
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a", "b", "c"]
    assert [row["video"] for row in rows] == ["small.mp4", "small.mp4", "broken.mp4"], "as the file names them"
    assert rows[0]["option"] in "ABCD"
    assert rows[0]["answer"] == rows[0]["options"]["ABCD".index(rows[0]["option"])]
    assert (rows[1]["option"], rows[1]["failed"]) == (None, None)
    assert "broken.mp4" in rows[2]["failed"], "a failure is a row"
    before = (tmp_path / "run" / "predictions.direct.jsonl").read_bytes()
    again = zoom(*asked, "--mode", "direct", "--set", "max_new_tokens=20")
    assert again.code == 0, again.err
    assert re.search(r"3 answers in [\d.]+ s, 1 failed", again.out)
    assert (tmp_path / "run" / "predictions.direct.jsonl").read_bytes() == before, "nothing was asked again"


def test_a_video_that_is_not_there_is_a_failed_row(
    zoom: Run, videos: Path, tmp_path: Path, checkpoint: Path, patience: None
) -> None:
    rows = [
        {"id": "a", "video": "small.mp4", "question": "What?"},
        {"id": "b", "video": "gone.mp4", "question": "What?"},
    ]
    file, folder = written(tmp_path / "q.jsonl", rows), tmp_path / "videos"
    folder.mkdir()
    write_small(folder / "small.mp4")
    asked = ("ask", "--questions", file, "--videos", folder, "--out", tmp_path / "run", "--model", checkpoint)
    ran = zoom(*asked, "--mode", "direct", "--set", "max_new_tokens=20")
    assert ran.code == 0, ran.err
    assert "1 of 2 videos are missing" in ran.err
    one, two = map(json.loads, (tmp_path / "run" / "answers.jsonl").read_text().splitlines())
    assert (one["failed"], two["failed"]) == (None, f"no such file in {folder}")
    write_small(folder / "gone.mp4")
    assert zoom(*asked, "--mode", "direct", "--set", "max_new_tokens=20").code == 0, "it has come: only it is asked"
    one, two = map(json.loads, (tmp_path / "run" / "answers.jsonl").read_text().splitlines())
    assert two["failed"] is None


def test_questions_about_one_video_begin_from_what_was_read_for_the_first(videos: Path, checkpoint: Path) -> None:
    policy = load_once(str(checkpoint))
    plain = ModelSpec(str(checkpoint), load_settings(ModelSettings, checkpoint / "zoomzero.json"))
    video, options = str(videos / "small.mp4"), ("E", "H", "M", "T")
    texts = ("Which symbol is on the red circle?", "Which symbol is on the blue cross?", "Which object appears first?")
    items = [Item(Question(str(i), "small.mp4", text, options, "", ()), video, "zoom") for i, text in enumerate(texts)]
    alone = [json.loads(Asker(policy, plain).ask(one)) for one in items]
    keeping = Asker(policy, replace(plain, keep_tokens=4096))
    together = [json.loads(keeping.ask(one)) for one in items]
    for one, other in zip(alone, together, strict=True):
        assert [look["text"] for look in other["passes"]] == [look["text"] for look in one["passes"]]
        assert (other["answer"], other["spans"]) == (one["answer"], one["spans"])
        assert other["confidence"] == pytest.approx(one["confidence"], abs=1e-3)
    for one, other in zip(alone[1:], together[1:], strict=True):
        assert one["passes"][0]["new_tokens"] == one["passes"][0]["prompt_tokens"]
        assert other["passes"][0]["new_tokens"] < one["passes"][0]["new_tokens"] / 2, "its frames were read before"


def test_a_benchmark_may_keep_what_was_read(zoom: Run, videos: Path, tmp_path: Path, checkpoint: Path) -> None:
    texts = ("Which symbol is on the red circle?", "Which object appears first?")
    one = {
        "video": "small.mp4",
        "options": ["E", "H", "M", "T"],
        "answer": "A",
        "spans": [[1, 2]],
        "duration_s": 4,
        "source": "s",
        "split": "t",
    }
    file = written(tmp_path / "q.jsonl", [{**one, "id": str(i), "question": text} for i, text in enumerate(texts)])
    usual = ("eval", "examples", "--data", file, "--videos", videos, "--model", checkpoint, "--mode", "direct")
    new = {}
    for kept in (0, 4096):
        ran = zoom(*usual, "--out", tmp_path / str(kept), "--keep-tokens", kept)
        assert ran.code == 0, ran.err
        rows = map(json.loads, (tmp_path / str(kept) / "predictions.direct.jsonl").read_text().splitlines())
        new[kept] = [row["passes"][0]["new_tokens"] for row in sorted(rows, key=lambda row: row["id"])]
    assert new[4096][0] == new[0][0]
    assert new[4096][1] < new[0][1] / 2


def test_a_table_comes_out_as_a_table_and_can_be_read_back(tmp_path: Path) -> None:
    from zoomzero.benchmarks.runner.many import _table

    question = Question("a", "v.mp4", 'say "x", please', ("x", "y"), "", ())
    row = answer_row(question, {**dict.fromkeys(("video", "failed")), "said": "x", "answer": "A", "confidence": 0.5,
                                "spans": [[1.0, 2.0]], "seconds": 1.0})  # fmt: skip
    path = tmp_path / "answers.csv"
    path.write_text(_table([row]))
    (back,) = csv.DictReader(path.open(newline=""))
    assert (back["option"], json.loads(back["spans"]), back["failed"]) == ("A", [[1.0, 2.0]], "")
    assert json.loads(back["options"]) == ["x", "y"]


def test_one_question_about_every_video_of_a_folder(videos: Path, tmp_path: Path) -> None:
    shutil.copy(videos / "small.mp4", videos / "other.MKV")
    (videos / "notes.txt").write_text("no video")
    path = one_question_each(videos, "Is it red?", ("yes", "no"), tmp_path / "run")
    questions = benchmark("mcq").load(path).questions
    assert [one.id for one in questions] == ["broken.mp4", "other.MKV", "small.mp4"]
    assert {one.question for one in questions} == {"Is it red?"}
    assert {one.options for one in questions} == {("yes", "no")}
    (videos / "other.MKV").unlink()
    with pytest.raises(ConfigError, match="holds no video"):
        one_question_each(tmp_path / "run", "q", (), tmp_path / "run")
    with pytest.raises(ConfigError, match="there is no folder"):
        one_question_each(tmp_path / "gone", "q", (), tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--questions", "q.jsonl"), "--out: many answers need a folder"),
        (("--questions", "q.jsonl", "--out", "r", "--html", "p.html"), "--html: is for one question"),
        (("--questions", "q.jsonl", "--out", "r"), "--model: no model is named"),
        (("--out", "r", "--model", "tiny", "q"), "QUESTION: many questions come from --questions FILE"),
        (("v", "q", "--questions", "q.jsonl", "--out", "r", "--model", "tiny"), "--questions: the file says what is"),
        (("v", "q", "--workers", "2"), "--workers: is for many questions"),
        (("--questions", "gone.jsonl", "--out", "r", "--model", "tiny"), "--questions: there is no file gone.jsonl"),
        (("--questions", "q.jsonl", "--out", "r", "--clip", "c.mp4"), "--clip: is for one question"),
        (("v", "q", "--keep-tokens", "2"), "--keep-tokens: is for many questions"),
    ],
)
def test_wrong_use_is_said_in_one_line(
    zoom: Run, arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in zoom("ask", *arguments).complaint


def test_videos_behind_addresses(
    zoom: Run, videos: Path, address: str, tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copy(videos / "small.mp4", tmp_path / "gone.mp4")  # no address means a file that happens to have its name
    urls = [f"{address}/small.mp4", f"{address}/gone.mp4"]
    file = written(tmp_path / "q.jsonl", [{"id": u[-9:], "video": u, "question": "What is shown?"} for u in urls])
    asked = ("ask", "--questions", file, "--out", tmp_path / "run", "--model", checkpoint, "--mode", "direct")
    refused = zoom(*asked)
    assert refused.code == 3
    assert "is not a public address" in refused.err or "--allow-private" in refused.err
    ran = zoom(*asked, "--allow-private", "--set", "max_new_tokens=4")
    assert ran.code == 0, ran.err
    rows = [json.loads(line) for line in (tmp_path / "run" / "answers.jsonl").read_text().splitlines()]
    assert [row["video"] for row in rows] == urls
    assert rows[0]["failed"] is None
    assert "404" in rows[1]["failed"]
    assert zoom(*asked, "--set", "max_new_tokens=4").code == 0, "it is fetched once"
