"""Miniatures of benchmarks: world videos under a benchmark's names, with annotation in its official format.

    DIR/annotation/   the annotation's files as released, for `--data`
    DIR/videos/       the videos as released, for `--videos`

Everything that reads a benchmark runs on them, on real files, where the benchmark itself is not at hand. Video `index`
of a world `(kind, seed)` is the same video in every miniature and without one; questions about it differ in form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zoomzero.errors import ConfigError
from zoomzero.files import write_whole
from zoomzero.world.miniatures import choice, evidence, grounding
from zoomzero.world.miniatures.material import Format, Layout, film
from zoomzero.world.write import WorldKind, check_arguments, make_directory, write_videos

FORMATS: dict[str, Format] = evidence.FORMATS | grounding.FORMATS | choice.FORMATS


@dataclass(frozen=True, slots=True)
class Miniature:
    """A written miniature. `entries`: questions, or captions that questions are made of; `seconds` of video in all."""

    benchmark: str
    split: str
    annotation: Path
    videos: Path
    films: int
    entries: int
    seconds: float


def write_miniature(
    name: str,
    directory: str | Path,
    count: int,
    seed: int,
    kind: WorldKind = "short",
    *,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Miniature:
    """Write `directory/annotation` and `directory/videos`; videos that are there are kept.

    The annotation is written last, so a folder that has one is complete.

    Args:
        name: the benchmark.
        directory: where to; made when missing.
        count: number of videos; most benchmarks ask several questions about each.
        seed: which world; the same seed gives the same files.
        kind: short (48-80 s) or long (20 minutes).
        workers: processes that draw and encode.
        progress: called with (seconds of video written, seconds of video in all).

    Raises:
        ConfigError: no miniature of this name, a wrong argument, or the directory holds another miniature.
    """
    if name not in FORMATS:
        raise ConfigError("--as", f"{name!r} has no miniature", f"choose from {', '.join(FORMATS)}")
    check_arguments(count, seed, kind, workers)
    form = FORMATS[name]
    if count < form.least:
        reason = f"{name} takes wrong options from other videos, so {count} is too few"
        raise ConfigError("--count", reason, f"give {form.least} or more")
    directory = Path(directory)
    annotation, videos = directory / "annotation", directory / "videos"
    films = [film(kind, seed, index) for index in range(count)]
    layout = form.lay_out(films)
    _refuse_another(annotation, layout)
    paths = [videos / path for path in layout.videos]
    for folder in sorted({path.parent for path in paths}):
        make_directory(folder)
    write_videos(kind, seed, paths, workers=workers, progress=progress)
    for path, content in layout.files.items():
        make_directory((annotation / path).parent)
        write_whole(annotation / path, content)
    seconds = sum(one.scene.duration_s for one in films)
    return Miniature(name, form.split, annotation, videos, count, layout.entries, seconds)


def _refuse_another(annotation: Path, layout: Layout) -> None:
    """Raise when the folder holds files this miniature would not write: readers might take them for its own."""
    if not annotation.is_dir():
        return
    for path in sorted(annotation.rglob("*")):
        there = path.relative_to(annotation)
        if path.is_file() and not any(part.startswith(".") for part in there.parts):
            content = layout.files.get(there.as_posix())
            if content is None or content != path.read_bytes():
                raise ConfigError("--out", f"{path} belongs to another miniature", "give an empty directory")
