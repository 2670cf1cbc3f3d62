"""The commands around a training run: `zoomzero filter` and `zoomzero merge`. Imports nothing heavy until one runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from zoomzero.cli.common import load_model, print_text
from zoomzero.errors import ConfigError

if TYPE_CHECKING:
    from zoomzero.train.filter import Drawn, OfflineFilterSettings

SHOWN = 10  # unreadable videos
JSON_HELP = "Print one JSON object instead of text."


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(name="filter", short_help="Keep the examples that are worth learning from.")(filter_)
    app.command(short_help="Make a plain checkpoint of what training left.")(merge)


def filter_(
    examples: Annotated[str, typer.Argument(help="Examples file to choose from.")],
    out: Annotated[str, typer.Option(help="Examples file to write, with a manifest, a record and a page beside it.")],
    predictions: Annotated[
        list[str] | None, typer.Option(help="Several answers to each example: lines with id, answer, spans.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Draw the answers with this checkpoint instead.")] = None,
    samples: Annotated[int | None, typer.Option(help="Answers to draw for each example (8).")] = None,
    samples_file: Annotated[
        str | None, typer.Option(help="Where drawn answers go, and are resumed from (OUT.samples.jsonl).")
    ] = None,
    without: Annotated[
        list[str] | None, typer.Option(help="Manifest or examples file of an evaluation: what it holds is dropped.")
    ] = None,
    html: Annotated[str | None, typer.Option(help="Where the page goes (OUT.html).")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: rule.min_spread=0.2, sampling.temperature=0.8")
    ] = None,
    device: Annotated[str, typer.Option(help="auto | cpu | cuda | cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto | float32 | bfloat16 | float16")] = "auto",
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Keep the examples that are worth learning from: not always answered right, and answered in different ways.

    Examples:

      zoomzero filter data/train.jsonl --out data/kept.jsonl --model Qwen/Qwen2.5-VL-7B-Instruct --samples 8

      zoomzero filter data/train.jsonl --out data/kept.jsonl --predictions a.jsonl --predictions b.jsonl

      zoomzero filter data/train.jsonl --out data/clean.jsonl --without data/nextgqa-test.jsonl.manifest.json
    """
    from zoomzero.config import load_settings
    from zoomzero.train.filter import OfflineFilterSettings, filter_examples

    overrides = [*(set_ or ()), *([f"sampling.n={samples}"] if samples is not None else [])]
    settings = load_settings(OfflineFilterSettings, None, overrides)
    if model is None and (samples is not None or samples_file is not None):
        given = "--samples" if samples is not None else "--samples-file"
        raise ConfigError(given, "nobody draws answers", "add --model, or leave it out")
    page = Path(html if html is not None else f"{out}.html")
    if page.is_dir() or not page.absolute().parent.is_dir():
        raise ConfigError("--html", f"{page} cannot be written", "give the name of a file in a folder that is there")
    drawn = None
    if model is not None:
        file = Path(samples_file if samples_file is not None else f"{out}.samples.jsonl")
        drawn = _drawn(model, device, dtype, examples, settings, file)
    from zoomzero.data.difficulty import table
    from zoomzero.pages.training.filter import write_filter_page
    from zoomzero.progress import bar

    with bar("sampling", "examples") as step:
        report = filter_examples(
            examples,
            out,
            settings,
            predictions=predictions or (),
            drawn=drawn,
            without=without or (),
            progress=step,
        )
    write_filter_page(page, report)
    if json_:
        import json

        print_text(json.dumps({**report.to_dict(), "page": str(page)}, ensure_ascii=False))
        return
    if report.leaks:
        print_text(report.leaks.text())
    print_text(table(report.judged))
    for name, count in report.faults.items():
        if count:
            print_text(f"{count} {name.replace('_', ' ')} in the predictions")
    unreadable = list(dict.fromkeys(one.detail for one in report.judged if one.verdict == "unreadable"))
    for reason in unreadable[:SHOWN]:
        print_text(f"unreadable: {reason}")
    if len(unreadable) > SHOWN:
        print_text(f"unreadable: {len(unreadable) - SHOWN} more in {out}.filter.json")
    print_text(f"\n{out}\n{page}")


def _drawn(model: str, device: str, dtype: str, examples: str, settings: OfflineFilterSettings, file: Path) -> Drawn:
    """Return the model that draws answers, not yet loaded."""
    from zoomzero.benchmarks.runner.identity import files_hash, model_files
    from zoomzero.config import settings_hash
    from zoomzero.data.annotation import sha256
    from zoomzero.data.example import read_examples
    from zoomzero.policy.local.load import find
    from zoomzero.policy.open import open_settings
    from zoomzero.progress import bar
    from zoomzero.train.filter import Drawn

    read_examples(examples)  # what is wrong with them is said before the model is looked at
    model_settings, server = open_settings(model)
    if server is not None:
        weights = settings_hash({"server": server.name})
    else:
        with bar("hashing the model", "bytes") as step:
            weights = files_hash(model_files(find(model), {}, step))
    identity = {
        "model": weights,
        "model_settings": settings_hash(model_settings),
        "examples": sha256(examples),
        "dtype": dtype,
    }

    def load() -> tuple[object, object]:
        return load_model(model, device, dtype, ())

    return Drawn(model, load, identity, file)  # type: ignore[arg-type]


def merge(
    checkpoint: Annotated[str, typer.Argument(help="LoRA adapter, FSDP checkpoint-N, or a plain checkpoint.")],
    out: Annotated[str, typer.Option(help="Directory to write: a plain checkpoint.")],
    dtype: Annotated[str, typer.Option(help="bfloat16 | float16 | float32")] = "bfloat16",
    base: Annotated[
        str | None, typer.Option(help="Checkpoint the training started from, where it cannot be known.")
    ] = None,
) -> None:
    """Make a plain checkpoint of what a training run left, for `--model`, transformers and servers.

    Examples:

      zoomzero merge runs/lora --out models/zoom-7b

      zoomzero merge runs/fsdp/checkpoint-400 --out models/zoom-7b --base Qwen/Qwen2.5-VL-7B-Instruct

      zoomzero merge models/zoom-7b --out models/zoom-7b-half --dtype float16
    """
    from zoomzero.progress import status
    from zoomzero.train.merge import merge as run

    with status() as say:
        record = run(checkpoint, out, dtype=dtype, base=base, say=say)
    print_text(
        f"{out}: {record.parameters / 1e6:,.1f} M weights in {record.tensors} tensors, {record.dtype} ({record.kind})"
    )
    if record.left_out:
        some = ", ".join(record.left_out[:3])
        print_text(f"left out {len(record.left_out)} tensors that are not the model's: {some}")
