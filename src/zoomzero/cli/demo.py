"""The commands `zoomzero world`, `demo` and `doctor`. Imports nothing heavy until one runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from zoomzero.cli.common import load_model, print_text


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(short_help="Write procedural videos with questions and answers.")(world)
    app.command(short_help="See every mode answer, with the embedded model.")(demo)
    app.command(short_help="Say what is installed, what is slow, which card fits.")(doctor)


def world(
    out: Annotated[str, typer.Option(help="Directory for videos/ and examples.jsonl (with --as: annotation/).")],
    count: Annotated[int, typer.Option(help="Number of videos; one question each, with --as several.")] = 24,
    seed: Annotated[int, typer.Option(help="The same seed gives the same videos.")] = 0,
    kind: Annotated[str, typer.Option(help="short (48-80 s) or long (20 minutes).")] = "short",
    workers: Annotated[int, typer.Option(help="Processes that draw and encode.")] = 2,
    as_: Annotated[
        str | None, typer.Option("--as", help="Write a miniature of a benchmark, in its official format.")
    ] = None,
) -> None:
    """Write procedural videos with questions, answers and evidence: real mp4 files for tests and training.

    Examples:

      zoomzero world --out outputs/world --count 64 --seed 7 --kind short

      zoomzero world --as nextgqa --out outputs/nextgqa --count 8
    """
    from zoomzero.progress import bar
    from zoomzero.world.write import write_world

    started = time.perf_counter()
    if as_ is not None:
        from zoomzero.world.miniature import write_miniature

        with bar("writing", "s of video") as step:
            made = write_miniature(as_, out, count, seed, kind, workers=workers, progress=step)  # type: ignore[arg-type]
        took = f"{made.films} videos, {made.seconds:.0f} s in all, {made.entries} entries of {as_} {made.split}"
        print_text(f"{took} in {time.perf_counter() - started:.1f} s: --data {made.annotation} --videos {made.videos}")
        return
    with bar("writing", "s of video") as step:
        examples = write_world(out, count, seed, kind, workers=workers, progress=step)  # type: ignore[arg-type]
    seconds, shown_s = time.perf_counter() - started, sum(example.duration_s for example in examples)
    print_text(f"{len(examples)} videos, {shown_s:.0f} s in all, and {Path(out) / 'examples.jsonl'} in {seconds:.1f} s")


def demo(
    out: Annotated[str, typer.Option(help="Directory for videos, summary.json and report.html.")] = "outputs/demo",
    model: Annotated[str, typer.Option(help="Checkpoint to show; the embedded one by default.")] = "tiny",
    count: Annotated[int, typer.Option(help="Short videos; a third as many long ones, at least 16.")] = 24,
) -> None:
    """Write short and 20-minute videos, ask about each in every mode, and show what looking closely brings.

    Example: zoomzero demo --out outputs/demo --count 24
    """
    from zoomzero.demo import run_demo

    policy, settings = load_model(model, "auto", "auto", ())
    table = run_demo(policy, settings, Path(out), count)
    print_text(table)


def doctor(
    server: Annotated[
        str | None, typer.Option(help="Say what this server can do instead: http://HOST:PORT/v1 or ../v1#NAME.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Say instead what a checkpoint needs in memory, mode by mode (no weights read)."),
    ] = None,
    quantize: Annotated[str | None, typer.Option(help="4bit | 8bit: as if its matrices were rounded.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="With --model, window.max_tokens=2048; with --server, server.key=value."),
    ] = None,
) -> None:
    """Say what is installed, what it runs on, and what will be slow; what a server can do; or what fits which card.

    Examples:

      zoomzero doctor

      zoomzero doctor --server http://localhost:8000/v1

      zoomzero doctor --model Qwen/Qwen3-VL-8B-Instruct
    """
    if model is not None:
        print_text(_what_fits(model, quantize, set_ or ()))
        return
    if server is not None:
        text, healthy = _server_report(server, set_ or ())
    else:
        from zoomzero.doctor import report

        text, healthy = report()
    print_text(text)
    if not healthy:
        raise typer.Exit(4)


def _server_report(address: str, overrides: Sequence[str]) -> tuple[str, bool]:
    """Return what a server can do, and whether it can be shown a video."""
    from zoomzero.errors import ConfigError
    from zoomzero.policy.open import open_settings
    from zoomzero.policy.remote.report import server_report
    from zoomzero.policy.remote.settings import is_server

    if not is_server(address):
        raise ConfigError("--server", f"{address!r} is no address", "write http://HOST:PORT/v1#NAME")
    asked, server = open_settings(address, overrides)
    assert server is not None
    return server_report(server, asked)


def _what_fits(model: str, quantize: str | None, overrides: Sequence[str]) -> str:
    """Return what a checkpoint needs in memory, mode by mode, as a table."""
    from zoomzero.config import ModelSettings, load_settings
    from zoomzero.fits import sizes_of, table
    from zoomzero.policy.local.checkpoint.adapters import adapter_base, is_adapter
    from zoomzero.policy.local.checkpoint.find import find_words, read_json
    from zoomzero.policy.local.checkpoint.quantised import missing_package
    from zoomzero.policy.local.load import settings_file

    where = base = find_words(model)
    if is_adapter(where):
        base = find_words(adapter_base(model, where) or model)
    sizes = sizes_of(model, base, quantize=quantize)
    text = table(model, sizes, load_settings(ModelSettings, settings_file(base, where), overrides))
    package = missing_package(read_json(model, base / "config.json"))
    return text if package is None else f"{text}\nto load it: pip install {package}"
