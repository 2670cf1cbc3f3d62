"""Damage, hangs and crashes: what decodes is used, what is missing is said, and nothing waits for ever."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import made_videos as made
from processes import alive
from zoomzero.errors import VideoError
from zoomzero.spans import Span
from zoomzero.video import _pool
from zoomzero.video.cache import FrameCache
from zoomzero.video.decode import decode, warm_up
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.probe import probe
from zoomzero.video.types import Clip, FrameBudget, FramePlan, Geometry, VideoInfo

HALF_SECONDS = tuple(i / 2 for i in range(40))
ON_SCREEN = tuple(int(t * 25) / 25 for t in HALF_SECONDS)  # 0.0, 0.48, 1.0, 1.48, ...


def half_seconds(info: VideoInfo) -> FramePlan:
    return FramePlan(HALF_SECONDS, 64, 256, 2.0, (Span(0.0, info.duration_s),), 0)


def assert_true(clip: Clip) -> None:
    """Every frame that is there is the one its time says."""
    assert len(clip.frames) % 2 == 0
    assert [made.number_of(frame) for frame in clip.frames] == [round(t * 25) for t in clip.times_s]


def spoil(source: Path, target: Path, numbers: list[int], share: float = 1.0) -> Path:
    """Overwrite some packets (by decode order) with noise, from the end of each."""
    data = bytearray(source.read_bytes())
    rng = np.random.default_rng(0)
    where = made.packets(source)
    for number in numbers:
        position, size, _ = where[number]
        length = max(1, int((size - 16) * share))
        data[position + size - length : position + size] = rng.integers(0, 256, length, np.uint8).tobytes()
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("name", "codec", "ticks", "spoilt", "share"),
    [
        ("a.mp4", "mpeg4", 10, [10, 20, 30, 40], 1.0),
        ("b.mp4", "mpeg4", 10, list(range(18, 23)), 0.1),
        ("c.webm", "libvpx", made.TICKS, [20, 30], 0.1),
        ("d.mkv", "libx265", made.TICKS, [20, 30], 0.5),
    ],
)
def test_pictures_of_damage_do_not_depend_on_the_number_of_workers(
    name: str, codec: str, ticks: int, spoilt: list[int], share: float, tmp_path: Path
) -> None:
    """Decoders fill what they do not know is missing with what they decoded before."""
    whole = made.write(tmp_path / name, made.grid(60, 10), codec=codec, gop=10, ticks=ticks)
    info = probe(spoil(whole, tmp_path / f"spoilt-{name}", spoilt, share))
    plan = FramePlan(tuple(i / 5 for i in range(30)), 64, 256, 2.0, (Span(0.0, info.duration_s),), 0)
    one, *others = (decode(info, plan, workers=workers) for workers in (1, 2, 3))
    for other in others:
        assert (other.times_s, other.notes) == (one.times_s, one.notes)
        assert np.array_equal(other.frames, one.frames)


def test_a_wrecked_group_is_left_out_and_said(plain: Path, folder: Path) -> None:
    # groups of 50 frames: packets 200 to 249 are the 5th, 8 s to 10 s
    info = probe(spoil(plain, folder / "wrecked.mp4", list(range(200, 250))))
    clip = decode(info, half_seconds(info))
    assert_true(clip)
    assert clip.times_s == tuple(t for t in ON_SCREEN if not 8 <= t < 10)
    assert clip.spans == (Span(0.0, 8.0), Span(10.0, 20.0))
    assert clip.notes == ("4 of 40 frames do not decode and are left out, at 8.0, 8.5, 9.0, 9.5 s",)


def test_a_lost_frame_takes_its_patch_with_it(plain: Path, folder: Path) -> None:
    # patches are (8.0, 8.5), (9.0, 9.5): with a wish of 9.5 alone lost, 9.0 goes too
    info = probe(spoil(plain, folder / "tail.mp4", list(range(236, 250))))
    clip = decode(info, half_seconds(info))
    assert_true(clip)
    assert 9.0 not in clip.times_s
    assert {8.0, 8.48, 10.0} <= set(clip.times_s)
    assert clip.notes[-1].startswith("2 of 40 frames do not decode")


def test_damage_in_mid_group_is_noticed_and_said(plain: Path, folder: Path) -> None:
    # the 14th packet of the group at 8 s: what follows it decodes, and may show traces of it
    info = probe(spoil(plain, folder / "flipped.mp4", [213], share=0.5))
    cache = FrameCache(2**24)
    clip = decode(info, half_seconds(info), cache=cache)
    assert_true(clip)
    assert len(clip.frames) == 40
    assert clip.notes == ("2 of 40 frames follow damage and may show traces of it, at 9.0, 9.5 s",)
    assert len(cache) == 38  # a frame with a note is not handed on without it


def test_a_damaged_key_frame_costs_its_group(plain: Path, folder: Path) -> None:
    info = probe(spoil(plain, folder / "key.mp4", [200]))
    clip = decode(info, half_seconds(info))
    assert_true(clip)
    assert clip.times_s == tuple(t for t in ON_SCREEN if not 8 <= t < 10)


@pytest.mark.parametrize("name", ["cut.mp4", "cut.mkv", "cut.ts"])
def test_a_truncated_file_is_used_as_far_as_it_goes(name: str, folder: Path) -> None:
    options = {"movflags": "faststart"} if name.endswith("mp4") else {}
    whole = made.write(folder / f"all of {name}", made.grid(300, 25), gop=50, container_options=options)
    data = whole.read_bytes()
    path = folder / f"end of {name}"
    path.write_bytes(data[: len(data) * 6 // 10])
    info = probe(path)
    clip = decode(info, plan_regular(info, FrameBudget(fps=2.0), Geometry(16)))
    assert_true(clip)
    assert clip.notes == ()  # the plan is of the true duration; the probe's notes say what is missing
    promised = replace(info, duration_s=12.0)  # what the header says
    clip = decode(promised, plan_regular(promised, FrameBudget(fps=2.0), Geometry(16)))
    assert_true(clip)
    assert clip.times_s[-1] < info.duration_s
    assert clip.spans == (Span(0.0, round(clip.spans[0].end_s, 6)),)
    lost = 24 - len(clip.frames)
    assert clip.notes == (f"decodes to {clip.times_s[-1]:.1f} s of 12.0 s: {lost} of 24 frames are missing",)


def test_nothing_decodable_is_an_error(plain: Path, folder: Path) -> None:
    info = probe(plain)
    wrecked = spoil(plain, folder / "all wrecked.mp4", list(range(500)))
    with pytest.raises(VideoError, match="none of the 40 frames decodes") as caught:
        decode(replace(info, path=str(wrecked)), half_seconds(info))
    assert caught.value.stage == "decode"


def test_a_plan_past_the_end_is_an_error_not_a_guess(plain: Path) -> None:
    info = probe(plain)
    plan = FramePlan((30.0, 31.0), 64, 256, 1.0, (Span(30.0, 32.0),), 0)
    with pytest.raises(VideoError, match="past the end"):
        decode(info, plan)


def test_losses_stay_inside_their_span(plain: Path, folder: Path) -> None:
    info = probe(spoil(plain, folder / "span loss.mp4", list(range(200, 250))))
    plan = plan_spans(info, [(1.0, 2.0), (7.0, 9.0)], FrameBudget(fps=2.0), Geometry(16))
    clip = decode(info, plan)
    assert_true(clip)
    assert clip.times_s == (1.0, 1.48, 7.0, 7.48)
    assert clip.spans == (Span(1.0, 2.0), Span(7.0, 8.0))


def test_an_image_that_went_bad_costs_its_patch(tmp_path: Path) -> None:
    info = probe(made.write_images(tmp_path / "images", 8), fps=1.0)
    (tmp_path / "images" / "frame 4.png").write_text("gone bad")
    clip = decode(info, plan_regular(info, FrameBudget(fps=1.0), Geometry(16)))
    assert clip.times_s == (0.0, 1.0, 4.0, 5.0, 6.0, 7.0)
    assert clip.notes == ("2 of 8 frames do not decode and are left out, at 2.0, 3.0 s",)


# --- workers ---


@pytest.fixture
def two_workers() -> list[_pool.Worker]:
    """Two workers that the next calls will use."""
    _pool.shut_down()
    warm_up(2)
    return list(_pool._idle)


def test_a_hanging_worker_is_killed_at_the_limit(plain: Path, two_workers: list[_pool.Worker]) -> None:
    info = probe(plain)
    for worker in two_workers:
        os.kill(worker.process.pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(VideoError, match=r"no sign of life for 0\.5 s.*raise --timeout"):
        decode(info, half_seconds(info), timeout_s=0.5)
    assert time.monotonic() - started < 5
    assert all(not worker.alive() for worker in two_workers)
    assert len(decode(info, half_seconds(info)).frames) == 40  # the next call has new ones


def test_a_worker_that_hangs_in_mid_work_is_killed(plain: Path, two_workers: list[_pool.Worker]) -> None:
    def stop(done: int, _total: int) -> None:
        if done == 10:
            for worker in two_workers:
                os.kill(worker.process.pid, signal.SIGSTOP)

    info = probe(plain)
    with pytest.raises(VideoError, match="no sign of life"):
        decode(info, half_seconds(info), timeout_s=0.5, progress=stop)
    assert all(not worker.alive() for worker in two_workers)


def test_a_hanging_probe_is_killed(plain: Path, two_workers: list[_pool.Worker]) -> None:
    for worker in two_workers:
        os.kill(worker.process.pid, signal.SIGSTOP)
    with pytest.raises(VideoError, match=r"cannot probe: .*no sign of life for 0\.3 s"):
        probe(plain, timeout_s=0.3)


def test_a_crash_is_an_error_that_names_the_file(plain: Path, two_workers: list[_pool.Worker]) -> None:
    def crash(done: int, _total: int) -> None:
        if done == 10:
            for worker in two_workers:
                worker.process.kill()

    info = probe(plain)
    with pytest.raises(VideoError, match=r"plain\.mp4: cannot decode: the decoder process crashed"):
        decode(info, half_seconds(info), progress=crash)
    assert len(decode(info, half_seconds(info)).frames) == 40


def test_ctrl_c_leaves_no_worker_behind(plain: Path, two_workers: list[_pool.Worker]) -> None:
    def interrupt(done: int, _total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    info = probe(plain)
    with pytest.raises(KeyboardInterrupt):
        decode(info, half_seconds(info), progress=interrupt)
    assert all(not worker.alive() for worker in two_workers)


def test_a_dead_idle_worker_is_replaced(plain: Path, two_workers: list[_pool.Worker]) -> None:
    for worker in two_workers:
        worker.process.kill()
        worker.process.wait()
    assert probe(plain).frame_count == 500


def test_workers_are_kept_and_reused(plain: Path, two_workers: list[_pool.Worker]) -> None:
    info = probe(plain)
    decode(info, half_seconds(info), workers=2)
    decode(info, half_seconds(info), workers=2)
    assert {worker.process.pid for worker in _pool._idle} == {worker.process.pid for worker in two_workers}


def test_a_worker_holds_no_torch(plain: Path, two_workers: list[_pool.Worker]) -> None:
    info = probe(plain)
    decode(info, half_seconds(info), workers=2)
    for worker in _pool._idle:
        maps = Path(f"/proc/{worker.process.pid}/maps")
        if not maps.exists():
            pytest.skip("needs /proc")
        assert "libtorch" not in maps.read_text()


def test_a_workers_modules_are_not_taken_from_the_current_directory(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "types.py").write_text("raise SystemExit('a file of the user')")
    (tmp_path / "numpy.py").write_text("raise SystemExit('a file of the user')")
    monkeypatch.chdir(tmp_path)
    _pool.shut_down()
    assert probe(plain).frame_count == 500


def test_many_threads_may_decode_at_once(plain: Path) -> None:
    info = probe(plain)
    keys: list[str] = []

    def work() -> None:
        keys.append(decode(info, half_seconds(info), workers=1).key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 4
    assert len(set(keys)) == 1


def test_a_forked_child_leaves_its_parents_workers_alone(plain: Path, two_workers: list[_pool.Worker]) -> None:
    child = os.fork()
    if child == 0:
        good = not _pool._idle and probe(plain).frame_count == 500
        _pool.shut_down()
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(worker.alive() for worker in two_workers)
    assert probe(plain).frame_count == 500


def test_workers_end_with_their_parent(plain: Path) -> None:
    """A parent that is killed leaves no process behind."""
    import subprocess
    import sys

    code = (
        "import os, sys; from zoomzero.video.probe import probe; from zoomzero.video import _pool;"
        f"probe({str(plain)!r}); print(_pool._idle[0].process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.05)
    pytest.fail("the worker lives on")
