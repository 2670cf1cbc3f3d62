"""A campaign of damaged run folders through `report` and `rollouts`: a page, or one typed line.

    python bench/fuzz/fuzz_runs.py [--minutes 3] [--seed 0]

An evaluation and a training of a few steps are run once. Then, again and again, one value of one of their JSON files is
replaced, renamed or taken out, or some bytes are, and the page is written. Every round has a seed of its own (`--seed`
counts up from there); what fails is kept under outputs/fuzz-runs/, and `--seed N --rounds 1` makes it again.
"""

from __future__ import annotations

import copy
import json
import random
import shutil
import subprocess
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kill_jobs import JOBS, Materials
from rounds import campaign, options

from zoomzero.benchmarks.scoring.score import BootstrapSettings
from zoomzero.errors import ZoomZeroError
from zoomzero.pages.evaluation.page import evaluate_runs, write_evaluation_page
from zoomzero.pages.training.rollouts import read_run, write_rollouts_page

LONGEST_LINE = 1500
ODD: tuple[Any, ...] = (
    *(None, True, [], {}, "", -1, 0, 3.5, 1e308, 10**400, float("nan"), float("inf"), "1e999", "A" * 3000),
    *("a\0b", "x\u2028y", "<script>", "../..", [None], {"a": None}, [[1, 2], "x"], [[[[]]]]),
)
BYTES = (b"", b"\0", b"\xff", b"[" * 3000, b"9" * 5000, b"\xe2\x80\xa8")


def evaluation(folder: Path, page: Path) -> None:
    """Write the page of an evaluation."""
    draws = BootstrapSettings(resamples=20)
    write_evaluation_page(page, evaluate_runs([folder], page.parent, data=None, draws=draws, say=lambda _: None))


def training(folder: Path, page: Path) -> None:
    """Write the page of a training."""
    write_rollouts_page(page, read_run(str(folder), 20, lambda _: None))


PAGES: dict[str, Callable[[Path, Path], None]] = {"eval": evaluation, "train": training}


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the keys that lead to every value inside a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*at, key)
        yield from places(value[key], (*at, key))


def hurt(value: Any, rng: random.Random) -> Any:
    """Replace, rename or take out up to four values inside a JSON value."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        where = list(places(value))
        if not where:
            break
        *path, last = rng.choice(where)
        holder = value
        for key in path:
            holder = holder[key]
        draw = rng.random()
        if draw < 0.2:
            del holder[last]
        elif draw < 0.3 and isinstance(holder, dict):
            holder[str(rng.choice(ODD))[:20]] = holder.pop(last)
        else:
            holder[last] = copy.deepcopy(rng.choice(ODD))
    return value


def damage(folder: Path, rng: random.Random) -> str:
    """Damage one JSON file of a folder and return its name."""
    file = rng.choice(sorted(path for path in folder.iterdir() if path.suffix in (".json", ".jsonl")))
    if rng.random() < 0.2:
        data = bytearray(file.read_bytes())
        at = rng.randrange(len(data))
        data[at : at + rng.choice((0, 1, 50))] = rng.choice(BYTES)
        file.write_bytes(data)
    elif file.suffix == ".json":
        file.write_text(json.dumps(hurt(json.loads(file.read_text(encoding="utf-8")), rng)), encoding="utf-8")
    else:
        lines = file.read_text(encoding="utf-8").split("\n")
        place = rng.randrange(len(lines) - 1)
        lines[place] = json.dumps(hurt(json.loads(lines[place]), rng))
        file.write_text("\n".join(lines), encoding="utf-8")
    return file.name


def play(kind: str, seed: int, whole: Path, work: Path) -> tuple[str, str]:
    """Run one round; return `page`, `typed` or `FAILED`, and what happened."""
    rng = random.Random(f"{kind}:{seed}")
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(whole, work, ignore=shutil.ignore_patterns("*.safetensors", "checkpoint-*", "best-*"))
    name = damage(work, rng)
    try:
        PAGES[kind](work, work / "page.html")
    except ZoomZeroError as error:
        said = str(error)
        short = len(said.splitlines()) == 1 and len(said) <= LONGEST_LINE
        return ("typed", "") if short else ("FAILED", f"{name}: not one short line: {said[:300]!r}")
    except Exception:  # noqa: BLE001  # whatever comes is what is looked for
        return "FAILED", f"{name}: {traceback.format_exc(limit=-4)}"
    return "page", ""


def make_runs(out: Path) -> dict[str, Path]:
    """Run the two jobs once and return their folders."""
    things = Materials.make(out / "materials")
    folders = {}
    for kind in PAGES:
        place = out / "whole" / kind
        if not (place / "ready").is_file():
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, "-m", "zoomzero", *JOBS[kind].words(things, place)], check=True)
            (place / "ready").touch()
        folders[kind] = place / "run"
    return folders


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 when something failed."""
    args = options(__doc__, "outputs/fuzz-runs").parse_args(argv)
    warnings.simplefilter("ignore")
    whole = make_runs(args.out)

    def played(kind: str, seed: int) -> tuple[str, str, Callable[[str], object]]:
        work = args.out / "work" / kind
        result, happened = play(kind, seed, whole[kind], work)
        return result, happened, lambda name: shutil.copytree(work, args.out / "failing" / name, dirs_exist_ok=True)

    return campaign(args, whole, played, "page")


if __name__ == "__main__":
    sys.exit(main())
