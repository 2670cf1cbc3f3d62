"""The parent's side of decode workers: started once, lent out, killed when they hang."""

from __future__ import annotations

import atexit
import mmap
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoomzero.errors import VideoError

# without the current directory, where a user's types.py would hide Python's
_START = """
import sys
sys.path[:] = [sys.argv[1], *filter(None, sys.path)]
from zoomzero.video._worker import main
main(int(sys.argv[2]), int(sys.argv[3]))
"""
_MOST_IDLE = 8


class Worker:
    """One worker process, its socket and the memory its frames travel through."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        if hasattr(os, "memfd_create"):
            self.memory_fd = os.memfd_create("zoomzero-frames")
        else:
            with tempfile.TemporaryFile() as file:
                self.memory_fd = os.dup(file.fileno())
        self._memory: mmap.mmap | None = None
        package_root = str(Path(__file__).resolve().parents[2])
        descriptors = (theirs.fileno(), self.memory_fd)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, package_root, *map(str, descriptors)],
            pass_fds=descriptors,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )
        theirs.close()

    def send(self, path: str, name: str, *arguments: Any, limit_s: float) -> None:
        """Ask for a task (a method of `_worker.Tasks`); the last of its replies is "done" or "error"."""
        try:
            self.connection.send((name, path, arguments, limit_s))
        except OSError as error:
            raise crashed(path, name) from error

    def ask(self, path: str, name: str, *arguments: Any, limit_s: float) -> Any:
        """Ask for a task with one reply and wait for it.

        Returns:
            What the task returns, or the VideoError the file caused: not raised, as the worker is still good.

        Raises:
            VideoError: the worker hung or crashed.
        """
        self.send(path, name, *arguments, limit_s=limit_s)
        try:
            if not self.connection.poll(limit_s):
                raise hung(path, name, limit_s)
            return self.connection.recv()[1]
        except (EOFError, OSError) as error:
            raise crashed(path, name) from error

    def reserve(self, size: int) -> None:
        """Make the shared memory at least `size` bytes."""
        if self._memory is None or size > len(self._memory):
            os.ftruncate(self.memory_fd, size)
            self._memory = mmap.mmap(self.memory_fd, size)

    def view(self, offset: int, shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
        """Return the frame of this (H, W, 3) shape at an offset of the shared memory, not copied."""
        assert self._memory is not None, "reserve comes before view"
        return np.frombuffer(self._memory, np.uint8, shape[0] * shape[1] * shape[2], offset).reshape(shape)

    def alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        """End the process at once and free what it held."""
        self.process.kill()
        self.process.wait()
        self.forget()

    def forget(self) -> None:
        """Close our ends; the process ends by itself when it sees that."""
        self._memory = None
        with suppress(OSError):
            self.connection.close()
        with suppress(OSError):
            os.close(self.memory_fd)


def hung(path: str, name: str, limit_s: float) -> VideoError:
    """Return the error for a worker that gave no sign of life during a task."""
    reason = f"the decoder gave no sign of life for {limit_s:g} s and was stopped"
    fix = "raise --timeout (timeout_s) if the disk is slow, else re-encode the file"
    return VideoError(path, _stage(name), reason, fix)


def crashed(path: str, name: str) -> VideoError:
    """Return the error for a worker that died during a task."""
    return VideoError(path, _stage(name), "the decoder process crashed on this file", "re-encode it with ffmpeg")


def _stage(name: str) -> str:
    return "probe" if name in ("probe", "key_frames") else "decode"


_idle: list[Worker] = []
_lock = threading.Lock()


@contextmanager
def borrow(count: int) -> Iterator[list[Worker]]:
    """Lend `count` workers, starting those that are not there. On any exception they are killed."""
    with _lock:
        workers: list[Worker] = []
        while _idle and len(workers) < count:
            worker = _idle.pop()
            if worker.alive():
                workers.append(worker)
            else:
                worker.kill()
    workers += [Worker() for _ in range(count - len(workers))]
    try:
        yield workers
    except BaseException:  # Ctrl-C too: a worker whose replies nobody read is of no use to the next caller
        for worker in workers:
            worker.kill()
        raise
    with _lock:
        _idle.extend(workers)
        spare, _idle[_MOST_IDLE:] = _idle[_MOST_IDLE:], []
    for worker in spare:
        worker.kill()


def warm_up(workers: int = 2) -> None:
    """Start workers in the background, so that the first probe or decode does not wait for them."""
    with _lock:
        while len(_idle) < workers:
            _idle.append(Worker())


@atexit.register
def shut_down() -> None:
    """Kill the idle workers. Called at exit; the next use starts new ones."""
    with _lock:
        workers, _idle[:] = list(_idle), []
    for worker in workers:
        worker.kill()


def _after_fork() -> None:
    """A forked child must not talk to its parent's workers."""
    global _lock
    _lock = threading.Lock()
    for worker in _idle:
        worker.forget()
        worker.process.returncode = 0  # not our child: nothing to wait for
    _idle.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
