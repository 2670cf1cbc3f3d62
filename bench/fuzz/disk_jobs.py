"""Commands that write a file or two at their end, for `fuzz_disks.py`; the long ones are in `kill_jobs.py`."""

from __future__ import annotations

import json
from pathlib import Path

from kill_jobs import Job, Materials

ASK = ("--model", "tiny", "--device", "cpu", "--mode", "zoom", "--set", "max_new_tokens=60")


def _ask(option: str, name: str) -> Job:
    def words(things: Materials, folder: Path) -> list[str]:
        (folder / "run").mkdir(exist_ok=True)
        row = json.loads((things.folder / "questions.jsonl").read_text(encoding="utf-8").splitlines()[0])
        options = [word for one in row["options"] for word in ("--option", one)]
        video = str(things.folder / row["video"])
        return ["ask", video, row["question"], *options, *ASK, option, str(folder / "run" / name)]

    return Job(f"ask {option}", words, names)


def names(folder: Path) -> list[str]:
    """Return the names of what a command leaves: pages and clips hold seconds, so their bytes differ."""
    return sorted(path.name for path in folder.rglob("*") if not path.name.startswith(".") and path.stat().st_size)


def _words(words: list[str]) -> Job:
    def all_words(things: Materials, folder: Path) -> list[str]:
        (folder / "run").mkdir(exist_ok=True)
        places = {"things": str(things.folder), "run": str(folder / "run"), "work": str(folder.parents[1])}
        return [word.format(**places) for word in words]

    return Job(words[0], all_words, names)


WRITERS = (
    _ask("--html", "page.html"),
    _ask("--clip", "clip.mp4"),
    _ask("--srt", "evidence.srt"),
    _ask("--edl", "evidence.edl"),
    _words(["convert", "world-short", "{things}", "--out", "{run}/examples.jsonl"]),
    _words(["filter", "{things}/examples.jsonl", "--predictions", "{things}/drawn.jsonl", "--out", "{run}/kept.jsonl"]),
    _words(["report", "{work}/eval/undisturbed/run", "--out", "{run}/report.html"]),
    _words(["rollouts", "{work}/train/undisturbed/run", "--out", "{run}/rollouts.html"]),
)
