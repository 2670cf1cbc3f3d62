"""Many questions about one video against one call a question.

    python bench/many.py                                  `zoomzero ask --questions` against `zoomzero ask`, processes
    python bench/many.py --random qwen3_vl --mode direct  prompts of a real length, through a model of random weights

The first prints the seconds of all processes from start to end, and of these the model's: what passes took without
decoding frames. The second asks in this process, where nothing is loaded or set up while the clock runs: every question
with nothing kept, and again from what the first of them read (`zoomzero.policy.kept`), as `ask --questions` does. The
model's seconds are then this process's CPU time: frames are decoded in others, and what else the machine does hardly
counts.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from decode import video as film
from random_models import FAMILIES, SIZES, make_policy
from zoomzero.answer.ask import answer
from zoomzero.config import ModelSettings
from zoomzero.policy.base import Policy
from zoomzero.policy.kept import KeptPrefixes, keeping
from zoomzero.video.cache import FrameCache
from zoomzero.world.scenes import KINDS, SYMBOLS, kind_name
from zoomzero.world.write import write_world

OPTIONS = list(SYMBOLS[:4])
WRITTEN = 32  # tokens a random model writes in a pass: it knows no end
Seconds = tuple[float, float]  # in all, and the model's


def main() -> None:
    """Measure one of the two and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--mode", default="zoom")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--random", choices=FAMILIES, help="a model of random weights of this family, in this process")
    parser.add_argument("--size", choices=SIZES, default="tiny", help="of the random model")
    parser.add_argument("--budget", type=int, default=2048, help="visual tokens of its prompts")
    given = parser.parse_args()
    torch.set_num_threads(1)
    asked = [f"Which symbol is on the {kind_name(kind)}?" for kind in range(min(KINDS, given.questions))]
    with TemporaryDirectory() as name:
        if given.random is None:
            what, (single, many) = given.model, as_processes(Path(name), asked, given.model, given.mode)
        else:
            what = f"random {given.random} {given.size}, {given.budget} visual tokens a prompt"
            policy = make_policy(given.random, given.size, torch.device("cpu"), torch.float32)
            single, many = in_process(Path(name), asked, policy, given.mode, given.budget)
    print(f"{len(asked)} questions, mode {given.mode}, {what}: seconds in all, and the model's")
    print(f"one call each  {single[0]:8.1f} {single[1]:8.2f}")
    print(f"all at once    {many[0]:8.1f} {many[1]:8.2f}")
    print(f"ratio          {single[0] / many[0]:8.1f} {single[1] / many[1]:8.2f}")


def model_s(passes: Iterable[Mapping[str, Any]]) -> float:
    """Return the seconds passes took without those that decoding took."""
    return sum(float(one["seconds"]) - float(one["decode_seconds"]) for one in passes)


# --- in this process ---


def in_process(
    folder: Path, asked: Sequence[str], policy: Policy, mode: str, budget_tokens: int
) -> tuple[Seconds, Seconds]:
    """Ask everything with nothing kept, then again with what is read kept."""
    settings, path = ModelSettings(max_new_tokens=WRITTEN), film(folder, 1, 250, (640, 360))

    def ask_all(asker: Policy, cache: FrameCache | None) -> Seconds:
        started, busy = time.perf_counter(), time.process_time()
        for question in asked:
            answer(asker, settings, path, question, OPTIONS, mode=mode, budget_tokens=budget_tokens, cache=cache)
        return time.perf_counter() - started, time.process_time() - busy

    answer(policy, settings, path, asked[0], OPTIONS, mode=mode, budget_tokens=budget_tokens)  # sets everything up
    return ask_all(policy, None), ask_all(keeping(policy, KeptPrefixes(16384)), FrameCache(256 << 20))


# --- as processes ---


def as_processes(folder: Path, asked: Sequence[str], model: str, mode: str) -> tuple[Seconds, Seconds]:
    """Run the command line once for every question, then once for all of them."""
    (example,) = write_world(folder, 1, 3, "short", workers=1)
    video = folder / example.video
    single = [_single(video, question, model, mode) for question in asked]
    return (sum(wall for wall, _ in single), sum(busy for _, busy in single)), _many(folder, video, asked, model, mode)


def _run(*arguments: object) -> tuple[float, str]:
    started = time.perf_counter()
    command = [sys.executable, "-m", "zoomzero", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def _single(video: Path, question: str, model: str, mode: str) -> Seconds:
    choices = [text for option in OPTIONS for text in ("--option", option)]
    wall, out = _run("ask", video, question, *choices, "--model", model, "--mode", mode, "--json")
    return wall, model_s(json.loads(out)["passes"])


def _many(folder: Path, video: Path, asked: Sequence[str], model: str, mode: str) -> Seconds:
    rows = [
        {"id": str(i), "video": video.name, "question": question, "options": OPTIONS}
        for i, question in enumerate(asked)
    ]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    where = ("--questions", folder / "q.jsonl", "--videos", video.parent, "--out", folder / "run")
    wall, _ = _run("ask", *where, "--model", model, "--mode", mode)
    lines = (folder / "run" / f"predictions.{mode}.jsonl").read_text(encoding="utf-8").splitlines()
    return wall, sum(model_s(json.loads(line)["passes"]) for line in lines)


if __name__ == "__main__":
    main()
