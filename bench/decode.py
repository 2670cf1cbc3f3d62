"""Time, CPU and memory of decoding frames at given times: zoomzero against plain PyAV, decord, torchcodec and others.

    python bench/decode.py                      the table on a 10-minute 720p video, which is written first
    python bench/decode.py --minutes 2 --quick  a small one
    python bench/decode.py --hour --json out.json   coarse passes over an hour

Every contender runs in its own fresh process; its clock starts after its imports and stops when all resized frames are
there. The start of worker processes counts, except for "zoomzero-warm", which has decoded eight frames before. CPU is
of the whole process tree, memory is the tree's peak proportional set size (Linux) above what the process held after its
imports. Contenders that do not import are listed as "not installed".
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

FPS = 30


# --- the videos ---


def write_segment(path: Path, size: tuple[int, int], gop: int, frames: int, codec: str) -> None:
    """Write a short video of moving textures and noise with B-frames and key frames only every `gop` frames."""
    import av

    rng = np.random.default_rng(0)
    width, height = size
    tiles = rng.integers(0, 255, (height // 16 + 40, width // 16 + 40, 3), np.uint8)
    ground = np.kron(tiles, np.ones((16, 16, 1), np.uint8))
    noise = rng.integers(0, 12, (8, height, width, 3), np.uint8)
    quiet = {"x265-params": "log-level=none:scenecut=0:bframes=3"} if codec == "libx265" else {"sc_threshold": "0"}
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "26", "bf": "3", **quiet}
        stream: Any = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = width, height, "yuv420p", gop
        for i in range(frames):
            x, y = (i * 3) % 512, (i * 2) % 512
            frame = ground[y : y + height, x : x + width] // 2 + noise[i % 8] + 40
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        container.mux(stream.encode(None))


def repeat_segment(segment: Path, path: Path, times: int) -> None:
    """Write a segment again and again without encoding it anew."""
    import av

    with av.open(str(path), "w") as target:
        shift, out = 0, None
        for _ in range(times):
            with av.open(str(segment)) as source:
                stream = source.streams.video[0]
                out = out or target.add_stream_from_template(stream)
                for packet in source.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, out
                    target.mux(packet)
                shift += round(Fraction(stream.frames, FPS) / stream.time_base)


def video(folder: Path, minutes: float, gop: int, size: tuple[int, int], codec: str = "libx264") -> Path:
    """Return a video of the wanted length, written once and kept."""
    name = f"{size[1]}p-{minutes:g}min-gop{gop}-{codec}.mp4"
    path = folder / name
    if path.exists():
        return path
    folder.mkdir(parents=True, exist_ok=True)
    frames = max(1, round(60 * FPS / gop)) * gop
    segment = folder / f"segment-{name}"
    started = time.monotonic()
    write_segment(segment, size, gop, frames, codec)
    part = folder / f"part-{name}"
    repeat_segment(segment, part, max(1, round(minutes * 60 * FPS / frames)))
    segment.unlink()
    part.rename(path)
    print(f"wrote {path} in {time.monotonic() - started:.0f} s", file=sys.stderr)
    return path


def length(path: Path) -> float:
    """Return the seconds of a video that was written here."""
    import av

    with av.open(str(path)) as container:
        return float(container.duration / 1e6)


# --- the contenders: (file, times in seconds, height, width) -> (T, height, width, 3) uint8 ---


def torch_resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resize one (H, W, 3) uint8 frame as the Qwen-VL processors do."""
    import torch

    picture = torch.from_numpy(frame).permute(2, 0, 1)[None]
    small = torch.nn.functional.interpolate(picture, (height, width), mode="bicubic", antialias=True)
    return small[0].permute(1, 2, 0).numpy()


def run_zoomzero(path: str, times_s: list[float], height: int, width: int, exact: bool = True) -> np.ndarray:
    from zoomzero.spans import Span
    from zoomzero.video.decode import decode
    from zoomzero.video.probe import probe
    from zoomzero.video.types import FramePlan

    info = probe(path)
    plan = FramePlan(tuple(times_s), height, width, 1.0, (Span(0.0, info.duration_s),), 0)
    clip = decode(info, plan, exact=exact)
    assert len(clip.frames) == len(times_s), clip.notes
    return clip.frames


def run_zoomzero_keys(path: str, times_s: list[float], height: int, width: int) -> np.ndarray:
    return run_zoomzero(path, times_s, height, width, exact=False)


def pyav_part(path: str, times_s: Sequence[float], height: int, width: int, skip: str) -> list[np.ndarray]:
    """Decode by hand: per group of pictures seek to the first time, decode to the last; no retry, no checks."""
    import av

    frames = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "NONE", 1
        stream.codec_context.skip_frame = skip
        tick_s = float(stream.time_base)
        keys = np.array([e.timestamp * tick_s for e in stream.index_entries if e.is_keyframe])
        groups = np.searchsorted(keys, times_s, "right")
        for group in dict.fromkeys(groups):
            wished = [t for t, g in zip(times_s, groups, strict=True) if g == group]
            container.seek(int(wished[0] / tick_s), stream=stream)
            for frame in container.decode(stream):
                while wished and frame.pts * tick_s >= wished[0] - 0.5 / FPS:
                    frames.append(torch_resize(frame.to_ndarray(format="rgb24"), height, width))
                    wished.pop(0)
                if not wished:
                    break
    return frames


def run_pyav(path: str, times_s: list[float], height: int, width: int, skip: str = "NONREF") -> np.ndarray:
    from multiprocessing import get_context

    half = len(times_s) // 2
    with get_context("fork").Pool(2) as pool:
        jobs = [(path, part, height, width, skip) for part in (times_s[:half], times_s[half:])]
        parts = pool.starmap(pyav_part, jobs)
        pool.close()
        pool.join()
    return np.stack([frame for part in parts for frame in part])


def run_pyav_all(path: str, times_s: list[float], height: int, width: int) -> np.ndarray:
    return run_pyav(path, times_s, height, width, "DEFAULT")


def run_torchcodec(path: str, times_s: list[float], height: int, width: int) -> np.ndarray:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=2, seek_mode="approximate")
    frames = []
    for start in range(0, len(times_s), 16):  # in small batches, or memory is out of all proportion
        batch = decoder.get_frames_played_at(times_s[start : start + 16])
        frames += [torch_resize(frame.numpy(), height, width) for frame in batch.data]
    return np.stack(frames)


def run_decord(path: str, times_s: list[float], height: int, width: int) -> np.ndarray:
    import decord

    reader = decord.VideoReader(path, num_threads=2)
    indices = [min(len(reader) - 1, int(t * reader.get_avg_fps())) for t in times_s]
    return np.stack([torch_resize(reader[i].asnumpy(), height, width) for i in indices])


def run_qwen_vl_utils(path: str, times_s: list[float], height: int, width: int) -> np.ndarray:
    from qwen_vl_utils import fetch_video

    span = {"video_start": times_s[0], "video_end": times_s[-1] + 1.0 / FPS} if times_s[0] > 0 else {}
    element = {
        "video": path,
        "nframes": len(times_s),
        "resized_height": height,
        "resized_width": width,
        **span,
    }
    return fetch_video(element).permute(0, 2, 3, 1).numpy()


def run_cv2(path: str, times_s: list[float], height: int, width: int) -> np.ndarray:
    import cv2

    reader = cv2.VideoCapture(path)
    frames = []
    for t in times_s:
        reader.set(cv2.CAP_PROP_POS_FRAMES, int(t * reader.get(cv2.CAP_PROP_FPS)))
        _, frame = reader.read()
        frames.append(torch_resize(np.ascontiguousarray(frame[:, :, ::-1]), height, width))
    return np.stack(frames)


RUN: dict[str, tuple[str, Callable[[str, list[float], int, int], np.ndarray]]] = {
    "zoomzero": ("zoomzero", run_zoomzero),
    "zoomzero-warm": ("zoomzero", run_zoomzero),
    "zoomzero-keys": ("zoomzero", run_zoomzero_keys),
    "pyav-nonref": ("av", run_pyav),
    "pyav-all": ("av", run_pyav_all),
    "torchcodec": ("torchcodec.decoders", run_torchcodec),
    "decord": ("decord", run_decord),
    "qwen-vl-utils": ("qwen_vl_utils", run_qwen_vl_utils),
    "cv2": ("cv2", run_cv2),
}
CONTENDERS = tuple(RUN)


# --- measuring ---


def tree(root: int) -> list[int]:
    """Return a process and all it started, itself first."""
    found = [root]
    for pid in found:
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def memory_mb(root: int) -> float:
    """Return the proportional set size of a process tree in MB, 0 where the system does not say."""
    total = 0
    for pid in tree(root):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total / 1024


def cpu_of_started(root: int) -> float:
    """Return the CPU seconds that the living processes started by this one have used."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split() for pid in tree(root)[1:]]
    return sum(int(stat[11]) + int(stat[12]) for stat in stats) / os.sysconf("SC_CLK_TCK")


def contend(name: str, path: str, times_s: list[float], height: int, width: int) -> dict[str, float]:
    """Run one contender in this process and measure it."""
    import importlib

    import torch

    torch.set_num_threads(1)
    module, function = RUN[name]
    importlib.import_module(module)
    torch_resize(np.zeros((64, 64, 3), np.uint8), 28, 28)
    if name == "zoomzero-warm":  # a zoom follows a coarse pass, whose workers are still there
        function(path, times_s[:8], height, width)
    started_cpu_s = cpu_of_started(os.getpid())
    start_mb, peak_mb, done = memory_mb(os.getpid()), 0.0, threading.Event()

    def watch() -> None:
        nonlocal peak_mb
        while not done.wait(0.1):
            peak_mb = max(peak_mb, memory_mb(os.getpid()))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    own_before, started = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    frames = function(path, times_s, height, width)
    wall_s = time.monotonic() - started
    done.set()
    watcher.join()
    if name.startswith("zoomzero"):
        from zoomzero.video._pool import shut_down

        shut_down()  # so that the workers' time is counted
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = own.ru_utime + own.ru_stime - own_before.ru_utime - own_before.ru_stime
    assert frames.shape == (len(times_s), height, width, 3), frames.shape
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s + children.ru_utime + children.ru_stime - started_cpu_s,
        "peak_mb": peak_mb,
        "over_mb": max(0.0, peak_mb - start_mb),
    }


def measure(
    name: str,
    path: Path,
    times_s: list[float],
    size: tuple[int, int],
    runs: int,
    python: str = sys.executable,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Run one contender `runs` times in fresh processes of an interpreter, with more variables; return the medians."""
    job = json.dumps({"name": name, "path": str(path), "times_s": times_s, "height": size[0], "width": size[1]})
    results = []
    for _ in range(runs):
        command = [python, __file__, "--contend"]
        done = subprocess.run(
            command, input=job, capture_output=True, text=True, timeout=1800, check=False, env=os.environ | variables
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["no message"]
            missing = "ModuleNotFoundError" in last[0] or "ImportError" in last[0]
            return {"error": "not installed" if missing else f"failed: {last[0][:90]}"}
        results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return {key: statistics.median(r[key] for r in results) for key in results[0]}


def cases(args: argparse.Namespace) -> list[tuple[str, Path, list[float], tuple[int, int]]]:
    """Return (title, file, times, (height, width)) of every table."""
    counts = (32,) if args.quick else (128, 512)
    found = []
    if args.hour:
        path = video(args.folder, 60, 250, (640, 360))
        for count in (128, 768, 3600):
            times_s = [(i + 0.5) * length(path) / count for i in range(count)]
            found.append((f"60 min 360p, groups of 8.3 s, {count} frames at 112x196", path, times_s, (112, 196)))
        return found
    for gop, label in ((30, "1 s"), (250, "8.3 s")):
        path = video(args.folder, args.minutes, gop, (1280, 720))
        length_s = length(path)
        for count in counts:
            times_s = [(i + 0.5) * length_s / count for i in range(count)]
            title = f"{args.minutes:g} min 720p, groups of {label}, {count} frames at 112x196"
            found.append((title, path, times_s, (112, 196)))
        zoom_s = [length_s * 0.4 + i / 4 for i in range(32)]
        found.append((f"zoom: 8 s of it, groups of {label}, 32 frames at 448x784", path, zoom_s, (448, 784)))
    return found


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="length of the 720p videos")
    parser.add_argument("--quick", action="store_true", help="32 frames instead of 128 and 512")
    parser.add_argument("--hour", action="store_true", help="instead: coarse passes over a 60-minute 360p video")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contender; medians are printed")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, help="just these contenders")
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench"), help="where the videos are written")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--contend", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.contend:
        print(json.dumps(contend(**json.load(sys.stdin))))
        return
    tables = []
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {time.strftime('%Y-%m-%d')}"
    )
    for title, path, times_s, size in cases(args):
        print(f"\n{title}\n{'':16}{'wall s':>8}{'CPU s':>8}{'over MB':>9}{'peak MB':>9}", flush=True)
        rows = {}
        for name in args.only or CONTENDERS:
            row = rows[name] = measure(name, path, times_s, size, args.runs)
            if "error" in row:
                print(f"{name:16}{row['error']}", flush=True)
            else:
                numbers = f"{row['wall_s']:8.2f}{row['cpu_s']:8.2f}{row['over_mb']:9.0f}{row['peak_mb']:9.0f}"
                print(f"{name:16}{numbers}", flush=True)
        tables.append({"title": title, "frames": len(times_s), "rows": rows})
    if args.json:
        args.json.write_text(json.dumps({"date": time.strftime("%Y-%m-%d"), "tables": tables}, indent=1))


if __name__ == "__main__":
    main()
