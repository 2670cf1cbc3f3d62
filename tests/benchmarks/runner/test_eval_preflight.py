"""What is said before hours are spent."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from made_videos import grid, write
from small_videos import write_small
from zoomzero.benchmarks.runner import preflight
from zoomzero.benchmarks.runner.preflight import (
    check_disk,
    check_options,
    check_sample,
    check_tokens,
    check_videos,
    most_tokens,
    read_config,
    read_ids,
)
from zoomzero.benchmarks.runner.videos import FoundVideos
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.data.annotation import Question
from zoomzero.errors import ConfigError, DataError

QUESTIONS = tuple(Question(f"{v}_{i}", f"{v}.mp4", "Which?", ("x", "y"), "A", ()) for v in "abcdefgh" for i in (1, 2))


# --- videos ---


def test_missing_videos_are_listed_and_counted() -> None:
    found = FoundVideos({"h.mp4": Path("h.mp4")}, tuple(f"{v}.mp4" for v in "abcdefg"))
    with pytest.raises(DataError) as caught:
        check_videos(found, QUESTIONS, Path("videos"), skip_missing=False)
    assert str(caught.value) == (
        "videos: --videos: 7 of 8 videos are missing (14 questions): a.mp4, b.mp4, c.mp4, d.mp4, e.mp4, ...; "
        "fetch them, or give --skip-missing: they then count as missing"
    )
    (note,) = check_videos(found, QUESTIONS, Path("videos"), skip_missing=True)
    assert note.endswith("e.mp4, ...; they are skipped and count as missing")


def test_all_missing_is_the_wrong_folder() -> None:
    found = FoundVideos({}, ("a.mp4",))
    with pytest.raises(
        DataError, match=r"1 of 1 videos are missing \(2 questions\): a\.mp4; is this the right folder\?"
    ):
        check_videos(found, QUESTIONS, Path("videos"), skip_missing=True)


def test_nothing_missing_needs_no_words() -> None:
    assert check_videos(FoundVideos({"a.mp4": Path("a")}, ()), QUESTIONS, Path(), skip_missing=False) == []


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("preflight") / "good.mp4")


def four(folder: Path, good: Path, bad: int) -> list[Path]:
    paths = [folder / f"{i}.mp4" for i in range(4)]
    for i, path in enumerate(paths):
        if i < bad:
            path.write_text("no video")
        else:
            shutil.copy(good, path)
    return paths


def test_a_sample_is_opened(tmp_path: Path, good: Path) -> None:
    opened: list[str] = []
    assert check_sample(four(tmp_path, good, 0), 0.2, timeout_s=30, progress=opened.append) == []
    assert sorted(opened) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4"]


def test_one_bad_video_of_four_is_a_note_or_an_error_by_what_may_fail(tmp_path: Path, good: Path) -> None:
    paths = four(tmp_path, good, 1)
    (note,) = check_sample(paths, 0.25, timeout_s=30)
    assert note.startswith("1 of 4 sampled videos cannot be read, first ")
    assert "0.mp4: cannot open" in note
    with pytest.raises(DataError, match=r"0\.mp4: sample: 1 of 4 sampled videos cannot be read: "):
        check_sample(paths, 0.2, timeout_s=30)


def test_the_embedded_model_is_not_asked_about_others_videos_without_a_word(tmp_path: Path, good: Path) -> None:
    other = tmp_path / "other.mp4"
    write(other, grid(8, 8.0))
    assert check_sample([good], 0.2, timeout_s=30, embedded=True) == []
    assert check_sample([good, other], 0.2, timeout_s=30) == []
    (note,) = check_sample([good, other], 0.2, timeout_s=30, embedded=True)
    assert note.startswith("the embedded model knows only the videos of `zoomzero world`")
    assert note.endswith("name another one with --model")


def test_the_sample_is_the_same_every_time_and_no_larger_than_four(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []
    monkeypatch.setattr(preflight, "probe", lambda path, **_: opened.append(path))
    paths = [Path(f"{i}.mp4") for i in range(100)]
    check_sample(paths, 0.2, timeout_s=1)
    check_sample(reversed(paths + paths), 0.2, timeout_s=1)
    assert len(opened) == 8
    assert opened[:4] == opened[4:]


# --- questions, tokens, disk ---


def test_questions_without_option_texts_are_announced() -> None:
    bare = Question("q", "a.mp4", "Which?", (), "A", ())
    assert check_options(QUESTIONS) == []
    assert check_options([*QUESTIONS, bare]) == [
        "1 of 17 questions have no option texts: they are asked openly, for their spans alone"
    ]


SETTINGS = ModelSettings(
    coarse=PassSettings(max_tokens=1000, max_frames=200, min_frame_tokens=10),
    zoom=PassSettings(max_tokens=600, max_frames=20, min_frame_tokens=10),
    window=PassSettings(max_tokens=3000, max_frames=100, min_frame_tokens=10),
    max_new_tokens=500,
)


def test_the_tokens_of_the_longest_chat_by_hand() -> None:
    long = Question("q", "a.mp4", "w" * 52, ("x" * 11, "y" * 11), "A", ())  # 52 + 2 * 19 characters: 30 tokens
    words = 400 + 30 + 500
    coarse, zoom, window = 1000 + 12 * 100, 600 + 12 * 10, 3000 + 12 * 50
    need = {mode: most_tokens(SETTINGS, mode, [long]).tokens for mode in ("direct", "zoom", "context", "divide")}
    assert need == {
        "direct": coarse + words,
        "zoom": coarse + words,
        "context": coarse + zoom + 2 * words,
        "divide": window + words,
    }


@pytest.mark.parametrize(
    "config", [{"text_config": {"max_position_embeddings": 4000}}, {"max_position_embeddings": 4000}]
)
def test_what_does_not_fit_the_model_is_said(config: dict[str, Any]) -> None:
    check_tokens(config, SETTINGS, ["zoom"], QUESTIONS)
    with pytest.raises(
        ConfigError, match=r"--budget: a divide pass may hold 4\d{3} tokens, .* positions for 4000; lower"
    ):
        check_tokens(config, SETTINGS, ["zoom", "divide"], QUESTIONS)


def test_a_config_that_says_nothing_is_not_guessed_at(tmp_path: Path) -> None:
    check_tokens({}, SETTINGS, ["divide"], QUESTIONS)
    assert read_config(tmp_path) == {}
    (tmp_path / "config.json").write_text("[1]")
    assert read_config(tmp_path) == {}


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_disk(tmp_path, 100)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 20 * 10**6))
    with pytest.raises(ConfigError, match=r"--out: .* has 20 MB free, 5553 rows take about 50 MB; make room"):
        check_disk(tmp_path, 5553)


# --- ids ---


@pytest.mark.parametrize("text", ["a_1\n\n b_2 \n", '{"id": "a_1", "answer": "B"}\n{"id": "b_2"}\n', "b_2\na_1\na_1"])
def test_ids_are_read_from_lines_and_rows(tmp_path: Path, text: str) -> None:
    (tmp_path / "ids").write_text(text)
    assert read_ids(tmp_path / "ids", QUESTIONS) == {"a_1", "b_2"}


def test_line_ends_inside_a_text_cut_no_row(tmp_path: Path) -> None:
    rows = [{"id": id_, "question": "what is\u2028shown\x85here?"} for id_ in ("a_1", "b_2")]
    lines = "\ufeff" + "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    (tmp_path / "rows.jsonl").write_text(lines, encoding="utf-8", newline="")
    assert read_ids(tmp_path / "rows.jsonl", QUESTIONS) == {"a_1", "b_2"}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a_1\nx\ny\n", r"--only: 2 of 3 ids are no questions of this split: x, y; ids look like a_1"),
        (b"\n \n", "holds no ids; write one a line"),
        (b"\xff\xfe", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_ids_that_are_not_there(tmp_path: Path, data: bytes | None, message: str) -> None:
    if data is not None:
        (tmp_path / "ids").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_ids(tmp_path / "ids", QUESTIONS)
