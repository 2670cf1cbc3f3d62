"""Time and memory of every phase of a training step, against the usual way in the same run.

    python bench/step.py --suite                  small random models of both families, on this CPU, in 20 minutes
    python bench/step.py --device cuda --suite    the sizes 3b and 7b of both families on a GPU, in under 8 minutes
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
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from meter import Meter, Timing, describe, find_device, machine_limits
from random_models import FAMILIES, SHAPES, SIZES, Usual, Work, make_policy, random_clip
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.positions import continue_positions
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.video.types import Clip

LETTERS = ("A", "B", "C", "D")
OURS, USUAL, TOWER = "ours", "usual", "usual + tower"
OURS_A_ROUND = 3  # short runs of a GPU are repeated within a round


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured.

    Args:
        family, size: of the model.
        prefix: visual tokens of the prompt.
        zoom: visual tokens of each close look.
        rows: completions of the prompt, G.
        length: tokens of each.
        checkpointing: recompute activations in the backward pass, in every way.
    """

    family: str
    size: str
    prefix: int
    zoom: int
    rows: int
    length: int
    checkpointing: bool


def chat(clip: Clip) -> list[Turn]:
    """Return a question about a clip."""
    return [Turn("user", (clip, "Which symbol is on the red circle? Answer with the letter.\nA\nB\nC\nD"))]


class Bench:
    """One case: a model, a prompt with completions, close looks, and the phases in every way."""

    def __init__(self, case: Case, device: torch.device) -> None:
        self.case, self.device = case, device
        dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.policy = make_policy(case.family, case.size, device, dtype)
        self.model, self.usual = self.policy.model, Usual(self.policy)
        self.dtype = dtype
        self.set_prompt(case.prefix, case.zoom, case.length)

    def set_prompt(self, prefix: int, zoom: int, length: int) -> None:
        """Make the prompt, its completions and the close looks."""
        case, policy, self.length = self.case, self.policy, length
        self.clip = random_clip(policy, prefix, 0)
        self.chat = [Turn("user", (self.clip, "Which symbol is on the red circle, and when?"))]
        self.zooms = [
            [Turn("user", (random_clip(policy, zoom, 1 + i), "Answer.\nA\nB\nC\nD"))] for i in range(case.rows)
        ]
        generator = torch.Generator().manual_seed(1)
        vocabulary = self.model.config.text_config.vocab_size
        self.completions = [torch.randint(500, vocabulary, (length,), generator=generator) for _ in range(case.rows)]
        self.prompt = policy.builder.layout(policy.builder.messages(self.chat))
        self.sampling = Sampling(1.0, 1.0, length, 0)
        # the usual way gets its pixels for nothing: they are patches on the device before the clock starts
        self.usual_prompt = self._usual_inputs(self.chat)
        self.usual_zooms = [self._usual_inputs(turns) for turns in self.zooms]
        self.kept = FeatureCache(1 << 34)
        with self.features_kept():
            self.context = policy.read(self.chat)

    def _usual_inputs(self, turns: Sequence[Turn]) -> dict[str, Tensor]:
        prompt = self.policy.prompt(turns)
        kinds = torch.zeros_like(prompt.ids)
        kinds[prompt.visual_index] = 2
        assert prompt.patches is not None
        inputs = {
            "input_ids": prompt.ids[None],
            "attention_mask": torch.ones_like(prompt.ids)[None],
            "mm_token_type_ids": kinds[None],
            "pixel_values_videos": prompt.patches.to(self.dtype),
            "video_grid_thw": prompt.grids,
        }
        if self.case.family == "qwen2_5_vl":
            inputs["second_per_grid_ts"] = torch.ones(1)
        return {name: value.to(self.device) for name, value in inputs.items()}

    # --- our way ---

    def our_vision(self) -> None:
        """Encode the prompt's frames."""
        self.policy.encode([self.clip])

    def our_prefill(self) -> None:
        """Read the prompt, its features kept from before."""
        with self.features_kept():
            self.context = self.policy.read(self.chat)

    def our_decode(self) -> None:
        """Write all completions after the prompt."""
        self.policy.generate(self.context, self.case.rows, self.sampling)

    def our_rollout(self) -> None:
        """Encode, read and write."""
        self.policy.generate(self.policy.read(self.chat), self.case.rows, self.sampling)

    def our_zoom(self) -> None:
        """Score the letters after every close look."""
        self.policy.score_many(self.zooms, [LETTERS] * self.case.rows)

    def our_logprobs(self) -> Tensor:
        """Log-probabilities of all completions, (G * C,)."""
        features = self.policy.encode([self.clip])
        states = packed.packed_states(self.model, [self.prompt], [self.completions], features)
        return packed.suffix_logprobs(self.model, states)

    def our_logprobs_kept(self) -> Tensor:
        """The same with features kept from the rollouts."""
        with self.features_kept():
            return self.our_logprobs()

    def our_training(self) -> None:
        """Log-probabilities and their gradients."""
        self.our_logprobs().mean().backward()

    def our_training_kept(self) -> None:
        """The same with features kept from the rollouts."""
        with self.features_kept():
            self.our_training()

    @contextmanager
    def features_kept(self) -> Iterator[None]:
        """Use the feature cache."""
        self.policy.features = self.kept
        try:
            yield
        finally:
            self.policy.features = None

    # --- the usual way ---

    def usual_vision(self) -> None:
        """Encode the prompt's frames through transformers' own call."""
        inputs = self.usual_prompt
        self.model.model.get_video_features(inputs["pixel_values_videos"], inputs["video_grid_thw"])

    def usual_rollout(self) -> None:
        """`generate` with G returned sequences."""
        self._usual_generate(self.usual_prompt, self.case.rows, self.length, do_sample=True)

    def usual_zoom(self) -> None:
        """A generated answer, a letter and the end, for each close look."""
        for inputs in self.usual_zooms:
            self._usual_generate(inputs, 1, 2, do_sample=False)

    def _usual_generate(self, inputs: dict[str, Tensor], rows: int, length: int, *, do_sample: bool) -> None:
        self.model.model.rope_deltas = None
        sampled = {"num_return_sequences": rows, "top_k": 0} if do_sample else {}
        self.model.generate(**inputs, max_new_tokens=length, min_new_tokens=length, do_sample=do_sample, **sampled)

    def usual_one(self, completion: Tensor) -> Tensor:
        """Log-probabilities of one completion as a full sequence, (C,)."""
        inputs, count = dict(self.usual_prompt), len(completion)
        suffix = completion.to(self.device)[None]
        inputs["input_ids"] = torch.cat([inputs["input_ids"], suffix], 1)
        inputs["mm_token_type_ids"] = torch.cat([inputs["mm_token_type_ids"], torch.zeros_like(suffix)], 1)
        del inputs["attention_mask"]  # nothing is padded; without it attention may use its fastest kernel
        tail = continue_positions(self.prompt.next_position, count)
        positions = torch.cat([self.prompt.positions, tail], 1)[:, None].to(self.device)
        output = self.model(**inputs, position_ids=positions, use_cache=False, logits_to_keep=count + 1)
        logits = output.logits[0, :-1].float()
        return logits.gather(1, suffix[0][:, None])[:, 0] - logits.logsumexp(1)

    def usual_logprobs(self) -> Tensor:
        """Log-probabilities of all completions, (G * C,)."""
        return torch.cat([self.usual_one(completion) for completion in self.completions])

    def usual_training(self) -> None:
        """Log-probabilities and their gradients, one completion after the other."""
        for completion in self.completions:
            (self.usual_one(completion).sum() / (self.case.rows * self.length)).backward()

    # --- running ---

    @contextmanager
    def way(self, name: str, training: bool) -> Iterator[None]:
        """Set the model up for a way; the vision tower stays frozen, as in the method."""
        self.usual.use(text=name == OURS, tower=name != USUAL)
        model, text = self.model, self.model.model.language_model
        if training:
            text.requires_grad_(True)
            model.lm_head.requires_grad_(True)
            text.train()
            if self.case.checkpointing:  # the method got another name after transformers 5.17
                enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
                enable({"use_reentrant": False})
        try:
            with torch.enable_grad() if training else torch.no_grad():
                yield
        finally:
            if training:
                if self.case.checkpointing:
                    (getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable)()
                model.zero_grad()
                model.requires_grad_(False).eval()
            self.usual.use(text=True, tower=True)

    def check(self) -> dict[str, float]:
        """Compare the two ways: largest difference of log-probabilities, relative one of a gradient."""
        grads, values = [], []
        weight = self.model.model.language_model.layers[0].self_attn.k_proj.weight
        for name, logprobs, train in (
            (OURS, self.our_logprobs, self.our_training),
            (USUAL, self.usual_logprobs, self.usual_training),
        ):
            with self.way(name, training=False):
                values.append(logprobs())
            with self.way(name, training=True):
                train()
                grads.append(weight.grad.float().clone())
        return {
            "logprobs": float((values[0] - values[1]).abs().max()),
            "gradient": float((grads[0] - grads[1]).norm() / grads[1].norm()),
        }


Phase = tuple[str, dict[str, Callable[[Bench], Any]], bool]
PHASES: tuple[Phase, ...] = (
    ("vision tower", {OURS: Bench.our_vision, USUAL: Bench.usual_vision}, False),
    ("prefill", {OURS: Bench.our_prefill}, False),
    ("decode", {OURS: Bench.our_decode}, False),
    ("rollout", {OURS: Bench.our_rollout, USUAL: Bench.usual_rollout, TOWER: Bench.usual_rollout}, False),
    ("zoom scoring", {OURS: Bench.our_zoom, USUAL: Bench.usual_zoom, TOWER: Bench.usual_zoom}, False),
    ("log-probs", {OURS: Bench.our_logprobs, USUAL: Bench.usual_logprobs, TOWER: Bench.usual_logprobs}, False),
    ("log-probs, features kept", {OURS: Bench.our_logprobs_kept}, False),
    ("forward+backward", {OURS: Bench.our_training, USUAL: Bench.usual_training, TOWER: Bench.usual_training}, True),
    ("forward+backward, features kept", {OURS: Bench.our_training_kept}, True),
)
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
    lines = [
        "| least seconds | " + " | ".join(SHAPES[case.family, case.size].title for case in todo) + " |",
        "|---|" + "---|" * len(todo),
    ]
    lines += [f"| {name} | " + " | ".join(f"{c[name]:.3g}" for c in columns) + " |" for name in columns[0]]
    return "\n".join(lines)


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
    lines = [
        head,
        "| phase | ours, s (low-high) | limit, s | of limit | usual, s (low-high) | usual + tower, s | usual / ours "
        "| usual + tower / ours |" + (" peak MB ours / usual |" if watched else ""),
        "|" + "---|" * (9 if watched else 8),
    ]
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
        cells += [memory] if watched else []
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    share = phases["zoom scoring"][OURS]["median_s"] / sum(phases[p][OURS]["median_s"] for p in STEP)
    steps = phases["decode"][OURS]["median_s"] / case["length"]
    lines.append(f"\nOne decoding step {1e3 * steps:.2f} ms; zoom scoring is {share:.0%} of the step.")
    return "\n".join(lines)


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
    parser.add_argument("--suite", action="store_true", help="both families in all sizes of the device")
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
