"""Run docs/guides/own-videos.md: every command of the page, in its order, and the settings files it shows.

    python examples/tutorial/run.py             runs the page in outputs/tutorial and says where it is no longer true
    python examples/tutorial/run.py --write     and puts the new output and times into the page
    python examples/tutorial/run.py --small     the same commands on a few films and steps, in minutes

The page is the only list of the commands. A block marked `console` is a line `$ COMMAND`, what it printed, and a last
line `# SECONDS s, code CODE`; a block marked `toml` is a file, named in its first line. Numbers may differ from the
page's on another machine; words, lines and codes may not.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "guides" / "own-videos.md"
BLOCK = re.compile(r"^```(console|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PROGRESS = re.compile(r"asking: \d+/\d+, ")  # a line every so many seconds, not every so many answers
SECONDS = re.compile(r"  \| s: .*")  # where an update's seconds went; what took none is left out
CODE = re.compile(r"^# [\d.]+ s, code (\d+)$", re.MULTILINE)
# Stands on a page before its first run.
NOT_YET = re.compile(r"^<!-- not run yet -->\n.*?^<!-- end -->\n\n", re.MULTILINE | re.DOTALL)
FIRST, LAST, WIDEST = 9, 7, 150  # lines of an output that are shown, characters of a line
# What --small makes smaller; every one of these must be in the page.
SMALLER = (
    ("--train 120 --watch 16 --test 48", "--train 8 --watch 4 --test 4"),
    ("steps = 60", "steps = 2"),
    ("steps = 16", "steps = 2"),
    ("every = 8", "every = 1"),
    ("train_batch_size = 8", "train_batch_size = 2"),
    ("mini_batch_size = 8", "mini_batch_size = 2"),
    ("num_generations = 8", "num_generations = 2"),
    ("--samples 8", "--samples 2"),
    ("cam-0150", "cam-0014"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """One block of the page: a file to write, or a command with what it printed when the page was made."""

    command: str  # empty for a file
    code: int
    shown: tuple[str, ...]  # lines of its output
    name: str = ""  # of the file
    text: str = ""


def read_page(text: str) -> list[Step]:
    """Return the blocks of a page in their order.

    Raises:
        ValueError: a block that does not begin with `$ ` or the name of its file.
    """
    steps = []
    for kind, body in BLOCK.findall(text):
        if kind == "toml":
            name = re.match(r"# ([\w.-]+\.toml)\b", body)
            if name is None:
                raise ValueError(f"a toml block must begin with the name of its file: {body[:60]!r}")
            steps.append(Step("", 0, (), name[1], body))
            continue
        command = re.match(r"\$ ((?:.*\\\n)*.*)\n", body)
        if command is None:
            raise ValueError(f"a console block must begin with `$ `: {body[:60]!r}")
        code = CODE.search(body)
        shown = [line for line in body[command.end() :].splitlines() if not CODE.fullmatch(line)]
        steps.append(Step(command[1], int(code[1]) if code else 0, tuple(shown)))
    return steps


def smaller(text: str) -> str:
    """Return the page with fewer films, steps and samples.

    Raises:
        ValueError: the page no longer holds what is to be made smaller.
    """
    for large, small in SMALLER:
        if large not in text:
            raise ValueError(f"the page does not hold {large!r}: correct SMALLER")
        text = text.replace(large, small)
    return text


def run(step: Step, folder: Path) -> tuple[list[str], int, float]:
    """Run a command in the tutorial's folder; return the lines it printed, its exit code and its seconds."""
    paths = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    started = time.perf_counter()
    done = subprocess.run(
        ["bash", "-c", step.command],
        cwd=folder,
        env=os.environ | {"PATH": paths, "COLUMNS": str(WIDEST), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    printed = done.stdout.replace(f"{folder.resolve()}/", "").splitlines()
    kept = [line for line in printed if not PROGRESS.match(line)]
    return kept, done.returncode, time.perf_counter() - started


def short(lines: list[str]) -> list[str]:
    """Return an output as the page shows it: no wider and no longer than can be read."""
    lines = [line.rstrip() if len(line) <= WIDEST else f"{line[: WIDEST - 3]}..." for line in lines]
    if len(lines) <= FIRST + LAST + 1:
        return lines
    return [*lines[:FIRST], f"... ({len(lines) - FIRST - LAST} more lines)", *lines[-LAST:]]


def form(lines: tuple[str, ...] | list[str]) -> list[str]:
    """Return lines without what differs from machine to machine: numbers, bars, columns' distances, where time went."""
    told = (SECONDS.sub("", line).rstrip(" #.") for line in lines)
    plain = (re.sub(r"[-+]?\d[\d.,]*(e[-+]?\d+)?", "N", line) for line in told)
    return [re.sub(r"\s+", " ", line).strip() for line in plain]


def rewritten(text: str, results: list[tuple[list[str], int, float]]) -> str:
    """Return the page with what its commands have printed now."""
    left = iter(results)

    def block(found: re.Match[str]) -> str:
        if found[1] == "toml":
            return found[0]
        command = re.match(r"\$ (?:.*\\\n)*.*\n", found[2])
        assert command is not None
        lines, code, seconds = next(left)
        body = "".join(f"{line}\n" for line in short(lines))
        return f"```console\n{command[0]}{body}# {seconds:.0f} s, code {code}\n```"

    return NOT_YET.sub("", BLOCK.sub(block, text))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="put output and times into the page")
    parser.add_argument("--small", action="store_true", help="a few films and steps; outputs are not compared")
    parser.add_argument("--folder", type=Path, default=ROOT / "outputs" / "tutorial", help="where it runs, made anew")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.write and args.small:
        raise SystemExit("--small writes no page: leave one of the two out")
    whole = PAGE.read_text(encoding="utf-8")
    steps = read_page(smaller(whole) if args.small else whole)
    shutil.rmtree(args.folder, ignore_errors=True)
    args.folder.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("make_set.py"), args.folder)
    results, strange = [], []
    for step in steps:
        if step.name:
            (args.folder / step.name).write_text(step.text, encoding="utf-8")
            continue
        print(f"$ {step.command}", flush=True)
        lines, code, seconds = run(step, args.folder)
        results.append((lines, code, seconds))
        print("\n".join([*short(lines), f"# {seconds:.0f} s, code {code}"]), flush=True)
        if code != step.code:
            raise SystemExit(f"ended with code {code}, the page says {step.code}")
        if not args.small and form(short(lines)) != form(step.shown):
            strange.append(step.command.splitlines()[0])
    print(f"{sum(seconds for _, _, seconds in results) / 60:.1f} minutes")
    if args.write:
        PAGE.write_text(rewritten(whole, results), encoding="utf-8")
    elif strange:
        raise SystemExit("the page shows another output of: " + "; ".join(strange) + " (--write puts the new one in)")


if __name__ == "__main__":
    main()
