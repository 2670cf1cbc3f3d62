"""Mutated and odd videos through probe and decode, for minutes or hours, looking for what must never happen.

    python bench/fuzz/fuzz_videos.py --minutes 5 --out outputs/fuzz-videos

Seeds are written with PyAV in twenty containers and more codecs, every frame with its number in its pixels. Each
round takes a seed and changes bytes of it, or joins it to another. What is right: a clip with ascending finite times
inside the video, the same with one worker and with two, or one typed line, within the time limit. A file that is
whole must also show, at every time, the picture whose number that time has. Failing inputs are kept in `failing/`,
with what happened in `failures.jsonl`; `--only FILE` runs one again.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "support"))
import made_videos as made
from zoomzero.errors import ZoomZeroError
from zoomzero.spans import Span
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.probe import key_frames, probe
from zoomzero.video.types import Clip, FrameBudget, FramePlan, Geometry, VideoInfo

FPS, COUNT = 10, 40
FRAGMENTS = {"container_options": {"movflags": "frag_keyframe+empty_moov"}}
RAW_TIME = {"ticks": FPS}
SEEDS: dict[str, dict[str, Any]] = {
    "a.mp4": {},
    "fragments.mp4": FRAGMENTS,
    "hevc.mp4": {"codec": "libx265"},
    "a.mkv": {},
    "live.mkv": {"container_options": {"live": "1"}},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "vp8.webm": {"codec": "libvpx"},
    "a.ts": {},
    "hevc.ts": {"codec": "libx265"},
    "a.m2ts": {},
    "mpeg4.avi": {"codec": "mpeg4", **RAW_TIME},
    "h264.avi": RAW_TIME,
    "a.flv": {},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "mpeg2.mpg": {"codec": "mpeg2video", "ticks": 25, "fps": 25},
    "mpeg2.vob": {"codec": "mpeg2video", "ticks": 25, "fps": 25},
    "a.gif": {"codec": "gif", "pix_fmt": "rgb8", "ticks": 100},
    "a.apng": {"codec": "apng", "pix_fmt": "rgb24", **RAW_TIME},
    "a.wmv": {"codec": "wmv2", "ticks": 1000},
    "a.nut": {},
    "a.f4v": {},
    "a.ismv": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "a.mxf": {"codec": "mpeg2video", "ticks": 25, "fps": 25},
    "a.asf": {"codec": "msmpeg4", "ticks": 1000},
    "a.3g2": {},
    "ffv1.nut": {"codec": "ffv1"},
    "a.3gp": {},
    "refresh.mp4": {"options": {"preset": "veryfast", "threads": "1", "x264-params": "intra-refresh=1:keyint=10"}},
}
ASKED = Geometry(16)


def write_seeds(folder: Path) -> list[Path]:
    """Write the seeds that are not there; one that this PyAV cannot write is named and left out."""
    import av.error

    folder.mkdir(parents=True, exist_ok=True)
    seeds = []
    for name, how in SEEDS.items():
        path, fps = folder / name, how.get("fps", FPS)
        settings = {"gop": 10, **{k: v for k, v in how.items() if k != "fps"}}
        try:
            if not path.exists():
                made.write(path, made.grid(COUNT, fps), **settings)
        except (av.error.FFmpegError, ValueError) as error:
            path.unlink(missing_ok=True)
            print(f"no seed {name}: {error}", flush=True)
            continue
        seeds.append(path)
    return seeds


def mutate(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Change some bytes, cut some out, put some in, or join two files."""
    changed, size = bytearray(data), len(data)
    low, high = dice.choice([(0, min(size, 2048)), (max(0, size - 3000), size), (0, size)])
    place = dice.randrange(low, high)
    kind = dice.randrange(9)
    if kind == 0:
        for _ in range(dice.choice([1, 3, 10, 50])):
            changed[dice.randrange(low, high)] ^= 1 << dice.randrange(8)
    elif kind == 1:
        for _ in range(dice.choice([1, 4, 20])):
            changed[dice.randrange(low, high)] = dice.choice([0, 255, 127, 128, dice.randrange(256)])
    elif kind == 2:
        del changed[dice.randrange(1, size) :]
    elif kind == 3:
        changed[place:place] = dice.randbytes(dice.choice([1, 7, 188, 4096]))
    elif kind == 4:
        del changed[place : place + dice.choice([1, 5, 188, 3000])]
    elif kind == 5:
        length = len(changed[place : place + dice.choice([16, 500, 5000])])
        changed[place : place + length] = bytes(length)
    elif kind == 6:
        part = dice.randrange(size)
        changed[place:place] = data[part : part + dice.choice([188, 2000, 20_000])]
    elif kind == 7:
        changed[place : place + 4] = dice.choice(
            [b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1"]
        )
    else:
        return data + other
    return bytes(changed)


def judge(path: Path, limit_s: float, whole_fps: float | None = None) -> tuple[str, str]:
    """Probe and decode a file in several ways.

    Args:
        path: the file.
        limit_s: seconds that one call may take.
        whole_fps: for an unchanged seed, its rate: then every picture's number is checked.

    Returns:
        ("ok" or "typed" or what is wrong, details).
    """
    try:
        info = probe(path, timeout_s=limit_s)
        fault = _fault_of_info(info)
        for plan in _plans(info) if fault is None else ():
            fault = fault or _fault_of_plan(info, plan, limit_s, whole_fps)
        if fault is None and any(not math.isfinite(t) or t < 0 for t in key_frames(path, timeout_s=limit_s)):
            fault = "key frames out of range"
        return ("ok", "") if fault is None else ("wrong", fault)
    except ZoomZeroError as error:
        return _verdict(error)
    except Exception as error:  # noqa: BLE001 - whatever else comes out is a finding
        return f"untyped {type(error).__name__}", traceback.format_exc()[-900:]


def _verdict(error: ZoomZeroError) -> tuple[str, str]:
    text = str(error)
    if "\n" in text:
        return "several lines", text
    return ("stopped" if "no sign of life" in text or "crashed" in text or " failed: " in text else "typed"), text


def _plans(info: VideoInfo) -> tuple[FramePlan, ...]:
    part = Span(0.4 * info.duration_s, 0.8 * info.duration_s)
    return (
        plan_regular(info, FrameBudget(fps=4, max_tokens=4096, max_frames=40), ASKED),
        plan_spans(info, [part], FrameBudget(fps=4, max_tokens=1024, max_frames=16), ASKED),
    )


def _fault_of_info(info: VideoInfo) -> str | None:
    good = math.isfinite(info.duration_s) and info.duration_s > 0 and math.isfinite(info.fps) and info.fps > 0
    return None if good and math.isfinite(info.start_s) else f"not finite: {info!r}"


def _fault_of_plan(info: VideoInfo, plan: FramePlan, limit_s: float, whole_fps: float | None) -> str | None:
    for exact in (True, False):
        told: list[tuple[Any, ...]] = []
        for workers in (1, 2):
            try:
                clip = decode(info, plan, timeout_s=limit_s, workers=workers, exact=exact)
            except ZoomZeroError as error:
                kind, text = _verdict(error)
                if kind != "typed":
                    raise
                told.append((text,))
                continue
            fault = _fault_of_clip(info, clip, whole_fps)
            if fault is not None:
                return f"{fault} (exact={exact}, {workers} workers)"
            told.append((clip.key, clip.notes, clip.spans, clip.frames.tobytes()))
        if told[0] != told[1]:
            return f"one and two workers differ (exact={exact}): {told[0][:3]} and {told[1][:3]}"
    return None


def _fault_of_clip(info: VideoInfo, clip: Clip, whole_fps: float | None) -> str | None:
    times_s = np.asarray(clip.times_s)
    if not np.isfinite(times_s).all() or (np.diff(times_s) < 0).any():
        return f"times {clip.times_s}"
    if times_s.min() < -1e-6 or times_s.max() > info.duration_s + 1:
        return f"times outside {info.duration_s}: {clip.times_s}"
    if len(clip.frames) != len(times_s) or len(times_s) % 2:
        return f"{clip.frames.shape} for {len(times_s)} times"
    if whole_fps is not None:
        wrong = [
            (t, n)
            for t, n in zip(clip.times_s, map(made.number_of, clip.frames), strict=True)
            if n != round(t * whole_fps)
        ]
        if wrong or clip.notes:
            return f"wrong pictures {wrong[:4]} {clip.notes}"
    return None


def campaign(out: Path, minutes: float, seed: int, limit_s: float) -> dict[str, int]:
    """Run rounds until the time is up and return how often each verdict came."""
    dice, tally = random.Random(seed), dict[str, int]()
    seeds = write_seeds(out / "seeds")
    failing = out / "failing"
    failing.mkdir(exist_ok=True)
    end, number = time.monotonic() + 60 * minutes, 0
    while number == 0 or time.monotonic() < end:
        path = seeds[number % len(seeds)] if number < len(seeds) else dice.choice(seeds)
        whole = number < len(seeds)
        if not whole:
            data = mutate(path.read_bytes(), dice.choice(seeds).read_bytes(), dice)
            path = out / f"round{path.suffix}"
            path.write_bytes(data)
        started = time.monotonic()
        fps = SEEDS[path.name].get("fps", FPS) if whole else None
        verdict, detail = judge(path, limit_s, fps)
        tally[verdict] = tally.get(verdict, 0) + 1
        if verdict not in ("ok", "typed") or (whole and verdict != "ok"):
            kept = failing / f"{seed}-{number}{path.suffix}"
            kept.write_bytes(path.read_bytes())
            found = {"file": kept.name, "verdict": verdict, "detail": detail, "s": round(time.monotonic() - started, 1)}
            with open(out / "failures.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps(found) + "\n")
            print(json.dumps(found), flush=True)
        number += 1
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1, help="another seed makes other files")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds without a sign of life that are a failure")
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz-videos"))
    parser.add_argument("--only", type=Path, help="judge one file again")
    arguments = parser.parse_args()
    if arguments.only is not None:
        print(*judge(arguments.only, arguments.limit), sep=": ")
        return
    tally = campaign(arguments.out, arguments.minutes, arguments.seed, arguments.limit)
    print(json.dumps({"rounds": sum(tally.values()), **tally}))
    sys.exit(any(verdict not in ("ok", "typed") for verdict in tally))


if __name__ == "__main__":
    main()
