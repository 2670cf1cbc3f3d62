"""`zoomzero data check`. Imports nothing heavy until it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from zoomzero.cli.common import print_text

SHOWN = 5  # problems of a kind that are printed


def register(app: typer.Typer) -> None:
    """Add the command group to the command line."""
    group = typer.Typer(help="Look at examples files.", no_args_is_help=True, rich_markup_mode=None)
    group.command(short_help="Find what is wrong with examples and their videos.")(check)
    group.callback()(_group)
    app.add_typer(group, name="data")


def _group() -> None:
    """Look at examples files."""


def check(
    examples: Annotated[str, typer.Argument(help="Examples file (docs/reference/formats.md).")],
    videos: Annotated[
        str | None, typer.Option(help="Folder where missing videos are looked for under other names.")
    ] = None,
    evaluation: Annotated[
        list[str] | None, typer.Option(help="Manifest or examples file of what will be measured on; several times.")
    ] = None,
    out: Annotated[str | None, typer.Option(help="Write the sound examples here, renamed videos put right.")] = None,
    json_: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """List what is wrong with an examples file before training on it: videos, spans, answers, leaks.

    Ends with code 1 when something serious is wrong.

    Examples:

      zoomzero data check data/train.jsonl

      zoomzero data check data/train.jsonl --videos /data/videos --evaluation data/test.jsonl --out data/sound.jsonl
    """
    import json

    from zoomzero.data.check import SERIOUS, check_data
    from zoomzero.data.example import read_examples, write_examples
    from zoomzero.progress import bar

    given = read_examples(examples)
    with bar(f"checking {examples}", "videos") as step:
        report = check_data(given, videos, evaluation=evaluation or (), progress=step)
    if json_:
        print_text(json.dumps(report.to_dict(), indent=1))
    else:
        print_text("\n".join(_lines(examples, report)))
    if out is not None:
        write_examples(out, report.sound)
        if not json_:
            print_text(f"{out}: {len(report.sound)} sound examples")
    if any(problem.kind in SERIOUS for problem in report.problems):
        raise typer.Exit(1)


def _lines(name: str, report: object) -> list[str]:
    from zoomzero.data.check import SERIOUS, DataReport

    assert isinstance(report, DataReport)
    lines = [f"{name}: {len(report.examples)} examples about {report.videos} videos, {len(report.sound)} of them sound"]
    for kind, count in sorted(report.counts.items(), key=lambda one: (one[0] not in SERIOUS, one[0])):
        lines.append(f"  {kind}: {count}{'' if kind in SERIOUS else ' (to know)'}")
        shown = [problem for problem in report.problems if problem.kind == kind][:SHOWN]
        lines += [f"    {problem.example_id}  {problem.video}: {problem.detail}" for problem in shown]
        if count > SHOWN:
            lines.append(f"    and {count - SHOWN} more (--json lists all)")
    return lines
