"""Contenders that take turns: each is a process that works when it is told to, and says what that took.

The parent holds a `Contender`; the process at its other end has a `Turns`. While one works the others wait for a line,
so that all meet the same machine. CPU seconds and memory are those of the process with all that it has started.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))
from decode import memory_mb, tree

LOOK_S = 0.1  # between two looks at the memory


class Turns:
    """The end of the process that works."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # whatever libraries print is not for the parent
        self.job: dict[str, Any] = json.loads(sys.stdin.readline())

    def say(self, **values: Any) -> None:
        """Tell the parent something."""
        self._out.write(json.dumps(values) + "\n")
        self._out.flush()

    def told(self) -> bool:
        """Wait for the parent's word; False when it wants nothing more."""
        return sys.stdin.readline().strip() == "go"

    @contextmanager
    def watched(self) -> Iterator[dict[str, float]]:
        """Give a dictionary that holds, behind the block, its seconds, CPU seconds and peak of memory (MB)."""
        me, took, done = os.getpid(), dict[str, float](), threading.Event()
        start_mb = peak_mb = memory_mb(me)

        def look() -> None:
            nonlocal peak_mb
            while not done.wait(LOOK_S):
                peak_mb = max(peak_mb, memory_mb(me))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        cpu_s, started = cpu_seconds(me), time.perf_counter()
        try:
            yield took
        finally:
            took["seconds"], took["cpu_s"] = time.perf_counter() - started, cpu_seconds(me) - cpu_s
            done.set()
            watcher.join()
            peak_mb = max(peak_mb, memory_mb(me))
            took["peak_mb"], took["over_mb"] = peak_mb, peak_mb - start_mb


def cpu_seconds(root: int) -> float:
    """Return the CPU seconds of this process and of all it started, ended or not."""
    used = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        times = resource.getrusage(who)
        used += times.ru_utime + times.ru_stime
    for pid in tree(root)[1:]:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        used += (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
    return used


class Contender:
    """The parent's end of one process.

    Args:
        name: for tables.
        python: the interpreter it runs in.
        script: beside this file.
        job: what it is told first.
        log: where its errors and whatever its libraries print go.
        environment: variables it is given besides.
    """

    def __init__(
        self, name: str, python: Path, script: str, job: dict[str, Any], log: Path, environment: dict[str, str]
    ) -> None:
        self.name, self.log = name, log
        self.turns: list[dict[str, Any]] = []
        settings = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"} | environment
        with log.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [str(python), str(Path(__file__).parent / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | settings,
            )
        self._tell(json.dumps(job))
        self.facts = self._hear()

    def go(self) -> dict[str, Any]:
        """Let it work once and return what it said."""
        self._tell("go")
        self.turns.append(self._hear())
        return self.turns[-1]

    def end(self) -> None:
        """Let it end."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _tell(self, line: str) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            self._hear()

    def _hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            last = self.log.read_text(encoding="utf-8").strip().splitlines()[-1:] or ["no message"]
            raise SystemExit(f"{self.name} ended: {last[0][:300]} (all of it: {self.log})")
        heard: dict[str, Any] = json.loads(line)
        return heard
