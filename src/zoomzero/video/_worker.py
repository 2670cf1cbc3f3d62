"""A decode worker: a small process that opens untrusted files, so that a hanging or crashing decoder costs nothing.

Started by `_pool.py`. Requests and replies are pickled tuples over a socket; full-size RGB frames travel through slots
of shared memory and are resized by the parent, which has torch anyway. Nothing here may import torch or transformers:
so a worker is ready in a quarter of a second and holds 50 MB.
"""

from __future__ import annotations

import mmap
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import av.error
import numpy as np
import numpy.typing as npt

from zoomzero.errors import VideoError
from zoomzero.video import probe
from zoomzero.video._source import FileSource, ImagesSource, open_source
from zoomzero.video.types import VideoInfo

_HEARTBEAT_S = 1.0
_ORPHAN_S = 30  # the parent kills a worker at the limit; one whose parent is gone ends this much later
_FAULTS = (av.error.FFmpegError, OSError, ValueError, LookupError, ArithmeticError, MemoryError)


class Slots:
    """The worker's side of the shared memory: `count` slots of `size` bytes, handed back by the parent."""

    def __init__(self, connection: Connection, memory_fd: int, count: int, size: int, arm: Callable[[], None]) -> None:
        self.connection, self.count, self.size, self.arm = connection, count, size, arm
        self.map = mmap.mmap(memory_fd, count * size)
        self.free = list(range(count))

    def put(self, frame: npt.NDArray[np.uint8]) -> int:
        """Copy an (H, W, 3) uint8 array into a free slot, waiting for one, and return the slot's number."""
        if not self.free:
            self._wait()
        slot = self.free.pop()
        np.frombuffer(self.map, np.uint8, frame.size, slot * self.size).reshape(frame.shape)[:] = frame
        return slot

    def settle(self) -> None:
        """Wait until the parent has handed every slot back."""
        while len(self.free) < self.count:
            self._wait()
        self.map.close()

    def _wait(self) -> None:
        """Wait for a slot. A parent that is stopped or starved takes its time; one that is gone closes the socket."""
        signal.alarm(0)
        self.free.append(self.connection.recv())
        self.arm()


class Tasks:
    """What a worker can be asked for; every method is one task and returns its final reply."""

    def __init__(self, connection: Connection, memory_fd: int) -> None:
        self.connection, self.memory_fd = connection, memory_fd
        self.source: FileSource | ImagesSource | None = None
        self.used = False  # the source has decoded a run
        self.limit_s = 0.0

    def probe(self, path: str, fps: float | None, max_pixels: int) -> VideoInfo:
        return probe.examine(path, fps, max_pixels)

    def key_frames(self, path: str, max_pixels: int) -> tuple[float, ...]:
        return probe.examine_keys(path, max_pixels)

    def start(self, info: VideoInfo, times_s: list[float]) -> tuple[list[int] | None, int]:
        """Open the file; return which group of pictures each time is in (None: not known) and a frame's bytes."""
        self.close()
        self.source, self.used = open_source(info), False
        return self.source.groups(times_s), self.source.frame_bytes

    def decode(
        self, wishes: list[tuple[int, float, float]], slot_count: int, slot_bytes: int
    ) -> tuple[dict[int, str], list[int], int, list[str]]:
        """Send the frame of every wish: `("frame", slot, shape, indices, time_s)`, or `("same", indices)` as the last.

        Returns:
            (wish -> why it got none, wishes whose frame follows damage, frames decoded, notes).
        """
        assert self.source is not None, "start comes before decode"
        if self.used:
            self.source = self.source.fresh()
        self.used = True
        source, slots = self.source, Slots(self.connection, self.memory_fd, slot_count, slot_bytes, self.arm)
        source.beat = self._beat()
        source.frame_bytes = slot_bytes
        before, last_time_s = source.decoded, None
        for indices, time_s, pixels in source.frames(wishes):
            if last_time_s == time_s:
                self.connection.send(("same", indices))
                continue
            frame = pixels()
            self.connection.send(("frame", slots.put(frame), frame.shape, indices, time_s))
            last_time_s = time_s
        slots.settle()
        return *source.take_losses(), source.decoded - before, source.take_notes()

    def close(self) -> None:
        if self.source is not None:
            self.source.close()
        self.source = None

    def _beat(self) -> Any:
        """Return a call that tells the parent now and then that this process is alive."""
        last = time.monotonic()

        def beat() -> None:
            nonlocal last
            now = time.monotonic()
            if now - last > _HEARTBEAT_S:
                last = now
                self.arm()
                self.connection.send(("alive",))

        return beat

    def arm(self) -> None:
        """End this process, even inside a hanging decoder, when it is not armed again within the limit."""
        signal.alarm(int(self.limit_s) + _ORPHAN_S)


def main(connection_fd: int, memory_fd: int) -> None:
    """Serve requests `(name, path, arguments, limit_s)` until the parent closes the socket."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what Ctrl-C means
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    connection = Connection(connection_fd)
    tasks = Tasks(connection, memory_fd)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            name, path, arguments, tasks.limit_s = connection.recv()
            tasks.arm()
            connection.send(_answer(tasks, name, path, arguments))
            signal.alarm(0)


def _answer(tasks: Tasks, name: str, path: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        return "done", getattr(tasks, name)(*arguments)
    except VideoError as error:
        return "error", error
    except (BrokenPipeError, ConnectionResetError, EOFError):
        raise  # the parent is gone
    except _FAULTS as error:
        reason = f"{name} failed: {type(error).__name__}: {error}"
        stage = "probe" if name in ("probe", "key_frames") else "decode"
        return "error", VideoError(path, stage, reason, "check that it plays, or re-encode it with ffmpeg")
