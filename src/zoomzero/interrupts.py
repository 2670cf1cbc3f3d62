"""Commands that end: at Ctrl-C, wherever it lands (an import, a destructor, a callback), and workers with them."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

INTERRUPTED = 130  # what a shell shows for a command that Ctrl-C ended
AGAIN_AFTER_S = 0.05
LOOKED_S = 1.0  # between a worker's looks at whether its parent is there
Leave = Callable[..., Any]


class Interrupt(KeyboardInterrupt):
    """Ctrl-C, in a class of its own because weak references can watch that: so it is seen when one is dropped."""


@contextmanager
def watched_interrupts(leave: Leave | None = None) -> Iterator[threading.Event]:
    """Give an event that Ctrl-C sets, and raise Ctrl-C once more wherever it is dropped.

    Python reports and forgets what is raised inside destructors; libraries forget what is raised in their optional
    imports and in callbacks from C. Imports may turn it into errors of their own, which the event tells from real
    ones. Where Ctrl-C is ignored it stays so; when the block ends, the handler that was there is there again.

    Args:
        leave: called when Ctrl-C comes during an import, of which nothing good can be left halfway (a library in C++
            may abort the process). None: it is raised there, too.
    """
    came, ended, main = threading.Event(), threading.Event(), threading.get_ident()
    before, report = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is not signal.default_int_handler and (leave is None or before is not leave):
        yield came
        return
    raised: list[weakref.ref[Interrupt]] = []

    def note(number: int, frame: Any) -> None:
        came.set()
        if leave is not None and importing(frame):
            leave()
        raise watched_interrupt()

    def watched_interrupt() -> Interrupt:  # not in `note`, whose frame is part of the traceback and would hold it
        error = Interrupt()
        raised[:] = [weakref.ref(error, again)]
        return error

    def again(dropped: weakref.ref[Interrupt]) -> None:
        if not ended.is_set():  # not from in here: it would be dropped, too
            threading.Timer(AGAIN_AFTER_S, interrupt).start()

    def interrupt() -> None:
        if ended.is_set():
            return
        if hasattr(signal, "pthread_kill"):  # a real signal also ends a sleep, a read or a wait
            signal.pthread_kill(main, signal.SIGINT)
        else:
            _thread.interrupt_main()

    def unraisable(dropped: Any) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            report(dropped)

    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = unraisable
    try:
        yield came
    finally:
        ended.set()
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = report


def importing(frame: Any) -> bool:
    """Return whether a frame runs inside an import."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def deaf_children() -> Iterator[None]:
    """Start processes that do not hear Ctrl-C, which a terminal sends to all: it is the parent's to end them."""
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # when it starts it makes its parent hear again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with_parent() -> None:
    """Let this process end soon after its parent has, however that ended; nothing is done where it is no worker.

    A worker whose parent was killed would else wait for ever to hand on what it has made.
    """
    _watch_parent_of(os.getpid())


@cache
def _watch_parent_of(pid: int) -> None:
    """Start to watch, once in a process: a forked one has its own number."""
    from multiprocessing import parent_process

    parent = parent_process()
    if parent is None:
        return

    started_by = os.getppid()  # the parent, or a server that forks for it (Python 3.14's choice)

    def watch() -> None:
        while os.getppid() == started_by and parent.is_alive():
            time.sleep(LOOKED_S)
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
