"""The command `zoomzero rollouts`. Imports nothing heavy until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoomzero.cli.common import page_place, print_text
from zoomzero.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(short_help="Write a page to browse a training run.")(rollouts)


def rollouts(
    run: Annotated[str, typer.Argument(help="Directory of a training run (its `out`); the run may be going on.")],
    out: Annotated[str | None, typer.Option(help="Page to write; by default rollouts.html in that directory.")] = None,
    last: Annotated[int, typer.Option(help="Groups to show: the last ones of the run.")] = 500,
) -> None:
    """Write a page to browse a training run: curves, and every rollout with its tokens coloured by advantage.

    Examples:

      zoomzero rollouts outputs/world

      zoomzero rollouts outputs/world --last 2000 --out world.html
    """
    if last < 1:
        raise ConfigError("--last", f"{last} groups are none", "give 1 or more")
    page = page_place(out, "--out") if out is not None else None
    from zoomzero.pages.training.rollouts import read_run, write_rollouts_page
    from zoomzero.progress import status

    with status() as say:
        say(f"reading {run}")
        record = read_run(run, last, say)
        say("writing the page")
        page = write_rollouts_page(page or Path(run) / "rollouts.html", record)
    left_out = f" ({_count(record.left_out, 'earlier one')} left out)" if record.left_out else ""
    print_text(f"{page}: {_count(len(record.shown), 'group')}{left_out}, {page.stat().st_size / 1e6:.1f} MB")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
