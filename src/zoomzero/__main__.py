"""The command `zoomzero`, also as `python -m zoomzero`. What little it imports first is what Ctrl-C may interrupt."""

import atexit
import os
import signal
import sys


def leave_at_once(number: int = 0, frame: object = None) -> None:
    """Say that the command was interrupted and end the process without Python's own way out.

    That way waits for threads, ends in the signal instead of a code, or crashes in a library's destructor.
    """
    try:
        sys.stdout.flush()
        clean = b"\r\x1b[K\x1b[?25h" if os.isatty(2) else b""  # a spinner's line, and the cursor it hid
        os.write(2, clean + b"zoomzero: interrupted\n")
    except (OSError, ValueError, RuntimeError):  # the reader is gone, or Ctrl-C came in the middle of a write
        pass
    os._exit(130)  # what a shell shows for a command that Ctrl-C ended


def main() -> None:
    """Run the command line in a process of its own, which Ctrl-C ends with code 130 from here to its end."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where Ctrl-C is ignored
        signal.signal(signal.SIGINT, leave_at_once)
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)  # runs last: what is done is done
    from zoomzero import cli

    cli.main(leave_at_once)


if __name__ == "__main__":
    main()
