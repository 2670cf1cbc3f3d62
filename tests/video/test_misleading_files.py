"""Files whose headers, clocks or indexes mislead: every moment gets its own picture, or the file says why not."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import av
import edited_videos as edited
import numpy as np
import pytest
from PIL import Image

import made_videos as made
from zoomzero.errors import ConfigError, VideoError
from zoomzero.spans import Span
from zoomzero.video.decode import decode
from zoomzero.video.files.orient import orientation, upright
from zoomzero.video.probe import key_frames, probe
from zoomzero.video.types import Clip, FramePlan, VideoInfo

REFRESH = {"preset": "veryfast", "threads": "1", "x264-params": "intra-refresh=1:keyint=20:bframes=0"}


def every(info: VideoInfo, step_s: float = 0.1, **how: object) -> Clip:
    """Decode a frame every `step_s`, wished a hair after it begins."""
    count = int(info.duration_s / step_s + 0.5) // 2 * 2
    times_s = tuple(i * step_s + 0.003 for i in range(count))
    plan = FramePlan(times_s, made.HEIGHT, made.WIDTH, 1 / step_s, (Span(0.0, info.duration_s),), 0)
    return decode(info, plan, **how)  # type: ignore[arg-type]


def numbers(clip: Clip) -> list[int]:
    return [made.number_of(frame) for frame in clip.frames]


# --- times that are those of other frames ---


def test_packed_b_frames_take_the_order_they_come_out_in(folder: Path) -> None:
    info = probe(edited.packed(folder / "packed.avi"))
    assert info.reading == "order"
    clip = every(info, 0.2)
    assert numbers(clip) == list(range(0, 60, 2))
    assert clip.times_s == pytest.approx([i / 5 for i in range(30)])
    assert every(info, 0.2, workers=1).key == clip.key


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize("suffix", ["mkv", "mp4", "ts"])
def test_times_by_place_are_told_from_times_of_frames(codec: str, suffix: str, folder: Path) -> None:
    for b_frames, reading in ((2, "order"), (0, "seek")):
        source = made.write(
            folder / f"{codec} {b_frames} source.{suffix}", made.grid(100, 25), codec=codec, gop=20, b_frames=b_frames
        )
        assert probe(source).reading == "seek"
        info = probe(edited.timed_by_place(source, folder / f"{codec} {b_frames} placed.{suffix}"))
        assert info.reading == reading
        clip = every(info, 0.2)
        assert numbers(clip) == list(range(0, 100, 5))
        assert clip.times_s == pytest.approx([i / 5 for i in range(20)], abs=0.002)


def test_a_damaged_avi_keeps_its_other_pictures_in_place(folder: Path) -> None:
    path = made.write(folder / "whole.avi", made.grid(300, 25), ticks=25, gop=50)
    data = bytearray(path.read_bytes())
    for position, size, _ in made.packets(path)[104:108]:
        data[position + 16 : position + size - 8] = bytes(size - 24)
    (folder / "holes.avi").write_bytes(data)
    clip = every(probe(folder / "holes.avi"))
    # what is inside the damaged group may be concealed; before it and behind it every picture is in its place
    sound = [(n, t) for n, t in zip(numbers(clip), clip.times_s, strict=True) if not 4.0 <= t < 6.0]
    assert [n for n, _ in sound] == [round(t * 25) for _, t in sound]
    assert sound[-1][1] > 11.0


# --- clocks that start again ---


@pytest.mark.parametrize(
    ("suffix", "codec"), [("ts", "libx264"), ("ts", "libx265"), ("mpg", "mpeg2video"), ("mkv", "libx264")]
)
def test_joined_recordings_run_on(suffix: str, codec: str, folder: Path) -> None:
    parts = [
        made.write(folder / f"{codec} {n}.{suffix}", made.grid(100, 25), ticks=25, gop=20, codec=codec, first=100 * n)
        for n in range(2)
    ]
    info = probe(edited.joined(folder / f"{codec} joined.{suffix}", parts))
    assert info.duration_s == pytest.approx(8.0, abs=0.1)
    assert info.reading == "through"
    assert any("its clock starts anew once" in note for note in info.notes)
    one, two = (every(info, 0.2, workers=workers) for workers in (1, 2))
    assert numbers(one) == list(range(0, 200, 5))
    assert one.times_s == pytest.approx([i / 5 for i in range(40)], abs=0.002)
    assert (one.key, one.notes) == (two.key, two.notes)
    assert np.array_equal(one.frames, two.frames)
    assert [t for t in key_frames(info.path) if t >= 4.0] != []


def test_a_recording_that_goes_on_much_later_runs_on_too(folder: Path) -> None:
    parts = [
        made.write(folder / f"leap {n}.ts", made.grid(100, 25, 500.0 * n), gop=20, first=100 * n) for n in range(2)
    ]
    info = probe(edited.joined(folder / "leap.ts", parts))
    assert info.duration_s == pytest.approx(8.0, abs=0.1)
    assert numbers(every(info, 0.2)) == list(range(0, 200, 5))


@pytest.mark.parametrize("name", ["joined.flv", "joined fragments.mp4"])
def test_where_only_the_first_recording_is_read_it_is_said(name: str, folder: Path) -> None:
    options = {"movflags": "frag_keyframe+empty_moov"} if name.endswith("mp4") else {}
    parts = [
        made.write(folder / f"{n} of {name}", made.grid(100, 25), gop=20, first=100 * n, container_options=options)
        for n in range(2)
    ]
    info = probe(edited.joined(folder / name, parts))
    assert info.duration_s == pytest.approx(4.0, abs=0.1)
    assert "recordings joined into one file: only the first is read" in info.notes
    assert numbers(every(info, 0.2)) == list(range(0, 100, 5))


# --- no full picture to start from ---


@pytest.mark.parametrize("name", ["refresh.mp4", "refresh.mkv", "refresh.ts"])
@pytest.mark.parametrize("exact", [True, False])
def test_intra_refresh_is_no_damage(name: str, exact: bool, folder: Path) -> None:
    info = probe(made.write(folder / name, made.grid(160, 10), options=REFRESH))
    clip = every(info, 0.4, exact=exact)
    assert numbers(clip) == [round(t * 10) for t in clip.times_s]
    assert len(clip.frames) == 40
    assert clip.notes == ()


@pytest.mark.parametrize("name", ["often.mp4", "often.ts"])
def test_refreshed_pictures_are_those_of_a_whole_decode(name: str, folder: Path) -> None:
    """With B-frames a picture is built up over more than one group: some were taken too soon."""
    refresh = REFRESH | {"x264-params": "intra-refresh=1:keyint=10:bframes=2"}
    info = probe(made.write(folder / name, made.grid(80, 10), options=refresh))
    plan = FramePlan(tuple(i / 5 + 0.003 for i in range(40)), made.HEIGHT, made.WIDTH, 5, (Span(0.0, 8.0),), 0)
    with av.open(info.path) as container:
        whole = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for workers in (1, 2):
        clip = decode(info, plan, workers=workers)
        assert [round(t * 10) for t in clip.times_s] == list(range(0, 80, 2))
        assert all(np.array_equal(one, whole[2 * n]) for n, one in enumerate(clip.frames))
    parts = [
        FramePlan((t, t + 0.1), made.HEIGHT, made.WIDTH, 10, (Span(t, t + 0.2),), 0) for t in (2.503, 3.703, 5.003)
    ]
    for plan in parts:
        clip = decode(info, plan)
        for t, one in zip(clip.times_s, clip.frames, strict=True):
            assert np.array_equal(one, whole[round(t * 10)])


# --- display matrices ---

EIGHT = [(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1), (0, 1, -1, 0), (0, -1, 1, 0), (0, 1, 1, 0)]
EIGHT.append((0, -1, -1, 0))


@pytest.mark.parametrize("matrix", EIGHT)
def test_the_whole_display_matrix_is_applied(matrix: edited.Matrix, folder: Path) -> None:
    source = made.write(folder / "matrix source.mp4", made.grid(4, 10))
    plain = probe(source)
    flat = FramePlan((0.0, 0.1), plain.height, plain.width, 10, (Span(0.0, 0.4),), 0)
    expected = edited.shown_by(matrix, decode(plain, flat).frames[0])
    info = probe(edited.with_matrix(source, folder / f"matrix {matrix}.mp4", matrix))
    assert (info.height, info.width) == expected.shape[:2]
    plan = FramePlan((0.0, 0.1), info.height, info.width, 10, (Span(0.0, 0.4),), 0)
    assert np.array_equal(decode(info, plan).frames[0], expected)


@pytest.mark.parametrize("matrix", EIGHT)
def test_a_matrix_is_mirroring_and_quarter_turns(matrix: edited.Matrix) -> None:
    a, b, c, d = (value << 16 for value in matrix)
    data = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()
    turn = orientation(SimpleNamespace(side_data={"DISPLAYMATRIX": data}))
    picture = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    assert turn is not None
    assert np.array_equal(upright(picture, *turn), edited.shown_by(matrix, picture))


def test_a_matrix_askew_is_noted(folder: Path) -> None:
    source = made.write(folder / "askew source.mp4", made.grid(4, 10))
    info = probe(edited.with_matrix(source, folder / "askew.mp4", (3, 1, -1, 3)))
    assert (info.rotation, info.mirrored) == (0, False)
    assert "turns by less than a quarter" in info.notes[-1]


# --- which stream ---


@pytest.mark.parametrize("name", ["still.mov", "still.mkv"])
def test_a_still_is_not_taken_for_the_film(name: str, folder: Path) -> None:
    info = probe(edited.still_and_film(folder / name))
    assert (info.width, info.height, info.stream_index) == (made.WIDTH, made.HEIGHT, 1)
    assert info.duration_s == pytest.approx(4.0, abs=0.01)
    assert info.notes[0] == "2 video streams: took the best of those that last, stream 1"
    assert numbers(every(info, 0.2)) == list(range(0, 40, 2))


# --- edit lists ---


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        ([(2, 1), (2, 4)], [*range(10, 30), *range(40, 60)]),  # parts that begin at key frames
        ([(1.5, 1.2), (2, 0.5)], [*range(12, 27), *range(5, 25)]),  # in mid-group, and backwards
        ([(2, 1), (2, 1)], [*range(10, 30), *range(10, 30)]),  # the same part twice
    ],
)
def test_edit_lists_of_several_parts(
    parts: list[tuple[float, float]], shown: list[int], folder: Path, request: pytest.FixtureRequest
) -> None:
    source = made.write(folder / f"edits {request.node.name}.mp4", made.grid(60, 10), gop=10, b_frames=0)
    info = probe(edited.with_edits(source, folder / f"edited {request.node.name}.mp4", parts))
    assert info.reading == "through"
    clip = every(info)
    assert numbers(clip) == shown[: len(clip.frames)]
    assert len(clip.frames) == len(shown) // 2 * 2


def test_pictures_do_not_depend_on_scheduling(folder: Path) -> None:
    source = made.write(folder / "schedule source.mp4", made.grid(60, 10), gop=10, b_frames=2)
    info = probe(edited.with_edits(source, folder / "schedule.mp4", [(1.5, 1.25), (2, 4.45)]))
    seen = {(clip.key, clip.notes, clip.spans) for n in range(20) for clip in [every(info, 0.1, workers=1 + n % 2)]}
    assert len(seen) == 1


def test_one_part_that_begins_in_mid_group_is_still_sought(folder: Path) -> None:
    source = made.write(folder / "trim source.mp4", made.grid(60, 10), gop=10, b_frames=0)
    info = probe(edited.with_edits(source, folder / "trim.mp4", [(3, 1.5)]))
    assert info.reading == "seek"
    assert numbers(every(info)) == list(range(15, 45))


# --- times that would be guesses ---


@pytest.mark.parametrize(("name", "codec"), [("raw.mjpeg", "mjpeg"), ("raw.h264", "libx264"), ("raw.m4v", "mpeg4")])
def test_streams_without_times_are_refused(name: str, codec: str, folder: Path) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    raw = name.removeprefix("raw.")
    path = made.write(folder / name, made.grid(20, 10), codec=codec, pix_fmt=pix_fmt, ticks=10, container_format=raw)
    with pytest.raises(VideoError, match=r"no times \(a raw stream.*ffmpeg -r FRAMES_A_SECOND") as caught:
        probe(path)
    assert "\n" not in str(caught.value)


def test_images_one_after_the_other_are_refused_and_one_is_a_still(tmp_path: Path) -> None:
    Image.fromarray(made.picture(5)).save(tmp_path / "one.png")
    assert "a single image: it is shown for a moment" in probe(tmp_path / "one.png").notes
    edited.joined(tmp_path / "several.png", [tmp_path / "one.png"] * 3)
    with pytest.raises(VideoError, match="no times"):
        probe(tmp_path / "several.png")


def test_a_percent_sign_is_part_of_a_name(tmp_path: Path) -> None:
    Image.fromarray(made.picture(5, 64, 32)).save(tmp_path / "f%03d.png")
    Image.fromarray(made.picture(6, 128, 64)).save(tmp_path / "f001.png")
    assert probe(tmp_path / "f%03d.png").width == 64
    (tmp_path / "f%03d.png").unlink()
    with pytest.raises(VideoError, match="no such file"):
        probe(tmp_path / "f%03d.png")


def test_animated_webp_is_not_supported_and_not_damaged(tmp_path: Path) -> None:
    first, *others = [Image.fromarray(made.picture(k)) for k in range(4)]
    first.save(tmp_path / "moving.webp", save_all=True, append_images=others, duration=100)
    with pytest.raises(VideoError, match="animated WebP is not supported") as caught:
        probe(tmp_path / "moving.webp")
    assert "damaged" not in str(caught.value)


def test_frames_without_times_at_the_start_are_left_out(folder: Path) -> None:
    options = {"avoid_negative_ts": "disabled"}
    path = made.write(folder / "negative.mkv", made.grid(60, 10, -2.0), gop=50, container_options=options)
    info = probe(path)
    assert info.duration_s == pytest.approx(4.0, abs=0.35)
    assert "have no times: times count from the first frame that has one" in info.notes[0]
    clip = every(info, 0.4)
    assert [n - round(t * 10) for n, t in zip(numbers(clip), clip.times_s, strict=True)] == [numbers(clip)[0]] * len(
        clip.frames
    )
    assert 20 <= numbers(clip)[0] < 24


def test_a_change_of_size_is_noted(folder: Path) -> None:
    info = probe(edited.size_that_turns(folder / "turns.webm"))
    clip = every(info, 0.2)
    assert numbers(clip) == list(range(0, 40, 2))
    note = "the picture's size changes inside the file: frames of 64x128 are squeezed into the shape of 128x64"
    assert clip.notes == (note,)


# --- large frames ---


def test_large_frames_are_refused_before_they_are_decoded(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = made.write(folder / "not so large.mp4", made.grid(4, 10))
    assert made.WIDTH * made.HEIGHT == 16_384
    assert probe(path, max_pixels=16_384).width == made.WIDTH
    with pytest.raises(VideoError, match=r"256x64 have 16,384 pixels, and 16,383 are allowed.*ZOOMZERO_MAX_PIXELS"):
        probe(path, max_pixels=16_383)
    monkeypatch.setenv("ZOOMZERO_MAX_PIXELS", "9999")
    with pytest.raises(VideoError, match="9,999 are allowed"):
        probe(path)
    with pytest.raises(VideoError, match="9,999 are allowed"):
        probe(made.write_images(tmp_path / "images", 2), fps=1.0)
    monkeypatch.setenv("ZOOMZERO_MAX_PIXELS", "many")
    with pytest.raises(ConfigError, match="ZOOMZERO_MAX_PIXELS: 'many' is no number of pixels"):
        probe(path)


def test_a_copy_is_another_file(folder: Path, tmp_path: Path) -> None:
    """A name that begins with a dash or holds a colon is a name."""
    path = made.write(folder / "named.mp4", made.grid(10, 10))
    for name in ("-f.mp4", "a:b.mp4", "100%.mp4", "what?.mp4"):
        shutil.copy(path, tmp_path / name)
        assert probe(tmp_path / name).frame_count == 10


# --- sparse videos ---


def test_sparse_videos_know_where_their_frames_begin(folder: Path) -> None:
    info = probe(made.write(folder / "sparse.mkv", [0.0, 100.0, 200.0, 203.0, 600.0], last_s=100.0))
    assert info.frame_times_s == pytest.approx((0.0, 100.0, 200.0, 203.0, 600.0), abs=0.002)
    assert probe(made.write(folder / "dense.mkv", made.grid(20, 10))).frame_times_s is None
