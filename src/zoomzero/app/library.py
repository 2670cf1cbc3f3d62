"""The videos everybody may ask about: those of a folder the operator allowed, and the embedded model's examples."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from zoomzero.app.intake import opened
from zoomzero.app.store import Video
from zoomzero.data.example import Example, read_examples
from zoomzero.data.fingerprint import VIDEO_SUFFIXES
from zoomzero.errors import ConfigError

MOST_VIDEOS = 1000  # of a folder that are listed
LISTED_S = 2.0
EXAMPLES, EXAMPLE_SEED = 4, 7


@dataclass(frozen=True, slots=True)
class Shelved:
    """A listed video before anybody opened it; `example` is a question about it whose answer is known."""

    id: str
    name: str
    path: Path
    example: Example | None = None


class Library:
    """Lists videos and opens them by what they are called; no path a user sends is ever followed.

    Args:
        folder: its videos are listed, sub-folders included; None for none.
        examples: questions with known answers, whose videos are listed first.
        timeout_s: seconds opening a video may take.

    Raises:
        ConfigError: `folder` is no folder.
    """

    def __init__(self, folder: Path | None, examples: Sequence[Example], timeout_s: float) -> None:
        check_folder(folder)
        self.folder = None if folder is None else folder.resolve()
        self.timeout_s = timeout_s
        self._examples = tuple(
            Shelved(_id("example", one.id), f"Example {number}", Path(one.video), one)
            for number, one in enumerate(examples, 1)
        )
        self._opened: dict[str, tuple[Video, object]] = {}
        self._listed: list[Shelved] = []
        self._listed_s = float("-inf")
        self._lock = threading.Lock()

    def shelf(self) -> list[Shelved]:
        """Return what is listed now; the folder is looked through every LISTED_S seconds at most."""
        with self._lock:
            if time.monotonic() - self._listed_s > LISTED_S:
                self._listed = self._in_folder()
                self._listed_s = time.monotonic()
            return [*self._examples, *self._listed]

    def find(self, wanted: str) -> Shelved | None:
        """Return a listed video by its id or name."""
        return next((one for one in self.shelf() if wanted in (one.id, one.name)), None)

    def open(self, one: Shelved) -> Video:
        """Return a listed video, opened; it is opened again only when the file has changed.

        Raises:
            VideoError: it cannot be opened.
        """
        stamp = _stamp(one.path)
        with self._lock:
            held, of = self._opened.get(one.id, (None, None))
        if held is not None and of == stamp:
            return held
        video = opened(one.id, one.name, one.path, self.timeout_s)
        with self._lock:
            self._opened[one.id] = (video, stamp)
        return video

    def _in_folder(self) -> list[Shelved]:
        if self.folder is None:
            return []
        found: list[Shelved] = []
        for place, folders, files in os.walk(self.folder):
            folders[:] = sorted(one for one in folders if not one.startswith("."))
            for file in sorted(files):
                path = Path(place) / file
                if file.startswith(".") or path.suffix.lower() not in VIDEO_SUFFIXES or not self._inside(path):
                    continue
                name = path.relative_to(self.folder).as_posix()
                found.append(Shelved(_id("folder", name), name, path))
                if len(found) == MOST_VIDEOS:
                    return found
        return found

    def _inside(self, path: Path) -> bool:
        """Whether a file, links followed, lies in the folder and is a plain one."""
        try:
            real = path.resolve(strict=True)
        except OSError:
            return False
        return self.folder is not None and real.is_relative_to(self.folder) and real.is_file()


def check_folder(folder: Path | None) -> None:
    """Refuse a folder of videos that is none.

    Raises:
        ConfigError: it is no folder.
    """
    if folder is not None and not folder.is_dir():
        raise ConfigError("--videos", f"there is no folder {folder}", "give a folder with videos")


def write_examples(folder: Path) -> list[Example]:
    """Write a few videos of the embedded model's world and return the questions about them."""
    from zoomzero.world.write import write_world

    write_world(folder, EXAMPLES, EXAMPLE_SEED, "short")
    return read_examples(folder / "examples.jsonl")


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns


def _id(kind: str, name: str) -> str:
    return "v" + hashlib.sha256(f"{kind}/{name}".encode("utf-8", "surrogateescape")).hexdigest()[:20]
