"""The command `zoomzero`, also as `python -m zoomzero`."""

import signal

from zoomzero.interrupts import leave_at_once


def main() -> None:
    """Run the command line in a process of its own, which Ctrl-C ends with code 130 from here to its end."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where Ctrl-C is ignored
        signal.signal(signal.SIGINT, leave_at_once)
    from zoomzero import cli

    cli.main(leave_at_once)


if __name__ == "__main__":
    main()
