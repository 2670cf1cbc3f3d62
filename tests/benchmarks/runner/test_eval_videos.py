"""Finding videos in every layout they are unpacked into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zoomzero.benchmarks.runner.videos import find_videos
from zoomzero.errors import DataError


def made(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("1164/3238737531.mp4", "1164/3238737531.mp4"),  # NExT-GQA's map, as released
        ("1164/3238737531.mp4", "NExTVideo/1164/3238737531.mp4"),
        ("1164/3238737531.mp4", "3238737531.mp4"),  # all in one folder
        ("v_aB-1.mp4", "v_aB-1.mkv"),  # ReXTime, ActivityNet
        ("v_aB-1.mp4", "v_aB-1.webm"),
        ("v_aB-1.mp4", "activitynet/train/aB-1.mp4"),
        ("aB-1.mp4", "v_aB-1.mp4"),
        ("b_0.0_150.0.mp4", "videos/b_0.0_150.0.mp4"),  # QVHighlights: dots in the name
        ("b_0.0_150.0", "b_0.0_150.0.mp4"),
        ("1_plotQA/movie_7.mp4", "video/1_plotQA/movie_7.mp4"),  # MLVU
        ("uid.mp4", "cg_videos_720p/uid.MP4"),
        ("sav_1.mp4", "sav_000/sav_1.mp4"),
    ],
)
def test_a_video_is_found(name: str, there: str, tmp_path: Path) -> None:
    made(tmp_path, there, "other/thing.mp4", "notes.txt")
    found = find_videos(tmp_path, [name])
    assert (found.files, found.missing) == ({name: tmp_path / there}, ())


def test_an_absolute_name_is_taken_as_it_is(tmp_path: Path) -> None:
    video = made(tmp_path, "far/away.mp4") / "far/away.mp4"
    (tmp_path / "root").mkdir()
    assert find_videos(tmp_path / "root", [str(video)]).files == {str(video): video}


def test_the_missing_are_listed_in_order_and_once(tmp_path: Path) -> None:
    made(tmp_path, "b.mp4")
    found = find_videos(tmp_path, ["c.mp4", "b.mp4", "a.mp4", "c.mp4"])
    assert (list(found.files), found.missing) == (["b.mp4"], ("c.mp4", "a.mp4"))


def test_videos_of_the_same_name_in_other_folders_are_never_mixed_up(tmp_path: Path) -> None:
    made(tmp_path, "MLVU/2_needle/7.mp4")
    names = ["1_plotQA/7.mp4", "2_needle/7.mp4"]
    found = find_videos(tmp_path, names)
    assert found.files == {"2_needle/7.mp4": tmp_path / "MLVU/2_needle/7.mp4"}
    assert found.missing == ("1_plotQA/7.mp4",)


def test_mp4_comes_before_other_containers_beside_it(tmp_path: Path) -> None:
    made(tmp_path, "x/a.webm", "x/a.mp4", "x/a.avi")
    assert find_videos(tmp_path, ["a.mp4"]).files["a.mp4"].name == "a.mp4"
    assert find_videos(tmp_path / "x", ["a.mov"]).files["a.mov"].name == "a.mp4"


def test_two_files_that_fit_are_an_error_that_names_both(tmp_path: Path) -> None:
    made(tmp_path, "old/a.mp4", "new/a.mp4")
    with pytest.raises(DataError, match=r"video a\.mp4: could be new/a\.mp4 or old/a\.mp4; give the folder"):
        find_videos(tmp_path, ["a.mp4"])


def test_links_are_followed_and_loops_end(tmp_path: Path) -> None:
    made(tmp_path, "store/deep/a.mp4")
    (tmp_path / "root").mkdir()
    os.symlink(tmp_path / "store", tmp_path / "root/linked")
    os.symlink(tmp_path / "root", tmp_path / "root/loop")
    assert find_videos(tmp_path / "root", ["a.mp4"]).files["a.mp4"].is_file()


def test_one_file_under_two_names_is_not_ambiguous(tmp_path: Path) -> None:
    made(tmp_path, "a/x.mp4")
    (tmp_path / "b").mkdir()
    os.symlink(tmp_path / "a/x.mp4", tmp_path / "b/x.mp4")
    assert find_videos(tmp_path, ["x.mp4"]).missing == ()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--videos: there is no such folder"):
        find_videos(tmp_path / "none", ["a.mp4"])
