"""What campaigns of damaged input share: their options, rounds until the time is up, a table at the end."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

FAILED = "FAILED"
# plays one round of a kind with a seed: what counts, what happened, and what keeps its input under a name
Play = Callable[[str, int], tuple[str, str, Callable[[str], object]]]


def options(doc: str | None, out: str) -> argparse.ArgumentParser:
    """Return the options that every campaign has; its first line of documentation describes it."""
    parser = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=0, help="rounds (of each kind), instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser


def seeds(args: argparse.Namespace) -> Iterator[int]:
    """Count up from the first seed until the rounds are made or the time is up."""
    end, seed = time.monotonic() + args.minutes * 60, args.seed
    while (seed < args.seed + args.rounds) if args.rounds else (time.monotonic() < end):
        yield seed
        seed += 1


def campaign(args: argparse.Namespace, kinds: Iterable[str], play: Play, whole: str) -> int:
    """Play rounds of all kinds and print how often each came out whole, typed or failed; return 1 when one failed.

    Args:
        args: what `options` parsed; findings lie in `out`.
        kinds: of damage.
        play: plays a round.
        whole: the word for a round that nothing went wrong in.
    """
    kinds, last, counts = tuple(kinds), args.seed - 1, Counter[tuple[str, str]]()
    for last in seeds(args):
        for kind in kinds:
            result, happened, keep = play(kind, last)
            counts[kind, result] += 1
            if result == FAILED:
                keep(f"{kind}-{last}")
                (args.out / f"{kind}-{last}.txt").write_text(happened, encoding="utf-8", errors="replace")
                print(f"{kind} seed {last}: {happened.strip().splitlines()[-1][:200]}", file=sys.stderr)
    print(f"{'':<13}{whole:>8}{'typed':>8}{'failed':>8}   seeds {args.seed} to {last}")
    for kind in kinds:
        print(f"{kind:<13}" + "".join(f"{counts[kind, result]:>8}" for result in (whole, "typed", FAILED)))
    return int(any(result == FAILED for _, result in counts))
