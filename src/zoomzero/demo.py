"""Asking many examples in many modes, and the demo that shows the difference on the procedural world."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zoomzero.answer.ask import answer
from zoomzero.answer.names import AskMode
from zoomzero.answer.result import PassResult
from zoomzero.config import ModelSettings
from zoomzero.data.example import Example, read_examples
from zoomzero.errors import ConfigError
from zoomzero.pages.page import PassFrames
from zoomzero.pages.report import DemoRow, Look, write_demo_report
from zoomzero.policy.base import Policy
from zoomzero.progress import bar
from zoomzero.spans import iop, iou
from zoomzero.world.write import write_world

SHORT_MODES: tuple[AskMode, ...] = ("direct", "coarse", "zoom", "context")
LONG_MODES: tuple[AskMode, ...] = ("coarse", "zoom", "divide", "search")
SHORT_COUNT, LEAST_LONG = 24, 16  # four long questions of each kind: two show more luck than skill
SEED = 2026
CLOSE_PASSES = ("zoom", "context", "verify")
WORLDS = {"short": "videos of 48 to 80 seconds", "long": "videos of 20 minutes"}


@dataclass(frozen=True, slots=True)
class ModeScore:
    """What one mode reached over its questions: shares in [0, 1], means per question."""

    accuracy: float
    miou: float
    miop: float
    visual_tokens: float
    seconds: float
    n: int


def ask_examples(
    policy: Policy,
    settings: ModelSettings,
    examples: Sequence[Example],
    modes: Sequence[AskMode],
    progress: Callable[[Example, AskMode], None] | None = None,
    *,
    world: str = "",
    thumbnails: bool = False,
) -> list[DemoRow]:
    """Ask every example in every mode.

    Args:
        policy: the model.
        settings: how it is asked.
        examples: with answers and evidence.
        modes: of answering.
        progress: called before each question is put.
        world: kept with the rows, to tell short videos from long ones.
        thumbnails: keep pictures of what was looked at closely.
    """
    rows = []
    for example in examples:
        for mode in modes:
            if progress:
                progress(example, mode)
            trace, results = answer(policy, settings, example.video, example.question, example.options, mode=mode)
            rows.append(
                DemoRow(
                    mode=mode,
                    example_id=example.id,
                    kind=example.id.rsplit("-", 1)[-1],
                    question=example.question,
                    options=example.options,
                    truth_option=example.answer,
                    true_spans=example.spans,
                    trace=trace,
                    world=world,
                    looks=closest_look(results) if thumbnails else (),
                )
            )
    return rows


def score_mode(rows: Sequence[DemoRow]) -> ModeScore:
    """Score rows of one mode; a row without an answer or spans counts with 0."""
    n = len(rows)
    return ModeScore(
        accuracy=math.fsum(row.trace.option == row.truth_option for row in rows) / n,
        miou=math.fsum(iou(row.trace.spans, row.true_spans) for row in rows) / n,
        miop=math.fsum(iop(row.trace.spans, row.true_spans) for row in rows) / n,
        visual_tokens=math.fsum(row.trace.costs["visual_tokens"] for row in rows) / n,
        seconds=math.fsum(row.trace.seconds for row in rows) / n,
        n=n,
    )


def scores(rows: Sequence[DemoRow]) -> dict[str, ModeScore]:
    """Score the rows of every mode, in the order the modes come in."""
    return {mode: score_mode([r for r in rows if r.mode == mode]) for mode in dict.fromkeys(r.mode for r in rows)}


def write_worlds(out: Path, count: int, progress: Callable[[int, int], None]) -> dict[str, list[Example]]:
    """Write (or find) the demo's videos and return the examples of each world."""
    examples = {}
    for kind, n in (("short", count), ("long", max(LEAST_LONG, count // 3))):
        write_world(out / kind, n, SEED, kind, progress=progress)  # type: ignore[arg-type]
        examples[kind] = read_examples(out / kind / "examples.jsonl")
    return examples


def write_results(out: Path, rows: Sequence[DemoRow], facts: dict[str, Any]) -> dict[str, Any]:
    """Write `summary.json` and `report.html` and return the summary."""
    worlds = {
        world: {mode: asdict(score) for mode, score in scores([r for r in rows if r.world == world]).items()}
        for world in dict.fromkeys(row.world for row in rows)
    }
    summary = {"worlds": worlds, **facts}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    write_demo_report(out / "report.html", summary, rows)
    return summary


def run_demo(policy: Policy, settings: ModelSettings, out: Path, count: int = SHORT_COUNT) -> str:
    """Write the worlds, ask everything in every mode, write the results, and return the tables to print.

    Args:
        policy: the model.
        settings: how it is asked.
        out: where to.
        count: short videos; a third as many long ones, at least LEAST_LONG.

    Raises:
        ConfigError: fewer than one video.
    """
    if count < 1:
        raise ConfigError("--count", f"{count} is not a number of videos", "give 1 or more")
    out.mkdir(parents=True, exist_ok=True)
    with bar("writing videos", "s of video") as step:
        examples = write_worlds(out, count, step)
    modes = {"short": SHORT_MODES, "long": LONG_MODES}
    total = sum(len(of) * len(modes[world]) for world, of in examples.items())
    rows: list[DemoRow] = []
    done = 0
    with bar("asking", "questions") as step:

        def advance(example: Example, mode: AskMode) -> None:
            nonlocal done
            step(done, total)
            done += 1

        for world, of in examples.items():
            rows += ask_examples(policy, settings, of, modes[world], advance, world=world, thumbnails=True)
        step(total, total)
    summary = write_results(out, rows, {"model": policy.name, **{f"{w}_videos": len(e) for w, e in examples.items()}})
    tables = [f"{WORLDS[world]}\n{table(of)}" for world, of in summary["worlds"].items()]
    return "\n\n".join(tables) + f"\n\n{out / 'summary.json'}\n{out / 'report.html'}"


def table(modes: dict[str, dict[str, float]]) -> str:
    """Return the modes' scores as text."""
    lines = [f"{'mode':<10}{'accuracy':>9}{'mIoU':>8}{'mIoP':>8}{'visual tokens':>15}{'seconds':>9}{'n':>5}"]
    for mode, m in modes.items():
        shares = f"{m['accuracy']:>9.3f}{m['miou']:>8.3f}{m['miop']:>8.3f}"
        lines.append(f"{mode:<10}{shares}{m['visual_tokens']:>15.0f}{m['seconds']:>9.2f}{m['n']:>5.0f}")
    return "\n".join(lines)


def closest_look(results: Sequence[PassResult], most: int = 4) -> tuple[Look, ...]:
    """Return a few frames, evenly spread, of the last close look among passes; none where there was none."""
    close = [one for one in results if one.trace.name.startswith(CLOSE_PASSES)]
    if not close:
        return ()
    times_s, frames = close[-1].trace.times_s, close[-1].clip.frames
    n = min(most, len(times_s))
    places = [round(i * (len(times_s) - 1) / max(1, n - 1)) for i in range(n)]
    return tuple(Look(times_s[i], frames[i]) for i in places)


def close_looks(results: Sequence[PassResult]) -> list[PassFrames]:
    """Return the frames of the passes that looked closely, for the evidence page; of the first pass if none did."""
    close = [one for one in results if one.trace.name.startswith(CLOSE_PASSES)] or list(results[:1])
    return [PassFrames(one.trace.name, one.trace.times_s, one.clip.frames) for one in close]
