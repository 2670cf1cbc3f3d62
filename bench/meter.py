"""Seconds and memory of work on a device, and what the device can do at most."""

from __future__ import annotations

import ctypes
import gc
import mmap
import platform
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

STATM = Path("/proc/self/statm")


def find_device(name: str) -> torch.device:
    """Return the device of this name, or end the script with one line that says what to do."""
    if name == "cuda" and not torch.cuda.is_available():
        raise SystemExit("--device cuda: torch finds no GPU here; leave it out to measure on the CPU")
    return torch.device(name)


@dataclass(slots=True)
class Timing:
    """Seconds of one phase in one way, and its peak memory over what lay there before."""

    seconds: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    @property
    def median(self) -> float:
        """The middle of the rounds."""
        return statistics.median(self.seconds)


class Meter:
    """Times work on a device and watches memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait(self) -> None:
        """Wait until the device has done everything it was asked to."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @contextmanager
    def measure(self, timing: Timing) -> Iterator[None]:
        """Add one run to a timing."""
        gc.collect()
        self.wait()
        with self._peak() as peak:
            clock = time.perf_counter if self.device.type == "cuda" else time.process_time
            started = clock()
            yield
            self.wait()
            timing.seconds.append(clock() - started)
        timing.peak_mb = max(timing.peak_mb, peak[0])

    @contextmanager
    def _peak(self) -> Iterator[list[float]]:
        """Give a list whose only value becomes the peak over what is held before."""
        peak = [0.0]
        if self.device.type != "cuda":
            with _watched(peak):
                yield peak
            return
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak[0] = (torch.cuda.max_memory_allocated() - before) / 2**20


@contextmanager
def _watched(peak: list[float]) -> Iterator[None]:
    """Look at this process's resident memory every 20 ms (Linux with glibc; elsewhere the peak stays 0)."""
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    ctypes.CDLL(None).malloc_trim(0)  # what earlier work freed goes back, so that a peak over it is seen
    done, before = threading.Event(), _resident_mb()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _resident_mb() - before)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _resident_mb() -> float:
    return int(STATM.read_text().split()[1]) * mmap.PAGESIZE / 2**20


def machine_limits(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """Measure what the device can, best of several: products of large matrices (operations/s), copies (bytes/s)."""
    side, megabytes = (8192, 2048) if device.type == "cuda" else (1536, 256)
    meter = Meter(device)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    source = torch.empty(megabytes << 20, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    products, copies = Timing(), Timing()
    for _ in range(8):
        with meter.measure(products):
            torch.mm(a, b)
        with meter.measure(copies):
            target.copy_(source)
    return {"flops": 2 * side**3 / min(products.seconds), "bytes": 2 * source.numel() / min(copies.seconds)}


def describe(device: torch.device) -> dict[str, str]:
    """Return what the numbers were measured on."""
    import transformers

    name = torch.cuda.get_device_name() if device.type == "cuda" else cpu_name()
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} threads"
    return {
        "device": name + threads,
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, "
        f"Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
    }


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
