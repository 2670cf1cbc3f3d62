"""What is checked before hours are spent: videos, a sample of them opened, tokens, disk. One line for each fault."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomzero.answer.modes import PASSES_OF
from zoomzero.answer.names import AskMode
from zoomzero.benchmarks.runner.videos import FoundVideos
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.data.annotation import Question
from zoomzero.errors import ConfigError, DataError, VideoError
from zoomzero.files import parse_json
from zoomzero.video.probe import probe
from zoomzero.world.render import ITS_WORLD, of_the_world

SAMPLE = 4
SHOWN = 5
ROW_BYTES = 6000  # of a row, about; of a divide or search row several times as much
SPARE_BYTES = 16 << 20
TIME_TOKENS = 12  # of `<12.5 seconds>` and the vision markers around each pair of frames
CHARACTERS_A_TOKEN = 3.0
TEMPLATE_TOKENS = 400


def check_videos(found: FoundVideos, questions: Sequence[Question], root: Path, *, skip_missing: bool) -> list[str]:
    """Check that the videos are there; return what to tell the user.

    Args:
        found: which files there are.
        questions: those to be asked.
        root: the videos' folder.
        skip_missing: leave questions about missing videos out (they count as missing) instead of stopping.

    Raises:
        DataError: videos are missing (names some and counts all), or all of them are.
    """
    if not found.missing:
        return []
    gone = set(found.missing)
    count = sum(question.video in gone for question in questions)
    some = ", ".join(found.missing[:SHOWN]) + (", ..." if len(found.missing) > SHOWN else "")
    total = len(found.missing) + len(found.files)
    what = f"{len(found.missing)} of {total} videos are missing ({count} questions): {some}"
    if not found.files:
        raise DataError(root, "--videos", f"{what}; is this the right folder?")
    if not skip_missing:
        raise DataError(root, "--videos", f"{what}; fetch them, or give --skip-missing: they then count as missing")
    return [f"{what}; they are skipped and count as missing"]


def check_sample(
    files: Iterable[Path],
    most_bad: float,
    *,
    timeout_s: float,
    embedded: bool = False,
    progress: Callable[[str], None] | None = None,
) -> list[str]:
    """Open a few of the videos; return what to tell the user about those that cannot be read.

    Args:
        files: all of them; the same few are taken every time.
        most_bad: the share of failures a run may have.
        timeout_s: seconds one may take.
        embedded: whether the embedded model is asked: a note says where videos are not of its world.
        progress: called with the name of each.

    Raises:
        DataError: more of the sample than that share cannot be read.
    """
    every = sorted(set(files))
    chosen = sorted(random.Random(0).sample(every, min(SAMPLE, len(every))))
    bad: list[VideoError] = []
    foreign = False
    for path in chosen:
        if progress:
            progress(path.name)
        try:
            info = probe(path, timeout_s=timeout_s)
            foreign |= embedded and not of_the_world(info)
        except VideoError as error:
            bad.append(error)
    notes = [f"{ITS_WORLD}; name another one with --model"] if foreign else []
    if not bad:
        return notes
    what = f"{len(bad)} of {len(chosen)} sampled videos cannot be read"
    if len(bad) > most_bad * len(chosen):
        raise DataError(bad[0].path, "sample", f"{what}: {bad[0].reason}; {bad[0].fix}")
    return [*notes, f"{what}, first {bad[0]}"]


def check_options(questions: Sequence[Question]) -> list[str]:
    """Return what to tell the user about questions that cannot be asked as they are scored."""
    without = sum(not question.options and not question.in_words for question in questions)
    if not without:
        return []
    return [
        f"{without} of {len(questions)} questions have no option texts: they are asked openly, for their spans alone"
    ]


@dataclass(frozen=True, slots=True)
class TokenNeed:
    """The most tokens one chat of a mode may hold."""

    mode: AskMode
    tokens: int


def most_tokens(settings: ModelSettings, mode: AskMode, questions: Sequence[Question]) -> TokenNeed:
    """Return an estimate, from above, of the tokens the longest chat of a mode holds: frames, their times, words.

    Args:
        settings: budgets included.
        mode: which passes are taken.
        questions: what is asked.
    """
    longest = max((len(q.question) + sum(len(option) + 8 for option in q.options) for q in questions), default=0)
    words = TEMPLATE_TOKENS + round(longest / CHARACTERS_A_TOKEN) + settings.max_new_tokens
    needs = [_frame_tokens(getattr(settings, name)) for name in PASSES_OF[mode]]
    frames = sum(needs) if mode == "context" else max(needs)  # `context` reads both looks in one chat
    return TokenNeed(mode, frames + words * (2 if mode == "context" else 1))


def _frame_tokens(one: PassSettings) -> int:
    pairs = min(one.max_frames // 2, max(1, one.max_tokens // min(one.min_frame_tokens, one.max_frame_tokens)))
    return one.max_tokens + pairs * TIME_TOKENS


def check_tokens(
    config: Mapping[str, Any], settings: ModelSettings, modes: Sequence[AskMode], questions: Sequence[Question]
) -> None:
    """Check that the longest chat fits the model's positions.

    Args:
        config: the checkpoint's `config.json`.
        settings: budgets included.
        modes: which modes are asked.
        questions: what is asked.

    Raises:
        ConfigError: it does not.
    """
    text = config.get("text_config")
    limit = (text if isinstance(text, dict) else config).get("max_position_embeddings")
    if not isinstance(limit, int):
        return
    worst = max((most_tokens(settings, mode, questions) for mode in modes), key=lambda need: need.tokens)
    if worst.tokens > limit:
        reason = f"a {worst.mode} pass may hold {worst.tokens} tokens, the model has positions for {limit}"
        raise ConfigError(
            "--budget", reason, "lower it, or coarse.max_tokens, zoom.max_tokens, window.max_tokens by --set"
        )


def check_disk(folder: Path, rows: int) -> None:
    """Check that there is room for the rows.

    Raises:
        ConfigError: there is not.
    """
    free, needed = shutil.disk_usage(folder).free, rows * ROW_BYTES + SPARE_BYTES
    if free < needed:
        reason = f"{folder} has {free / 1e6:.0f} MB free, {rows} rows take about {needed / 1e6:.0f} MB"
        raise ConfigError("--out", reason, "make room, or give a folder on another disk")


def read_config(where: Path) -> dict[str, Any]:
    """Return a checkpoint's `config.json`, empty when it has none (loading it will say so)."""
    path = where / "config.json"
    try:
        value = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def read_ids(path: Path, questions: Sequence[Question]) -> set[str]:
    """Return the ids in a file, one a line; lines of a predictions or examples file are read by their `id`.

    Raises:
        DataError: no such file, no id in it, or ids that are no questions of the benchmark (names and counts them).
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # no other line ends: JSON texts may hold them
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(path, "--only", f"cannot be read ({error}); give a text file with one id a line") from error
    ids = [_id(line.strip()) for line in lines if line.strip()]
    if not ids:
        raise DataError(path, "--only", "holds no ids; write one a line")
    known = {question.id for question in questions}
    if strange := [one for one in dict.fromkeys(ids) if one not in known]:
        some = ", ".join(strange[:SHOWN])
        example = questions[0].id if questions else "none"
        reason = (
            f"{len(strange)} of {len(set(ids))} ids are no questions of this split: {some}; ids look like {example}"
        )
        raise DataError(path, "--only", reason)
    return set(ids)


def _id(line: str) -> str:
    if line.startswith("{"):
        try:
            values = parse_json(line)
        except ValueError:
            return line
        if isinstance(values, dict) and "id" in values:
            return str(values["id"])
    return line
