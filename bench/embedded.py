"""What the embedded model reaches on fresh videos of the world, from the mp4 files, by mode and kind of question.

    python bench/embedded.py --short 256 --long 0 --out docs/results/embedded-short.json
    python bench/embedded.py --short 0 --long 24 --out docs/results/embedded-long.json

The close look is also given other frames than those the coarse pass chose: the true spans, a random span as long as
the true one, frames spread over the whole video at the same cost, and no frames at all. Without that a good score
would not show that finding the moment matters. Printed besides: how often sure answers are right, and what leaving out
the close look costs where the coarse pass is sure.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from figures.tables import embedded_tables
from zoomzero.answer.scoring import score, zoom
from zoomzero.answer.session import QuestionSession
from zoomzero.config import ModelSettings, load_model_settings, settings_hash
from zoomzero.data.example import Example, read_examples
from zoomzero.demo import ask_examples, score_mode
from zoomzero.pages.report import DemoRow
from zoomzero.policy.base import Policy, Turn
from zoomzero.policy.local.load import find, load_policy
from zoomzero.progress import bar
from zoomzero.spans import Span, iou, merge, widen
from zoomzero.video.plan import plan_uniform
from zoomzero.video.probe import probe
from zoomzero.world.write import write_world


def main() -> None:
    """Run the evaluation and print and write its tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--short", type=int, default=256, help="short videos")
    parser.add_argument("--long", type=int, default=64, help="long videos")
    parser.add_argument("--seed", type=int, default=90210, help="of the videos; training has other streams")
    parser.add_argument("--worlds", type=Path, default=Path("outputs/embedded"), help="where the videos are written")
    parser.add_argument("--short-modes", default="direct,coarse,zoom,context,search")
    parser.add_argument("--long-modes", default="direct,coarse,zoom,divide,search")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policy, settings = load_policy(arguments.model), load_model_settings(find(arguments.model))
    started = time.perf_counter()
    result: dict[str, Any] = {
        "model": arguments.model,
        "settings": settings_hash(settings),
        "seed": arguments.seed,
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} thread, torch {torch.__version__}",
    }
    for kind, count, modes in (
        ("short", arguments.short, arguments.short_modes),
        ("long", arguments.long, arguments.long_modes),
    ):
        if count:
            folder = arguments.worlds / kind
            write_world(folder, count, arguments.seed, kind)  # type: ignore[arg-type]
            examples = read_examples(folder / "examples.jsonl")
            result[kind] = evaluate(policy, settings, examples, modes.split(","))
    result["minutes"] = round((time.perf_counter() - started) / 60, 1)
    print(embedded_tables(result))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")


def evaluate(
    policy: Policy, settings: ModelSettings, examples: Sequence[Example], modes: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Return, for every mode, its scores overall and by kind of question, and the controls of the close look."""
    total, done = len(examples) * len(modes), 0
    with bar("asking", "questions") as step:

        def advance(example: Example, mode: str) -> None:
            nonlocal done
            step(done, total)
            done += 1

        rows = ask_examples(policy, settings, examples, modes, advance)  # type: ignore[arg-type]
    scores: dict[str, dict[str, Any]] = {}
    for mode in modes:
        of_mode = [row for row in rows if row.mode == mode]
        kinds = dict.fromkeys(row.kind for row in of_mode)
        scores[mode] = asdict(score_mode(of_mode)) | {
            "format": _well_formed(of_mode),
            "sure": _sure(of_mode),
            "by_kind": {kind: asdict(score_mode([r for r in of_mode if r.kind == kind])) for kind in kinds},
        }
    zooms = [row for row in rows if row.mode == "zoom"]
    if zooms:
        scores["zoom without a close look from a confidence of"] = early_exit(zooms)
    for kind in dict.fromkeys(row.kind for row in rows):
        of_kind = [example for example in examples if example.id.endswith(kind)]
        scores[f"close look, {kind} questions"] = controls(policy, settings, of_kind)
    scores["a random span as long as the true one, mIoU"] = random_spans(examples)
    return scores


def early_exit(rows: Sequence[DemoRow]) -> dict[str, str]:
    """Return accuracy and visual tokens of zoom mode if sure coarse answers with evidence got no close look."""
    found = {}
    for enough in (0.8, 0.9, 0.95, 0.99, 1.0):
        right, tokens = 0, 0
        for row in rows:
            first = row.trace.passes[0]
            stops = enough < 1 and bool(first.found) and (first.confidence or 0.0) >= enough
            right += (first.option if stops else row.trace.option) == row.truth_option
            tokens += first.visual_tokens if stops else row.trace.costs["visual_tokens"]
        found[f"{enough:g}"] = f"{right / len(rows):.3f} with {tokens / len(rows):.0f} tokens"
    return found


def random_spans(examples: Sequence[Example], tries: int = 50) -> dict[str, float]:
    """Return the mean overlap of spans as long as the true ones at random places."""
    rng = np.random.default_rng(0)
    overlaps = []
    for example in examples:
        for _ in range(tries):
            starts = [float(rng.uniform(0, example.duration_s - span.length_s)) for span in example.spans]
            guess = [Span(s, s + span.length_s) for s, span in zip(starts, example.spans, strict=True)]
            overlaps.append(iou(merge(guess), example.spans))
    return {"mIoU": float(np.mean(overlaps))}


def controls(policy: Policy, settings: ModelSettings, examples: Sequence[Example]) -> dict[str, float]:
    """Return the close look's accuracy by where it looks."""
    rng = np.random.default_rng(0)
    right = dict.fromkeys(("true span", "random span", "uniform", "no frames"), 0)
    for example in examples:
        info = probe(example.video)
        asked = QuestionSession(policy, settings, info, example.question, example.options)
        lengths = [span.length_s for span in example.spans]
        starts = [float(rng.uniform(0, info.duration_s - length)) for length in lengths]
        elsewhere = merge(Span(s, s + length) for s, length in zip(starts, lengths, strict=True))
        true = widen(example.spans, settings.widen_s, 0, info.duration_s)
        random = widen(elsewhere, settings.widen_s, 0, info.duration_s)
        close = zoom(asked, "zoom", true)
        frames = len(close.trace.times_s)
        uniform = plan_uniform(info, frames, settings.zoom.budget(), policy.geometry)
        right["true span"] += close.trace.option == example.answer
        right["random span"] += zoom(asked, "zoom", random).trace.option == example.answer
        right["uniform"] += score(asked, "zoom", uniform, header="").trace.option == example.answer
        texts, closed = asked.answers
        blind = policy.choose([Turn("user", (asked.short_question(False),))], texts, closed=closed)
        right["no frames"] += asked.labels[int(np.argmax(blind.logprobs or [0.0]))] == example.answer
    return {name: count / len(examples) for name, count in right.items()} | {"n": len(examples)}


def _sure(rows: Sequence[DemoRow], above: float = 0.9) -> dict[str, float]:
    """Return how many answers are sure, and how many of those are right: 0 when none is sure."""
    sure = [row for row in rows if (row.trace.confidence or 0.0) > above]
    right = sum(row.trace.option == row.truth_option for row in sure)
    return {"n": len(sure), "right": right / len(sure) if sure else 0.0}


def _well_formed(rows: Sequence[DemoRow]) -> float | None:
    """Return the share of written passes whose text follows the strict grammar; None when nothing was written."""
    written = [one for row in rows for one in row.trace.passes if one.text]
    return sum(not one.problems for one in written) / len(written) if written else None


if __name__ == "__main__":
    main()
