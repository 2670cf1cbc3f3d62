"""The app's private folder: every user's files in a folder of their own, limited in size and age, gone at the end."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from zoomzero.app.settings import MEGABYTE, Limits
from zoomzero.errors import ConfigError
from zoomzero.video.types import VideoInfo

PREFIX = "zoomzero-app-"
LEAST_TOKEN = 32  # characters of a user's secret


@dataclass(frozen=True, slots=True)
class Video:
    """A video somebody may ask about.

    `id` is what the outside calls it, `name` what is shown; `path` and `info` stay inside. `mime` is what a browser
    plays it as, None when it does not.
    """

    id: str
    name: str
    path: Path
    info: VideoInfo
    mime: str | None
    notes: tuple[str, ...] = ()


@dataclass(slots=True, eq=False)
class User:
    """One user's videos and answers; nobody else's requests find them.

    `answers` maps an answer's id to the id of its video, in the order they were given; the answers are files.
    """

    folder: Path
    seen_s: float = 0.0
    busy: int = 0  # questions and transfers under way: such a user is not idle
    uploading: int = 0
    videos: dict[str, Video] = field(default_factory=dict)
    answers: dict[str, str] = field(default_factory=dict)

    def answer_file(self, answer: str) -> Path:
        """Return where an answer lies."""
        return self.folder / f"{answer}.answer"

    def bytes_used(self) -> int:
        """Return how much this user's files take."""
        return _size_of(self.folder)


class Store:
    """The private folder and its users.

    Args:
        parent: where it is made; None for the system's temporary folder.
        limits: of size, age and number.

    Raises:
        ConfigError: the folder cannot be made.
    """

    def __init__(self, parent: Path | None, limits: Limits) -> None:
        self.limits = limits
        parent = parent or Path(tempfile.gettempdir())
        try:
            sweep(parent)
            self.root = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))  # mode 0700
            self._lock_file = _hold(self.root)
        except OSError as error:
            reason = f"{parent} cannot take the users' files ({error.strerror or error})"
            raise ConfigError("--store", reason, "give a folder that can be written") from error
        if self._lock_file is None:
            raise ConfigError("--store", f"{self.root} cannot be locked", "give a folder on a local disk")
        self._users: dict[str, User] = {}
        self._lock = threading.RLock()

    @property
    def lock(self) -> threading.RLock:
        """Held while users and what they have are changed."""
        return self._lock

    def user(self, token: str | None, *, make: bool = False) -> User | None:
        """Return the user with this secret; None when there is none (or a new one, with `make`).

        Raises:
            ConfigError: too many users.
        """
        if token is None or len(token) < LEAST_TOKEN:
            return None
        key = hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
        with self._lock:
            found = self._users.get(key)
            if found is None and make:
                self.expire()
                if len(self._users) >= self.limits.users:
                    raise ConfigError("users", "too many people use this app now", "come back later")
                folder = self.root / secrets.token_hex(12)
                folder.mkdir(mode=0o700)
                found = self._users[key] = User(folder)
            if found is not None:
                found.seen_s = time.monotonic()
            return found

    def room_mb(self, user: User) -> float:
        """Return how many megabytes this user may still store."""
        own = self.limits.user_mb - user.bytes_used() / MEGABYTE
        return max(0.0, min(own, self.limits.all_mb - _size_of(self.root) / MEGABYTE))

    def expire(self) -> int:
        """Remove the files of users who have been idle for too long, and return how many there were."""
        with self._lock:
            old = [key for key, user in self._users.items() if self._idle(user)]
            for key in old:
                shutil.rmtree(self._users.pop(key).folder, ignore_errors=True)
        return len(old)

    def _idle(self, user: User) -> bool:
        return not user.busy and time.monotonic() - user.seen_s > self.limits.age_s

    def forget_video(self, user: User, video: str) -> None:
        """Remove an upload and the answers about it."""
        with self._lock:
            gone = user.videos.pop(video)
            gone.path.unlink(missing_ok=True)
            for answer in [a for a, of in user.answers.items() if of == video]:
                del user.answers[answer]
                user.answer_file(answer).unlink(missing_ok=True)

    def close(self) -> None:
        """Remove everything."""
        with self._lock:
            self._users.clear()
            shutil.rmtree(self.root, ignore_errors=True)
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None


def new_token() -> str:
    """Return a secret nobody guesses."""
    return secrets.token_urlsafe(32)


def sweep(parent: Path) -> int:
    """Remove what apps that were killed have left in a folder, and return how many there were."""
    count = 0
    for left in _ours(parent):
        file = _hold(left)
        if file is None:
            continue  # its app runs
        shutil.rmtree(left, ignore_errors=True)
        file.close()
        count += 1
    return count


def _ours(parent: Path) -> Iterator[Path]:
    for one in parent.glob(f"{PREFIX}*"):
        if not one.is_symlink() and one.is_dir() and one.stat().st_uid == os.getuid():
            yield one


def _hold(root: Path) -> IO[str] | None:
    """Lock a private folder; None when another process holds it."""
    file = (root / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _size_of(folder: Path) -> int:
    """Return the bytes of the files below a folder; files and folders may go while they are counted."""
    total = 0
    for inside, _, names in os.walk(folder):  # goes on where a folder has just been removed
        for name in names:
            try:
                found = os.lstat(os.path.join(inside, name))
            except OSError:
                continue
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total
