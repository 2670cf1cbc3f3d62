"""The command `zoomzero eval`. Imports nothing heavy until it runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from zoomzero.answer.names import MODES
from zoomzero.cli.common import check_device, print_text
from zoomzero.errors import ConfigError

NAMES_HELP = "A benchmark's name; `zoomzero benchmarks` lists them. A world is written when there is no --data."
MODE_HELP = f"{' | '.join(MODES)}; give it several times for a table of modes."

ADAPTER_HELP = (
    "LoRA adapter to add to the model. Given several times, each gets a run of its own, --out/NAME, and the base is "
    "read once; `none` is the base itself."
)


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="eval", short_help="Run a model over a benchmark.")(evaluate)


def evaluate(
    name: Annotated[str, typer.Argument(help=NAMES_HELP)],
    out: Annotated[str, typer.Option(help="The run's folder. A run that is there goes on where it stopped.")],
    data: Annotated[str | None, typer.Option(help="Folder (or file) of the annotation, as released.")] = None,
    videos: Annotated[str | None, typer.Option(help="Folder of the videos, however they were unpacked.")] = None,
    split: Annotated[str | None, typer.Option(help="val, test, mini, dev, ... (docs/reference/benchmarks.md)")] = None,
    model: Annotated[
        str, typer.Option(help="`tiny` (embedded), a checkpoint directory, a hub id, or http://HOST:PORT/v1#NAME.")
    ] = "tiny",
    adapter: Annotated[list[str] | None, typer.Option(help=ADAPTER_HELP)] = None,
    quantize: Annotated[
        str | None, typer.Option(help="4bit | 8bit: round a plain checkpoint's matrices (needs bitsandbytes).")
    ] = None,
    mode: Annotated[list[str] | None, typer.Option(help=MODE_HELP)] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a model setting: coarse.fps=2.")] = None,
    budget: Annotated[int | None, typer.Option(help="Visual tokens each pass may spend.")] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1 ...; workers take GPUs in turn.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto | float32 | bfloat16 | float16")] = "auto",
    limit: Annotated[int | None, typer.Option(help="Ask so many questions, spread over all; raise it later.")] = None,
    only: Annotated[str | None, typer.Option(help="File of ids to ask, one a line (or rows with an id).")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes (or Ray actors) with a model each.")] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Videos asked about at once, of a model behind a server.")
    ] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster (auto, IP:PORT), or `local`.")] = None,
    keep_tokens: Annotated[
        int, typer.Option(help="Prompt tokens kept in memory, from which a video's next questions begin (0: none).")
    ] = 0,
    faithfulness: Annotated[
        bool, typer.Option("--faithfulness", help="Two extra looks a question: at the found span, at a random one.")
    ] = False,
    skip_missing: Annotated[
        bool, typer.Option("--skip-missing", help="Go without videos that are not there; they count as missing.")
    ] = False,
    max_failed: Annotated[float, typer.Option(help="Share of failed questions that ends the run, after 20.")] = 0.2,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask questions again whose rows report an error.")
    ] = False,
    count: Annotated[int | None, typer.Option(help="Videos of a world: 64 short or 8 long ones by default.")] = None,
    seed: Annotated[int, typer.Option(help="Of a world, and of options made from captions.")] = 0,
    fps: Annotated[float | None, typer.Option(help="Frame rate of the grid that plm counts frames on.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds a decoding job may be silent.")] = 120.0,
    resamples: Annotated[int, typer.Option(help="Draws of the bootstrap behind the 95 % intervals.")] = 1000,
    json_: Annotated[bool, typer.Option("--json", help="Print summary.json instead of the table.")] = False,
) -> None:
    """Run a model over a benchmark: scores, costs and evidence of every mode, safe to interrupt and go on with.

    Examples:

      zoomzero eval world-short --count 64 --mode direct --mode coarse --mode zoom --out outputs/world-short

      zoomzero eval nextgqa --data datasets/nextgqa --videos NExTVideo --model Qwen/Qwen3-VL-2B-Instruct --out run

      zoomzero eval cgbench --data cgbench --videos videos --model DIR --mode divide --workers 8 --out run

      zoomzero eval world-short --model BASE --adapter none --adapter run/checkpoint-100 --out runs

      zoomzero eval lvbench --data lvbench --videos videos --model DIR --ray auto --workers 32 --out run
    """
    check_device(device)

    given: dict[str, Any] = {
        "benchmark": name,
        "out": out,
        "data": data,
        "videos": videos,
        "split": split,
        "model": model,
        "quantize": quantize,
        "modes": _modes(mode),
        "overrides": set_ or (),
        "budget": budget,
        "device": device,
        "dtype": dtype,
        "limit": limit,
        "only": only,
        "workers": workers,
        "concurrency": concurrency,
        "ray": ray,
        "keep_tokens": keep_tokens,
        "faithfulness": faithfulness,
        "skip_missing": skip_missing,
        "max_failed": max_failed,
        "retry_failed": retry_failed,
        "count": count,
        "seed": seed,
        "fps": fps,
        "timeout_s": timeout,
        "resamples": resamples,
    }
    for text in _runs(given, adapter or [], json_):
        print_text(text)


def _runs(given: dict[str, Any], adapters: list[str], json_: bool) -> Iterator[str]:
    """Run a benchmark, once for each adapter, and yield what is printed of each run."""
    import json

    from zoomzero.benchmarks.runner.asking import OneBase, load_asker
    from zoomzero.benchmarks.runner.evaluate import EvalSettings, evaluate
    from zoomzero.benchmarks.scoring.summary import table_text
    from zoomzero.config import parse_settings

    names = run_names(adapters) if len(adapters) > 1 else [""]
    load = OneBase() if len(adapters) > 1 else load_asker
    for adapter, name in zip(adapters or ["none"], names, strict=True):
        out = Path(given["out"]) / name
        values = given | {"out": out, "adapter": None if adapter == "none" else adapter}
        summary = evaluate(parse_settings(EvalSettings, values, "eval"), _note, load)
        if json_:
            yield json.dumps(summary, allow_nan=False)
        else:
            head = f"{name}\n" if name else ""
            yield f"{head}{table_text(summary)}\n\n{out / 'summary.json'}\n{out / 'predictions.*.jsonl'}"


def run_names(adapters: list[str]) -> list[str]:
    """Return a folder's name for each adapter: the last part of its path, with the one before where two are alike.

    Raises:
        ConfigError: an adapter is given twice.
    """
    if twice := next((one for one in adapters if adapters.count(one) > 1), None):
        raise ConfigError("--adapter", f"{twice} is given twice", "give each once")
    paths = [Path(one).parts for one in adapters]
    for depth in range(1, max(map(len, paths)) + 1):
        names = ["-".join(part.strip("/") for part in parts[-depth:]) for parts in paths]
        if len(set(names)) == len(names):
            return names
    raise ConfigError("--adapter", "two adapters have one name", "rename one of them")


def _modes(given: list[str] | None) -> list[str]:

    modes = given or ["zoom"]
    if unknown := [mode for mode in modes if mode not in MODES]:
        raise ConfigError("--mode", f"{unknown[0]!r} is unknown", f"use one of {', '.join(MODES)}")
    return modes


def _note(text: str) -> None:
    typer.echo(f"zoomzero: note: {text}", err=True)
