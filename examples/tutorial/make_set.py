"""Make the small set of docs/guides/own-videos.md: films of a camera at night, and what a person wrote down about them.

    python make_set.py night --train 128 --watch 32 --test 64

The films show objects of the embedded model's world as a bad camera sees them after dark: dim, greenish, grainy. The
model has only seen them by day. `night/train.csv`, `watch.csv` and `test.csv` hold a question a row; five rows of
`train.csv` are wrong, as rows of real annotation are.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
import sys
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from zoomzero.world.render import render
from zoomzero.world.write import LABELS, WorldItem, world_item

FPS = 2
SEED = 4100  # of the scenes; no other set of the project draws from it
LIGHT, GRAIN = 0.3, 12.0  # share of the daylight that is left; standard deviation of the grain, levels of 0-255
TINT = np.array([0.75, 1.0, 0.7], np.float32)
PARTS = ("train", "watch", "test")
COLUMNS = ("video", "question", "a0", "a1", "a2", "a3", "answer", "evidence", "type")


def at_night(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return (T, H, W, 3) uint8 as a bad camera sees them after dark; no two neighbours have the same grain."""
    grain = rng.normal(0.0, GRAIN, (8, *frames.shape[1:])).astype(np.float32)
    dim = frames * (LIGHT * TINT) + grain[np.arange(len(frames)) % len(grain)]
    return dim.clip(0, 255).astype(np.uint8)


def write_film(job: tuple[WorldItem, str]) -> None:
    """Draw one scene at night and encode it; a film that is there is kept."""
    import av

    item, path = job
    if Path(path).exists():
        return
    partial = Path(path).with_suffix(".partial.mp4")
    rng = np.random.default_rng(len(item.scene.events))
    with av.open(str(partial), "w") as container:
        options = {"preset": "veryfast", "crf": "20", "g": str(2 * FPS), "threads": "1"}
        stream: Any = container.add_stream("libx264", rate=FPS, options=options)
        stream.width = stream.height = 128
        stream.pix_fmt, stream.time_base = "yuv420p", Fraction(1, FPS)
        times_s = np.arange(round(item.scene.duration_s * FPS)) / FPS
        for number, picture in enumerate(at_night(render(item.scene, times_s.tolist()), rng)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    partial.replace(path)


def row(name: str, item: WorldItem) -> dict[str, str]:
    """Return what a person wrote down about a film."""
    asked = item.question
    options = {f"a{i}": text for i, text in enumerate(asked.options)}
    evidence = json.dumps([list(span) for span in asked.spans])
    found = {"video": name, "question": asked.text, "answer": LABELS[asked.answer], "evidence": evidence}
    return found | options | {"type": asked.kind}


def with_mistakes(rows: list[dict[str, str]], folder: Path, leaked: dict[str, str]) -> list[dict[str, str]]:
    """Return the rows with five mistakes: a film that is not there, one cut short on the way, a moment past the end, a
    film of the test set, and a film that someone renamed."""
    lost = rows[0] | {"video": "cam-9999.mp4"}
    cut = rows[1] | {"video": "cam-cut.mp4"}
    whole = (folder / rows[1]["video"]).read_bytes()
    (folder / "cam-cut.mp4").write_bytes(whole[: len(whole) // 2])
    late = rows[2] | {"evidence": "[[300.0, 310.0]]"}
    (folder / "moved").mkdir(exist_ok=True)
    shutil.copy(folder / rows[3]["video"], folder / "moved" / "cam-moved.mp4")
    moved = rows[3] | {"video": "cam-moved.mp4"}
    return [*rows, lost, cut, late, leaked, moved]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    for part, count in zip(PARTS, (128, 32, 64), strict=True):
        parser.add_argument(f"--{part}", type=int, default=count, help=f"films of {part}.csv")
    given = parser.parse_args()
    videos = given.folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    rows: dict[str, list[dict[str, str]]] = {part: [] for part in PARTS}
    jobs = []
    for part in PARTS:
        for _ in range(getattr(given, part)):
            name = f"cam-{len(jobs):04d}.mp4"
            item = world_item("short", SEED, len(jobs))
            jobs.append((item, str(videos / name)))
            rows[part].append(row(name, item))
    with get_context("spawn").Pool(2) as pool:
        pool.map(write_film, jobs, chunksize=1)
    rows["train"] = with_mistakes(rows["train"], videos, rows["test"][0])
    for part in PARTS:
        with (given.folder / f"{part}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows[part])
    sys.stdout.write("".join(f"{given.folder}/{part}.csv: {len(rows[part])} questions\n" for part in PARTS))
    sys.stdout.write(f"{videos}: {len(jobs)} films\n")


if __name__ == "__main__":
    main()
