"""Several models on one machine, each in a process of its own; the parent hands out questions and writes the rows.

A process that dies is replaced and its question asked again (`executors.Crowd`). The processes end by themselves when
the parent is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path

from zoomzero.benchmarks.runner.asking import Batch, Item, ModelSpec, load_asker
from zoomzero.benchmarks.runner.executors import Crowd, Event, Facts
from zoomzero.errors import ConfigError, ZoomZeroError

LOG_FILE = "workers.log"
# without the current directory, where a user's types.py would hide Python's
_START = """
import sys
sys.path[:] = [sys.argv[1], *filter(None, sys.path)]
from zoomzero.benchmarks.runner.workers import work
work(int(sys.argv[2]))
"""


class _Process:
    """The parent's side of one worker process."""

    def __init__(self, spec: ModelSpec, index: int, count: int, log: int) -> None:
        self.connection, theirs = Pipe()
        root = str(Path(__file__).resolve().parents[2])
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, root, str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C in the terminal reaches the parent alone
        )
        theirs.close()
        self.send((spec, index, count))

    def send(self, what: object) -> None:
        """Send; a process that is dead says so when it is read from."""
        with suppress(OSError):
            self.connection.send(what)

    def end(self) -> int:
        """End the process at once and return its exit code, negative where a signal ended it."""
        self.process.kill()
        self.connection.close()
        return self.process.wait()

    def died(self) -> str:
        """Clean up after a process that is gone and say how it went."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        return f"exit code {self.end()}"


class _Processes:
    """The pool of processes: see `executors.Pool`."""

    def __init__(self, spec: ModelSpec, count: int, log: int) -> None:
        self.spec, self.count, self.log = spec, count, log
        self.workers = {index: _Process(spec, index, count, log) for index in range(count)}

    def events(self) -> Sequence[Event]:
        by_connection = {worker.connection: index for index, worker in self.workers.items()}
        return [self._event(by_connection[c], c) for c in wait(list(by_connection)) if isinstance(c, Connection)]

    def _event(self, index: int, connection: Connection) -> Event:
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            return Event(index, "dead", self.workers[index].died())
        if kind == "error":
            raise value
        return Event(index, kind, value)

    def send(self, worker: int, item: Item) -> None:
        self.workers[worker].send(item)

    def replace(self, worker: int) -> None:
        self.workers[worker] = _Process(self.spec, worker, self.count, self.log)


class Processes:
    """An executor of processes on this machine.

    Args:
        spec: the model each of them loads; on several GPUs they take turns.
        count: how many.
        folder: where their messages go (`workers.log`).

    Raises:
        ConfigError: fewer than one process.
    """

    def __init__(self, spec: ModelSpec, count: int, folder: Path) -> None:
        if count < 1:
            raise ConfigError("--workers", f"{count} processes ask nothing", "give 1 or more")
        self.spec, self.count, self.folder = spec, count, folder
        self._log = -1
        self._pool: _Processes | None = None
        self._crowd: Crowd | None = None

    @property
    def models(self) -> int:
        """How many models there are."""
        return self.count

    @property
    def pids(self) -> list[int]:
        """The processes' ids."""
        return [worker.process.pid for worker in self._pool.workers.values()] if self._pool else []

    def start(self) -> Facts:
        """Start all processes and wait for the first model; the others load while it works."""
        self._log = os.open(self.folder / LOG_FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._pool = _Processes(self.spec, self.count, self._log)
        self._crowd = Crowd(self._pool)
        return self._crowd.first_ready()

    def rows(self, batches: Sequence[Batch]) -> Iterator[tuple[Item, str]]:
        """Yield every item with its row as it is done."""
        assert self._crowd is not None, "start comes before rows"
        return self._crowd.rows(batches)

    def close(self) -> None:
        """End all processes."""
        for worker in self._pool.workers.values() if self._pool else ():
            worker.end()
        self._pool = self._crowd = None
        if self._log >= 0:
            os.close(self._log)
            self._log = -1


def work(descriptor: int) -> None:
    """Load a model and ask what comes through the pipe until it is closed: what a worker process runs."""
    connection = Connection(descriptor)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        spec, index, count = connection.recv()
        try:
            asker, facts = load_asker(spec, index, count)
        except ZoomZeroError as error:
            connection.send(("error", error))
            return
        connection.send(("ready", facts))
        while True:
            item: Item = connection.recv()
            connection.send(("row", asker.ask(item)))
