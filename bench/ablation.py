"""The paper's ablation in small, from one start: plain GRPO, + zoom reward, + token-selective credit, both; and what
nobody has shown: learning to find without span labels, with shifted ones, by another reward, by another normalisation.

    python bench/ablation.py --model outputs/tiny/early --seeds 0,1,2 --steps 300 --questions 512 --jobs 2

Every arm takes equally many updates on equally many rollouts of prompts in the same order; then all models are asked
the same held-out questions of other videos, with and without the zoom pass. Runs and answers are kept in `--runs` and
not made again: the command can be interrupted and goes on. Intervals are 95 % bootstrap intervals over questions (all
seeds of a question are drawn together), differences are paired.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from charts import START, ablation_svg
from figures.tables import ablation_tables
from zoomzero.answer.ask import answer
from zoomzero.answer.confidence import answer_confidence, softmax
from zoomzero.answer.names import AskMode
from zoomzero.answer.session import QuestionSession
from zoomzero.answer.trace import Trace
from zoomzero.benchmarks.runner.identity import machine
from zoomzero.config import ModelSettings, load_model_settings
from zoomzero.data.example import Example, read_examples
from zoomzero.policy.base import Sampling
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.load import find, load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.progress import bar
from zoomzero.prompts import option_labels, read_response
from zoomzero.spans import clip, iop, iou, widen
from zoomzero.train.rollouts.record import read_groups
from zoomzero.video.cache import FrameCache
from zoomzero.video.plan import plan_spans
from zoomzero.video.probe import probe
from zoomzero.world.write import WorldKind, write_world

# What sets the arms apart; all else is configs/world-cpu.toml.
NO_SPANS = ("data.world.spans=none",)
NO_ZOOM = ("rollout.verifier=off", "rollout.controls=0")
ARMS: dict[str, tuple[str, ...]] = {
    "GRPO": ("objective.credit.estimator=grpo", *NO_ZOOM),
    "+ zoom reward": ("objective.credit.estimator=grpo",),
    "+ selective credit": ("objective.credit.estimator=select", *NO_ZOOM),
    "both": ("objective.credit.estimator=select",),
    # no span labels: can plain question-answer data teach finding?
    "no spans: answer": (*NO_SPANS, *NO_ZOOM),
    "no spans: answer + zoom": NO_SPANS,
    "no spans: consensus": (*NO_SPANS, "objective.reward.consensus=true"),
    # span labels as people give them
    "shifted spans: GRPO": ("data.world.spans=shifted", "objective.credit.estimator=grpo", *NO_ZOOM),
    "shifted spans: both": ("data.world.spans=shifted",),
    "both with Wasserstein": ("objective.reward.weights.iou=0", "objective.reward.weights.wasserstein=1"),
    "both with precise": ("objective.reward.weights.iou=0", "objective.reward.weights.precision_iou=1"),
    "both with GDPO": ("objective.credit.estimator=gdpo_select",),
    "both with CISPO": ("objective.loss.loss_type=cispo",),
    "both with SAPO": ("objective.loss.loss_type=sapo",),
    "both with random frames": ("rollout.coarse_frames=[8,80]",),
    "both with teacher": ("teacher.model=tiny",),  # teaches where --model is a weaker one
}
# what the zoom reward and selective credit bring where labels are right, missing or wrong
TWINS = (
    ("both", "GRPO"),
    ("no spans: answer + zoom", "no spans: answer"),
    ("no spans: consensus", "no spans: answer + zoom"),
    ("shifted spans: both", "shifted spans: GRPO"),
)
HELD_OUT_SEED = 777
AT_ONCE = 16
RESAMPLES = 2000
MEASURES = ("coarse", "zoom", "iou", "iop", "format")
LONG_MEASURES = ("coarse", "zoom", "divide", "iou")


@dataclass(frozen=True, slots=True)
class Row:
    """One question answered by one model: shares in [0, 1]."""

    id: str
    coarse: float  # the coarse pass's answer is right
    zoom: float  # so is the answer with the zoom pass
    iou: float
    iop: float
    format: float | None = None  # of the coarse reply; short videos only
    divide: float | None = None  # so is mode divide's; long videos only


def main() -> None:
    """Train what is not trained yet, ask what is not asked yet, and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/world-cpu.toml")
    parser.add_argument("--model", default="tiny", help="what all arms start from")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--questions", type=int, default=512)
    parser.add_argument("--long", type=int, default=0, help="questions about 20-minute videos, put to --long-arms")
    parser.add_argument("--long-arms", default="GRPO,both,no spans: answer,no spans: answer + zoom")
    parser.add_argument("--jobs", type=int, default=2, help="runs side by side, one thread each")
    parser.add_argument("--arms", default=",".join(ARMS))
    parser.add_argument("--set", action="append", default=[], help="setting for all arms")
    parser.add_argument("--runs", type=Path, default=Path("outputs/ablation"))
    parser.add_argument("--worlds", type=Path, default=Path("outputs/worlds"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/ablation.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/results/ablation.svg"))
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds.split(",")]
    arms = given.arms.split(",")
    if unknown := [arm for arm in arms if arm not in ARMS]:
        parser.error(f"--arms: no arm {unknown[0]!r}; there are {', '.join(ARMS)}")
    long_arms = given.long_arms.split(",") if given.long else []
    if unknown := [arm for arm in long_arms if arm not in arms]:
        parser.error(f"--long-arms: {unknown[0]!r} is not among --arms")
    started = time.perf_counter()
    train_all(given, arms, seeds)
    models = {START: [Path(given.model)]} | {arm: [run_folder(given.runs, arm, s) for s in seeds] for arm in arms}
    by_arm = ask_all(models, given, "short", given.questions)
    of_long = {arm: models[arm] for arm in (START, *long_arms)}
    long = ask_all(of_long, given, "long", given.long) if given.long else {}
    result: dict[str, Any] = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{machine()['processor']}, {given.jobs} at once, one thread each, torch {torch.__version__}",
        "config": given.config,
        "set": given.set,
        "start": given.model,
        "steps": given.steps,
        "seeds": seeds,
        "questions": given.questions,
        "arms": {arm: summary(parts) for arm, parts in by_arm.items()},
        "against GRPO": {a: differences(by_arm[a], by_arm["GRPO"]) for a in arms if a != "GRPO" and "GRPO" in arms},
        "against start": {a: differences(by_arm[a], by_arm[START]) for a in arms},
        "against twins": {f"{a} over {b}": differences(by_arm[a], by_arm[b]) for a, b in TWINS if {a, b} <= set(arms)},
        "zoom at inference": {arm: gain(parts, "zoom") for arm, parts in by_arm.items()},
        "long": {
            arm: summary(parts, LONG_MEASURES) | {f"{m} over coarse": gain(parts, m) for m in ("zoom", "divide")}
            for arm, parts in long.items()
        },
        "long against start": {arm: differences(long[arm], long[START], LONG_MEASURES) for arm in long_arms},
        "zoom reward by overlap": zoom_by_overlap([run_folder(given.runs, a, seed) for a in arms for seed in seeds]),
        "cost": {arm: costs([run_folder(given.runs, arm, seed) for seed in seeds]) for arm in arms},
        "minutes": round((time.perf_counter() - started) / 60, 1),
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    given.plot.write_text(ablation_svg(result))
    print(ablation_tables(result))


# --- training --------------------------------------------------------------------------------------------------------


def run_folder(runs: Path, arm: str, seed: int) -> Path:
    """Where one run lies."""
    return runs / f"{arm.replace('+ ', 'with-').replace(' ', '-').lower()}-{seed}"


def train_all(given: argparse.Namespace, arms: Sequence[str], seeds: Sequence[int]) -> None:
    """Train every arm with every seed, a few side by side; finished runs are left as they are."""
    jobs = [(arm, seed) for seed in seeds for arm in arms]
    todo = [job for job in jobs if not (run_folder(given.runs, *job) / "training.json").is_file()]
    with bar("training", "runs") as step, ThreadPoolExecutor(given.jobs) as pool:
        done = len(jobs) - len(todo)
        step(done, len(jobs))
        for _ in pool.map(lambda job: train_one(given, *job), todo):
            done += 1
            step(done, len(jobs))


def train_one(given: argparse.Namespace, arm: str, seed: int) -> None:
    """Train one arm with one seed in a process of its own."""
    out = run_folder(given.runs, arm, seed)
    values = [*given.set, *ARMS[arm], f"model={given.model}", f"out={out}", f"seed={seed}", f"steps={given.steps}"]
    values += ["threads=1", f"data.world.folder={given.worlds}", f"validation.world.folder={given.worlds}"]
    command = [sys.executable, "-m", "zoomzero", "train", given.config]
    command += [part for value in values for part in ("--set", value)]
    command += ["--resume"] if (out / "run.json").is_file() else []
    out.parent.mkdir(parents=True, exist_ok=True)
    with out.with_suffix(".txt").open("a") as said:
        subprocess.run(command, check=True, stdout=said, stderr=said)


# --- asking ----------------------------------------------------------------------------------------------------------


def ask_all(
    models: dict[str, list[Path]], given: argparse.Namespace, kind: WorldKind, count: int
) -> dict[str, list[list[Row]]]:
    """Return the rows of every arm's models about videos of a kind; those asked before are read."""
    folder = given.worlds / f"{kind}-{HELD_OUT_SEED}-{count}"
    write_world(folder, count, HELD_OUT_SEED, kind)
    examples = read_examples(folder / "examples.jsonl")
    torch.set_num_threads(given.jobs)
    cache, features = FrameCache(4 << 30), FeatureCache(2 << 30)  # of one frozen tower, whichever model asks
    rows: dict[str, list[list[Row]]] = {arm: [] for arm in models}
    every = [(arm, model) for arm, of_arm in models.items() for model in of_arm]
    with bar("asking", "models") as step:
        for number, (arm, model) in enumerate(every):
            step(number, len(every))
            kept = given.runs / f"answers-{model.name}-{'' if kind == 'short' else f'{kind}-'}{count}.json"
            if not kept.is_file():
                settings, policy = load_model_settings(find(str(model))), load_policy(str(model))
                policy.features = features
                if kind == "short":
                    found = ask_examples(policy, settings, examples, cache)
                    check_against_product(policy, settings, examples[:6], found)
                else:
                    found = [ask_long(policy, settings, example, cache) for example in examples]
                kept.write_text(json.dumps([asdict(row) for row in found]))
            rows[arm].append([Row(**values) for values in json.loads(kept.read_text())])
    return rows


def ask_long(policy: QwenPolicy, settings: ModelSettings, example: Example, cache: FrameCache) -> Row:
    """Ask about a long video in modes coarse, zoom and divide; spans are those divide shows."""
    modes: tuple[AskMode, ...] = ("coarse", "zoom", "divide")
    traces = {mode: ask(policy, settings, example, mode, cache) for mode in modes}
    right = {mode: float(trace.option == example.answer) for mode, trace in traces.items()}
    spans = traces["divide"].spans
    return Row(id=example.id, **right, iou=iou(spans, example.spans), iop=iop(spans, example.spans))


def ask_examples(
    policy: QwenPolicy, settings: ModelSettings, examples: Sequence[Example], cache: FrameCache
) -> list[Row]:
    """Ask in modes coarse and zoom, many questions together: `check_against_product` compares with one by one."""
    rows = []
    for first in range(0, len(examples), AT_ONCE):
        some = examples[first : first + AT_ONCE]
        asked = [QuestionSession(policy, settings, probe(e.video), e.question, e.options, cache=cache) for e in some]
        chats = [one.writing_chat(one.frames(one.whole_plan()))[0] for one in asked]
        sampling = Sampling(max_tokens=settings.max_new_tokens)
        drawn = policy.generate_many(policy.read_many(chats), 1, [sampling] * len(chats))
        readings = [
            read_response(d[0].text, len(o.options), o.mode, options=o.options)
            for d, o in zip(drawn, asked, strict=True)
        ]
        found = [clip(r.spans, 0.0, o.info.duration_s) for r, o in zip(readings, asked, strict=True)]
        closer = close_answers(policy, settings, asked, found)
        for example, one, completion, reading, spans, close in zip(
            some, asked, drawn, readings, found, closer, strict=True
        ):
            labels = option_labels(len(one.options))
            coarse = labels[reading.option] if reading.option is not None else None
            sure = answer_confidence(reading, completion[0]) if coarse is not None else 0.0
            final = close[0] if close is not None and (coarse is None or close[1] >= sure) else coarse
            row = Row(
                id=example.id,
                coarse=float(coarse == example.answer),
                zoom=float(final == example.answer),
                iou=iou(spans, example.spans),
                iop=iop(spans, example.spans),
                format=float(not reading.problems),
            )
            rows.append(row if row.format else asked_alone(policy, settings, example, row))
    return rows


def asked_alone(policy: QwenPolicy, settings: ModelSettings, example: Example, row: Row) -> Row:
    """Return the row of a malformed reply as the product answers, which has ways out, such as scoring the options."""
    coarse, zoom = ask(policy, settings, example, "coarse"), ask(policy, settings, example, "zoom")
    return replace(row, coarse=float(coarse.option == example.answer), zoom=float(zoom.option == example.answer))


def ask(
    policy: QwenPolicy, settings: ModelSettings, example: Example, mode: AskMode, cache: FrameCache | None = None
) -> Trace:
    """Ask as `zoomzero ask` does."""
    return answer(policy, settings, example.video, example.question, example.options, mode=mode, cache=cache)[0]


def close_answers(
    policy: QwenPolicy, settings: ModelSettings, asked: Sequence[QuestionSession], found: Sequence[Sequence[Any]]
) -> list[tuple[str, float] | None]:
    """Return the close look's option and its probability for every question whose spans were named."""
    where = [i for i, spans in enumerate(found) if spans]
    chats = []
    for i in where:
        wide = widen(found[i], settings.widen_s, 0.0, asked[i].info.duration_s)
        plan = plan_spans(asked[i].info, wide, settings.zoom.budget(), policy.geometry)
        chats.append(asked[i].scoring_chat(asked[i].frames(plan)))
    texts = [asked[i].answers[0] for i in where]
    scores = policy.score_many(chats, texts, closed=settings.score_options_as == "text") if where else []
    answers: list[tuple[str, float] | None] = [None] * len(asked)
    for i, values in zip(where, scores, strict=True):
        probabilities = softmax(values)
        best = max(range(len(values)), key=values.__getitem__)
        answers[i] = (option_labels(len(values))[best], probabilities[best])
    return answers


def check_against_product(
    policy: QwenPolicy, settings: ModelSettings, examples: Sequence[Example], rows: Sequence[Row]
) -> None:
    """Stop when asking together does not give what `zoomzero ask` gives."""
    for example, row in zip(examples, rows, strict=False):
        trace = ask(policy, settings, example, "zoom")
        expected = (float(trace.option == example.answer), iou(trace.spans, example.spans))
        if not np.allclose(expected, (row.zoom, row.iou), atol=1e-6):
            raise SystemExit(f"{example.id}: asked together {row}, asked alone {expected}")


# --- what it says ----------------------------------------------------------------------------------------------------


def values_of(parts: Sequence[Sequence[Row]], measure: str) -> npt.NDArray[np.float64]:
    """Return (questions,) means over the seeds."""
    return np.array([[getattr(row, measure) for row in rows] for rows in parts]).mean(0)


def interval(values: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a mean over questions."""
    rng = np.random.default_rng(0)
    means = values[rng.integers(0, len(values), (RESAMPLES, len(values)))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    return round(float(low), 4), round(float(high), 4)


def summary(parts: Sequence[Sequence[Row]], measures: Sequence[str] = MEASURES) -> dict[str, Any]:
    """Return means, intervals and every seed's mean."""
    found: dict[str, Any] = {}
    for measure in measures:
        values = values_of(parts, measure)
        seeds = [round(float(np.mean([getattr(row, measure) for row in rows])), 4) for rows in parts]
        found[measure] = {"mean": round(float(values.mean()), 4), "interval": interval(values), "seeds": seeds}
    return found


def differences(
    parts: Sequence[Sequence[Row]], base: Sequence[Sequence[Row]], measures: Sequence[str] = MEASURES
) -> dict[str, Any]:
    """Return the paired differences of two arms."""
    found = {}
    for measure in measures:
        gap = values_of(parts, measure) - values_of(base, measure)
        found[measure] = {"mean": round(float(gap.mean()), 4), "interval": interval(gap)}
    return found


def gain(parts: Sequence[Sequence[Row]], mode: str) -> dict[str, Any]:
    """Return what a mode adds to the coarse answer's accuracy."""
    gap = values_of(parts, mode) - values_of(parts, "coarse")
    return {"mean": round(float(gap.mean()), 4), "interval": interval(gap)}


def costs(folders: Sequence[Path]) -> dict[str, float]:
    """Return seconds per update by phase, the share of the zoom pass, and memory, over all runs of an arm."""
    logs = [json.loads(line) for folder in folders for line in (folder / "log.jsonl").read_text().splitlines()]
    steps = [row for row in logs if "loss" in row]
    names = sorted({name for row in steps for name in row if name.startswith("seconds/")})
    seconds = {n.removeprefix("seconds/"): sum(row.get(n, 0.0) for row in steps) / len(steps) for n in names}
    total = math.fsum(seconds.values())
    found = {name: round(value, 3) for name, value in seconds.items()}
    found["all"] = round(total, 3)
    found["zoom share"] = round(seconds.get("zoom", 0.0) / total, 4)
    found["peak MB"] = round(max(row["memory/peak_mb"] for row in steps))
    return found


def zoom_by_overlap(folders: Sequence[Path]) -> dict[str, Any]:
    """Return how often the zoom reward is earned by the overlap of the rollout's spans, over all verified rollouts.

    `within groups` is the correlation of zoom reward and overlap among the completions of one prompt: what the zoom
    reward could teach beyond the overlap is in the rest.
    """
    earned: dict[str, list[float]] = {"none": [], "under 0.3": [], "0.3 and more": []}
    pairs: list[npt.NDArray[np.float64]] = []
    for folder in folders:
        for group in read_groups(folder / "rollouts.jsonl"):
            judged = [r.rewards for r in group.rollouts if r.rewards.zoom is not None and r.rewards.iou is not None]
            found = [(one.iou, one.zoom) for one in judged]  # none where examples have no spans
            for overlap, reward in found:
                earned["none" if overlap == 0 else "under 0.3" if overlap < 0.3 else "0.3 and more"].append(reward)
            if found:
                values = np.array(found)
                pairs.append(values - values.mean(0))
    if not pairs:
        return {}
    centred = np.concatenate(pairs)
    shares = {name: {"earned": round(float(np.mean(v)), 4), "rollouts": len(v)} for name, v in earned.items() if v}
    return {**shares, "within groups": round(float(np.corrcoef(centred.T)[0, 1]), 4)}


if __name__ == "__main__":
    main()
