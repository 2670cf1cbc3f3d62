"""Writing the world to disk: real H.264 mp4 files and an examples file. Files that are there already are kept."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from zoomzero.data.example import Example, write_examples
from zoomzero.data.manifest import make_manifest, write_manifest
from zoomzero.errors import ConfigError
from zoomzero.files import PARTIAL
from zoomzero.interrupts import deaf_children
from zoomzero.world.questions import QUESTION_KINDS, Question, ask
from zoomzero.world.render import SIZE, render
from zoomzero.world.scenes import GRID_S, Scene, make_scene

WorldKind = Literal["short", "long"]
FPS = 8
KEY_FRAME_EVERY_S = 2
SHORT_DURATIONS_S = (48.0, 80.0)
LONG_DURATION_S = 1200.0
LABELS = "ABCD"
_STREAM = {"short": 11, "long": 12}  # keeps the random streams of the kinds apart


@dataclass(frozen=True, slots=True)
class WorldItem:
    """One video of the world with its question, not yet written."""

    id: str
    scene: Scene
    question: Question


def world_item(kind: WorldKind, seed: int, index: int) -> WorldItem:
    """Return item `index` of the world `(kind, seed)`: a pure function of its arguments.

    The kinds of question take turns, so every four items hold one of each.
    """
    wanted = QUESTION_KINDS[index % len(QUESTION_KINDS)]
    rng = np.random.default_rng((_STREAM[kind], seed, index))
    while True:
        low, high = SHORT_DURATIONS_S
        steps = rng.integers(round(low / GRID_S), round(high / GRID_S) + 1)
        scene = make_scene(rng, LONG_DURATION_S if kind == "long" else float(steps) * GRID_S)
        question = ask(rng, scene, wanted)
        if question is not None:
            return WorldItem(f"{kind}-{seed}-{index:05d}-{wanted}", scene, question)


def write_world(
    directory: str | Path,
    count: int,
    seed: int,
    kind: WorldKind,
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> list[Example]:
    """Write `count` videos to `directory/videos`, and `directory/examples.jsonl` with its manifest.

    Args:
        directory: where to; made when missing.
        count: number of videos, at least 1.
        seed: which world; the same seed gives the same files.
        kind: short (48-80 s) or long (20 minutes).
        workers: processes that draw and encode.
        progress: called with (seconds of video written, seconds of video in all).

    Returns:
        The examples, video paths relative to the examples file as they are written there.

    Raises:
        ConfigError: a count or number of workers below 1, a negative seed, an unknown kind, another world lies there,
            or no such directory can be made.
    """
    check_arguments(count, seed, kind, workers)
    directory = Path(directory)
    _refuse_another_world(directory / "examples.jsonl", kind, seed)
    make_directory(directory / "videos")
    items = [world_item(kind, seed, index) for index in range(count)]
    write_videos(kind, seed, [_video_path(directory, item.id) for item in items], workers=workers, progress=progress)
    examples = [_example(item, kind) for item in items]
    path = directory / "examples.jsonl"
    write_examples(path, examples)
    write_manifest(path, make_manifest(path, examples, seed=seed))
    return examples


def _refuse_another_world(path: Path, kind: WorldKind, seed: int) -> None:
    """Raise when an examples file is there that this world would replace with other examples."""
    if path.is_file():
        with path.open(encoding="utf-8", errors="replace") as lines:
            first = lines.readline()
        if f'"{kind}-{seed}-' not in first:
            raise ConfigError("--out", f"{path} holds other examples than those of {kind} seed {seed}", "give another")


def check_arguments(count: int, seed: int, kind: str, workers: int) -> None:
    """Refuse what cannot be written.

    Raises:
        ConfigError: a count or number of workers below 1, a negative seed, an unknown kind.
    """
    if count < 1:
        raise ConfigError("--count", f"{count} is not a number of videos", "give 1 or more")
    if seed < 0:
        raise ConfigError("--seed", f"{seed} is negative", "give 0 or more")
    if workers < 1:
        raise ConfigError("--workers", f"{workers} processes write nothing", "give 1 or more")
    if kind not in _STREAM:
        raise ConfigError("--kind", f"{kind!r} is unknown", "give short or long")


def make_directory(directory: Path) -> None:
    """Make a directory for output, with its parents.

    Raises:
        ConfigError: it cannot be made.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError("--out", f"{error.filename} cannot be made ({error.strerror})", "give another one") from error


def write_videos(
    kind: WorldKind,
    seed: int,
    paths: Sequence[Path],
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the first `len(paths)` videos of the world `(kind, seed)`, each to its path; those that are there are kept.

    Args:
        kind: short (48-80 s) or long (20 minutes).
        seed: which world.
        paths: where video 0, 1, .. goes; the directories exist.
        workers: processes that draw and encode.
        progress: called with (seconds of video written, seconds of video in all).
    """
    jobs = [(kind, seed, index, str(path)) for index, path in enumerate(paths)]
    total = sum(world_item(kind, seed, index).scene.duration_s for index in range(len(paths)))
    done = 0.0
    # Spawned, not forked: the parent may hold torch threads.
    with deaf_children():
        pool = multiprocessing.get_context("spawn").Pool(min(workers, len(paths)))
    with pool:
        for seconds in pool.imap_unordered(_write_one, jobs):
            done += seconds
            if progress:
                progress(round(done), round(total))


def write_video(path: str | Path, scene: Scene) -> None:
    """Draw and encode one scene as H.264 mp4 at FPS frames a second, complete or not at all."""
    path = Path(path)
    partial = path.parent / f".{path.name}.{os.getpid()}{PARTIAL}"  # two runs may be writing the same world
    try:
        _encode(partial, scene)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)  # on a full disk it is in the way


def _encode(path: Path, scene: Scene) -> None:
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, FPS)
        stream.options = {
            "preset": "veryfast",
            "crf": "20",
            "g": str(FPS * KEY_FRAME_EVERY_S),
            "threads": "1",
        }
        total, batch = round(scene.duration_s * FPS), 16 * FPS
        for first in range(0, total, batch):
            times_s = np.arange(first, min(first + batch, total)) / FPS
            for number, picture in enumerate(render(scene, times_s.tolist()), first):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, FPS)
                container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _video_path(directory: Path, item_id: str) -> Path:
    return directory / "videos" / f"{item_id}.mp4"


def _write_one(job: tuple[WorldKind, int, int, str]) -> float:
    kind, seed, index, path = job
    item = world_item(kind, seed, index)
    if not Path(path).exists():
        write_video(path, item.scene)
    return item.scene.duration_s


def _example(item: WorldItem, kind: WorldKind) -> Example:
    question = item.question
    return Example(
        id=item.id,
        video=f"videos/{item.id}.mp4",
        question=question.text,
        options=question.options,
        answer=LABELS[question.answer],
        spans=question.spans,
        duration_s=item.scene.duration_s,
        source=f"world-{kind}",
        split="test",
    )
