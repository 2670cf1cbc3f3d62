"""Files whose packets carry the times of other frames: everything is decoded, and the order that comes out is right.

AVI has no presentation times: a packet carries the time at which its place in the file is due, not that of its frame.
Packed B-frames (two frames in one packet, an empty packet later) carry that on into other containers, and so does
copying an AVI's packets into a container whose times are then made up from their order.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import av.error

from zoomzero.video.files.container import open_container, read_packets

_FAILURES = (av.error.FFmpegError, ValueError, EOFError)
_ON_TIME_S = 0.002
_FEW = 48  # frames that show whether a stream's times ascend
_FEWER = 24  # the same where most files are sound: no encoder goes longer without a reordered frame, if it has any
_SETTLED = 64  # packets after which a decoder's delay grows no more
_ALWAYS_REORDERS = frozenset({"h264", "hevc", "vc1"})  # whether they do shows late
_REORDERS = frozenset({"h264", "hevc"})
_UNORDERED_PROFILES = frozenset({"Baseline", "Constrained Baseline"})  # every frame is shown where it stands
_STEADY = frozenset({"mpeg4", "mpeg2video", "mpeg1video"})  # a frame comes out one packet late, always


def needs_order(format_name: str, stream: Any, path: str) -> bool:
    """Return whether frames take their times from the order in which they come out."""
    codec = stream.codec_context
    if format_name == "avi":
        return codec.name in _ALWAYS_REORDERS or bool(codec.has_b_frames)
    if codec.name in _REORDERS and codec.profile not in _UNORDERED_PROFILES:
        return _keeps_order(path, stream.index) and not _ascends(path, stream.index, _FEWER)
    return codec.name == "mpeg4" and not _ascends(path, stream.index, _FEW)


def is_steady(format_name: str, stream: Any) -> bool:
    """Return whether the packet that brings a frame out tells its time."""
    return format_name == "avi" and stream.codec_context.name in _STEADY


def place_of(format_name: str, packet: Any) -> int | None:
    """Return the time that a packet's place in the file gives to some frame, in stream ticks."""
    if format_name == "avi" and packet.dts is not None:
        return int(packet.dts)
    return packet.dts if packet.pts is None else int(packet.pts)


def first_in_order(path: str, index: int) -> int | None:
    """Return the time, in stream ticks, of the first frame that comes out."""
    with open_container(path) as container:
        walker = OrderWalker(container, container.streams[index], 25.0)
        return next((pts for pts, _frame, _bad in walker.frames()), None)


def _keeps_order(path: str, index: int) -> bool:
    """Return whether the first packets' times ascend as they stand: with reordered frames that is a mistake."""
    times: list[int] = []
    with open_container(path) as container:
        try:
            for packet in read_packets(container, container.streams[index]):
                if not packet.size or len(times) == _FEWER:
                    break
                if packet.pts is None or (times and packet.pts < times[-1]):
                    return False
                times.append(packet.pts)
        except _FAILURES:
            return False  # damage is found and said elsewhere
    return len(times) > 1


def _ascends(path: str, index: int, most: int) -> bool:
    """Decode the first frames and return whether their times ascend, as shown frames' times do."""
    with open_container(path) as container:
        stream = container.streams[index]
        stream.codec_context.thread_count = 1
        shown = 0
        before: int | None = None
        try:
            for packet in read_packets(container, stream):
                for frame in stream.codec_context.decode(packet if packet.size else None):
                    if frame.pts is None:
                        continue
                    if before is not None and frame.pts < before:
                        return False
                    before = frame.pts
                    shown += 1
                if shown >= most:
                    return True
        except _FAILURES:
            return True  # damage is found and said elsewhere
    return True


class OrderWalker:
    """Decodes one stream from its first packet on; members as those of `GopWalker`.

    A frame gets the smallest packet time (of decoding: its place in the file) that no earlier frame got. Where a packet
    gave no frame, that count would be off: with a decoder of steady delay the packet that brought the frame out tells
    its time, otherwise frames up to the next key frame, where counting starts anew, are missing.

    Args:
        container: an open av input container, at its beginning.
        stream: its video stream, set to decode on one thread.
        fps: average frame rate, for tolerances.
    """

    def __init__(self, container: Any, stream: Any, fps: float) -> None:
        self.container, self.stream, self.context = container, stream, stream.codec_context
        self.tick_s = float(stream.time_base)
        self.frame_ticks = max(1, round(1.0 / (fps * self.tick_s)))
        self.on_time_s = min(_ON_TIME_S, 0.5 / fps)
        self.beat: Callable[[], None] = lambda: None
        self.decoded = 0
        self.missing: dict[int, str] = {}
        self.traces: list[int] = []
        self._format = container.format.name
        self._steady = is_steady(self._format, stream)
        self._due: list[int] = []  # times of packets whose frame has not come out: a heap
        self._fed = self._delay = 0
        self._lost = self._tainted = False
        self._last: int | None = None

    def walk(self, wishes: Sequence[tuple[int, float, float]]) -> Iterator[tuple[list[int], int, Any]]:
        """Yield the frame of every wish that has one, as `GopWalker.walk` does; the frame on screen, always."""
        open_wishes = deque((index, int((time_s + self.on_time_s) / self.tick_s + 1e-6)) for index, time_s, _ in wishes)
        previous: tuple[int, Any, bool] | None = None
        for pts, frame, bad in self.frames():
            yield from self._answer(open_wishes, previous, pts)
            if not open_wishes:
                return
            previous = pts, frame, bad
        late = 2 * self.frame_ticks
        yield from self._answer(open_wishes, previous, None if previous is None else previous[0] + late)
        for index, _ in open_wishes:
            self.missing[index] = "past the end" if previous is not None else "no frame"

    def frames(self) -> Iterator[tuple[int, Any, bool]]:
        """Yield (time in stream ticks, frame, whether it is damaged) in the order shown."""
        for packet in read_packets_until_fault(self.container, self.stream):
            self.beat()
            if packet is not None and packet.is_keyframe and self._lost:
                yield from self._timed(None)
                self.context.flush_buffers()
                self._due, self._fed, self._delay, self._lost, self._last = [], 0, 0, False, None
            yield from self._timed(packet)

    def _timed(self, packet: Any) -> Iterator[tuple[int, Any, bool]]:
        due = None if packet is None else place_of(self._format, packet)
        if due is not None:
            heapq.heappush(self._due, due)
            self._fed += 1
        try:
            frames = self.context.decode(packet)
        except _FAILURES:
            self._lost = self._lost or not self._steady
            return
        for frame in frames:
            self.decoded += 1
            pts = self._time(frame)
            if pts is None:
                continue
            if frame.key_frame:
                self._tainted = False
            self._tainted = self._tainted or bool(frame.is_corrupt)
            yield pts, frame, bool(frame.is_corrupt) or self._lost
        if not self._steady and packet is not None:
            if self._fed <= _SETTLED:
                self._delay = max(self._delay, len(self._due))
            elif len(self._due) > self._delay:
                self._lost = True

    def _time(self, frame: Any) -> int | None:
        if self._steady:
            told = frame.dts
            pts = told if told is not None else None if self._last is None else self._last + self.frame_ticks
        else:
            pts = heapq.heappop(self._due) if self._due else None
        if pts is not None and self._last is not None and pts < self._last:
            return None
        self._last = pts if pts is not None else self._last
        return pts

    def _answer(
        self, wishes: deque[tuple[int, int]], shown: tuple[int, Any, bool] | None, until: int | None
    ) -> Iterator[tuple[list[int], int, Any]]:
        """Give the frame on screen to the wishes before `until`."""
        indices: list[int] = []
        while wishes and until is not None and wishes[0][1] < until:
            index, target = wishes.popleft()
            if shown is None or target < shown[0]:
                self.missing[index] = "no frame"
            elif shown[2]:
                self.missing[index] = "damaged"
            else:
                indices.append(index)
        if indices and shown is not None:
            if self._tainted:
                self.traces += indices
            yield indices, shown[0], shown[1]


def read_packets_until_fault(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets, and None once where they end or cannot be read on."""
    try:
        for packet in read_packets(container, stream):
            if packet.size:
                yield packet
    except _FAILURES:
        pass  # what lies behind the fault is reported as missing
    yield None
