"""Probing: what a file is, and every way in which it can be wrong."""

from __future__ import annotations

import os
import re
import socket
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import made_videos as made
from zoomzero.errors import ConfigError, VideoError
from zoomzero.video.probe import key_frames, probe


def test_a_plain_file(plain: Path) -> None:
    info = probe(plain)
    assert (info.kind, info.codec, info.width, info.height) == ("file", "h264", 256, 64)
    assert info.duration_s == pytest.approx(20.0)
    assert (info.fps, info.frame_count, info.start_s, info.rotation) == (25.0, 500, 0.0, 0)
    assert info.notes == ()
    assert info.path == str(plain)


def test_a_relative_path_becomes_absolute(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(plain.parent)
    assert probe("plain.mp4") == probe(plain)


@pytest.mark.parametrize("name", ["start.mp4", "start.mkv", "start.ts"])
def test_a_start_that_is_not_zero_is_taken_out(name: str, folder: Path) -> None:
    info = probe(made.write(folder / name, made.grid(50, 25, 2.5)))
    assert info.start_s == pytest.approx(2.5, abs=0.15)  # the muxer adds the decoder's delay
    assert info.duration_s == pytest.approx(2.0, abs=0.002)
    assert info.notes == ()


@pytest.mark.parametrize(("turns", "degrees"), [(1, 90), (2, 180), (3, 270)])
def test_rotation_is_counter_clockwise_and_sizes_are_as_shown(turns: int, degrees: int, folder: Path) -> None:
    info = probe(made.write(folder / f"turned {turns}.mp4", made.grid(5, 25), turns=turns))
    assert (info.rotation, info.width, info.height) == (degrees, 256, 64)


def test_the_better_of_two_streams(folder: Path) -> None:
    info = probe(made.write_two_streams(folder / "two.mp4"))
    assert (info.stream_index, info.width, info.height) == (1, 256, 64)
    assert info.notes == ("2 video streams: took the best, stream 1",)


def test_key_frames_are_times_from_the_first_frame(folder: Path, plain: Path) -> None:
    assert key_frames(plain) == pytest.approx([2.0 * i for i in range(10)])
    late = made.write(folder / "late keys.ts", made.grid(100, 25, 5.0), gop=25)
    assert key_frames(late) == pytest.approx([0.0, 1.0, 2.0, 3.0])


# --- durations ---


def test_a_duration_that_no_header_has_is_measured(folder: Path) -> None:
    path = made.write(folder / "live.mkv", made.grid(100, 25), container_options={"live": "1"})
    info = probe(path)
    assert info.duration_s == pytest.approx(4.0, abs=0.002)
    assert info.notes == ("the header has no duration: measured 4.00 s",)


@pytest.mark.parametrize(
    ("claim_s", "note"), [(99.0, "says 99.0 s, the file ends at 4.0 s"), (1.0, "goes on to 4.0 s")]
)
def test_a_header_that_lies_is_found_out(claim_s: float, note: str, folder: Path) -> None:
    data = made.write(folder / "honest.mkv", made.grid(100, 25)).read_bytes()
    place = data.index(b"\x44\x89\x88") + 3  # Segment > Info > Duration, a big-endian double of milliseconds
    assert struct.unpack(">d", data[place : place + 8]) == (4000.0,)
    path = folder / f"lies {claim_s:g}.mkv"
    path.write_bytes(data[:place] + struct.pack(">d", claim_s * 1000) + data[place + 8 :])
    info = probe(path)
    assert info.duration_s == pytest.approx(4.0, abs=0.002)
    assert len(info.notes) == 1
    assert note in info.notes[0]


@pytest.mark.parametrize(("name", "noted"), [("cut.mp4", True), ("cut.mkv", True), ("cut.ts", False)])
def test_a_file_cut_at_60_percent_lasts_as_long_as_its_packets(name: str, noted: bool, folder: Path) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = made.write(folder / f"whole {name}", made.grid(300, 25), container_options=options).read_bytes()
    path = folder / name
    path.write_bytes(whole[: len(whole) * 6 // 10])
    info = probe(path)
    assert 5.0 < info.duration_s < 8.0  # of 12 s
    assert bool(info.notes) == noted  # a transport stream has no header that could say more
    if noted:
        assert info.notes[0].startswith("cut off or a wrong header: it says 12.0 s, the file ends at")


def test_one_frame_has_a_duration(folder: Path) -> None:
    info = probe(made.write(folder / "single.mp4", [0.0], last_s=0.04))
    assert info.frame_count == 1
    assert 0 < info.duration_s <= 1.0  # the encoder's guess


def test_pixels_that_are_not_square_count_as_shown(folder: Path) -> None:
    info = probe(made.write(folder / "wide pixels.mp4", made.grid(5, 25), pixel_shape=Fraction(2, 1)))
    assert (info.width, info.height) == (512, 64)
    assert info.notes == ("pixels are not square: 256x64 is shown as 512x64",)


# --- refusals: each names the file and the fix ---


def broken(folder: Path, kind: str) -> Path:
    path = folder / f"{kind}.mp4"
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("This is a text about videos. " * 200)
    elif kind == "noise":
        path.write_bytes(np.random.default_rng(0).integers(0, 256, 100_000, np.uint8).tobytes())
    elif kind == "no moov":
        whole = made.write(folder / "moov.mp4", made.grid(100, 25)).read_bytes()
        path.write_bytes(whole[: whole.index(b"moov") - 4])
    elif kind == "sound":
        made.write_sound(path)
    elif kind == "cover":
        made.write_sound(path, cover=True)
    elif kind == "zeros":
        data = bytearray(made.write(folder / "zeroed.mp4", made.grid(100, 25)).read_bytes())
        start = data.index(b"mdat") + 4
        data[start : data.index(b"moov") - 4] = bytes(data.index(b"moov") - 4 - start)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", "cannot open: no such file"),
        ("empty", "cannot open: the file is empty"),
        ("text", "cannot open: this is text"),
        ("noise", "cannot open: not a video file"),
        ("no moov", r"cannot open: the index \(moov\) is missing"),
        ("sound", "cannot probe: the file holds only sound"),
        ("cover", "cannot probe: the file holds only cover art"),
        ("zeros", "cannot probe: no frame decodes"),
    ],
)
def test_what_cannot_be_used_is_refused(kind: str, words: str, folder: Path) -> None:
    path = broken(folder, kind)
    with pytest.raises(VideoError, match=words) as caught:
        probe(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert caught.value.fix


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="neither a regular file nor a directory"):
        probe(tmp_path / "pipe.mp4")


def test_a_name_that_looks_like_a_url_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VideoError, match="no such file"):
        probe("https://example.org/video.mp4")


def test_a_playlist_cannot_make_us_call_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:{port}/a.ts\n#EXT-X-ENDLIST\n"
        (tmp_path / "list.m3u8").write_text(text)
        with pytest.raises(VideoError):
            probe(tmp_path / "list.m3u8", timeout_s=10)
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


# --- directories of images ---


def test_images_in_natural_order(tmp_path: Path) -> None:
    info = probe(made.write_images(tmp_path / "images", 11), fps=4.0)
    assert (info.kind, info.codec, info.fps, info.frame_count) == ("frames", "images", 4.0, 11)
    assert info.duration_s == 2.75
    assert (info.width, info.height) == (256, 64)


@pytest.mark.parametrize("fps", [None, 0.0, -2.0, float("nan"), 5000.0])
def test_images_need_a_rate(fps: float | None, tmp_path: Path) -> None:
    made.write_images(tmp_path / "images", 2)
    with pytest.raises(ConfigError, match="--fps"):
        probe(tmp_path / "images", fps=fps)


def test_a_file_takes_no_rate(plain: Path) -> None:
    with pytest.raises(ConfigError, match="has its own times"):
        probe(plain, fps=2.0)


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    made.write_images(tmp_path / "images", 2)
    Image.fromarray(made.picture(3, 128, 32)).save(tmp_path / "images" / "frame 3.png")
    with pytest.raises(VideoError, match=r"frame 1\.png is 256x64, frame 3\.png is 128x32"):
        probe(tmp_path / "images", fps=1.0)


def test_a_directory_without_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(VideoError, match="holds no images"):
        probe(tmp_path, fps=1.0)


def test_a_broken_image_is_named(tmp_path: Path) -> None:
    made.write_images(tmp_path / "images", 2)
    (tmp_path / "images" / "frame 9.png").write_text("not an image")
    with pytest.raises(VideoError, match=r"frame 9\.png"):
        probe(tmp_path / "images", fps=1.0)


# --- real files ---


def facts(line: str) -> dict[str, str]:
    return dict(re.findall(r"(\w+)=(\S+)", line))


def test_real_files_agree_with_what_is_known_of_them(shared_videos: Path) -> None:
    checked = 0
    for line in (shared_videos / "PROBE.txt").read_text().splitlines():
        fact = facts(line)
        path = shared_videos / fact.get("file", "")
        if not path.is_file() or "open_error" in fact or "truncated" in path.name or "fps" not in line + "fps":
            continue
        info = probe(path)
        turned = info.rotation % 180
        if "nasa_13013.mp4" not in path.name:  # the facts there are of the smaller stream
            size = (int(fact["h"]), int(fact["w"])) if turned else (int(fact["w"]), int(fact["h"]))
            assert (info.width, info.height) == size, path.name
            assert info.fps == pytest.approx(float(fact["avg"]), rel=0.001), path.name
            assert info.start_s == pytest.approx(float(fact["start"]), abs=0.001), path.name
            last_s = float(fact["last"]) - (info.start_s if info.start_s > 1 else 0)
            assert last_s < info.duration_s < last_s + 0.6, path.name
        checked += 1
    assert checked >= 8


def test_real_files_with_faults(shared_videos: Path) -> None:
    with pytest.raises(VideoError, match="moov"):
        probe(shared_videos / "derived_truncated_bottle.mp4")
    cut = probe(shared_videos / "derived_truncated_faststart_bottle.mp4")
    assert 20.9 < cut.duration_s < 21.2
    assert "it says 39.9 s" in cut.notes[0]
    two = probe(shared_videos / "tc_nasa_13013.mp4")
    assert (two.width, two.height) == (480, 270)
    assert probe(shared_videos / "decord_video_90.mov").rotation == 270


def test_probing_and_planning_load_neither_torch_nor_the_decoder() -> None:
    code = (
        "import sys, zoomzero.video.probe, zoomzero.video.plan, zoomzero.video.decode, zoomzero.video.subtitles;"
        "print([m for m in ('torch', 'transformers', 'av', 'PIL', 'pysubs2') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
