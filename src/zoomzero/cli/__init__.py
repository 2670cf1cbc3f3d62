"""The command line: one module for each group of commands. Imports nothing heavy until a command runs."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from zoomzero.cli import app as web
from zoomzero.cli import ask, check, data, demo, eval, prepare, report, rollouts, train
from zoomzero.errors import ConfigError, ZoomZeroError
from zoomzero.interrupts import INTERRUPTED, Leave, watched_interrupts

app = typer.Typer(
    name="zoomzero",
    help="Answer questions about long videos and show when the evidence is on screen.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
# typer's usage errors are click's or those of a copy of click inside typer, by its version: take what it raises.
UsageErrors: Any = typer.BadParameter.__mro__[2]


def main(leave: Leave | None = None) -> None:
    """Run the command line; errors are one line on stderr, the exit code says whose they are.

    Args:
        leave: how Ctrl-C ends the process; None: it is raised, and this function exits like any other.
    """
    code, complaint = None, ""
    with watched_interrupts(leave) as interrupted:
        try:
            code, complaint = _run()
        except (KeyboardInterrupt, typer.Abort):
            code = INTERRUPTED
        except BaseException:
            if not interrupted.is_set():
                raise
    if interrupted.is_set() or code == INTERRUPTED:  # whatever an import or a library made of it
        code, complaint = INTERRUPTED, "interrupted"
        if leave is not None:
            atexit._run_exitfuncs()
            leave()
    if complaint:
        sys.stderr.write(f"zoomzero: {complaint}\n")
    sys.exit(code or 0)


def _run() -> tuple[int | None, str]:
    """Return the exit code and the one line that says why it is not 0."""
    try:
        refuse_repeated(sys.argv[1:])
        return app(prog_name="zoomzero", standalone_mode=False), ""
    except ZoomZeroError as error:
        return error.exit_code, _one_line(str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return 2, f"{where}{error.strerror or error}; check the path, its permissions and the free space"
    except UsageErrors as error:
        return _usage(error)


def refuse_repeated(arguments: Sequence[str]) -> None:
    """Refuse an option that takes one value and is given twice: the parser would silently take the last.

    Args:
        arguments: the command line after the program's name.

    Raises:
        ConfigError: naming the option.
    """
    command: Any = typer.main.get_command(app)
    words = [word for word in arguments if not word.startswith("-")]
    command = getattr(command, "commands", {}).get(words[0]) if words else None
    if command is None:
        return
    before_rest = list(arguments)[: list(arguments).index("--")] if "--" in arguments else arguments
    names = [word.partition("=")[0] for word in before_rest if word.startswith("--")]
    for option in command.params:
        count = sum(name in getattr(option, "opts", ()) for name in names)
        if count > 1 and not getattr(option, "multiple", True) and not getattr(option, "is_flag", False):
            name = next(name for name in names if name in option.opts)
            raise ConfigError(name, f"is given {count} times and takes one value", "give it once")


def _usage(error: Any) -> tuple[int, str]:
    """Return a usage error as one line; a command without arguments prints its help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        typer.echo(error.format_message())
        return 2, ""
    command = error.ctx.command_path if getattr(error, "ctx", None) else "zoomzero"
    return 2, f"{_one_line(error.format_message()).rstrip('.')}; see `{command} --help`"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _version(wanted: bool) -> None:
    if wanted:
        import zoomzero

        typer.echo(f"zoomzero {zoomzero.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Answer questions about long videos and show when the evidence is on screen.

    Try it: zoomzero demo
    """


for group in (ask, web, demo, train, data, check, rollouts, eval, report, prepare):  # in the order of `zoomzero --help`
    group.register(app)
