"""Finding a benchmark's video files under a folder, however they were unpacked and whatever container they have.

A benchmark names a video by a path (`1164/3238737531.mp4` for NExT-GQA's map_vid_vidorID.json, `v_aB.mp4` for ReXTime).
Tried in this order, with any container format:

1. that path below the folder;
2. that path anywhere below it (`data/1164/3238737531.mkv`), with or without ActivityNet's `v_` in front of the name;
3. its file name alone anywhere, when no other video of the benchmark has the same name.

Two different files that fit equally well are an error: nobody can know which one was annotated. An http(s) address is
the file that was fetched from it, and no other of that name.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from zoomzero.data.fingerprint import VIDEO_SUFFIXES
from zoomzero.errors import DataError
from zoomzero.inputs.fetch import is_address, kept_file

PREFERRED = (".mp4", *(suffix for suffix in VIDEO_SUFFIXES if suffix != ".mp4"))
PREFIX = "v_"  # some releases of ActivityNet's videos have it, some do not


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """Where the videos are: name as the benchmark has it -> file; and the names without a file."""

    files: dict[str, Path]
    missing: tuple[str, ...]


def find_videos(root: str | Path, names: Iterable[str]) -> FoundVideos:
    """Find the files of videos.

    Args:
        root: the folder given as `--videos`.
        names: the videos' paths as the benchmark names them (`Question.video`); absolute ones are taken as they are.

    Raises:
        DataError: there is no such folder, or two files fit one name.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        raise DataError(root, "--videos", "there is no such folder; give the one that holds the videos")
    names = tuple(dict.fromkeys(names))
    files = {name: found for name in names if (found := _direct(root, name))}
    if len(files) < len(names):
        tree = _Tree(root)
        shared = Counter(_stem(name) for name in names)
        for name in names:
            if name in files or is_address(name):
                continue
            if found := tree.find(name, alone=shared[_stem(name)] == 1):
                files[name] = found
    return FoundVideos(files, tuple(name for name in names if name not in files))


def _direct(root: Path, name: str) -> Path | None:
    if is_address(name):
        fetched = kept_file(name)
        return fetched if fetched.is_file() else None
    path = root / name
    if path.exists():
        return path
    bare = root / _bare(name)
    return next((found for suffix in PREFERRED if (found := bare.with_name(bare.name + suffix)).exists()), None)


class _Tree:
    """All video files below a folder, by the names they may go by."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.by_stem: defaultdict[str, list[tuple[tuple[str, ...], Path]]] = defaultdict(list)
        for path in _video_files(root):
            parts = path.relative_to(root).parts
            self.by_stem[_stem(path.name)].append((parts[:-1], path))

    def find(self, name: str, alone: bool) -> Path | None:
        """Return the file whose path ends as the name does; with `alone`, the file name is enough."""
        folders = PurePosixPath(name).parts[:-1]
        same_name = self.by_stem.get(_stem(name), [])
        below = [path for parts, path in same_name if not folders or parts[-len(folders) :] == folders]
        found = below or ([path for _, path in same_name] if alone else [])
        return self._one(name, found) if found else None

    def _one(self, name: str, found: Sequence[Path]) -> Path:
        best = min(found, key=lambda path: (_suffix_rank(path), str(path)))
        others = [path for path in found if path.parent != best.parent and not _same_file(path, best)]
        if others:
            reason = f"could be {best.relative_to(self.root)} or {others[0].relative_to(self.root)}"
            raise DataError(self.root, f"video {name}", f"{reason}; give the folder that holds the right ones alone")
        return best


def _video_files(root: Path) -> Iterable[Path]:
    """Yield all video files below a folder, through links too, each folder once."""
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            below.clear()
            continue
        seen.add(real)
        below.sort()
        for file in sorted(files):
            if Path(file).suffix.lower() in PREFERRED:
                yield Path(folder) / file


def _bare(name: str) -> str:
    """Return a name without its container's suffix; dots that end no suffix (`b_0.0_150.0`) stay."""
    suffix = PurePosixPath(name).suffix.lower()
    return name[: -len(suffix)] if suffix in PREFERRED else name


def _stem(name: str) -> str:
    return PurePosixPath(_bare(name)).name.removeprefix(PREFIX)


def _suffix_rank(path: Path) -> int:
    return PREFERRED.index(path.suffix.lower())


def _same_file(a: Path, b: Path) -> bool:
    return os.path.realpath(a) == os.path.realpath(b)
