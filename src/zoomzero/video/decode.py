"""Frames at planned times, each with its own true time, resized as they are decoded."""

from __future__ import annotations

import hashlib
import mmap
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoomzero.errors import VideoError
from zoomzero.spans import Span, complement
from zoomzero.video._pool import Worker, borrow, crashed, hung, warm_up
from zoomzero.video.cache import FrameCache
from zoomzero.video.files.images import image_files
from zoomzero.video.types import Clip, FramePlan, VideoInfo

__all__ = ["decode", "resize_frames", "warm_up"]

_PATCH = 2  # frames of one temporal patch: they come and go together
_SLOTS = 3  # full-size frames on their way from one worker: one written, one read, one waiting
_SLOT_MEMORY = 96 * 2**20  # bytes they may take, for huge frames
_RUNS = 8  # that the workers share; where groups are not known a cut costs more, and there are two
_FEW = 4  # so few frames are not worth a second worker

Frames = npt.NDArray[np.uint8]
Wish = tuple[int, float, float]  # index in the plan, time in seconds, how far a key frame may be in its stead


def resize_frames(frames: Frames, height: int, width: int) -> Frames:
    """Resize frames exactly as the Qwen-VL processors do: bicubic, antialiased, in 8-bit arithmetic.

    Args:
        frames: (T, H, W, 3) uint8.
        height: pixels wanted.
        width: pixels wanted.

    Returns:
        (T, height, width, 3) uint8.

    Source: torchvision's `resize(uint8 tensor, BICUBIC, antialias=True)`, which is this call.
    """
    if frames.shape[1:3] == (height, width):
        return np.ascontiguousarray(frames)
    import torch
    from torch.nn.functional import interpolate

    resized = np.empty((len(frames), height, width, 3), np.uint8)
    for source, target in zip(frames, resized, strict=True):
        picture = torch.from_numpy(np.ascontiguousarray(source)).permute(2, 0, 1)[None]  # (1, 3, H, W), channels last
        small = interpolate(picture, (height, width), mode="bicubic", antialias=True, align_corners=False)
        target[:] = small[0].permute(1, 2, 0).numpy()
    return resized


def decode(
    info: VideoInfo,
    plan: FramePlan,
    *,
    workers: int = 2,
    timeout_s: float = 120,
    exact: bool = True,
    cache: FrameCache | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Clip:
    """Decode the planned frames in worker processes.

    A wished time gets the frame on screen at that time: the last one that starts at or before it (2 ms later at
    most, for containers that round times), and reports that frame's own time. Frames that a damaged or truncated
    file does not give are left out together with the other frame of their temporal patch, and `notes` says which.

    Args:
        info: what `probe` returned.
        plan: which times, which size.
        workers: processes that decode side by side, one thread each.
        timeout_s: seconds without any sign of life after which a worker is killed.
        exact: False takes a key frame in the stead of the frame on screen where one lies within a quarter of the way
            to the neighbouring time: sparse looks at long videos get much cheaper. Its own time is reported.
        cache: frames to look up first and to add to.
        progress: called with (frames done, frames in all).

    Raises:
        VideoError: nothing decodes, the file changed or is gone, or a worker hung or crashed.
    """
    identity = _identity(info)
    frames = np.empty((len(plan.times_s), plan.height, plan.width, 3), np.uint8)  # (T, H, W, 3)
    job = _Job(info, plan, frames, exact, timeout_s, progress)
    keys = [(identity, round(t * 1e6), plan.height, plan.width, exact) for t in plan.times_s]
    if cache is not None:
        for i, key in enumerate(keys):
            found = cache.get(key)
            if found is not None:
                frames[i], job.times_s[i] = found
    cached = set(job.times_s)
    job.run(workers)
    if cache is not None:
        for i in job.times_s.keys() - cached - set(job.traces):  # frames with traces come with a note
            cache.put(keys[i], frames[i], job.times_s[i])
    return _clip(info, plan, job, identity)


class _Job:
    """One decode call under way: which wishes are open, and the workers' answers."""

    def __init__(
        self,
        info: VideoInfo,
        plan: FramePlan,
        frames: Frames,
        exact: bool,
        timeout_s: float,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.info, self.plan, self.frames = info, plan, frames
        self.exact, self.timeout_s, self.progress = exact, timeout_s, progress
        self.times_s: dict[int, float] = {}  # true time of every frame that is there
        self.missing: dict[int, str] = {}
        self.traces: list[int] = []  # frames that follow damage
        self.notes: list[str] = []
        self.decoded = 0
        self.slots = self.slot_bytes = 0

    def run(self, workers: int) -> None:
        """Fill `frames` with what decodes."""
        gives = _gives(self.plan.times_s, self.exact)
        wishes = [
            (i, t, give)
            for i, (t, give) in enumerate(zip(self.plan.times_s, gives, strict=True))
            if i not in self.times_s
        ]
        if not wishes:
            return
        with borrow(1 if len(wishes) <= _FEW else max(1, workers)) as lent:
            answer = self._ask(lent[0], "start", self.info, [t for _, t, _ in wishes])
            if not isinstance(answer, VideoError):
                groups, frame_bytes = answer
                self.slot_bytes = -(-frame_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
                self.slots = max(1, min(_SLOTS, _SLOT_MEMORY // self.slot_bytes))
                self._share(lent, split(wishes, groups))
        if isinstance(answer, VideoError):
            raise answer

    def _ask(self, worker: Worker, name: str, *arguments: Any) -> Any:
        return worker.ask(self.info.path, name, *arguments, limit_s=self.timeout_s)

    def _share(self, lent: Sequence[Worker], chunks: list[list[Wish]]) -> None:
        """Let the workers decode the chunks, each taking the next when it is done."""
        busy: dict[Any, Worker] = {}
        for number, worker in enumerate(lent[: len(chunks)]):
            if number:
                answer = self._ask(worker, "start", self.info, [])
                if isinstance(answer, VideoError):
                    raise answer
            self._give(worker, chunks.pop(0))
            busy[worker.connection] = worker
        used = list(busy.values())
        self._serve(busy, chunks)
        for worker in used:
            self._ask(worker, "close")

    def _give(self, worker: Worker, wishes: list[Wish]) -> None:
        worker.reserve(self.slots * self.slot_bytes)
        worker.send(self.info.path, "decode", wishes, self.slots, self.slot_bytes, limit_s=self.timeout_s)

    def _serve(self, busy: dict[Any, Worker], chunks: list[list[Wish]]) -> None:
        """Take the workers' messages until all chunks are done."""
        heard = dict.fromkeys(busy, time.monotonic())
        last: dict[Worker, int] = {}
        while busy:
            ready: list[Any] = list(wait(list(busy), timeout=0.5))
            for connection in ready:
                heard[connection] = time.monotonic()
                worker = busy[connection]
                try:
                    message = connection.recv()
                except (EOFError, OSError) as error:
                    raise crashed(self.info.path, "decode") from error
                if message[0] == "error":
                    raise message[1]
                if message[0] != "done":
                    self._take(worker, message, last)
                    continue
                missing, traces, decoded, notes = message[1]
                self.missing.update(missing)
                self.traces += traces
                self.decoded += decoded
                self.notes += notes
                if chunks:
                    self._give(worker, chunks.pop(0))
                else:
                    del busy[connection]
            if any(time.monotonic() - heard[connection] > self.timeout_s for connection in busy):
                raise hung(self.info.path, "decode", self.timeout_s)

    def _take(self, worker: Worker, message: tuple[Any, ...], last: dict[Worker, int]) -> None:
        """Resize a frame out of a worker's slot, or repeat its last one."""
        if message[0] == "frame":
            _, slot, shape, indices, time_s = message
            source = worker.view(slot * self.slot_bytes, shape)
            self.frames[indices[0]] = resize_frames(source[None], self.plan.height, self.plan.width)[0]
            try:
                worker.connection.send(slot)
            except OSError as error:
                raise crashed(self.info.path, "decode") from error
            last[worker] = indices[0]
        elif message[0] == "same":
            indices, time_s = message[1], self.times_s[last[worker]]
        else:
            return
        for index in indices:
            if index != last[worker]:
                self.frames[index] = self.frames[last[worker]]
            self.times_s[index] = time_s
        if self.progress is not None:
            self.progress(len(self.times_s), len(self.plan.times_s))


def split(wishes: Sequence[Wish], groups: Sequence[int] | None) -> list[list[Wish]]:
    """Cut wishes into runs for the workers, never between two wishes of one group of pictures.

    Every run is decoded from a fresh start, and the cuts do not depend on how many workers there are: nor do, in files
    whose damage the decoder does not see, the pictures.
    """
    size = max(_FEW, -(-len(wishes) // (2 if groups is None else _RUNS)))
    runs: list[list[Wish]] = [[]]
    for place, wish in enumerate(wishes):
        new_group = groups is None or place == 0 or groups[place] != groups[place - 1]
        if len(runs[-1]) >= size and new_group:
            runs.append([])
        runs[-1].append(wish)
    return runs


def _gives(times_s: Sequence[float], exact: bool) -> list[float]:
    """Return how far from each time a key frame may be taken: a quarter of the way to the nearest neighbour."""
    if exact or len(times_s) < 2:
        return [0.0] * len(times_s)
    gaps = [later - earlier for earlier, later in pairwise(times_s)]
    return [min(near) / 4 for near in zip([gaps[0], *gaps], [*gaps, gaps[-1]], strict=True)]


def _identity(info: VideoInfo) -> tuple[str, int, int]:
    """Return what names the exact pixels: absolute path, bytes, modification time in ns (the latest of all images)."""
    place = Path(info.path)
    try:
        stats = [file.stat() for file in (image_files(place) if info.kind == "frames" else [place])]
    except OSError as error:
        raise VideoError(place, "open", "no such file or directory", "check the path") from error
    size, changed_ns = sum(s.st_size for s in stats), max((s.st_mtime_ns for s in stats), default=0)
    return str(place.absolute()), size, changed_ns


def _clip(info: VideoInfo, plan: FramePlan, job: _Job, identity: tuple[str, int, int]) -> Clip:
    """Put the frames that are there together; whole temporal patches only."""
    count = len(plan.times_s)
    patches = [range(start, min(start + _PATCH, count)) for start in range(0, count, _PATCH)]
    whole = [i for patch in patches if all(j in job.times_s for j in patch) for i in patch]
    if not whole:
        why = ", ".join(sorted(set(job.missing.values()))) or "no times are planned"
        fix = "ask for a part that decodes, or get the whole file again"
        raise VideoError(info.path, "decode", f"none of the {count} frames decodes ({why})", fix)
    times_s = tuple(job.times_s[i] for i in whole)
    pixels = repr((identity, times_s, plan.height, plan.width))
    key = hashlib.sha256(pixels.encode()).hexdigest()[:32]
    notes = sorted(set(job.notes))  # whichever worker said them first
    traces = sorted(set(job.traces) & set(whole))
    if traces:
        shown = _times([job.times_s[i] for i in traces])
        notes.append(f"{len(traces)} of {count} frames follow damage and may show traces of it, at {shown} s")
    spans = plan.spans
    lost = sorted(set(range(count)) - set(whole))
    if lost:
        spans = _without(plan, lost)
        notes.append(_loss_note(info, plan, job, lost))
    frames = job.frames[whole] if lost else job.frames
    return Clip(frames, times_s, plan.fps, spans, job.decoded, key, tuple(notes))


def _without(plan: FramePlan, lost: Sequence[int]) -> tuple[Span, ...]:
    """Return the plan's spans without the stretches that the lost frames stood for."""
    ends = [*plan.times_s[1:], plan.spans[-1].end_s]
    holes = [Span(plan.times_s[i], ends[i]) for i in lost]
    return tuple(part for span in plan.spans for part in complement(holes, *span))


def _loss_note(info: VideoInfo, plan: FramePlan, job: _Job, lost: Sequence[int]) -> str:
    """Say how many frames are missing and which times."""
    times = [plan.times_s[i] for i in lost]
    count = len(plan.times_s)
    if lost[-1] == count - 1 and len(lost) == count - lost[0]:
        last = job.times_s[lost[0] - 1]
        return f"decodes to {last:.1f} s of {info.duration_s:.1f} s: {len(lost)} of {count} frames are missing"
    return f"{len(lost)} of {count} frames do not decode and are left out, at {_times(times)} s"


def _times(times_s: Sequence[float]) -> str:
    return ", ".join(f"{t:.1f}" for t in times_s[:8]) + (", ..." if len(times_s) > 8 else "")
