"""Training runs in processes of their own that start at once, as they fork from one that has imported everything, and
that SIGKILL ends at exact moments."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from grpo_runs import SMALL

from zoomzero.config import lay_over

LIMIT_S = 240
TIMES = ("seconds/", "memory/", "features/", "tokens_per_second", "minutes", "train_")  # what equal runs differ in
BATCHES = {"train_batch_size": 4, "mini_batch_size": 2, "steps": 3, "save_every": 1, "learning_rate": 1e-4}

CONTEXT: Any = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["zoomzero.cli", "zoomzero.train.engine.build"])


@dataclass(frozen=True, slots=True)
class Moment:
    """The `nth` time something happens in a process.

    `phase`: a phase of the step begins. `update`: an update is made, nothing of it is logged or saved yet. `open`,
    `rename`: Python is about to open a file, or to give it its name, that ends in `what`.
    """

    kind: str
    what: str = ""
    nth: int = 1


@dataclass(frozen=True, slots=True)
class Ended:
    """How the processes of a run ended, and what they wrote to the screen."""

    codes: tuple[int, ...]
    screens: tuple[str, ...]

    def check(self, *codes: int) -> Ended:
        """Fail unless the processes ended so: 0 when nothing is said."""
        assert self.codes == (codes or (0,) * len(self.codes)), "\n\n".join([str(self.codes), *self.screens])
        return self


class Running:
    """Processes that run `zoomzero ARGUMENTS`.

    Args:
        arguments: of the command line.
        folder: where their screens are kept.
        processes: how many; several find each other as under torchrun.
        kill: when the first one kills itself.
    """

    def __init__(self, *arguments: object, folder: Path, processes: int = 1, kill: Moment | None = None) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.screens = [folder / f"screen.{rank}" for rank in range(processes)]
        self.processes: list[Any] = []
        for rank, screen in enumerate(self.screens):
            place, moment = (rank, processes, port), kill if rank == 0 else None
            told = ([str(one) for one in arguments], place, str(screen), moment)
            self.processes.append(CONTEXT.Process(target=_work, args=told))
            self.processes[-1].start()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.kill(self.processes[0].pid, signal.SIGINT)

    def end(self) -> Ended:
        """Wait for the end; when one process fails the others are killed, as torchrun does."""
        left = {process.sentinel: process for process in self.processes}
        while left:
            for sentinel in wait(list(left), LIMIT_S) or self._too_long():
                left.pop(sentinel).join()
                if any(process.exitcode for process in self.processes):
                    for other in left.values():
                        other.kill()
        codes = tuple(process.exitcode for process in self.processes)
        return Ended(codes, tuple(screen.read_text(encoding="utf-8") for screen in self.screens))

    def _too_long(self) -> list[Any]:
        for process in self.processes:
            process.kill()
        raise AssertionError(f"did not end within {LIMIT_S} s: {[screen.read_text() for screen in self.screens]}")


def run(*arguments: object, folder: Path, processes: int = 1, kill: Moment | None = None) -> Ended:
    """Run `zoomzero ARGUMENTS` to its end; see `Running`."""
    return Running(*arguments, folder=folder, processes=processes, kill=kill).end()


def _work(arguments: list[str], place: tuple[int, int, int], screen: str, kill: Moment | None) -> None:
    """Be one process of a run."""
    file = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    rank, processes, port = place
    if processes > 1:
        names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
        os.environ.update({name: str(value) for name, value in names.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    if kill is not None:
        _arm(kill)
    sys.argv = ["zoomzero", *arguments]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the suite runs in the background
    from zoomzero import cli

    cli.main()


def _arm(moment: Moment) -> None:
    """Have this process kill itself at a moment."""
    seen = 0

    def happened(kind: str, what: str) -> None:
        nonlocal seen
        if kind == moment.kind and what.endswith(moment.what):
            seen += 1
            if seen == moment.nth:
                os.kill(os.getpid(), signal.SIGKILL)

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            happened("open", str(arguments[0]))
        elif event == "os.rename":
            happened("rename", str(arguments[1]))

    sys.addaudithook(audit)
    from zoomzero.train.run import progress

    class Watching(progress.GrpoProgress):
        def _phase(self, name: str) -> None:
            happened("phase", name)
            super()._phase(name)

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            happened("update", "")

    progress.GrpoProgress = Watching  # type: ignore[misc]


def write_settings(folder: Path, examples: Path, changes: dict[str, Any] | None = None) -> Path:
    """Write the settings of a short run into `folder`/run: two updates from each batch of rollouts."""
    values = lay_over(SMALL, BATCHES | {"out": str(folder / "run"), "data": {"examples": [str(examples)]}})
    path = folder / "settings.json"
    path.write_text(json.dumps(lay_over(values, changes or {})), encoding="utf-8")
    return path


def log_rows(run_folder: Path) -> list[dict[str, Any]]:
    """Return the log without what depends on the clock."""
    lines = (run_folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if not name.startswith(TIMES)} for line in lines]
