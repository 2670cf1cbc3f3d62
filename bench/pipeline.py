"""How long training waits for video: the same run with frames decoded when they are needed, and in the background.

    python bench/pipeline.py                                          the embedded model on videos of its world
    python bench/pipeline.py --config configs/qwen2.5-vl-7b-stage1.toml --batches 3

Both runs make the same updates from the same start; give a config with more videos than they meet, so that every frame
is decoded in the run. The first batch, before which nothing could be decoded, is left out. Waiting is the phase
`decode` of the training log: the seconds for which the model had nothing to do because frames were not there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from figures.tables import markdown
from meter import describe
from zoomzero.errors import ZoomZeroError
from zoomzero.train.engine.build import train
from zoomzero.train.rollouts.collector import RolloutCollector
from zoomzero.train.settings import GrpoSettings, load_grpo_settings
from zoomzero.train.stopwatch import PHASES

WHEN_NEEDED, AHEAD = "when needed", "in the background"


@dataclass
class Seconds(TrainerCallback):
    """Collects the seconds by phase of every batch of rollouts with the updates that learn from it."""

    way: str
    batches: list[dict[str, float]] = field(default_factory=list)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **rest: Any) -> None:
        """Take a log line that has phases in it."""
        if logs and "seconds/decode" in logs:
            self.batches.append({name: logs[f"seconds/{name}"] for name in PHASES})
            done = f"decoding {self.way}: update {state.global_step} of {state.max_steps}"
            print(f"\r{done:60}", end="", file=sys.stderr, flush=True)


def run_settings(args: argparse.Namespace, way: str) -> GrpoSettings:
    """Return a short run of the config that decodes in one of the two ways."""
    base = load_grpo_settings(str(args.config), args.set)
    batch, updates = base.train_batch_size, base.mini_batches
    at_once = batch if way == WHEN_NEEDED else max(1, batch // args.parts)
    changes = {
        "out": str(args.runs / way.replace(" ", "-")),
        "steps": updates * (args.batches + 1),
        "log_every": updates,
        "save_every": updates * (args.batches + 1),
        "rollout.prompts_at_once": at_once,
        "rollout.filter.enabled": "false",  # every batch the same work
        "validation.limit": 1,
    }
    if args.threads:
        changes["threads"] = args.threads
    return load_grpo_settings(str(args.config), [*args.set, *(f"{name}={value}" for name, value in changes.items())])


def measure(args: argparse.Namespace, way: str) -> dict[str, Any]:
    """Train in one way and return the steady batches' seconds."""
    settings = run_settings(args, way)
    shutil.rmtree(settings.out, ignore_errors=True)
    seconds = Seconds(way)
    RolloutCollector.decodes_ahead = way == AHEAD
    train(settings, callbacks=[seconds])
    print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
    steady = seconds.batches[1:]
    wholes = [sum(batch.values()) for batch in steady]
    shares = [batch["decode"] / whole for batch, whole in zip(steady, wholes, strict=True)]
    return {
        "way": way,
        "batches": len(steady),
        "update_s": statistics.median(wholes),
        "low_s": min(wholes),
        "high_s": max(wholes),
        "waiting_share": statistics.median(shares),
        "waiting_low": min(shares),
        "waiting_high": max(shares),
        "phases_s": {name: statistics.median(batch[name] for batch in steady) for name in PHASES},
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the numbers as a Markdown table."""
    cells = (
        [
            row["way"],
            f"{row['update_s']:.2f} ({row['low_s']:.2f}-{row['high_s']:.2f})",
            f"{row['waiting_share']:.1%} ({row['waiting_low']:.1%}-{row['waiting_high']:.1%})",
            f"{row['phases_s']['zoom'] / row['update_s']:.0%}",
        ]
        for row in rows
    )
    heads = ("frames are decoded", "seconds an update (low-high)", "waiting for video (low-high)", "close looks")
    return markdown(heads, cells)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/world-cpu.toml"), help="run to take parts of")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="change a setting of it")
    parser.add_argument("--batches", type=int, default=6, help="steady batches of rollouts measured in each way")
    parser.add_argument("--parts", type=int, default=2, help="parts a batch is written in, in the background's run")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU; 0 leaves the config's")
    parser.add_argument("--runs", type=Path, default=Path("outputs/pipeline"), help="where the runs are written")
    parser.add_argument("--out", type=Path, help="also write the numbers here, as JSON")
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.threads:
        torch.set_num_threads(args.threads)
    about = describe(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    print(", ".join(about.values()), flush=True)
    try:
        rows = [measure(args, way) for way in (WHEN_NEEDED, AHEAD)]
    except ZoomZeroError as error:
        raise SystemExit(str(error)) from error
    print(table(rows), flush=True)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(about | {"config": str(args.config), "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
