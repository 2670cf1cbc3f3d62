from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from zoomzero.errors import VideoError
from zoomzero.pages.media import picture, relative_url, video_source


def decode(url: str) -> bytes:
    return base64.b64decode(url.partition(";base64,")[2], validate=True)


def test_a_picture_is_the_frame_as_jpeg() -> None:
    frame = np.zeros((40, 64, 3), np.uint8)
    frame[:, 32:] = (250, 120, 10)
    shown = picture(frame)
    assert shown.url.startswith("data:image/jpeg;base64,")
    assert (shown.width, shown.height) == (64, 40)
    pixels = np.asarray(Image.open(io.BytesIO(decode(shown.url)))).astype(int)
    assert np.abs(pixels[20, 10] - (0, 0, 0)).max() < 6
    assert np.abs(pixels[20, 60] - (250, 120, 10)).max() < 6


def test_large_frames_are_shrunk_and_small_ones_are_not() -> None:
    shown = picture(np.zeros((400, 200, 3), np.uint8), max_side=100)
    assert (shown.width, shown.height) == (50, 100)
    assert picture(np.zeros((8, 8, 3), np.uint8)).width == 8


def test_a_small_mp4_goes_into_the_page(tmp_path: Path) -> None:
    video = tmp_path / "a.MP4"
    video.write_bytes(b"0123456789")
    source = video_source(video, 10, tmp_path)
    assert source.embedded
    assert source.player_url is not None
    assert source.player_url.startswith("data:video/mp4;base64,")
    assert decode(source.player_url) == b"0123456789"
    assert source.link_url is None


def test_a_larger_one_is_played_from_its_file(tmp_path: Path) -> None:
    video = tmp_path / "a.webm"
    video.write_bytes(b"0123456789x")
    source = video_source(video, 10, tmp_path / "pages")
    assert source.player_url == source.link_url == "../a.webm"
    assert not source.embedded
    assert "not inside this page" in source.note


def test_what_browsers_do_not_play_is_linked(tmp_path: Path) -> None:
    video = tmp_path / "a.mkv"
    video.write_bytes(b"0")
    source = video_source(video, 10, tmp_path)
    assert (source.player_url, source.link_url) == (None, "./a.mkv")
    assert ".mkv" in source.note


def test_a_directory_of_images_has_no_player(tmp_path: Path) -> None:
    source = video_source(tmp_path, 10, tmp_path)
    assert (source.player_url, source.link_url) == (None, None)
    assert "directory of images" in source.note


def test_a_video_that_has_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"gone\.mp4: cannot open"):
        video_source(tmp_path / "gone.mp4", 10, tmp_path)


@pytest.mark.parametrize(
    ("name", "url"),
    [("a b#c?.mp4", "./a%20b%23c%3F.mp4"), ("javascript:alert(1).mp4", "./javascript%3Aalert%281%29.mp4")],
)
def test_links_are_quoted_paths_never_schemes(tmp_path: Path, name: str, url: str) -> None:
    assert relative_url(tmp_path / name, tmp_path) == url
    assert relative_url(tmp_path / name, tmp_path / "x" / "y") == "../../" + url[2:]
