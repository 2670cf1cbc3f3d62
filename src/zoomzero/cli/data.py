"""The commands on data: `zoomzero benchmarks`, `score`, `convert`, `export`. Imports nothing heavy until one runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zoomzero.cli.common import print_text
from zoomzero.errors import ConfigError

NAMES_HELP = "A benchmark's name; `zoomzero benchmarks` lists them."
EXPORT_NAMES_HELP = "A benchmark's name; a wrong one lists those with a form of their own."
SEED_HELP = "Seed of the options that are made from captions (qvhighlights, activitynet, plm)."
FPS_HELP = "Frame rate of the grid that plm counts frames on (6 by default)."
JSON_HELP = "Print one JSON object instead of text."


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(short_help="List the benchmarks with their splits.")(benchmarks)
    app.command(short_help="Score a predictions file.")(score)
    app.command(short_help="Turn a benchmark's annotation into an examples file.")(convert)
    app.command(short_help="Write predictions in an official form.")(export)


def benchmarks(
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """List the benchmarks: names, splits (the default first), and what each is.

    Example: zoomzero benchmarks
    """
    from zoomzero.benchmarks.definitions.registry import BENCHMARKS

    if json_:
        import json

        found = [{"name": one.name, "splits": list(one.splits), "about": one.about} for one in BENCHMARKS.values()]
        print_text(json.dumps(found))
        return
    for one in BENCHMARKS.values():
        splits = [one.default_split, *(split for split in one.splits if split != one.default_split)]
        print_text(f"{one.name:<16}{', '.join(splits):<36}{one.about}")


def score(
    name: Annotated[str, typer.Argument(help=NAMES_HELP)],
    data: Annotated[str, typer.Option(help="Folder (or file) of the annotation, as released.")],
    predictions: Annotated[
        list[str], typer.Option(help="Predictions, ours or an official submission; twice for two halves.")
    ],
    split: Annotated[str | None, typer.Option(help="val, test, mini, dev, ... (docs/reference/benchmarks.md)")] = None,
    against: Annotated[list[str] | None, typer.Option(help="Predictions of another run to compare with.")] = None,
    resamples: Annotated[int, typer.Option(help="Draws of the bootstrap behind the 95 % intervals.")] = 1000,
    unit: Annotated[str, typer.Option(help="What the bootstrap draws: video or question.")] = "video",
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    fps: Annotated[float | None, typer.Option(help=FPS_HELP)] = None,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Score a predictions file with a benchmark's official measures, and strictly: missing answers count as wrong.

    Examples:

      zoomzero score nextgqa --data NExT-GQA/datasets/nextgqa --split test --predictions run/predictions.jsonl

      zoomzero score nextgqa --data NExT-GQA/datasets/nextgqa --predictions ground.json --predictions qa.json --json

      zoomzero score rextime --data ReXTime/data --predictions zoom.jsonl --against coarse.jsonl
    """
    if unit not in ("video", "question"):
        raise ConfigError("--unit", f"the bootstrap cannot draw {unit!r}", "choose video or question")
    if resamples < 1:
        raise ConfigError("--resamples", f"{resamples} draws give no interval", "give 1000 or more")
    from zoomzero.benchmarks.scoring.score import BootstrapSettings, report_text
    from zoomzero.benchmarks.scoring.score import score as run

    report = run(
        name,
        data,
        predictions,
        split,
        _options(seed, fps),
        BootstrapSettings(resamples=resamples, unit=unit),
        against or (),
    )
    if json_:
        import json

        print_text(json.dumps(report.to_dict(), ensure_ascii=False, allow_nan=False))
    else:
        print_text(report_text(report))


def convert(
    name: Annotated[str, typer.Argument(help=NAMES_HELP)],
    src: Annotated[str, typer.Argument(help="Folder (or file) of the annotation, as released.")],
    out: Annotated[str, typer.Option(help="Examples file to write; a manifest is written beside it.")],
    split: Annotated[str | None, typer.Option(help="train, val, test, ... (docs/reference/benchmarks.md)")] = None,
    videos: Annotated[str | None, typer.Option(help="Folder of the videos, put before every path.")] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    fps: Annotated[float | None, typer.Option(help=FPS_HELP)] = None,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Turn a benchmark's annotation into an examples file; every repair is counted and printed.

    Examples:

      zoomzero convert nextgqa NExT-GQA/datasets/nextgqa --split val --out data/nextgqa-val.jsonl --videos NExTVideo

      zoomzero convert activitynet captiondata/train.json --out data/activitynet.jsonl --seed 1
    """
    from zoomzero.benchmarks.definitions.registry import benchmark
    from zoomzero.data.convert import manifest_path, write_converted
    from zoomzero.progress import bar

    dataset = benchmark(name).load(src, split, _options(seed, fps))
    with bar("hashing", "videos") as step:
        manifest = write_converted(dataset, out, seed=seed, videos=videos, progress=step)
    if json_:
        import json

        print_text(json.dumps(manifest.summary(), ensure_ascii=False))
        return
    print_text(f"{manifest.examples} examples on {manifest.videos} videos: {out} ({manifest_path(out)})")
    for what, count in {**manifest.repairs, **manifest.notes}.items():
        if count:
            print_text(f"{count:>8} {what.replace('_', ' ')}")


def export(
    name: Annotated[str, typer.Argument(help=EXPORT_NAMES_HELP)],
    data: Annotated[str, typer.Option(help="Folder (or file) of the annotation, as released.")],
    predictions: Annotated[list[str], typer.Option(help="Predictions, as `zoomzero score` reads them.")],
    out: Annotated[str, typer.Option(help="File to write; a folder for nextgqa and cgbench.")],
    split: Annotated[str | None, typer.Option(help="val, test, mini, dev, ... (docs/reference/benchmarks.md)")] = None,
    seed: Annotated[int, typer.Option(help=SEED_HELP)] = 0,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Write predictions in the form a benchmark's official evaluator or server takes.

    Examples:

      zoomzero export nextgqa --data NExT-GQA/datasets/nextgqa --predictions run/predictions.zoom.jsonl --out submission

      zoomzero export videomme --data Video-MME --predictions run/predictions.zoom.jsonl --out results.json
    """
    from zoomzero.benchmarks.scoring.export import export as run

    done = run(name, data, predictions, out, split, _options(seed, None))
    if json_:
        import json

        print_text(json.dumps(done.to_dict(), ensure_ascii=False))
    else:
        print_text(done.text())


def _options(seed: int, fps: float | None) -> Any:
    if fps is not None and not 0 < fps < 1000:
        raise ConfigError("--fps", f"{fps} is no frame rate", "give frames per second, for example 6")
    from zoomzero.benchmarks.definitions.base import ReadOptions

    return ReadOptions(seed=seed, fps=fps)
