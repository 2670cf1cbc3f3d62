"""Files that are there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from zoomzero.errors import ConfigError

PARTIAL = ".partial"  # how the names of unfinished files end


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
        yield
