"""Time and memory of every phase of a training step, against the usual way in the same run.

    python bench/step.py --suite                  small random models of the families, on this CPU, in 30 minutes
    python bench/step.py --device cuda --suite    the sizes 3b and 7b of the families on a GPU, in under 8 minutes
    python bench/step.py --device cuda --size 3b --family qwen3_vl --rounds 3 --out step.json

The usual way is transformers' own: every completion a full sequence for log-probabilities and gradients (only
completion positions through the head), `generate(num_return_sequences=G)` for rollouts, a generated answer of two
tokens for each zoom, its SDPA attention in text and vision. "Usual + tower" is the same with our vision tower put in.
Contenders take turns; medians over the rounds are printed, with the fastest and the slowest. Before anything is timed
the log-probabilities and gradients of both ways are compared, on a shorter prompt. On a CPU the seconds are those of
the process, so that others on the machine count less; on a GPU they are the clock's.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from figures.tables import named
from meter import Meter, Timing, describe, find_device, machine_limits
from phases import OURS, OURS_A_ROUND, PHASES, TOWER, USUAL, Bench, Case, chat
from random_models import FAMILIES, SHAPES, SIZES, Work, make_policy, random_clip
from zoomzero.policy.local.qwen import QwenPolicy

STEP = ("rollout", "zoom scoring", "log-probs", "forward+backward")  # what a step consists of, in every way
SAME_AS = {"log-probs, features kept": "log-probs", "forward+backward, features kept": "forward+backward"}


def run(case: Case, device: torch.device, rounds: int, seconds: float) -> dict[str, Any]:
    """Measure a case; after the first round no further one is begun that would end after `seconds`."""
    began = time.perf_counter()
    bench, meter = Bench(case, device), Meter(device)
    bench.set_prompt(128, 64, min(32, case.length))  # everything once, small: libraries set themselves up
    for _, ways, training in PHASES:
        for way, function in ways.items():
            with bench.way(way, training):
                function(bench)
    differences = bench.check()
    bench.set_prompt(case.prefix, case.zoom, case.length)
    timings = {name: {way: Timing() for way in ways} for name, ways, _ in PHASES}
    machine, ready = machine_limits(device, bench.dtype), time.perf_counter()
    for done in range(rounds):
        for name, ways, training in PHASES:
            for way, function in ways.items():
                where = f"{case.size} {case.family}: round {done + 1} of {rounds}, {name}, {way}"
                print(f"\r{where:90}", end="", file=sys.stderr, flush=True)
                for _ in range(OURS_A_ROUND if way == OURS and device.type == "cuda" else 1):
                    with bench.way(way, training), meter.measure(timings[name][way]):
                        function(bench)
        now = time.perf_counter()
        if now + (now - ready) / (done + 1) - began > seconds:
            break
    print("\r" + " " * 90 + "\r", end="", file=sys.stderr)
    return {
        "case": asdict(case),
        "title": SHAPES[case.family, case.size].title,
        "parameters": sum(p.numel() for p in bench.model.parameters()),
        "prompt_tokens": len(bench.prompt),
        "rounds": done + 1,
        "differences": differences,
        "seconds": time.perf_counter() - began,
        "machine": machine,
        "least_s": limits(case, bench.policy, machine),
        "phases": {
            name: {
                way: {"median_s": t.median, "low_s": min(t.seconds), "high_s": max(t.seconds), "peak_mb": t.peak_mb}
                for way, t in ways.items()
            }
            for name, ways in timings.items()
        },
    }


def limits(case: Case, policy: QwenPolicy, machine: dict[str, float]) -> dict[str, float]:
    """Return for every phase of ours the least seconds its work takes at a device's peak."""
    work, clip, close = Work(policy.model), random_clip(policy, case.prefix, 0), random_clip(policy, case.zoom, 0)
    prefix, zoomed = (len(policy.builder.layout(policy.builder.messages(chat(c)))) for c in (clip, close))
    vision, row = work.vision(clip), work.text(prefix, case.rows, case.length)
    again = 4 if case.checkpointing else 3  # forward, its repetition, and a backward of twice the work
    flops = {
        "vision tower": vision,
        "prefill": work.text(prefix, 0, 0, heads=1),
        "zoom scoring": case.rows * (work.text(zoomed, 0, 0, heads=1) + work.vision(close)),
        "log-probs": vision + row,
        "log-probs, features kept": row,
        "forward+backward": vision + again * row,
        "forward+backward, features kept": again * row,
    }
    least = {name: operations / machine["flops"] for name, operations in flops.items()}
    # with matrices this thin a CPU is bound by the products, a GPU by reading the weights
    reading_s = sum(work.step_bytes(prefix, case.rows, i) for i in range(case.length)) / machine["bytes"]
    decode_s = max(reading_s, case.length * work.text(0, case.rows, 1) / machine["flops"])
    return least | {"decode": decode_s, "rollout": least["vision tower"] + least["prefill"] + decode_s}


def limits_table(todo: Sequence[Case], machine: dict[str, float]) -> str:
    """Return the limits of cases on a device that need not be here."""
    columns = []
    for case in todo:
        policy = make_policy(case.family, case.size, torch.device("meta"), torch.bfloat16)
        columns.append(limits(case, policy, machine) | {"one decoding step": 0.0})
        columns[-1]["one decoding step"] = columns[-1]["decode"] / case.length
    cells = {name: [f"{column[name]:.3g}" for column in columns] for name in columns[0]}
    return named("least seconds", [SHAPES[case.family, case.size].title for case in todo], cells)


def table(result: dict[str, Any]) -> str:
    """Return a result as a Markdown table."""
    case, phases, least = result["case"], result["phases"], result["least_s"]
    off, watched = result["differences"], any(way["peak_mb"] for way in phases["log-probs"].values())
    head = (
        f"**{result['title']}** ({result['parameters'] / 1e6:,.0f}M parameters), prompt of {result['prompt_tokens']:,} "
        f"tokens, G = {case['rows']} x {case['length']} tokens, close looks of {case['zoom']:,} visual tokens, "
        f"rounds: {result['rounds']}. Largest difference between the two ways: {off['logprobs']:.1e} in a "
        f"log-probability, {off['gradient']:.1e} of a gradient's norm.\n"
    )
    heads = ["ours, s (low-high)", "limit, s", "of limit", "usual, s (low-high)", "usual + tower, s", "usual / ours"]
    heads += ["usual + tower / ours", *(["peak MB ours / usual"] if watched else [])]
    rows = {}
    for name in [*phases, "whole step"]:
        if name == "whole step":
            ours, usual, tower = (
                {"median_s": sum(phases[p][way]["median_s"] for p in STEP)} for way in (OURS, USUAL, TOWER)
            )
            limit, memory = sum(least[p] for p in STEP), ""
        else:
            like = phases[SAME_AS.get(name, name)]
            ours, usual, tower = phases[name][OURS], like.get(USUAL), like.get(TOWER)
            limit = least[name]
            memory = f"{ours['peak_mb']:,.0f} / {usual['peak_mb']:,.0f}" if usual else f"{ours['peak_mb']:,.0f}"
        seconds = [_seconds(way) if way else "" for way in (ours, usual, tower)]
        ratios = [f"{way['median_s'] / ours['median_s']:.1f}" if way else "" for way in (usual, tower)]
        cells = [seconds[0], f"{limit:.3g}", f"{limit / ours['median_s']:.0%}", *seconds[1:], *ratios]
        rows[name] = [*cells, *([memory] if watched else [])]
    share = phases["zoom scoring"][OURS]["median_s"] / sum(phases[p][OURS]["median_s"] for p in STEP)
    steps = phases["decode"][OURS]["median_s"] / case["length"]
    foot = f"\nOne decoding step {1e3 * steps:.2f} ms; zoom scoring is {share:.0%} of the step."
    return "\n".join([head, named("phase", heads, rows), foot])


def _seconds(way: dict[str, float]) -> str:
    spread = f" ({way['low_s']:.3g}-{way['high_s']:.3g})" if "low_s" in way else ""
    return f"{way['median_s']:.3g}{spread}"


def cases(args: argparse.Namespace) -> list[Case]:
    """Return what the arguments ask for."""
    small = args.device == "cpu"
    prefix = args.prefix or (2048 if small else 8192)
    # as many tokens in the suffixes as in the prompt's quarter: 8 x 64 for 2,048, 8 x 256 for 8,192
    length = args.length or prefix // (4 * args.rows)
    everything = (("tiny",) if small else ("3b", "7b")), FAMILIES
    sizes, families = (
        asked or (known if args.suite else known[:1])
        for asked, known in zip((args.size, args.family), everything, strict=True)
    )
    pairs = [(f, s) for s in sizes for f in families]
    return [Case(f, s, prefix, args.zoom or prefix // 4, args.rows, length, not small) for f, s in pairs]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--size", nargs="*", choices=SIZES)
    parser.add_argument("--family", nargs="*", choices=FAMILIES)
    parser.add_argument("--suite", action="store_true", help="all families in all sizes of the device")
    parser.add_argument("--prefix", type=int, help="visual tokens of the prompt (2048 on a CPU, 8192 on a GPU)")
    parser.add_argument("--zoom", type=int, help="visual tokens of a close look (a quarter of the prompt's)")
    parser.add_argument("--rows", type=int, default=8, help="completions of a prompt")
    parser.add_argument("--length", type=int, help="tokens of a completion (a quarter of the prompt's, over the rows)")
    parser.add_argument("--rounds", type=int, default=3, help="most rounds; medians are printed")
    parser.add_argument(
        "--minutes", type=float, help="time for everything, rounds are left out to keep it (7 on a GPU; CPU: no limit)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--out", type=Path, help="also write the numbers here, as JSON")
    parser.add_argument(
        "--limits",
        type=float,
        nargs=2,
        metavar=("TFLOPS", "TB"),
        help="measure nothing: print the limits of 3b and 7b at so many 10^12 operations and bytes a second",
    )
    return parser.parse_args()


def main() -> None:
    args = parse()
    if args.limits:
        args.device, args.suite = "cuda", True
        print(limits_table(cases(args), {"flops": args.limits[0] * 1e12, "bytes": args.limits[1] * 1e12}))
        return
    if args.device == "cpu":
        torch.set_num_threads(args.threads)
    device, todo = find_device(args.device), cases(args)
    about = describe(device)
    print(", ".join(about.values()), flush=True)
    minutes = args.minutes or (math.inf if args.device == "cpu" else 7.0)
    deadline, results = time.perf_counter() + 60 * minutes, []
    for i, case in enumerate(todo):
        left = (deadline - time.perf_counter()) / (len(todo) - i)
        results.append(run(case, device, args.rounds, left))
        print("\n" + table(results[-1]), flush=True)
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if args.out:
            args.out.parent.mkdir(parents=True, exist_ok=True)
            args.out.write_text(json.dumps(about | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
