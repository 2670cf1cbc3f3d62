"""The decode rule: jump to the group of pictures that holds a wished time, decode what that frame needs, no more.

Runs inside a worker process. Packets are read ahead of the decoder, so that the frame on screen at a wished time is
known from the packets' times before anything is decoded. From that follow the savings: frames nobody refers to are
skipped unless they are wished for, a run between two wishes that holds a key frame is read but not decoded, and
nothing after the last wish of a group is decoded. A jump that lands too late is repeated from further back, and so is
a run whose start picture does not come out clean: streams without IDR frames build their picture up over many frames.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby, takewhile
from operator import itemgetter
from typing import Any

import av.error

from zoomzero.video.files.clock import Clock
from zoomzero.video.files.container import read_packets

SKIPS_UNREFERENCED = frozenset({"h264", "hevc"})  # decoders that honour a skip level changed between packets
_MOST_REORDERED = 17  # no codec shows a frame more than 16 frames later than it decodes it
_FAILURES = (av.error.FFmpegError, ValueError)
_MOST_BACK = 8  # key frames to go back for a clean start
_MOST_VAIN = 4  # groups in a row that an earlier start may fail to help
ON_TIME_S = 0.002  # how much later than wished a frame may start: containers round times to 1 ms

Shown = tuple[list[int], int, Any]  # which wishes a frame answers, its time in stream ticks, the av.VideoFrame


class GopWalker:
    """Walks one video stream forward through ascending wished times.

    `missing` names the wishes that got no frame and why, `traces` those whose frame follows damage in its group,
    `decoded` counts the frames that came out of the decoder, `beat` is called for every packet.

    Args:
        container: an open av input container.
        stream: its video stream, set to decode on one thread (the skip level changes between packets).
        fps: average frame rate, for tolerances.
        through: read from where the container stands to the end without jumps.
        clock: moves the packets' times on the way; None leaves them.
        first: time of the first frame in stream ticks; None for what the container says.
    """

    def __init__(
        self,
        container: Any,
        stream: Any,
        fps: float,
        *,
        through: bool = False,
        clock: Clock | None = None,
        first: int | None = None,
    ) -> None:
        self.container, self.stream = container, stream
        self.context = stream.codec_context
        self.tick_s = float(stream.time_base)
        self.frame_ticks = max(1, round(1.0 / (fps * self.tick_s)))
        self.second_ticks = max(1, round(1.0 / self.tick_s))
        self.on_time_s = min(ON_TIME_S, 0.5 / fps)
        self.reads_through, self.clock = through, clock
        self.can_skip = self.context.name in SKIPS_UNREFERENCED
        self.first = (stream.start_time or 0) if first is None else first
        self.beat: Callable[[], None] = lambda: None
        self.decoded = 0
        self.missing: dict[int, str] = {}
        self.traces: list[int] = []
        self._longest_gop = 0
        self._back = 0  # how far before a wish this container has to be asked to seek
        self._skipping = False
        self._run_key: int | None = None  # the key frame the decoder last started from
        self._unclean: list[tuple[int, int, int]] = []  # (key frame of a run that began unclean, frame, wish)
        self._clean_from: int | None = None  # the first clean frame of the run that came out
        self._first_out: int | None = None  # the first frame of the run that came out
        self._later_keys: list[int] = []  # key frames of the run after the one it began with
        self._full_start = True  # whether the run's key frame is surely a whole picture
        self._restart()

    def walk(self, wishes: Sequence[tuple[int, float, float]]) -> Iterator[Shown]:
        """Yield the frame of every wish that has one.

        Args:
            wishes: (index, time, give) in seconds on the stream's own clock, ascending in time. Where `give` is
                above 0, a key frame at most that far from the time is taken instead of the frame on screen.
        """
        for index, time_s, give_s in wishes:
            target = int((time_s + self.on_time_s) / self.tick_s + 1e-6)
            yield from self._approach(target)
            shown = self._near_key(target, int(give_s / self.tick_s)) if give_s > 0 else None
            if shown is not None and shown != self._key:
                yield from self._empty()
                self._skip_to_key(shown)
            if shown is None:
                shown = self._on_screen(target)
            if shown is None:
                self.missing[index] = "damaged" if self._wall else "no frame"
            elif self._broken or shown in self._spoiled:
                self._lose(shown, [index])
            elif self._eof and target > self._end + max(2 * self.frame_ticks, self.second_ticks // 10):
                self.missing[index] = "past the end"
            else:
                self._wanted.setdefault(shown, []).append(index)
                yield from self._feed(shown)
        yield from self._empty()
        if not self.reads_through:
            yield from self._start_earlier()

    def _start_earlier(self) -> Iterator[Shown]:
        """Decode again, from keys further back, what a run gave no clean picture for before it was wanted."""
        unclean, self._unclean = sorted(self._unclean), []
        vain = 0  # groups in a row that this did not help: the file is damaged, not without full pictures
        for key, group in groupby(unclean, key=itemgetter(0)):
            wishes = [(shown, index) for _, shown, index in group]
            back = 1
            while wishes and back <= _MOST_BACK and vain < _MOST_VAIN and self._start_before(key, back):
                yield from self._again(wishes)
                wishes = [wish for wish in wishes if wish[1] in self.missing]
                if wishes and self._clean_from is not None and self._clean_from <= wishes[0][0]:
                    break  # clean pictures before it, and it is still damaged
                back *= 2
            vain = vain + 1 if wishes else 0
        self._unclean = []

    def _again(self, wishes: Sequence[tuple[int, int]]) -> Iterator[Shown]:
        """Decode (frame time, wish) from the key frame the run was set to."""
        for shown, index in wishes:
            self._read_past(shown)
            del self.missing[index]
            if self._broken or shown in self._spoiled:
                self._lose(shown, [index])
                continue
            self._wanted.setdefault(shown, []).append(index)
            yield from self._feed(shown)
        yield from self._empty()

    def _lose(self, shown: int, indices: Sequence[int]) -> None:
        """Note that wishes got no clean frame, and whether an earlier start could give one."""
        self.missing.update(dict.fromkeys(indices, "damaged"))
        if self._run_key is not None and (self._clean_from is None or self._clean_from > shown):
            self._unclean += [(self._run_key, shown, index) for index in indices]

    def _restart(self) -> None:
        """Forget what was read; reading goes on where the container now stands. The decoder must be empty."""
        self._packets = read_packets(self.container, self.stream)
        self._ahead: deque[Any] = deque()  # read, not yet decoded
        self._seen: list[int] = []  # presentation times read since the run's key frame, ascending
        self._horizon: int | None = None  # highest decode time read: every frame shown before it has been read
        self._spoiled: set[int] = set()  # frames whose packets are cut short
        self._newest_key: int | None = None
        self._key: int | None = None  # the key frame of the run; None while the decoder is empty
        self._end = self.first  # where the last frame that was read ends
        self._eof = self._wall = False  # nothing more to read; because of damage
        self._broken = False  # a packet that does not decode, or a damaged key frame: nothing more from this group
        self._ruined = self._tainted = False  # the group's key frame is damaged; some frame of it is
        self._wanted: dict[int, list[int]] = {}
        self._previous: tuple[int, Any] | None = None
        self._latest = self.first  # the last frame that was wanted
        self._early: dict[int, Any] = {}  # that frame and those after it which came out already

    # --- reading ---

    def _approach(self, target: int) -> Iterator[Shown]:
        """Read until the wished frame's packet and a key frame before it are there, seeking where that is shorter."""
        if self._in_reach(target):
            self._read_past(target)
            key = self._newer_key(target)
            if key is not None:
                yield from self._empty()
                self._skip_to_key(key)
            if self._key is not None:
                return
        yield from self._empty()
        self._seek(target)

    def _in_reach(self, target: int) -> bool:
        here = self.first if self._horizon is None else self._horizon
        if target < here or (self._eof and not self._wall):
            return self._key is not None or self._newer_key(target) is not None
        return not self._eof and (self.reads_through or target - here <= self._reach())

    def _reach(self) -> int:
        """Return how far ahead, in ticks, reading on is expected to be cheaper than seeking."""
        return max(self.second_ticks, self._longest_gop * 3 // 2)

    def _seek(self, target: int) -> None:
        """Jump so that the last key frame at or before the target is read; again from further back when late."""
        back, lowest, before = self._back, self.first - self.second_ticks, self._run_key
        while True:
            point = max(lowest, target - back)
            if not self._jump(point):
                return
            self._read_past(target)
            key = self._newer_key(target)
            if key is not None:
                self._back = back
                if key == before:  # the same group again: reading on would have been cheaper
                    self._longest_gop = max(self._longest_gop, target - key)
                self._skip_to_key(key)
                return
            if point <= lowest or self._wall:
                return  # nothing to start from: the wish is before the first key frame, or past the damage
            back = max(self.second_ticks, 2 * back)

    def _start_before(self, key: int, back: int) -> bool:
        """Begin a run `back` key frames before another, or at the first of all; False where there is none."""
        reach, lowest = max(self._back, self.frame_ticks), self.first - self.second_ticks
        while True:
            point = max(lowest, key - reach)
            if not self._jump(point):
                return False
            self._read_past(key)
            keys = [packet.pts for packet in self._ahead if _is_key(packet) and packet.pts < key]
            if len(keys) >= back or (keys and point <= lowest):
                self._skip_to_key(keys[max(0, len(keys) - back)])
                return True
            if point <= lowest or self._wall:
                return False
            reach = max(self.second_ticks, 2 * reach)

    def _jump(self, point: int) -> bool:
        """Seek; False where the container cannot."""
        for place in () if self.reads_through else (point, max(point, self.first)):
            try:
                self.container.seek(place, stream=self.stream)
            except (*_FAILURES, OSError):
                continue  # AVI and FLV refuse times before their first
            self._restart()
            return True
        return False

    def _read_past(self, target: int) -> None:
        """Read packets until every frame at or before the target must have been read."""
        # where recordings or parts were joined, decode times are ffmpeg's guesses: there only counting frames is safe
        while not self._eof and (self.reads_through or self._horizon is None or self._horizon <= target):
            if len(self._seen) - bisect_right(self._seen, target) >= _MOST_REORDERED:
                return
            self._read()

    def _read(self) -> None:
        self.beat()
        try:
            packet = next(self._packets)
        except (StopIteration, *_FAILURES) as error:
            self._eof, self._wall = True, not isinstance(error, StopIteration | EOFError)
            return
        if packet.size == 0:  # the empty packet that ends a stream
            self._eof = True
            return
        self._ahead.append(packet)
        if self.clock is not None:
            self.clock.run_on(packet)
            if packet.pts is None and packet.is_keyframe and self._horizon is None:
                packet.pts = self.first - self.second_ticks  # before all that is shown, but a start to decode from
        pts = packet.pts
        if packet.dts is not None and not packet.is_discard:
            self._horizon = packet.dts if self._horizon is None else max(self._horizon, packet.dts)
        if pts is None or packet.is_discard:
            return
        insort(self._seen, pts)
        if packet.is_corrupt:
            self._spoiled.add(pts)
        self._end = max(self._end, pts + (packet.duration or self.frame_ticks))
        if packet.is_keyframe:
            if self._newest_key is not None:
                self._longest_gop = max(self._longest_gop, pts - self._newest_key)
            self._newest_key = pts

    def _newer_key(self, target: int) -> int | None:
        """Return the last key frame at or before the target that waits undecoded: starting there skips the rest."""
        for packet in reversed(self._ahead):
            if _is_key(packet) and packet.pts <= target:
                return int(packet.pts)
        if self._key is not None:
            return None
        # an edit list that begins in mid-group: its key frame is not shown, but decodes
        lead = takewhile(lambda packet: packet.is_discard, self._ahead)
        return max((int(p.pts) for p in lead if p.is_keyframe and p.pts is not None and p.pts <= target), default=None)

    def _near_key(self, target: int, give: int) -> int | None:
        """Return a key frame within `give` ticks of the target: the last one before it, else the first after it."""
        if self._key is not None and self._key >= target - give and self._ahead and self._ahead[0].pts == self._key:
            return self._key
        self._read_past(target + give)
        later = [p.pts for p in self._ahead if _is_key(p) and target < p.pts <= target + give]
        return min(later, default=None)

    def _skip_to_key(self, key: int) -> None:
        """Drop what was read before a key frame. The decoder must be empty."""
        while not (self._ahead[0].is_keyframe and self._ahead[0].pts == key):
            self._ahead.popleft()
        self._key = self._run_key = key
        self._seen = self._seen[bisect_left(self._seen, key) :]
        self._broken = self._ruined = self._tainted = False
        self._clean_from = self._previous = self._first_out = None
        self._later_keys = []
        self._full_start = self.context.name != "h264" or self._ahead[0].is_discard

    def _on_screen(self, target: int) -> int | None:
        """Return the time of the last frame at or before the target."""
        place = bisect_right(self._seen, target)
        return self._seen[place - 1] if place and self._key is not None else None

    # --- decoding ---

    def _feed(self, wanted: int) -> Iterator[Shown]:
        """Decode up to the packet of the wanted frame; the frame may come out now or later."""
        if wanted in self._early:
            yield self._wanted.pop(wanted), wanted, self._early[wanted]
        self._latest = wanted
        self._early = {pts: frame for pts, frame in self._early.items() if pts >= wanted}
        waiting = next((i for i, p in enumerate(self._ahead) if p.pts == wanted and not p.is_discard), -1)
        for _ in range(waiting + 1):
            packet = self._ahead.popleft()
            if _is_key(packet) and packet.pts > (self._run_key or 0):
                self._later_keys.append(packet.pts)
            # what is shown earlier is no wish's any more; 0.6: an interlaced frame's second field has its own packet
            needed = packet.pts is None or packet.pts >= wanted - 0.6 * self.frame_ticks
            yield from self._decode(packet, needed)

    def _decode(self, packet: Any, needed: bool = True) -> Iterator[Shown]:
        """Give the decoder a packet (None: that was the last) and show what comes out."""
        if self._broken and packet is not None:
            return
        if self.can_skip and self._skipping == needed:
            self.context.skip_frame = "DEFAULT" if needed else "NONREF"
            self._skipping = not needed
        self.beat()
        try:
            frames = self.context.decode(packet)
        except (*_FAILURES, EOFError):
            self._broken = True
            return
        for frame in frames:
            yield from self._show(frame)

    def _show(self, frame: Any) -> Iterator[Shown]:
        self.decoded += 1
        pts = frame.pts
        if pts is None:
            return
        if frame.key_frame:
            self._ruined, self._tainted = bool(frame.is_corrupt), False
            self._broken = self._broken or self._ruined
        if frame.is_corrupt or self._ruined:
            self._tainted = True
            self._lose(pts, self._wanted.pop(pts, []))
            return
        self._first_out = pts if self._first_out is None else self._first_out
        if self._is_building_up(pts):
            self._lose(pts, self._wanted.pop(pts, []))
            return
        if self._clean_from is None or pts < self._clean_from:
            self._clean_from = pts
        if not self.can_skip and self._previous is not None:  # packets without a picture of their own (VP8)
            for late in [w for w in self._wanted if w < pts]:
                yield self._wanted.pop(late), *self._previous
        self._previous = pts, frame
        if pts >= self._latest:
            self._early[pts] = frame
        if pts in self._wanted:
            if self._tainted:
                self.traces += self._wanted[pts]
            yield self._wanted.pop(pts), pts, frame

    def _is_building_up(self, pts: int) -> bool:
        """Return whether a run began without a whole picture and may not have built one up yet.

        The decoder gives such frames out as clean too soon, with B-frames by more than a group; from the second key
        frame after the first that came out they are.
        """
        if self._full_start or self._first_out is None or self._run_key is None or self._first_out <= self._run_key:
            return False
        first = self._first_out
        return sum(first <= key <= pts for key in self._later_keys) < 2

    def _empty(self) -> Iterator[Shown]:
        """Take what the decoder still holds; a wanted frame that never came is missing."""
        if self._key is not None:
            if self._wanted:
                yield from self._decode(None)
            self.context.flush_buffers()
            self._key = None
        for shown, indices in self._wanted.items():
            self._lose(shown, indices)
        self._wanted, self._early = {}, {}


def _is_key(packet: Any) -> bool:
    """Return whether decoding can start at a packet that is shown."""
    return bool(packet.is_keyframe and packet.pts is not None and not packet.is_discard)
