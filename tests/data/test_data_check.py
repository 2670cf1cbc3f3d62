"""`zoomzero data check`: real videos with one fault each, and the lines a user reads."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from small_videos import DURATION_S, damage, write_small
from zoomzero.data.check import check_data
from zoomzero.data.example import Example, read_examples, write_examples
from zoomzero.spans import Span


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good video, the same file under another name, and one that is no video."""
    folder = tmp_path_factory.mktemp("videos")
    write_small(folder / "good.mp4")
    (folder / "deep").mkdir()
    shutil.copy(folder / "good.mp4", folder / "deep" / "twin.mp4")
    (folder / "broken.mp4").write_bytes(b"no video at all")
    return folder


def example(folder: Path, id_: str, video: str = "good.mp4", **changes: Any) -> Example:
    one = Example(
        id=id_,
        video=str(folder / video),
        question=f"What is shown in {id_}?",
        options=("a key", "a star"),
        answer="B",
        spans=(Span(4.0, 9.0),),
        duration_s=DURATION_S,
        source="mine",
        split="train",
    )
    return replace(one, **changes)


def found(examples: list[Example], videos: Path | None = None, **more: Any) -> list[tuple[str, str]]:
    return [(problem.kind, problem.example_id) for problem in check_data(examples, videos, **more).problems]


def test_a_sound_file_has_no_problems(folder: Path) -> None:
    report = check_data([example(folder, "a"), example(folder, "b")])
    assert report.problems == ()
    assert (report.videos, len(report.sound)) == (1, 2)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"spans": (Span(44.0, 60.0),)}, "past the end"),
        ({"spans": (Span(9.0, 4.0),)}, "bad span"),
        ({"spans": (Span(-3.0, 4.0),)}, "bad span"),
        ({"spans": ()}, "no spans"),
        ({"answer": "C"}, "bad answer"),
        ({"duration_s": 55.0}, "other length"),
        ({"question": "What is shown, in A?"}, "same question"),  # of the first example, but for case and commas
    ],
)
def test_one_fault_each(folder: Path, changes: dict[str, Any], kind: str) -> None:
    assert found([example(folder, "a"), example(folder, "b", **changes)]) == [(kind, "b")]


def test_ends_that_annotators_round_are_fine(folder: Path) -> None:
    assert found([example(folder, "a", spans=(Span(40.0, DURATION_S + 0.9),), duration_s=DURATION_S + 1.5)]) == []


def test_videos_that_are_missing_unreadable_or_twice(folder: Path) -> None:
    examples = [
        example(folder, "gone", "none.mp4"),
        example(folder, "bad", "broken.mp4"),
        example(folder, "first"),
        example(folder, "again", "deep/twin.mp4"),
    ]
    assert found(examples) == [("missing", "gone"), ("unreadable", "bad"), ("same video", "again")]
    assert [one.id for one in check_data(examples).sound] == ["first", "again"]


def test_damage_behind_a_good_index_is_seen(folder: Path, tmp_path: Path) -> None:
    """A file that ends early, and one whose pictures are gone."""
    whole = (folder / "good.mp4").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    damage(folder / "good.mp4", tmp_path / "empty.mp4", 0.0, DURATION_S)
    examples = [example(tmp_path, name, f"{name}.mp4", spans=(Span(40.0, 44.0),)) for name in ("cut", "empty")]
    report = check_data(examples)
    kinds = {name: [one.kind for one in report.problems if one.example_id == name] for name in ("cut", "empty")}
    assert kinds["cut"][0] == "damaged"
    assert "past the end" in kinds["cut"], "the length is that of what is left"
    assert kinds["empty"] == ["unreadable"]
    assert report.sound == ()


def test_a_renamed_video_is_found_and_put_right(folder: Path) -> None:
    """Another folder, another suffix, another case: the name is what counts."""
    report = check_data([example(folder, "moved", "v_TWIN.mkv")], folder)
    (problem,) = report.problems
    assert (problem.kind, problem.detail) == ("renamed", f"it is {folder / 'deep' / 'twin.mp4'}")
    assert [one.video for one in report.sound] == [str(folder / "deep" / "twin.mp4")]


def test_leaks_are_listed(folder: Path, tmp_path: Path) -> None:
    write_examples(tmp_path / "test.jsonl", [example(folder, "held-out")])
    assert found([example(folder, "a")], evaluation=[tmp_path / "test.jsonl"]) == [("leak", "a")]


def test_the_command(folder: Path, tmp_path: Path, zoom: Any) -> None:
    path, out = tmp_path / "train.jsonl", tmp_path / "sound.jsonl"
    write_examples(path, [example(folder, "a"), example(folder, "late", spans=(Span(44.0, 60.0),))])
    done = zoom("data", "check", path, "--out", out)
    assert done.code == 1
    assert done.out.splitlines()[0] == f"{path}: 2 examples about 1 videos, 1 of them sound"
    assert "  past the end: 1" in done.out
    assert f"late  {folder / 'good.mp4'}: (44, 60) of a video of 48.0 s" in done.out
    assert [one.id for one in read_examples(out)] == ["a"]
    gone = zoom("data", "check", path, "--videos", tmp_path / "none")
    assert gone.complaint == f"videos: {tmp_path / 'none'} is no directory; give the folder that holds the videos"
    (tmp_path / "train.csv").write_text("video,question\n")
    table = zoom("data", "check", tmp_path / "train.csv")
    assert table.complaint.endswith("`zoomzero convert` makes examples of a table")
    clean = zoom("data", "check", out, "--json")
    assert (clean.code, json.loads(clean.out)["counts"]) == (0, {})
