"""The command `zoomzero app`. Imports nothing heavy until it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from zoomzero.cli.common import load_model
from zoomzero.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("app", short_help="Open the web app.")(web_app)


def web_app(
    model: Annotated[
        str, typer.Option(help="A checkpoint directory, a hub id, a server (http://HOST:PORT/v1#NAME), or `tiny`.")
    ] = "tiny",
    port: Annotated[int, typer.Option(help="Port; 0 for any that is free.")] = 7860,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Another host name by which browsers reach it (behind a proxy).")
    ] = None,
    videos: Annotated[str | None, typer.Option(help="A folder whose videos everybody may ask about.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Where uploads are kept while it runs, in a private folder.")
    ] = None,
    upload_mb: Annotated[float, typer.Option(help="Largest upload, in megabytes.")] = 512.0,
    user_mb: Annotated[float, typer.Option(help="All files of one user.")] = 1024.0,
    all_mb: Annotated[float, typer.Option(help="All files of all users.")] = 8192.0,
    age_minutes: Annotated[float, typer.Option(help="Files of a user who is idle for longer are removed.")] = 120.0,
    queue: Annotated[int, typer.Option(help="Questions that may wait.")] = 16,
    answer_limit: Annotated[float, typer.Option(help="Seconds one question may take in one mode.")] = 600.0,
    timeout: Annotated[float, typer.Option(help="Seconds a decoding job may be silent.")] = 60.0,
    keep_tokens: Annotated[
        int, typer.Option(help="Prompt tokens kept in memory for further questions about a video; 0 keeps none.")
    ] = 16384,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a model setting (docs/reference/formats.md).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto | float32 | bfloat16 | float16")] = "auto",
    adapter: Annotated[str | None, typer.Option(help="LoRA adapter to add to the model.")] = None,
    quantize: Annotated[str | None, typer.Option(help="4bit | 8bit: round the matrices (needs bitsandbytes).")] = None,
) -> None:
    """Open the web app: drop a video, ask, watch every look as it happens, take the evidence with you.

    Examples:

      zoomzero app

      zoomzero app --model Qwen/Qwen3-VL-2B-Instruct --videos ~/videos --port 8080
    """
    from dataclasses import replace

    from zoomzero.app.server import check_place, make_place, serve
    from zoomzero.app.settings import AppSettings, Limits
    from zoomzero.progress import status

    for name, value in (
        ("--upload-mb", upload_mb), ("--user-mb", user_mb), ("--all-mb", all_mb), ("--age-minutes", age_minutes),
        ("--queue", queue), ("--answer-limit", answer_limit), ("--timeout", timeout),
    ):  # fmt: skip
        if not value > 0:
            raise ConfigError(name, f"{value:g} is too little", "give a number above 0")
    if keep_tokens < 0:
        raise ConfigError("--keep-tokens", f"{keep_tokens} is less than nothing", "give 0 or more")
    limits = Limits(
        upload_mb=upload_mb, user_mb=user_mb, all_mb=all_mb, age_s=age_minutes * 60, queue=queue, decode_s=timeout,
        answer_s=answer_limit, keep_tokens=keep_tokens,
    )  # fmt: skip
    folder, kept = (None if one is None else Path(one).expanduser() for one in (videos, store))
    settings = AppSettings(host, port, tuple(allow_host or ()), folder, kept, limits)
    check_place(settings)  # before a model is loaded
    with status() as say:
        say("loading the model")
        policy, model_settings = load_model(model, device, dtype, set_ or (), adapter=adapter, quantize=quantize)
        side_by_side = getattr(getattr(policy, "settings", None), "concurrency", 1)  # a server takes several
        settings = replace(settings, limits=replace(limits, at_once=side_by_side))
        place = make_place(settings, policy, model_settings, say)
    serve(place, lambda line: typer.echo(line))
