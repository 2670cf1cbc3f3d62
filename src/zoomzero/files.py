"""Files that are there whole or not at all, and JSON from anywhere."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zoomzero.errors import ConfigError

_HALF_CHARACTER = re.compile(r"\\u[dD][89a-fA-F]")
PARTIAL = ".partial"  # how the names of unfinished files end
_HELD: set[IO[str]] = set()  # the locks of this process


def _let_go() -> None:
    """Close the locks' files in a forked child: it would hold on to them when its parent is long dead."""
    for file in _HELD:
        file.close()
    _HELD.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def write_whole(path: str | Path, content: str | bytes, *, sync: bool = False) -> None:
    """Write a file beside its place and move it there: nobody sees half of it, and what was there stays until then.

    Processes that write the same file do not disturb each other. A kill leaves a hidden `.NAME.PID.partial`.

    Args:
        path: the file; its folder is there.
        content: text is written as UTF-8.
        sync: wait until the content is on the disk, where a power cut leaves it.

    Raises:
        OSError: it cannot be written; the error names `path`, and nothing is left beside it.
    """
    path, data = Path(path), content.encode("utf-8") if isinstance(content, str) else content
    partial = path.parent / f".{path.name}.{os.getpid()}{PARTIAL}"
    try:
        with partial.open("wb") as file:
            file.write(data)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):  # the failed write is the error to report
            partial.unlink(missing_ok=True)  # on a full disk it is in the way
        error.filename = str(path)
        raise


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """Return the rows of a JSON Lines file that this project wrote; none when there is no file yet."""
    path = Path(path)
    if not path.is_file():
        return []
    # by line feeds alone: JSON may hold U+2028 and its like as they are
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def parse_json(text: str) -> Any:
    """Return the value of a JSON text, whoever wrote it.

    Raises:
        ValueError: it is not JSON (then a `json.JSONDecodeError`, which names the line), is nested too deeply, holds a
            number of thousands of digits, or half a character (a lone surrogate), which no file could take again.
    """
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("lists or objects are nested too deeply") from error
    if _HALF_CHARACTER.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            raise ValueError("a text holds half a character (\\ud800 to \\udfff without its partner)") from error
    return value


@contextlib.contextmanager
def locked(path: Path, setting: str, otherwise: str) -> Iterator[None]:
    """Hold a lock on a folder; the system takes it back from a process that dies.

    Args:
        path: the lock's file; its folder is there.
        setting: what the user typed to give the folder, for the error.
        otherwise: what to do instead of waiting.

    Raises:
        ConfigError: another process holds it, or the file system has no locks.
    """
    import fcntl

    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise ConfigError(
                setting, f"{path.parent} is being written by {holder}", f"wait for it, or {otherwise}"
            ) from error
        except OSError as error:
            reason = f"{path.parent} cannot be locked ({error.strerror})"
            raise ConfigError(setting, reason, "give a folder on a file system that has locks") from error
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        _HELD.add(file)
        try:
            yield
        finally:
            _HELD.discard(file)
