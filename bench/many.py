"""Many questions at once against one call a question: `zoomzero ask --questions` and `zoomzero ask`, on one video.

    python bench/many.py [--questions 8] [--mode zoom] [--model tiny]

Times both as a user would: processes from start to end, and the seconds the model itself was busy.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zoomzero.world.scenes import KINDS, SYMBOLS, kind_name
from zoomzero.world.write import write_world


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=8)
    parser.add_argument("--mode", default="zoom")
    parser.add_argument("--model", default="tiny")
    given = parser.parse_args()
    with TemporaryDirectory() as name:
        folder = Path(name)
        (example,) = write_world(folder, 1, 3, "short", workers=1)
        video = folder / example.video
        asked = [f"Which symbol is on the {kind_name(kind)}?" for kind in range(min(KINDS, given.questions))]
        options = list(SYMBOLS[:4])
        single = [_single(video, question, options, given.model, given.mode) for question in asked]
        many = _many(folder, video, asked, options, given.model, given.mode)
    print(f"{len(asked)} questions, mode {given.mode}, model {given.model}: seconds in all, and the model's")
    print(f"one call each  {sum(wall for wall, _ in single):8.1f} {sum(busy for _, busy in single):8.2f}")
    print(f"all at once    {many[0]:8.1f} {many[1]:8.2f}")
    walls, busies = sum(wall for wall, _ in single) / many[0], sum(busy for _, busy in single) / many[1]
    print(f"ratio          {walls:8.1f} {busies:8.2f}")


def _run(*arguments: object) -> tuple[float, str]:
    started = time.perf_counter()
    command = [sys.executable, "-m", "zoomzero", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout


def _single(video: Path, question: str, options: list[str], model: str, mode: str) -> tuple[float, float]:
    choices = [text for option in options for text in ("--option", option)]
    wall, out = _run("ask", video, question, *choices, "--model", model, "--mode", mode, "--json")
    return wall, float(json.loads(out)["costs"]["seconds"])


def _many(
    folder: Path, video: Path, asked: list[str], options: list[str], model: str, mode: str
) -> tuple[float, float]:
    rows: list[dict[str, Any]] = [
        {"id": str(i), "video": video.name, "question": question, "options": options}
        for i, question in enumerate(asked)
    ]
    (folder / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    where = ("--questions", folder / "q.jsonl", "--videos", video.parent, "--out", folder / "run")
    wall, _ = _run("ask", *where, "--model", model, "--mode", mode)
    lines = (folder / "run" / f"predictions.{mode}.jsonl").read_text(encoding="utf-8").splitlines()
    return wall, sum(float(json.loads(line)["costs"]["seconds"]) for line in lines)


if __name__ == "__main__":
    main()
