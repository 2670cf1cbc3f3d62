"""Asking many examples in many modes, and the demo that shows the difference on the procedural world."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoomzero.answer.ask import answer
from zoomzero.answer.modes import AskMode
from zoomzero.answer.result import PassResult
from zoomzero.config import ModelSettings
from zoomzero.data.example import Example, read_examples
from zoomzero.pages.page import PassFrames
from zoomzero.pages.report import DemoRow, write_demo_report
from zoomzero.policy.base import Policy
from zoomzero.progress import bar
from zoomzero.spans import iop, iou
from zoomzero.world.write import write_world

SHORT_MODES: tuple[AskMode, ...] = ("direct", "coarse", "zoom")
LONG_MODES: tuple[AskMode, ...] = ("direct", "coarse", "zoom", "divide")
SHORT_COUNT, LONG_COUNT = 24, 2
SEED = 2026
CLOSE_PASSES = ("zoom", "context", "verify")


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
) -> list[DemoRow]:
    """Ask every example in every mode."""
    rows = []
    for example in examples:
        for mode in modes:
            if progress:
                progress(example, mode)
            trace, _ = answer(policy, settings, example.video, example.question, example.options, mode=mode)
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


def write_worlds(out: Path, progress: Callable[[str, int, int], None]) -> tuple[list[Example], list[Example]]:
    """Write (or find) the demo's videos and return the short and the long examples."""
    for kind, count in (("short", SHORT_COUNT), ("long", LONG_COUNT)):
        write_world(out / kind, count, SEED, kind, progress=lambda done, total, k=kind: progress(k, done, total))  # type: ignore[arg-type, misc]
    return read_examples(out / "short" / "examples.jsonl"), read_examples(out / "long" / "examples.jsonl")


def write_results(out: Path, rows: Sequence[DemoRow], facts: dict[str, Any]) -> dict[str, Any]:
    """Write `summary.json` and `report.html` and return the summary."""
    modes = {mode: {name: getattr(score, name) for name in ModeScore.__slots__} for mode, score in scores(rows).items()}
    summary = {"modes": modes, **facts}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    write_demo_report(out / "report.html", summary, rows)
    return summary


def run_demo(policy: Policy, settings: ModelSettings, out: Path) -> str:
    """Write the worlds, ask everything in every mode, write the results, and return the table to print."""
    out.mkdir(parents=True, exist_ok=True)
    with bar("writing videos", "s of video") as step:
        short, long = write_worlds(out, lambda kind, done, total: step(done, total))
    total = len(short) * len(SHORT_MODES) + len(long) * len(LONG_MODES)
    done = 0
    with bar("asking", "questions") as step:

        def advance(example: Example, mode: AskMode) -> None:
            nonlocal done
            step(done, total)
            done += 1

        rows = ask_examples(policy, settings, short, SHORT_MODES, advance)
        rows += ask_examples(policy, settings, long, LONG_MODES, advance)
        step(total, total)
    summary = write_results(out, rows, {"model": policy.name, "short_videos": len(short), "long_videos": len(long)})
    return table(summary["modes"]) + f"\n\n{out / 'summary.json'}\n{out / 'report.html'}"


def table(modes: dict[str, dict[str, float]]) -> str:
    """Return the modes' scores as text."""
    lines = [f"{'mode':<10}{'accuracy':>9}{'mIoU':>8}{'mIoP':>8}{'visual tokens':>15}{'seconds':>9}{'n':>5}"]
    for mode, m in modes.items():
        shares = f"{m['accuracy']:>9.3f}{m['miou']:>8.3f}{m['miop']:>8.3f}"
        lines.append(f"{mode:<10}{shares}{m['visual_tokens']:>15.0f}{m['seconds']:>9.2f}{m['n']:>5.0f}")
    return "\n".join(lines)


def close_looks(results: Sequence[PassResult]) -> list[PassFrames]:
    """Return the frames of the passes that looked closely, for the evidence page; of the first pass if none did."""
    close = [one for one in results if one.trace.name.startswith(CLOSE_PASSES)] or list(results[:1])
    return [PassFrames(one.trace.name, one.trace.times_s, one.clip.frames) for one in close]
