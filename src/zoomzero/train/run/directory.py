"""A training run's directory: its settings, its checkpoints, what it may be resumed with."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from zoomzero.config import flatten, settings_hash
from zoomzero.errors import ConfigError
from zoomzero.files import PARTIAL, locked, write_whole

SETTINGS_FILE, RECORD_FILE = "run.json", "training.json"
PROCESSES = "processes"  # beside the settings there
LOCK_FILE = "run.lock"
# Settings a resumed run may change: no weight that it has made depends on them. `steps` may be raised.
FREE_TO_CHANGE = (
    *("out", "threads", "log_every", "save_every", "keep", "report_to", "save_dtype", "draw_ahead"),
    *("data.max_unreadable", "data.timeout_s", "data.frame_cache_mb", "data.feature_cache_mb"),
    *("data.world.folder", "validation.world.folder"),
)


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """What `training.json` in a trained checkpoint says.

    `final_loss` is the mean over the last logged steps; `minutes` are those of all sittings, without what a new tower
    took to learn to see (`vision_minutes` of `data`); `data` says which splits of which files were learned from,
    `validation` how the start model, the last and the best one did.
    """

    settings: dict[str, Any]
    settings_hash: str
    steps: int
    minutes: float
    final_loss: float
    device: str
    versions: dict[str, str]
    data: dict[str, Any]
    validation: dict[str, dict[str, float]] = field(default_factory=dict)

    def write(self, out: Path) -> None:
        """Write it into the trained checkpoint's directory, complete or not at all."""
        write_whole(out / RECORD_FILE, json.dumps(asdict(self), indent=1) + "\n")


def make_record(
    settings: BaseModel,
    *,
    steps: int,
    minutes: float,
    final_loss: float,
    data: dict[str, Any],
    validation: dict[str, dict[str, float]] | None = None,
) -> TrainingRecord:
    """Return the record of a run that has made its steps, on this machine, with what is installed here.

    Args:
        settings: of the run.
        steps: optimizer steps it has made.
        minutes: the run has taken, over all its sittings.
        final_loss, data, validation: as in `TrainingRecord`.
    """
    return TrainingRecord(
        settings=settings.model_dump(mode="json"),
        settings_hash=settings_hash(settings),
        steps=steps,
        minutes=round(minutes, 1),
        final_loss=round(final_loss, 6),
        device=device_name(),
        versions=versions(),
        data=data,
        validation=validation or {},
    )


@contextmanager
def claimed_run(settings: BaseModel, out: Path, *, processes: int = 1) -> Iterator[None]:
    """Make a run's directory, say in `run.json` whose it is (see `check_run`), and keep other runs out of it.

    Raises:
        ConfigError: another run is writing there.
    """
    out.mkdir(parents=True, exist_ok=True)
    with locked(out / LOCK_FILE, "out", "choose another directory"):
        values = {**settings.model_dump(mode="json"), PROCESSES: processes}
        write_whole(out / SETTINGS_FILE, json.dumps(values, indent=1) + "\n")
        yield


def check_run(
    settings: BaseModel, out: Path, *, resume: bool, free: Sequence[str] = FREE_TO_CHANGE, processes: int = 1
) -> None:
    """Refuse a directory that a run cannot have, or cannot go on in.

    Args:
        settings: of the run; written to `run.json` at its start, compared with it at a resume.
        out: the directory.
        resume: go on with what is there.
        free: settings (`data.timeout_s`) that may differ from those the run was started with.
        processes: how many make the run; they share its prompts out, so it can only go on with as many.

    Raises:
        ConfigError: `out` holds a run already and `resume` is off, that run is going on, there is nothing to resume, or
            the settings differ.
    """
    path = out / SETTINGS_FILE
    if out.exists() and not out.is_dir():
        raise ConfigError("out", f"{out} is a file", "choose a directory")
    if (out / LOCK_FILE).is_file():
        with locked(out / LOCK_FILE, "out", "choose another directory"):
            pass  # nobody is writing there
    # a kill while the run was claimed leaves a partial file, and no run
    if not resume and out.exists() and any(file.suffix != PARTIAL and file.name != LOCK_FILE for file in out.iterdir()):
        raise ConfigError("out", f"{out} is not empty", "add --resume, or choose another directory")
    if resume and not path.is_file():
        raise ConfigError("--resume", f"{out} holds no run", "start the run without --resume")
    if resume:
        before = json.loads(path.read_text(encoding="utf-8"))
        _compare(before, settings.model_dump(mode="json"), out, free, processes)


def _compare(before: dict[str, Any], now: dict[str, Any], out: Path, free: Sequence[str], processes: int) -> None:
    """Refuse to go on with a run as something else than it was."""
    started = before.pop(PROCESSES, 1)
    if started != processes:
        reason = f"{out} was started with {started} processes, now there are {processes}"
        raise ConfigError("--resume", reason, "start as many as before")
    old, new = flatten(before), flatten(now)
    if isinstance(old.get("steps"), int) and not new.get("stages"):
        old["steps"] = max(old["steps"], new["steps"])  # a longer run begins as the shorter one did
    changed = [
        name
        for name in dict.fromkeys([*new, *old])
        if old.get(name) != new.get(name) and not any(name == one or name.startswith(f"{one}.") for one in free)
    ]
    if changed:
        same = " ".join(f"--set {name}={old[name]}" for name in changed[:3] if old.get(name) is not None)
        said = f"that is {same}, " if same else ""
        fix = f"resume with the settings it was started with, {said}or start a new run in another directory"
        raise ConfigError("--resume", f"{out} was started with other {', '.join(changed)}", fix)


def last_checkpoint(out: Path) -> Path | None:
    """Return the newest whole checkpoint; one that was being written when the run was killed does not count."""
    return max((path for path in out.glob("checkpoint-[0-9]*") if _is_whole(path)), key=checkpoint_step, default=None)


def checkpoint_step(path: Path) -> int:
    """Return how many updates a checkpoint has seen."""
    return int(path.name.removeprefix("checkpoint-"))


def drop_later_checkpoints(out: Path, step: int) -> None:
    """Remove what a killed run left of checkpoints after a step, so that nothing mistakes it for the real ones."""
    for path in out.glob("checkpoint-[0-9]*"):
        if checkpoint_step(path) > step:
            shutil.rmtree(path)


def flush(directory: Path) -> None:
    """Wait until the files of a directory are on the disk, where a power cut leaves them."""
    for path in filter(Path.is_file, directory.iterdir()):
        with path.open("rb") as file:
            os.fsync(file.fileno())


def _is_whole(path: Path) -> bool:
    """The trainer's state is written last, when all processes have written their part."""
    try:
        json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def cut_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    """Rewrite a JSON Lines file with the lines that count; a half-written last line goes too."""
    if not path.is_file():
        return
    with path.open("rb") as lines:
        kept = [line for line in lines if line.endswith(b"\n") and keep(json.loads(line))]
    write_whole(path, b"".join(kept))


def device_name() -> str:
    """Return the machine's accelerator, or its processor."""
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Return the versions that results depend on."""
    import torch
    import transformers

    import zoomzero

    return {"zoomzero": zoomzero.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
