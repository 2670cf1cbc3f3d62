"""Decoding: every frame proves by the number in its pixels that it is the one its time says."""

from __future__ import annotations

import random
from bisect import bisect_right
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import made_videos as made
from zoomzero.errors import VideoError
from zoomzero.spans import Span
from zoomzero.video.cache import FrameCache
from zoomzero.video.decode import decode, resize_frames, split
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.probe import probe
from zoomzero.video.types import FrameBudget, FramePlan, Geometry

RNG = random.Random(7)
UNEVEN = [0.0]
while UNEVEN[-1] < 16.0:
    UNEVEN.append(round(UNEVEN[-1] + RNG.choice([1 / 30, 1 / 30, 0.1, 0.5]), 4))
X264 = {"preset": "veryfast", "threads": "1"}

CASES = {
    "two seconds.mp4": {"times_s": made.grid(200, 25), "gop": 50},
    "three b.mp4": {"times_s": made.grid(200, 30), "gop": 250, "b_frames": 3},
    "one group.mkv": {"times_s": made.grid(200, 30), "gop": 9999, "b_frames": 3},
    "uneven.mp4": {"times_s": UNEVEN},
    "uneven.mkv": {"times_s": UNEVEN},
    "odd rate.mkv": {"times_s": made.grid(200, 30000 / 1001)},
    "late seeks.ts": {"times_s": made.grid(300, 25), "gop": 50},
    "offset.ts": {"times_s": made.grid(200, 25, 5.0), "gop": 50},
    "offset.mp4": {"times_s": made.grid(200, 25, 2.5)},
    "offset.mkv": {"times_s": made.grid(200, 25, 2.5)},
    "no edit list.mp4": {"times_s": made.grid(200, 25), "container_options": {"use_editlist": "0"}},
    "fragments.mp4": {"times_s": made.grid(200, 25), "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "open groups.mp4": {
        "times_s": made.grid(300, 25),
        "gop": 50,
        "options": {**X264, "x264-params": "open-gop=1:bframes=3:scenecut=0"},
    },
    "open groups.ts": {
        "times_s": made.grid(300, 25),
        "gop": 50,
        "options": {**X264, "x264-params": "open-gop=1:bframes=3:scenecut=0"},
    },
    "interlaced.ts": {"times_s": made.grid(200, 25), "options": {**X264, "x264-params": "tff=1:bframes=3"}},
    "hevc.mp4": {"times_s": made.grid(120, 30), "codec": "libx265"},
    "vp8.webm": {"times_s": made.grid(90, 30), "codec": "libvpx"},
    "vp9.webm": {"times_s": made.grid(90, 30), "codec": "libvpx-vp9"},
    "h264.avi": {"times_s": made.grid(200, 25), "ticks": 25},
    "open groups.avi": {
        "times_s": made.grid(200, 25),
        "ticks": 25,
        "gop": 50,
        "options": {**X264, "x264-params": "open-gop=1:bframes=3:scenecut=0"},
    },
    "mpeg4.avi": {"times_s": made.grid(200, 25), "ticks": 25, "codec": "mpeg4"},
    "mpeg2.mpg": {"times_s": made.grid(200, 25), "ticks": 25, "codec": "mpeg2video"},
    "flash.flv": {"times_s": made.grid(200, 25)},
    "intra.mov": {"times_s": made.grid(90, 30), "codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "chroma 444.mp4": {"times_s": made.grid(90, 30), "pix_fmt": "yuv444p"},
    "odd size.mp4": {"times_s": made.grid(90, 30), "size": (257, 65), "pix_fmt": "yuv444p"},
    "turned 90.mp4": {"times_s": made.grid(60, 30), "turns": 1},
    "turned 180.mp4": {"times_s": made.grid(60, 30), "turns": 2},
    "turned 270.mp4": {"times_s": made.grid(60, 30), "turns": 3},
}


def at(times_s: list[float], end_s: float, height: int = 64, width: int = 256) -> FramePlan:
    return FramePlan(tuple(times_s), height, width, 1.0, (Span(0.0, end_s),), 0)


@pytest.mark.parametrize("name", CASES)
def test_every_time_gets_the_frame_on_screen(name: str, folder: Path) -> None:
    case = dict(CASES[name])
    path = made.write(folder / name, **case)
    first = case["times_s"][0]
    times_s = [t - first for t in case["times_s"]]
    info = probe(path)
    if "uneven" in name:  # how long the last frame lasts is the encoder's guess
        assert times_s[-1] < info.duration_s < times_s[-1] + 1.0
    else:
        assert info.duration_s == pytest.approx(times_s[-1] + times_s[1], abs=0.01)
    for count, workers in ((6, 1), (30, 2), (100, 1)):
        wishes = sorted(RNG.uniform(0, times_s[-1] + 0.02) for _ in range(count))
        # a wish within a hair of a frame's start may fall on either side
        wishes = [w + 0.002 if any(abs(w + 0.002 - t) < 0.001 for t in times_s) else w for w in wishes]
        clip = decode(info, at(wishes, info.duration_s), workers=workers, timeout_s=30)
        expected = [bisect_right(times_s, w + 0.002) - 1 for w in wishes]
        assert [made.number_of(frame) for frame in clip.frames] == expected
        assert clip.times_s == pytest.approx([times_s[i] for i in expected], abs=0.0011)
        assert clip.notes == ()


def test_a_frame_counts_from_two_milliseconds_before_it_starts(plain: Path) -> None:
    clip = decode(probe(plain), at([0.0, 1.0, 1.9970, 1.9985], 20.0))
    assert [made.number_of(frame) for frame in clip.frames] == [0, 25, 49, 50]
    assert clip.times_s == pytest.approx((0.0, 1.0, 1.96, 2.0))


def test_the_same_frame_is_given_as_often_as_wished(plain: Path) -> None:
    clip = decode(probe(plain), at([3.0, 3.001, 3.01, 3.02], 20.0))
    assert clip.times_s == (3.0, 3.0, 3.0, 3.0)
    assert [made.number_of(frame) for frame in clip.frames] == [75] * 4


def test_an_off_position_is_rotated_before_it_is_resized(folder: Path) -> None:
    path = made.write(folder / "turn and shrink.mp4", made.grid(10, 10), turns=1)
    info = probe(path)
    assert (info.width, info.height, info.rotation) == (256, 64, 90)
    upright = decode(info, at([0.5, 0.6], 1.0)).frames
    assert np.array_equal(decode(info, at([0.5, 0.6], 1.0, 32, 112)).frames, resize_frames(upright, 32, 112))


# --- cost ---


def test_frames_after_the_last_wish_are_not_decoded(plain: Path) -> None:
    # the group starts at 10.0 s: 10.0 needs one frame, 10.4 at most the ten after it
    assert decode(probe(plain), at([10.0, 10.0], 20.0), workers=1).decoded_frames == 1
    assert decode(probe(plain), at([10.4, 10.4], 20.0), workers=1).decoded_frames <= 11


def test_unreferenced_frames_are_skipped_unless_wished_for(plain: Path) -> None:
    info = probe(plain)
    far = decode(info, at([11.92, 11.96], 20.0), workers=1)  # the end of a group of 50 with every other or third kept
    assert far.decoded_frames < 40
    every = decode(info, at([10.0 + i / 25 for i in range(50)], 20.0), workers=1)
    assert [made.number_of(frame) for frame in every.frames] == list(range(250, 300))
    assert every.decoded_frames == 50


def test_a_run_with_a_key_frame_in_it_is_not_decoded(plain: Path) -> None:
    # ten wishes 2 s apart, each 0.1 s after a key frame
    clip = decode(probe(plain), at([2.0 * i + 0.1 for i in range(10)], 20.0), workers=1)
    assert clip.decoded_frames <= 10 * 5


def test_splitting_over_workers_decodes_no_group_twice(plain: Path) -> None:
    info = probe(plain)
    wishes = at([i / 3 for i in range(60)], 20.0)
    one, three = (decode(info, wishes, workers=workers) for workers in (1, 3))
    assert one.decoded_frames == three.decoded_frames
    assert one.key == three.key
    assert np.array_equal(one.frames, three.frames)


@given(
    groups=st.lists(st.integers(0, 30), min_size=1, max_size=80).map(sorted),
    known=st.booleans(),
)
def test_split_keeps_order_and_groups(groups: list[int], known: bool) -> None:
    wishes = [(i, float(i), 0.0) for i in range(len(groups))]
    runs = split(wishes, groups if known else None)
    assert [wish for run in runs for wish in run] == wishes
    assert all(runs)
    if known:
        of_run = [{groups[i] for i, _, _ in run} for run in runs]
        assert sum(len(group) for group in of_run) == len(set(groups))
    else:
        assert len(runs) <= 2


def test_inexact_takes_key_frames_that_are_near(plain: Path) -> None:
    # wishes 4 s apart may move by 1 s: the key frames at 2, 6, 10, 14, 18 s are 0.9 s off; at 4 s apart + 1.0 none is
    info = probe(plain)
    near = decode(info, at([2.9, 6.9, 10.9, 14.9], 20.0), exact=False)
    assert near.times_s == (2.0, 6.0, 10.0, 14.0)
    assert [made.number_of(frame) for frame in near.frames] == [50, 150, 250, 350]
    assert near.decoded_frames == 4
    after = decode(info, at([3.1, 7.1, 11.1, 15.1], 20.0), exact=False)
    assert after.times_s == (4.0, 8.0, 12.0, 16.0)
    close = decode(info, at([3.0, 3.5, 5.0, 5.5], 20.0), exact=False)  # 0.5 s apart: may move by 0.125 s
    assert close.times_s == (3.0, 3.48, 5.0, 5.48)


def test_inexact_never_moves_further_than_a_quarter(plain: Path) -> None:
    info = probe(plain)
    for step_s in (0.3, 0.9, 1.7, 3.3):
        wishes = [i * step_s for i in range(int(19 / step_s) // 2 * 2)]
        clip = decode(info, at(wishes, 20.0), exact=False)
        assert [made.number_of(frame) for frame in clip.frames] == [round(t * 25) for t in clip.times_s]
        assert max(abs(t - w) for t, w in zip(clip.times_s, wishes, strict=True)) <= step_s / 4 + 0.04


# --- resizing ---


@pytest.mark.parametrize(
    ("source", "target"), [((720, 1280), (112, 196)), ((65, 257), (84, 84)), ((30, 40), (56, 84)), ((9, 7), (28, 28))]
)
def test_resize_is_torchs_8_bit_bicubic(source: tuple[int, int], target: tuple[int, int]) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, *source, 3), np.uint8)
    planes = torch.from_numpy(frames.transpose(0, 3, 1, 2).copy())  # (T, 3, H, W), the usual layout
    wanted = torch.nn.functional.interpolate(planes, target, mode="bicubic", antialias=True, align_corners=False)
    assert np.array_equal(resize_frames(frames, *target), wanted.permute(0, 2, 3, 1).numpy())


def test_resize_of_a_view_and_to_the_same_size() -> None:
    frames = np.random.default_rng(1).integers(0, 256, (2, 40, 30, 3), np.uint8)
    turned = np.rot90(frames, axes=(1, 2))
    assert np.array_equal(resize_frames(turned, 30, 40), turned)
    assert np.array_equal(resize_frames(turned, 28, 28), resize_frames(np.ascontiguousarray(turned), 28, 28))


def test_resize_by_hand() -> None:
    # a flat picture stays flat, and a step from 0 to 200 halves in the middle when 4 columns become 1
    flat = np.full((1, 8, 8, 3), 137, np.uint8)
    assert np.array_equal(resize_frames(flat, 3, 5), np.full((1, 3, 5, 3), 137, np.uint8))
    step = np.zeros((1, 4, 4, 3), np.uint8)
    step[:, :, 2:] = 200
    assert resize_frames(step, 1, 1).tolist() == [[[[100, 100, 100]]]]


def test_decoded_frames_are_resized_full_frames(plain: Path) -> None:
    info = probe(plain)
    full = decode(info, at([4.2, 9.9], 20.0))
    small = decode(info, at([4.2, 9.9], 20.0, 28, 112))
    assert np.array_equal(small.frames, resize_frames(full.frames, 28, 112))


# --- cache, keys, progress ---


def test_the_cache_answers_the_second_time(plain: Path) -> None:
    info, cache = probe(plain), FrameCache(2**24)
    plan = at([1.0, 5.0, 9.0, 13.0], 20.0)
    first = decode(info, plan, cache=cache)
    again = decode(info, plan, cache=cache)
    assert (cache.hits, cache.misses, len(cache)) == (4, 4, 4)
    assert again.decoded_frames == 0
    assert (again.key, again.times_s) == (first.key, first.times_s)
    assert np.array_equal(again.frames, first.frames)
    mixed = decode(info, at([1.0, 2.0, 9.0, 10.0], 20.0), cache=cache)
    assert [made.number_of(frame) for frame in mixed.frames] == [25, 50, 225, 250]
    assert cache.hits == 6


def test_the_cache_does_not_answer_for_another_size_or_a_changed_file(folder: Path) -> None:
    path = made.write(folder / "changing.mp4", made.grid(20, 10))
    info, cache = probe(path), FrameCache(2**24)
    before = decode(info, at([0.5, 1.0], 2.0), cache=cache)
    decode(info, at([0.5, 1.0], 2.0, 32, 112), cache=cache)
    assert cache.hits == 0
    made.write(path, made.grid(30, 15))
    after = decode(probe(path), at([0.5, 1.0], 2.0), cache=cache)
    assert cache.hits == 0
    assert [made.number_of(frame) for frame in after.frames] == [7, 15]
    assert after.key != before.key


def test_the_key_names_times_and_size(plain: Path) -> None:
    info = probe(plain)
    base = decode(info, at([1.0, 2.0], 20.0))
    assert decode(info, at([1.01, 2.01], 20.0)).key == base.key  # the same frames
    assert decode(info, at([1.0, 2.04], 20.0)).key != base.key
    assert decode(info, at([1.0, 2.0], 20.0, 32, 128)).key != base.key


def test_progress_counts_up_to_all(plain: Path) -> None:
    seen: list[tuple[int, int]] = []
    decode(
        probe(plain), at([float(i) for i in range(18)], 20.0), progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == (18, 18)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --- whole paths ---


def test_a_plan_of_spans_comes_back_with_true_times(plain: Path) -> None:
    info = probe(plain)
    plan = plan_spans(info, [(15.0, 16.0), (3.0, 4.5)], FrameBudget(fps=4.0), Geometry(16))
    clip = decode(info, plan)
    assert [made.number_of(frame) for frame in clip.frames] == [int(t * 25 + 0.05) for t in plan.times_s]
    assert clip.spans == plan.spans
    assert clip.visual_tokens(Geometry(16)) == plan.visual_tokens


def test_a_video_of_one_frame_becomes_one_patch(folder: Path) -> None:
    info = probe(made.write(folder / "one.mp4", [0.0], last_s=0.04))
    clip = decode(info, plan_regular(info, FrameBudget(), Geometry(14)))
    assert clip.times_s == (0.0, 0.0)
    assert [made.number_of(frame) for frame in clip.frames] == [0, 0]


def test_ten_hours_cost_no_more_than_their_frames(folder: Path) -> None:
    path = made.write(folder / "ten hours.mp4", [60.0 * i for i in range(600)], last_s=60.0)
    info = probe(path)
    assert info.duration_s == pytest.approx(36_000)
    clip = decode(info, plan_regular(info, FrameBudget(fps=1.0, max_frames=64), Geometry(16)))
    assert len(clip.times_s) == 64
    assert [made.number_of(frame) for frame in clip.frames] == [round(t / 60) for t in clip.times_s]
    assert clip.times_s[1] == 540.0  # wished for 562.5


def test_a_directory_of_images_is_a_video(tmp_path: Path) -> None:
    info = probe(made.write_images(tmp_path / "images", 12), fps=2.0)
    assert (info.kind, info.duration_s, info.frame_count) == ("frames", 6.0, 12)
    clip = decode(info, plan_regular(info, FrameBudget(fps=2.0), Geometry(16)))
    assert [made.number_of(frame) for frame in clip.frames] == list(range(12))
    assert clip.times_s == tuple(i / 2 for i in range(12))


def test_an_image_that_changed_is_not_answered_from_the_cache(tmp_path: Path) -> None:
    folder, cache = made.write_images(tmp_path / "images", 4), FrameCache(2**24)
    info = probe(folder, fps=1.0)
    decode(info, at([0.0, 1.0], 4.0), cache=cache)
    Image.fromarray(made.picture(77)).save(folder / "frame 2.png")
    again = decode(info, at([0.0, 1.0], 4.0), cache=cache)
    assert [made.number_of(frame) for frame in again.frames] == [0, 77]


@pytest.mark.parametrize(
    "name",
    [
        "intel_bottle-detection.mp4",
        "derived_vfr_bottle.mp4",
        "tc_nasa_13013.mp4",
        "tc_av1_video.mkv",
        "tc_test_non_zero_start.mp4",
        "decord_video_90.mov",
    ],
)
def test_real_files_give_what_decoding_everything_gives(name: str, shared_videos: Path) -> None:
    import av

    info = probe(shared_videos / name)
    with av.open(info.path) as container:
        stream = container.streams[info.stream_index]
        stream.thread_type = "AUTO"
        frames = list(container.decode(stream))
        pts = [float(f.pts * stream.time_base) - info.start_s for f in frames]
        wishes = sorted(RNG.uniform(0, info.duration_s) for _ in range(8))
        expected = [bisect_right(pts, w + 0.0019) - 1 for w in wishes]
        pixels = [np.rot90(frames[i].to_ndarray(format="rgb24"), info.rotation // 90) for i in expected]
    clip = decode(info, at(wishes, info.duration_s, info.height, info.width))
    assert clip.times_s == pytest.approx([pts[i] for i in expected], abs=1e-5)
    assert np.array_equal(clip.frames, np.stack(pixels))


def test_a_file_that_is_gone_is_an_error(folder: Path) -> None:
    path = made.write(folder / "gone.mp4", made.grid(10, 10))
    info = probe(path)
    path.unlink()
    with pytest.raises(VideoError, match="no such file"):
        decode(info, at([0.1, 0.2], 1.0))


def test_groupby_agrees_with_the_index(plain: Path) -> None:
    """The groups that a plan is split by are those of the key frames."""
    from zoomzero.video._source import FileSource

    source = FileSource(probe(plain))
    times_s = [i / 7 for i in range(140)]
    groups = source.groups(times_s)
    source.close()
    assert groups is not None
    runs = [[int(t // 2) for t, _ in run] for _, run in groupby(zip(times_s, groups, strict=True), key=lambda x: x[1])]
    assert runs == [[i] * 14 for i in range(10)]
