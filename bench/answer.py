"""Time and memory of an answer against the length of the video, from 1 minute to 3 hours.

    python bench/answer.py                                   the embedded model on videos of its world, on this CPU
    python bench/answer.py --films                           the same on 360p films with long groups of pictures
    python bench/answer.py --device cuda --size 3b --films   a model of real size (random weights)
    python bench/answer.py --svg lengths.svg --out lengths.json

Passes: `coarse` writes an answer with spans after a look at the whole video, `zoom` looks closely at 20 seconds in its
middle and scores the options, `divide` looks at every window, at the whole, and closely. Every run starts with nothing
decoded. Memory is the peak proportional set size of the process with its decoders (Linux). On a GPU its own peak is
given too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from charts import lengths_svg
from decode import memory_mb
from decode import video as film
from figures.tables import markdown
from meter import describe, find_device
from random_models import FAMILIES, SIZES, make_policy
from zoomzero.answer.ask import answer
from zoomzero.answer.scoring import zoom
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.trace import PassTrace
from zoomzero.answer.writing import coarse_pass
from zoomzero.config import ModelSettings, load_model_settings
from zoomzero.policy.local.load import find, load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.spans import Span
from zoomzero.video.decode import warm_up
from zoomzero.video.probe import probe
from zoomzero.world.questions import ask
from zoomzero.world.scenes import make_scene
from zoomzero.world.write import write_video

MINUTES = (1, 5, 20, 60, 180)
MODES = ("coarse", "zoom", "divide")
OPTIONS = ("E", "H", "K", "M")
RANDOM_MODEL_TOKENS = 128  # what a model that knows no end may write


@dataclass(frozen=True, slots=True)
class Film:
    """A video with a question about it."""

    path: Path
    minutes: float
    question: str
    options: tuple[str, ...]


def world_film(folder: Path, minutes: float) -> Film:
    """Return a video of the embedded model's world, written once and kept, and a question about it."""
    rng = np.random.default_rng((5, round(minutes)))
    scene = make_scene(rng, 60.0 * minutes)
    question = None
    while question is None:
        question = ask(rng, scene, "symbol")
    path = folder / f"world-{minutes:g}min.mp4"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"writing {path}", file=sys.stderr, flush=True)
        write_video(path, scene)
    return Film(path, minutes, question.text, question.options)


class PeakMemory:
    """Watches the memory of this process and the decoders it started."""

    def __enter__(self) -> PeakMemory:
        self.peak_mb, self._done = 0.0, threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()
        return self

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            self.peak_mb = max(self.peak_mb, memory_mb(os.getpid()))

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._watcher.join()


def look(policy: QwenPolicy, settings: ModelSettings, one: Film, mode: str) -> tuple[PassTrace, ...]:
    """Run one mode and return the passes it took."""
    if mode == "divide":
        return answer(policy, settings, one.path, one.question, one.options, mode="divide")[0].passes
    info = probe(one.path)
    asked = QuestionSession(policy, settings, info, one.question, one.options)
    if mode == "coarse":
        return (coarse_pass(asked).trace,)
    middle = info.duration_s / 2
    return (zoom(asked, "zoom", [Span(middle - 10, middle + 10)]).trace,)


def measure(policy: QwenPolicy, settings: ModelSettings, one: Film, mode: str, runs: int) -> dict[str, Any]:
    """Run a mode several times; medians of seconds, largest memory."""
    seconds, decode_s, memory, gpu = [], [], [], []
    passes: tuple[PassTrace, ...] = ()
    for _ in range(runs):
        if policy.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        with PeakMemory() as peak:
            started = time.perf_counter()
            passes = look(policy, settings, one, mode)
            seconds.append(time.perf_counter() - started)
        decode_s.append(sum(p.decode_seconds for p in passes))
        memory.append(peak.peak_mb)
        gpu.append(torch.cuda.max_memory_allocated() / 2**20 if policy.device.type == "cuda" else 0.0)
    return {
        "minutes": one.minutes,
        "mode": mode,
        "seconds": statistics.median(seconds),
        "low_s": min(seconds),
        "high_s": max(seconds),
        "decode_s": statistics.median(decode_s),
        "passes": len(passes),
        "frames": sum(len(p.times_s) for p in passes),
        "decoded_frames": sum(p.decoded_frames for p in passes),
        "prompt_tokens": sum(p.new_tokens for p in passes),
        "written_tokens": sum(p.generated_tokens for p in passes),
        "memory_mb": max(memory),
        "gpu_mb": max(gpu),
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the numbers as a Markdown table."""
    gpu = any(row["gpu_mb"] for row in rows)
    heads = ["minutes", "mode", "seconds (low-high)", "of these decoding", "passes", "frames", "decoded", "tokens read"]
    heads += ["written", "MB", *(["GPU MB"] if gpu else [])]
    cells = (
        [
            f"{row['minutes']:g}",
            row["mode"],
            f"{row['seconds']:.2f} ({row['low_s']:.2f}-{row['high_s']:.2f})",
            f"{row['decode_s']:.2f}",
            *(f"{row[key]:,}" for key in ("passes", "frames", "decoded_frames", "prompt_tokens", "written_tokens")),
            f"{row['memory_mb']:,.0f}",
            *([f"{row['gpu_mb']:,.0f}"] if gpu else []),
        ]
        for row in rows
    )
    return markdown(heads, cells)


def load(args: argparse.Namespace, device: torch.device) -> tuple[QwenPolicy, ModelSettings]:
    """Return the model: the embedded one, or one of random weights."""
    if args.size is None:
        return load_policy("tiny", device=args.device), load_model_settings(find("tiny"))
    policy = make_policy(args.family, args.size, device, torch.bfloat16 if device.type == "cuda" else torch.float32)
    return policy, ModelSettings(max_new_tokens=RANDOM_MODEL_TOKENS)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", choices=SIZES, help="random weights instead of the embedded model")
    parser.add_argument("--family", choices=FAMILIES, default="qwen2_5_vl", help="of the random weights")
    parser.add_argument("--films", action="store_true", help="360p films at 30 frames a second, not the world's videos")
    parser.add_argument("--minutes", type=float, nargs="*", default=MINUTES, help="lengths of the videos")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=MODES)
    parser.add_argument("--divide-minutes", type=float, default=60, help="longest video that is divided")
    parser.add_argument("--runs", type=int, default=3, help="runs of each; medians are printed")
    parser.add_argument("--folder", type=Path, default=Path("outputs/bench"), help="where the videos are written")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--out", type=Path, help="also write the numbers here, as JSON")
    parser.add_argument("--svg", type=Path, help="also draw seconds and memory against length")
    return parser.parse_args()


def main() -> None:
    args = parse()
    torch.set_num_threads(args.threads)
    device = find_device(args.device)
    policy, settings = load(args, device)
    about = describe(policy.device) | {
        "model": policy.name if args.size is None else f"{args.family} {args.size}, random"
    }
    print(", ".join(about.values()), flush=True)
    warm_up()
    films = []
    for minutes in args.minutes:
        if args.films:
            path = film(args.folder, minutes, 250, (640, 360))
            films.append(Film(path, minutes, "Which symbol is on the red circle?", OPTIONS))
        else:
            films.append(world_film(args.folder, minutes))
    for mode in args.modes:  # once, so that nothing is set up while the clock runs
        if mode != "divide":
            look(policy, settings, films[0], mode)
    rows: list[dict[str, Any]] = []
    for one in films:
        for mode in args.modes:
            if mode == "divide" and one.minutes > args.divide_minutes:
                continue
            print(f"\r{one.minutes:g} min, {mode:10}", end="", file=sys.stderr, flush=True)
            rows.append(measure(policy, settings, one, mode, 1 if mode == "divide" else args.runs))
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    print(table(rows), flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    if args.svg:
        args.svg.parent.mkdir(parents=True, exist_ok=True)
        args.svg.write_text(
            lengths_svg(rows, f"Time and memory of an answer against the video's length; {about['model']}")
        )


if __name__ == "__main__":
    main()
