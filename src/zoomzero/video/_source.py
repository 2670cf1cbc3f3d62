"""What a worker decodes from: a video file or a directory of images, behind one small interface.

Both have the same members: `groups`, `frames`, `take_losses`, `take_notes`, `fresh`, `close`; `decoded`, the frames
that came out of the decoder so far; `frame_bytes`, the largest frame they may hand out; and `beat`, called while they
work. Times are seconds from the video's first frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoomzero.errors import VideoError
from zoomzero.video._walk import GopWalker
from zoomzero.video.files.clock import Clock, index_kind, may_leap
from zoomzero.video.files.container import open_container
from zoomzero.video.files.images import image_files, load_image
from zoomzero.video.files.order import OrderWalker
from zoomzero.video.files.orient import orientation, upright
from zoomzero.video.types import VideoInfo

Rgb = npt.NDArray[np.uint8]
Found = tuple[list[int], float, Callable[[], Rgb]]  # wish indices, time in seconds, the (H, W, 3) pixels when asked
Wishes = Sequence[tuple[int, float, float]]  # (index, time in seconds, how far a key frame may be in its stead)


def open_source(info: VideoInfo) -> FileSource | ImagesSource:
    """Open what a probe described."""
    return ImagesSource(info) if info.kind == "frames" else FileSource(info)


class FileSource:
    """A video file, decoded on one thread by the per-group rule of `GopWalker`, or in order (`VideoInfo.reading`)."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.container = open_container(info.path)
        self.stream = self.container.streams[info.stream_index]
        self.stream.thread_type = "NONE"
        self.stream.codec_context.thread_count = 1
        self.stream.codec_context.options = {"max_pixels": str(info.max_pixels)}
        self.walker = self._walker()
        self.coded = self.stream.codec_context.width, self.stream.codec_context.height
        self._turn = info.rotation, info.mirrored
        self.frame_bytes = self.coded[0] * self.coded[1] * 3
        self._notes: list[str] = []

    def _walker(self) -> GopWalker | OrderWalker:
        if self.info.reading == "order":
            return OrderWalker(self.container, self.stream, self.info.fps)
        tick_s = float(self.stream.time_base)
        if self.info.reading == "seek":
            return GopWalker(self.container, self.stream, self.info.fps)
        first = round(self.info.start_s / tick_s)
        # what an edit list leaves out makes decode times fall, but no recording starts anew there
        edited = index_kind(self.container, self.stream) in ("parts", "first")
        clock = None if edited else Clock(tick_s, self.info.fps, may_leap(self.container))
        return GopWalker(self.container, self.stream, self.info.fps, through=True, clock=clock, first=first)

    @property
    def beat(self) -> Callable[[], None]:
        return self.walker.beat

    @beat.setter
    def beat(self, call: Callable[[], None]) -> None:
        self.walker.beat = call

    @property
    def decoded(self) -> int:
        return self.walker.decoded

    def groups(self, times_s: Sequence[float]) -> list[int] | None:
        """Return for every time which group of pictures holds it, or None without an index of key frames.

        A file that is read through is one group: one worker reads it, so no picture depends on how many there are.
        """
        if not isinstance(self.walker, GopWalker) or self.walker.reads_through:
            return [0] * len(times_s)
        index = self.stream.index_entries
        if len(index) < 2:
            return None
        first, last = index[0].timestamp, index[len(index) - 1].timestamp
        if (last - first) * self.walker.tick_s < self.info.duration_s / 2:
            return None  # fragmented files and late cues: the index knows only what was read so far
        # the index has decode times: shift them by how much later the first key frame is shown
        shift = self.walker.first - first
        ticks = [int((t + self.info.start_s) / self.walker.tick_s) - shift for t in times_s]
        return [index.search_timestamp(tick, backward=True) for tick in ticks]

    def frames(self, wishes: Wishes) -> Iterator[Found]:
        """Yield the frame of every wish that decodes, in time order."""
        on_stream = [(index, time_s + self.info.start_s, give_s) for index, time_s, give_s in wishes]
        for indices, pts, frame in self.walker.walk(on_stream):
            time_s = round(pts * self.walker.tick_s - self.info.start_s, 6)
            yield indices, time_s, partial(self._rgb, frame)

    def take_losses(self) -> tuple[dict[int, str], list[int]]:
        """Return (wish -> why it got no frame, wishes whose frame follows damage), and forget them."""
        missing, self.walker.missing = self.walker.missing, {}
        traces, self.walker.traces = self.walker.traces, []
        return missing, traces

    def take_notes(self) -> list[str]:
        notes, self._notes = self._notes, []
        return notes

    def fresh(self) -> FileSource:
        """Return the source as it was opened. A decoder that was emptied is not new: what a damaged picture lacks it
        takes from pictures that lay in the same memory before.
        """
        self.close()
        return FileSource(self.info)

    def close(self) -> None:
        self.container.close()

    def _rgb(self, frame: Any) -> Rgb:
        """Return the frame's (H, W, 3) uint8 pixels, upright."""
        width, height = frame.width, frame.height
        if (width, height) != self.coded:
            squeezed = f"frames of {width}x{height} are squeezed into the shape of {self.coded[0]}x{self.coded[1]}"
            self._notes.append(f"the picture's size changes inside the file: {squeezed}")
        if width * height * 3 > self.frame_bytes:  # beyond the memory set aside
            width, height = self.coded
        picture = frame.reformat(width=width, height=height, format="rgb24")
        plane = picture.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:height, : width * 3]
        turn = orientation(frame) or self._turn
        if turn != self._turn:
            self._notes.append("the picture is turned inside the file: some frames are squeezed into another shape")
        return upright(rows.reshape(height, width, 3), *turn)


class ImagesSource:
    """A directory of images shown at a constant rate."""

    def __init__(self, info: VideoInfo) -> None:
        self.info, self.decoded = info, 0
        self.beat: Callable[[], None] = lambda: None
        self.frame_bytes = info.width * info.height * 3
        self.files = image_files(Path(info.path))
        self._missing: dict[int, str] = {}
        self._last: tuple[int, Rgb] | None = None

    def groups(self, times_s: Sequence[float]) -> list[int] | None:
        """Every image stands alone."""
        return [self._index(t) for t in times_s]

    def frames(self, wishes: Wishes) -> Iterator[Found]:
        """Yield the image of every wish that opens, in time order."""
        for wish, time_s, _give_s in wishes:
            self.beat()
            index = self._index(time_s)
            if self._last is None or self._last[0] != index:
                try:
                    picture = load_image(self.files[index])
                except VideoError:
                    self._missing[wish] = "not a readable image"
                    continue
                self._last = index, picture
                self.decoded += 1
            picture = self._last[1]
            if picture.shape[:2] != (self.info.height, self.info.width):
                self._missing[wish] = "of another size than when it was probed"
                continue
            yield [wish], index / self.info.fps, partial(np.asarray, picture)

    def take_losses(self) -> tuple[dict[int, str], list[int]]:
        missing, self._missing = self._missing, {}
        return missing, []

    def take_notes(self) -> list[str]:
        return []

    def fresh(self) -> ImagesSource:
        """Return itself: an image does not depend on others."""
        return self

    def close(self) -> None:
        pass

    def _index(self, time_s: float) -> int:
        return min(max(int(time_s * self.info.fps + 1e-3), 0), len(self.files) - 1)
