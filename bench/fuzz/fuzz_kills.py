"""SIGKILL at random moments of the commands that write for long, then the same command again: nothing lost or twice.

    python bench/fuzz/fuzz_kills.py --kills 100 [--minutes 60] [--jobs world,merge,eval,many,sft,train] [--seed 1]

Every job first runs undisturbed; what it leaves is the truth. Then, again and again: a fresh folder, the command killed
up to three times at moments drawn from its whole duration, each time gone on with as the documentation says, and run
to its end. What it leaves must be what the undisturbed run left, byte for byte where no clock is in it: every row and
step once, the same weights. After every kill, whatever JSON lies in the folder must be whole, and the processes it had
started must end by themselves. Folders that fail are kept in OUT/failing, with OUT/failures.jsonl.

The commands run in processes forked from this one, which has imported everything: so a kill costs a second or two.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kill_jobs import JOBS, Job, Materials

LIMIT_S = 600.0
ORPHANS_S = 90.0


@dataclass(slots=True)
class Tally:
    """What a job's rounds came to."""

    kills: int = 0
    rounds: int = 0
    failed: int = 0
    undisturbed_s: float = 0.0
    truth: Any = field(default=None, repr=False)


class Broken(Exception):
    """What must never happen has happened."""


def start(words: Sequence[str], screen: Path) -> int:
    """Run `zoomzero WORDS` in a process of its own and return its id."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setsid()
        file = os.open(screen, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        sys.argv = ["zoomzero", *words]
        from zoomzero import cli

        cli.main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(bool(ended.code))
    except BaseException:  # noqa: BLE001 - a traceback on the screen is a finding
        traceback.print_exc()
    sys.stdout.flush()
    atexit._run_exitfuncs()  # as the command does at its end: locks of its worker processes are given back
    os._exit(code)


def ended(pid: int, within_s: float) -> int | None:
    """Return how a process ended (negative: by a signal), None if it still runs when the time is over."""
    until = time.monotonic() + within_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= until:
            return None
        time.sleep(0.005)


def descendants(pid: int) -> set[int]:
    """Return the processes below a process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has ended
            continue
    found, new = set[int](), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new}
        found |= new
    return found


def running(pids: set[int]) -> set[int]:
    """Return those that are processes and no zombies."""
    alive = set()
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state not in "ZX":
            alive.add(pid)
    return alive


def check_json(folder: Path) -> None:
    """Raise when a JSON file that has its name is not whole (folders of checkpoints say themselves when they are)."""
    for path in folder.rglob("*.json"):
        if any(part.startswith("checkpoint-") or part.endswith(".partial") for part in path.parts):
            continue
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise Broken(f"{path} is not whole: {error}") from error


def run_whole(job: Job, things: Materials, folder: Path) -> tuple[Any, float]:
    """Run a job undisturbed; return what it leaves, and its seconds."""
    started = time.monotonic()
    pid = start(job.words(things, folder), folder / "screen.txt")
    code = ended(pid, LIMIT_S)
    if code != 0:
        raise SystemExit(f"{job.name} alone ends with {code}: {(folder / 'screen.txt').read_text()[-2000:]}")
    return job.left(folder / "run"), time.monotonic() - started


def play(job: Job, things: Materials, folder: Path, tally: Tally, dice: random.Random, left: int) -> None:
    """Kill a job up to three times, let it end, and compare.

    Raises:
        Broken: what it leaves is not what it should be.
    """
    screen, orphans = folder / "screen.txt", set[int]()
    for _ in range(min(left, dice.randint(1, 3))):
        pid = start(job.words(things, folder), screen)
        if ended(pid, dice.uniform(0.0, 1.05 * tally.undisturbed_s)) is not None:
            break
        below = descendants(pid)
        os.kill(pid, signal.SIGKILL)
        code = ended(pid, LIMIT_S)
        if code == 0:
            break  # it was done a moment before
        if code != -signal.SIGKILL:
            raise Broken(f"it ended with {code} while it was killed")
        tally.kills += 1
        orphans |= below
        check_json(folder / "run")
    pid = start(job.words(things, folder), screen)
    code = ended(pid, LIMIT_S)
    if code != 0:
        if code is None:
            os.kill(pid, signal.SIGKILL)
        raise Broken(f"the last run ends with {code}: {screen.read_text()[-900:]}")
    found = job.left(folder / "run")
    if found != tally.truth:
        raise Broken(f"it left something else: {difference(tally.truth, found)}")
    until = time.monotonic() + ORPHANS_S
    while running(orphans):
        if time.monotonic() > until:
            raise Broken(f"processes that go on without their parent: {running(orphans)}")
        time.sleep(0.1)


def difference(wanted: Any, found: Any) -> str:
    """Return where two values differ, in some words."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}, key=str):
            if wanted.get(key) != found.get(key):
                return f"{key}: {difference(wanted.get(key), found.get(key))}"
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return next(f"[{i}] {difference(a, b)}" for i, (a, b) in enumerate(zip(wanted, found, strict=True)) if a != b)
    return f"{str(wanted)[:300]} was, {str(found)[:300]} is"


def campaign(args: argparse.Namespace, say: Callable[[str], None] = print) -> dict[str, Tally]:
    """Play rounds of the jobs by turns until there were enough kills or the time is up."""
    dice = random.Random(args.seed)
    shutil.rmtree(args.out / "work", ignore_errors=True)
    things = Materials.make(args.out / "materials")
    jobs = [JOBS[name] for name in args.jobs.split(",")]
    tallies = {job.name: Tally() for job in jobs}
    for job in jobs:
        folder = args.out / "work" / job.name / "undisturbed"
        folder.mkdir(parents=True)
        tallies[job.name].truth, tallies[job.name].undisturbed_s = run_whole(job, things, folder)
        say(f"{job.name}: {tallies[job.name].undisturbed_s:.1f} s undisturbed")
    end, number = time.monotonic() + args.minutes * 60, 0
    while (left := args.kills - sum(tally.kills for tally in tallies.values())) > 0 and time.monotonic() < end:
        job = min(jobs, key=lambda one: tallies[one.name].kills * tallies[one.name].undisturbed_s ** 0.5)
        tally, folder = tallies[job.name], args.out / "work" / job.name / str(number)
        folder.mkdir(parents=True)
        try:
            play(job, things, folder, tally, dice, left)
        except Broken as error:
            tally.failed += 1
            kept = args.out / "failing" / f"{job.name}-{args.seed}-{number}"
            shutil.copytree(folder, kept, dirs_exist_ok=True)
            with open(args.out / "failures.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps({"folder": kept.name, "what": str(error)}) + "\n")
            say(f"{job.name} round {number}: {error}")
        tally.rounds += 1
        number += 1
        say(f"{sum(one.kills for one in tallies.values())} kills in {number} rounds")
        shutil.rmtree(folder, ignore_errors=True)
    return tallies


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 when something was lost, came twice or was broken."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, help="in all; fewer if the time is up before")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--jobs", default=",".join(JOBS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz-kills"))
    args = parser.parse_args(argv)
    started = time.monotonic()
    tallies = campaign(args, lambda text: print(text, flush=True))
    print(f"{'':<8}{'kills':>7}{'rounds':>8}{'failed':>8}{'undisturbed s':>15}")
    for name, tally in tallies.items():
        print(f"{name:<8}{tally.kills:>7}{tally.rounds:>8}{tally.failed:>8}{tally.undisturbed_s:>15.1f}")
    kills, failed = (sum(getattr(one, what) for one in tallies.values()) for what in ("kills", "failed"))
    minutes = (time.monotonic() - started) / 60
    print(f"{kills} kills, {failed} failed, {minutes:.0f} minutes, seed {args.seed}, {time.strftime('%Y-%m-%d')}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
