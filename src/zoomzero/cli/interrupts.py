"""Ctrl-C that ends a command wherever it lands."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AGAIN_AFTER_S = 0.05


@contextmanager
def watched_interrupts() -> Iterator[threading.Event]:
    """Give an event that Ctrl-C sets, and raise Ctrl-C once more where Python would drop it.

    Python reports and forgets what is raised inside destructors and callbacks of the garbage collector; imports may
    turn it into errors of their own, which the event tells from real ones. Where Ctrl-C is ignored it stays so.
    """
    came = threading.Event()
    before, report = signal.getsignal(signal.SIGINT), sys.unraisablehook
    if before is not signal.default_int_handler:
        yield came
        return

    def note(number: int, frame: Any) -> None:
        came.set()
        signal.default_int_handler(number, frame)

    def again(dropped: Any) -> None:
        if issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(AGAIN_AFTER_S, _thread.interrupt_main).start()  # not from in here: it would be dropped, too
        else:
            report(dropped)

    signal.signal(signal.SIGINT, note)
    sys.unraisablehook = again
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)
        sys.unraisablehook = report
