"""The clock of a file's packets: reading all of them, and running on where recordings were joined.

Two transport streams put one after the other keep their own clocks: decode times fall (or leap) where the second
begins. Seeking by time then mixes pictures of both. Such a file is read from its first packet on, and the second
recording's times are moved to follow the first's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import av.error
from av.format import Flags

from zoomzero.video.files.container import open_container, read_packets

_LEAP_S = 10.0  # ffmpeg's own threshold for formats whose clock may leap
_FALL_FRAMES = 8  # decode times that ffmpeg guesses fall by what a decoder reorders; a new recording falls further
_MOST_TIMES = 100_000  # frame times worth keeping


class Clock:
    """Moves packets' times so that decode times never start again. `restarts` counts how often they would have.

    Args:
        tick_s: seconds of one tick of the stream.
        fps: average frame rate.
        leaps: whether a leap forward of more than 10 s also counts as a new recording.
    """

    def __init__(self, tick_s: float, fps: float, leaps: bool) -> None:
        self.restarts = 0
        self._frame = max(1, round(1 / (fps * tick_s)))
        self._leap = max(self._frame * _FALL_FRAMES, round(_LEAP_S / tick_s)) if leaps else None
        self._shift = 0
        self._before: int | None = None  # decode time of the packet before, as the file has it
        self._end: int | None = None  # where the last frame shown ends, moved

    def run_on(self, packet: Any) -> None:
        """Move one packet's times, in the file's order."""
        shown = packet.pts if packet.pts is not None else packet.dts
        if shown is None:
            return
        if packet.dts is not None:
            step = 0 if self._before is None else packet.dts - self._before
            if self._end is not None and (
                step < -_FALL_FRAMES * self._frame or (self._leap is not None and step > self._leap)
            ):
                self.restarts += 1
                self._shift = self._end - shown
            self._before = packet.dts
        if self._shift:
            packet.pts = None if packet.pts is None else packet.pts + self._shift
            packet.dts = None if packet.dts is None else packet.dts + self._shift
        end = shown + self._shift + (packet.duration or self._frame)
        self._end = end if self._end is None else max(self._end, end)


@dataclass(frozen=True, slots=True)
class Survey:
    """What reading every packet of a stream tells; times in stream ticks, the clock running on."""

    packets: int
    end: int | None  # where the last frame ends; None when no packet has a time
    restarts: int
    untimed: int  # packets without a time before the first that has one
    times: tuple[int, ...] | None  # presentation times in order; None when they are too many


def survey(path: str, index: int, fps: float) -> Survey:
    """Read every packet of one stream of a file, decoding nothing."""
    with open_container(path) as container:
        stream = container.streams[index]
        clock = Clock(float(stream.time_base), fps, may_leap(container))
        frame = max(1, round(1 / (fps * float(stream.time_base))))
        packets = untimed = 0
        end: int | None = None
        times: list[int] = []
        try:
            for packet in read_packets(container, stream):
                if not packet.size or packet.is_corrupt or packet.is_discard:
                    continue
                clock.run_on(packet)
                if packet.pts is None:
                    untimed += end is None
                    continue
                packets += 1
                ends = packet.pts + (packet.duration or frame)
                end = ends if end is None else max(end, ends)
                if len(times) <= _MOST_TIMES:
                    times.append(packet.pts)
        except av.error.FFmpegError:
            pass  # the end of what can be read
    kept = tuple(sorted(times)) if len(times) <= _MOST_TIMES else None
    return Survey(packets, end, clock.restarts, untimed, kept)


def may_leap(container: Any) -> bool:
    """Return whether leaps of the clock are usual in this format (transport and program streams, Ogg)."""
    return bool(container.format.flags & Flags.ts_discont.value)


def index_kind(container: Any, stream: Any) -> Literal["plain", "parts", "restarts", "first"]:
    """Tell what an MP4's index holds; of other formats, that it is plain.

    Returns:
        "parts": an edit list joins several parts, and packets that are left out lie between them; "restarts": decode
        times start again; "first": they do, but only the first recording is ever shown; "plain": none of these.
    """
    kept = fell = any_left = left_between = kept_after_left = False
    before: int | None = None
    for time, left, is_key in _index(container, stream):
        fell = fell or (before is not None and time < before)
        before = time
        if left:
            any_left = True
            left_between = left_between or (kept and is_key)
        else:
            kept = True
            kept_after_left = kept_after_left or left_between
    if fell and any_left and not stream.frames:  # fragments, whose header counts no frames: no edit list joins them
        return "first"
    if kept_after_left or (fell and any_left):
        return "parts"
    return "restarts" if fell else "plain"


def _index(container: Any, stream: Any) -> Iterator[tuple[int, bool, bool]]:
    """Yield (time in ticks, left out by an edit list, key frame) of an MP4's index; of other formats nothing."""
    index: Any = stream.index_entries if "mov" in container.format.name else ()
    for place in range(len(index)):  # not by iteration: that crashes in PyAV 18
        entry = index[place]
        yield entry.timestamp, entry.is_discard, entry.is_keyframe
