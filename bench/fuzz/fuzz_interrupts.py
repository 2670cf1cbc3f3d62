"""Ctrl-C at random moments of `zoomzero ask`: exit code 130, one line, no process left behind.

    python bench/fuzz/fuzz_interrupts.py [--minutes 3] [--tries N] [--seed 1]

Each try starts the command in a session of its own, as a terminal does, and sends SIGINT to all its processes after a
time drawn from a little more than its whole duration. Python itself takes a moment to start, before the first line of
this project runs: what comes then is counted apart, since nothing here can change it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fuzz_kills import descendants, running
from kill_jobs import Materials

LIMIT_S, ORPHANS_S = 120.0, 60.0
OURS = "zoomzero/__main__.py"


def command(things: Materials) -> list[str]:
    """Return a command that decodes, loads and answers in several passes."""
    video = str(things.folder / "0.mp4")
    return [
        sys.executable,
        "-m",
        "zoomzero",
        "ask",
        video,
        "Which symbol is it?",
        "--model",
        "tiny",
        "--mode",
        "search",
    ]


def attempt(words: Sequence[str], after_s: float) -> tuple[str, str]:
    """Interrupt the command after some seconds; return what that came to, and what was said."""
    process = subprocess.Popen(
        words,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    time.sleep(after_s)
    below = descendants(process.pid)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
    try:
        out, error = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return "FAILED", f"did not end within {LIMIT_S:g} s"
    until = time.monotonic() + ORPHANS_S
    while (left := running(below)) and time.monotonic() < until:
        time.sleep(0.05)
    if left:
        return "FAILED", f"left {len(left)} processes behind"
    return verdict(process.returncode, out, error)


def verdict(code: int, out: str, error: str) -> tuple[str, str]:
    """Return `interrupted`, `finished` (before or while it was interrupted), `python's start`, or `FAILED`."""
    if (code, error) == (130, "zoomzero: interrupted\n"):
        return "interrupted", ""
    if code == 0 and out and not error:
        return "finished", ""
    if OURS not in error and not out and code in (1, -signal.SIGINT):
        return "python's start", ""
    return "FAILED", f"exit code {code}, output {out[:200]!r}, error {error[-900:]!r}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the campaign; return 1 when something failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--tries", type=int, default=0, help="tries, instead of minutes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("outputs/fuzz-interrupts"))
    args = parser.parse_args(argv)
    words = command(Materials.make(args.out / "materials"))
    started = time.monotonic()
    subprocess.run(words, check=True, capture_output=True)
    whole_s = time.monotonic() - started
    dice, counts = random.Random(args.seed), Counter[str]()
    end = time.monotonic() + args.minutes * 60
    while (sum(counts.values()) < args.tries) if args.tries else (time.monotonic() < end):
        after_s = dice.uniform(0.0, 1.05 * whole_s)
        result, happened = attempt(words, after_s)
        counts[result] += 1
        if result == "FAILED":
            with open(args.out / "failures.jsonl", "a", encoding="utf-8") as log:
                log.write(json.dumps({"after_s": after_s, "what": happened}) + "\n")
            print(f"after {after_s:.3f} s: {happened}", flush=True)
    print(f"{sum(counts.values())} tries, {dict(counts)}, {whole_s:.1f} s a run, seed {args.seed}", time.strftime("%F"))
    return int(counts["FAILED"] > 0)


if __name__ == "__main__":
    sys.exit(main())
