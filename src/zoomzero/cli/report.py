"""The command `zoomzero report`. Imports nothing heavy until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoomzero.cli.common import print_text
from zoomzero.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(short_help="Write one page about runs of a benchmark.")(report)


def report(
    runs: Annotated[list[str], typer.Argument(help="Folders of runs (their --out); a run may be going on.")],
    out: Annotated[str, typer.Option(help="Page to write.")] = "report.html",
    data: Annotated[
        str | None, typer.Option(help="Folder (or file) of the annotation, where it has moved since the run.")
    ] = None,
    resamples: Annotated[int, typer.Option(help="Draws of the bootstrap behind the 95 % intervals.")] = 1000,
) -> None:
    """Write one page about runs of a benchmark: scores, costs, comparisons, failures, every question with its timeline.

    Examples:

      zoomzero report outputs/nextgqa --out report.html

      zoomzero report outputs/before outputs/after --out compared.html
    """
    if resamples < 1:
        raise ConfigError("--resamples", f"{resamples} draws give no interval", "give 1000 or more")
    if Path(out).is_dir():
        raise ConfigError("--out", f"{out} is a directory", "give the name of a file")
    from zoomzero.benchmarks.scoring.score import BootstrapSettings
    from zoomzero.pages.evaluation.page import evaluate_runs, write_evaluation_page
    from zoomzero.progress import status

    page = Path(out).expanduser()
    with status() as say:
        found = evaluate_runs(runs, page.parent, data=data, draws=BootstrapSettings(resamples=resamples), say=say)
        say("writing the page")
        write_evaluation_page(page, found)
    for text in found.warnings:
        typer.echo(f"zoomzero: note: {text}", err=True)
    count = len(found.facts.runs)
    size = f"{page.stat().st_size / 1e6:.1f} MB"
    print_text(f"{page}: {count} run{'' if count == 1 else 's'}, {found.answers:,} answers, {size}")
