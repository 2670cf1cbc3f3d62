"""The training commands: `zoomzero sft` and `zoomzero train`. Imports nothing heavy until one runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoomzero.cli.common import print_text
from zoomzero.errors import ConfigError

if TYPE_CHECKING:
    from zoomzero.config import Settings

DRY_HELP = "Print every setting as it would hold, defaults included, and leave."


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command(short_help="Fine-tune on examples or on procedural videos.")(sft)
    app.command(short_help="Train with Zoom-Zero, by reinforcement.")(train)
    app.command(short_help="Compute whether a training run fits into memory.")(plan)


@contextmanager
def how_to_go_on(out: str) -> Iterator[None]:
    """Say on Ctrl-C how the run goes on, once there is a run."""
    try:
        yield
    except KeyboardInterrupt:
        if (Path(out) / "run.json").is_file() and os.environ.get("RANK", "0") == "0":
            fix = "the same command with --resume goes on from its last checkpoint"
            sys.stderr.write(f"zoomzero: {out} is kept; {fix}\n")
        raise


def sft(
    config: Annotated[str, typer.Argument(help="TOML file with the run's settings (configs/tiny.toml).")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: learning_rate=1e-5, vision.steps=500, ...")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the last checkpoint in the run's directory.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_HELP)] = False,
) -> None:
    """Fine-tune a checkpoint on examples, or on endless samples from the procedural world.

    Examples:

      zoomzero sft configs/tiny.toml

      zoomzero sft configs/tiny.toml --resume

      zoomzero sft configs/sft-examples.toml --set model=Qwen/Qwen3-VL-2B-Instruct

      torchrun --nproc-per-node 8 -m zoomzero sft configs/sft-qwen3-vl-8b-lora.toml
    """
    from zoomzero.config import load_settings
    from zoomzero.train.settings import GrpoSettings, SftSettings

    _refuse_other_command(config, SftSettings, GrpoSettings, "train")
    settings = load_settings(SftSettings, config, set_ or ())
    if dry_run:
        print_text(settings_text(settings))
        return
    from zoomzero.train.engine.sft import train as run
    from zoomzero.train.run.held_out import MEASURES, summary
    from zoomzero.train.run.processes import is_first, leave_processes
    from zoomzero.train.run.progress import RichProgress

    with how_to_go_on(settings.out):
        record = run(settings, resume=resume, callbacks=[RichProgress()])
    if is_first():
        for which, row in summary(Path(settings.out)).items():
            shown = "  ".join(f"{name} {row[name]:.3f}" for name in MEASURES)
            print(f"validation, {which:<5}  after {row['step']:>4}  {shown}")
        early = "" if record.steps == settings.steps else ", ended early: validation became no better"
        done = f"{record.steps} steps in {record.minutes:.1f} minutes{early}"
        print(f"{settings.out}: {done}, last loss {record.final_loss:.3f}")
    leave_processes()


def train(
    config: Annotated[str, typer.Argument(help="TOML file with the run's settings (configs/world-cpu.toml).")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: steps=100, rollout.verifier=off, ...")
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on from the last checkpoint in the run's directory, or from the start.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=DRY_HELP)] = False,
) -> None:
    """Train with Zoom-Zero: rollouts, zoom-in reward, token-selective credit (docs/reference/training.md).

    Examples:

      zoomzero train configs/world-cpu.toml

      zoomzero train configs/world-cpu.toml --resume

      zoomzero train configs/qwen3-vl-8b-lora.toml --dry-run

      torchrun --nproc-per-node 8 -m zoomzero train configs/qwen2.5-vl-7b-stage1.toml
    """
    from zoomzero.train.settings import GrpoSettings, SftSettings, load_grpo_settings

    _refuse_other_command(config, GrpoSettings, SftSettings, "sft")
    settings = load_grpo_settings(config, set_ or ())
    if dry_run:
        print_text(settings_text(settings))
        return
    from zoomzero.train.engine.build import train as run
    from zoomzero.train.run.processes import is_first, leave_processes
    from zoomzero.train.run.progress import GrpoProgress

    with how_to_go_on(settings.out):
        record = run(settings, resume=resume, callbacks=[GrpoProgress()])
    if is_first():
        for which, values in record.validation.items():
            shown = "  ".join(f"{name.partition('/')[2]} {value:.3f}" for name, value in values.items() if "/" in name)
            print(f"validation, {which:<5}  after {values['step']:>4.0f}  {shown}")
        early = "" if record.steps == settings.steps else ", ended early: validation became no better"
        done = f"{record.steps} updates in {record.minutes:.1f} minutes{early}"
        print(f"{settings.out}: {done}; look at it: zoomzero rollouts {settings.out}")
    leave_processes()


def plan(
    config: Annotated[
        str, typer.Argument(help="TOML file of `zoomzero train` or `sft` (configs/qwen3-vl-8b-lora.toml).")
    ],
    gpus: Annotated[int, typer.Option(min=1, help="GPUs, one process each.")] = 1,
    memory: Annotated[float, typer.Option(min=0.1, help="Memory of one GPU, GiB.")] = 80.0,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Change a setting: fsdp=true, ...")] = None,
) -> None:
    """Compute what each process of a training run holds in memory, and what to change when it does not fit.

    Ends with code 1 when it does not fit. Reads the model's configuration, not its weights.

    Examples:

      zoomzero plan configs/qwen2.5-vl-7b-stage1.toml --gpus 8 --memory 80

      zoomzero plan configs/qwen3-vl-8b-lora.toml --memory 24 --set row_tokens=8192

      zoomzero plan configs/sft-qwen3-vl-8b-lora.toml --gpus 8
    """
    from zoomzero.config import load_model_settings, load_settings, read_settings
    from zoomzero.train.settings import GrpoSettings, SftSettings, load_grpo_settings

    settings: GrpoSettings | SftSettings
    strange = [name for name in read_settings(config) if name not in GrpoSettings.model_fields]
    if strange and all(name in SftSettings.model_fields for name in strange):
        settings = load_settings(SftSettings, config, set_ or ())
    else:
        settings = load_grpo_settings(config, set_ or ())
    from zoomzero.policy.local.checkpoint.find import find_words
    from zoomzero.train.plan import GIB, measure_model, plan_memory, plan_text
    from zoomzero.train.run.processes import check_processes

    check_processes(settings, gpus)
    imitated = getattr(settings, "teacher", None)
    teacher = measure_model(imitated.model) if imitated else None
    asked = settings.model_settings(load_model_settings(find_words(settings.model)))
    found = plan_memory(settings, measure_model(settings.model), asked, gpus=gpus, memory=memory * GIB, teacher=teacher)
    print_text(plan_text(settings, found))
    if not found.fits:
        raise typer.Exit(1)


def settings_text(settings: Settings) -> str:
    """Return settings as lines of TOML with dotted names, and the hash that goes into every output."""
    from zoomzero.config import flatten, settings_hash

    lines = [f"# settings hash {settings_hash(settings)}"]
    for name, value in flatten(settings.model_dump(mode="json")).items():
        lines.append(f"{name} = {_as_toml(value)}" if value is not None else f"# {name} is not set")
    return "\n".join(lines)


def _as_toml(value: Any) -> str:
    """Return a value as TOML on one line; what a table inside a list leaves unset is left out."""
    import json

    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {_as_toml(one)}" for name, one in value.items() if one is not None) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _refuse_other_command(config: str, mine: type[Settings], other: type[Settings], command: str) -> None:
    """Say which command a settings file is for, when it holds keys of the other one alone."""
    from zoomzero.config import read_settings

    strange = [name for name in read_settings(config) if name not in mine.model_fields]
    theirs = [name for name in strange if name in other.model_fields]
    if theirs and theirs == strange:
        reason = f"has settings of `zoomzero {command}` ({', '.join(theirs[:4])})"
        raise ConfigError(config, reason, f"run `zoomzero {command} {config}`")
