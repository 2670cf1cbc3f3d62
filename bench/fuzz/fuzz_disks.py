"""Disks that are full or read-only under every command that writes: one line that says so, then room, then the same.

    python bench/fuzz/fuzz_disks.py --minutes 10 [--jobs world,merge,eval,...] [--seed 1]

Each round mounts a small disk (a tmpfs in a mount namespace of this process alone) where a command writes: of a size
drawn between nothing and what the command needs, or one that something else fills at a moment drawn from the command's
duration, or one that is read-only. What is right: the command ends with a code of its own
and one line, no traceback, and no file under its final name is half. Then the disk gets room, the same command runs to
its end, and must leave what the undisturbed run left. Folders that fail are kept in OUT/failing.

Needs `unshare` and `mount` of Linux (root, or user namespaces); says so where they are not allowed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from disk_jobs import WRITERS
from fuzz_kills import LIMIT_S, Broken, Tally, check_json, difference, ended, run_whole, start
from kill_jobs import JOBS, Job, Materials

INSIDE = "ZOOMZERO_FUZZ_DISKS"
ROOMY, FILLER = "size=256m,mode=0755", ".filler"
KINDS = ("small", "filling", "read-only")


def mount(folder: Path, options: str, *, again: bool = False) -> None:
    """Mount a disk in memory at a folder, or change one."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-o", f"remount,{options}"] if again else ["mount", "-t", "tmpfs", "-o", options, "tmpfs"]
    subprocess.run([*words, str(folder)], check=True)


def fill(disk: Path) -> None:
    """Take all the room of a disk."""
    with open(disk / FILLER, "wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue


def size_kb(folder: Path) -> int:
    """Return what a folder takes on a disk."""
    return sum(4 * (1 + path.stat().st_size // 4096) for path in folder.rglob("*"))


def play(job: Job, things: Materials, folder: Path, tally: Tally, kind: str, dice: random.Random) -> str:
    """Run a job on a disk that is full or read-only, give it room and run it again; return what it said.

    Raises:
        Broken: it did not end in one line, or what it left in the end is not what it should be.
    """
    disk, screen = folder / "run", folder / "screen.txt"
    mount(disk, ROOMY)
    if kind == "read-only":
        job.words(things, folder)  # what it writes beside the disk, and the folders it expects
        mount(disk, f"ro,{ROOMY}", again=True)
    elif kind == "small":
        mount(disk, f"size={dice.randrange(4, max(8, tally.truth['kb']))}k", again=True)
    screen.touch()
    try:
        pid = start(job.words(things, folder), screen)
        code = None
        if kind == "filling":
            code = ended(pid, dice.uniform(0.0, tally.undisturbed_s))
            fill(disk)
        code = ended(pid, LIMIT_S) if code is None else code
        said = check_said(code, screen.read_text(encoding="utf-8", errors="replace"))
        check_json(disk)
        mount(disk, f"rw,{ROOMY}", again=True)
        (disk / FILLER).unlink(missing_ok=True)
        code = ended(start(job.words(things, folder), screen), LIMIT_S)
        if code != 0:
            raise Broken(f"with room again it ends with {code}: {screen.read_text()[-900:]}")
        found = job.left(disk)
        if found != tally.truth["left"]:
            raise Broken(f"it left something else: {difference(tally.truth['left'], found)}")
        return said
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def check_said(code: int | None, screen: str) -> str:
    """Return the line a command ended with; none where it did not need the room.

    Raises:
        Broken: it hung, crashed, or its last line is no complaint.
    """
    if code == 0:
        return ""
    lines = [line for line in screen.splitlines() if line.strip()]
    if code is None or code < 0 or code == 1 or "Traceback" in screen or not lines:
        raise Broken(f"ends with {code}: {screen[-900:]}")
    if not lines[-1].startswith("zoomzero: ") or lines[-1].startswith("zoomzero: note"):
        raise Broken(f"ends with {code} and says {lines[-1]!r}")
    return lines[-1]


def campaign(args: argparse.Namespace, say: Callable[[str], None]) -> dict[tuple[str, str], Tally]:
    """Play rounds of all jobs by turns until the time is up."""
    dice = random.Random(args.seed)
    shutil.rmtree(args.out / "work", ignore_errors=True)
    things = Materials.make(args.out / "materials")
    jobs = [one for one in (*JOBS.values(), *WRITERS) if one.name in args.jobs.split(",")]
    tallies: dict[tuple[str, str], Tally] = {}
    for job in jobs:
        folder = args.out / "work" / job.name / "undisturbed"
        folder.mkdir(parents=True)
        left, seconds = run_whole(job, things, folder)
        truth: dict[str, Any] = {"left": left, "kb": size_kb(folder / "run")}
        say(f"{job.name}: {seconds:.1f} s undisturbed, {truth['kb']} KB")
        for kind in KINDS:
            tallies[job.name, kind] = Tally(truth=truth, undisturbed_s=seconds)
    end, number = time.monotonic() + args.minutes * 60, 0
    while time.monotonic() < end or number < len(jobs) * len(KINDS):
        job, kind = jobs[number // len(KINDS) % len(jobs)], KINDS[number % len(KINDS)]
        tally, folder = tallies[job.name, kind], args.out / "work" / job.name / str(number)
        number += 1
        if kind == "read-only" and tally.rounds:
            continue  # nothing is drawn there
        folder.mkdir(parents=True)
        try:
            say(f"{job.name}, {kind}: {play(job, things, folder, tally, kind, dice) or '(had room)'}")
        except Broken as error:
            tally.failed += 1
            with open(args.out / "failures.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps({"job": job.name, "disk": kind, "round": number, "what": str(error)}) + "\n")
            say(f"{job.name}, {kind}: FAILED: {error}")
        tally.rounds += 1
    return tallies


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 when something was broken."""
    names = [*JOBS, *(one.name for one in WRITERS)]
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--jobs", default=",".join(names))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz-disks"))
    args = parser.parse_args(argv)
    if INSIDE not in os.environ:
        alone = ["unshare", "--user", "--map-root-user", "--mount"]
        if shutil.which("unshare") is None or subprocess.run([*alone, "true"], check=False).returncode:
            print("fuzz-disks: mounting is not allowed here (unshare --user --mount): nothing was tried")
            return 0
        os.environ[INSIDE] = "1"
        os.execvp("unshare", [*alone, sys.executable, *sys.argv])
    args.out = args.out.resolve()
    tallies = campaign(args, lambda text: print(text, flush=True))
    print(f"{'':<12}{'disk':<12}{'rounds':>8}{'failed':>8}")
    for (name, kind), tally in tallies.items():
        print(f"{name:<12}{kind:<12}{tally.rounds:>8}{tally.failed:>8}")
    rounds, failed = (sum(getattr(one, what) for one in tallies.values()) for what in ("rounds", "failed"))
    print(f"{rounds} rounds, {failed} failed, seed {args.seed}, {time.strftime('%Y-%m-%d')}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
