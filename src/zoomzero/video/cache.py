"""A bounded store of decoded frames, so that a second look at the same moment costs nothing."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]


class FrameCache:
    """Least-recently-used frames in memory, at most `max_bytes` of pixels. Safe to share between threads.

    A key names a file (path, size, modification time), a wished time and a size, so an edited file never answers
    with old frames. `hits`, `misses` and `evictions` count since the cache was made.
    """

    def __init__(self, max_bytes: int) -> None:
        if max_bytes < 0:
            raise ValueError(f"max_bytes must not be negative, got {max_bytes}")
        self.max_bytes = max_bytes
        self.bytes = self.hits = self.misses = self.evictions = 0
        self._frames: OrderedDict[Hashable, tuple[Frame, float]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._frames)

    def get(self, key: Hashable) -> tuple[Frame, float] | None:
        """Return (frame (H, W, 3) uint8 read-only, its true time in seconds), or None when it is not held."""
        with self._lock:
            found = self._frames.get(key)
            if found is None:
                self.misses += 1
                return None
            self._frames.move_to_end(key)
            self.hits += 1
            return found

    def put(self, key: Hashable, frame: Frame, time_s: float) -> None:
        """Keep a copy of a frame; the oldest go when it does not fit. A frame larger than the cache is not kept."""
        if frame.nbytes > self.max_bytes:
            return
        kept = frame.copy()
        kept.flags.writeable = False
        with self._lock:
            old = self._frames.pop(key, None)
            if old is not None:
                self.bytes -= old[0].nbytes
            while self.bytes + kept.nbytes > self.max_bytes:
                _, (gone, _) = self._frames.popitem(last=False)
                self.bytes -= gone.nbytes
                self.evictions += 1
            self._frames[key] = (kept, time_s)
            self.bytes += kept.nbytes

    def clear(self) -> None:
        """Forget every frame; the counters stay."""
        with self._lock:
            self._frames.clear()
            self.bytes = 0
