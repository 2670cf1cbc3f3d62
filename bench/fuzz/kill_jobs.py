"""The jobs that `fuzz_kills.py` kills: their commands, what they need, and what they leave without clocks."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data
import transformers  # noqa: F401 - what the commands import, imported once

import zoomzero.train.engine.build
import zoomzero.train.engine.sft
import zoomzero.train.merge  # noqa: F401
from zoomzero.benchmarks.runner import evaluate, many  # noqa: F401
from zoomzero.data.example import Example, write_examples
from zoomzero.policy.local.load import find, load_policy
from zoomzero.world.questions import ask
from zoomzero.world.scenes import make_scene
from zoomzero.world.write import write_video

EXACT = ("--keep-tokens", "0")  # what was read before a kill is gone after it: costs and last digits would differ
CLOCKS = ("seconds", "memory", "features/", "tokens_per_second", "train_")  # what equal runs differ in
LINEAR = r".*language_model\..*\.(q_proj|k_proj|v_proj|o_proj)"
MORE: dict[str, Any] = {"warmup_steps": 1, "bf16": False, "save_every": 1, "log_every": 1, "threads": 1}


@dataclass(frozen=True, slots=True)
class Materials:
    """What the jobs read: a folder with two short videos and five questions, an adapter."""

    folder: Path

    @classmethod
    def make(cls, folder: Path) -> Materials:
        """Write them where they are not there yet."""
        torch.set_num_threads(1)  # what forks must have no threads
        os.environ.setdefault("OMP_NUM_THREADS", "1")
        things = cls(folder.resolve())
        if not (folder / "ready").exists():
            folder.mkdir(parents=True, exist_ok=True)
            _write_examples(things.folder)
            _write_adapter(folder / "adapter")
            (folder / "ready").touch()
        return things


def _write_examples(folder: Path) -> None:
    examples: list[Example] = []
    rows: list[dict[str, Any]] = []
    for number, kinds in enumerate([("symbol", "order", "count"), ("last", "symbol")]):
        for seed in range(100):
            rng = np.random.default_rng((number, seed))
            scene = make_scene(rng, 32.0)
            questions = [ask(rng, scene, kind) for kind in kinds]  # type: ignore[arg-type]
            if all(questions):
                break
        write_video(folder / f"{number}.mp4", scene)
        for kind, question in zip(kinds, questions, strict=True):
            assert question is not None, "no scene of 32 s allows these questions"
            named: dict[str, Any] = {"id": f"{number}-{kind}", "video": f"{number}.mp4", "question": question.text}
            more: dict[str, Any] = {"answer": "ABCD"[question.answer], "spans": question.spans, "duration_s": 32.0}
            examples.append(Example(**named, options=question.options, **more, source="kills", split="train"))
            rows.append({**named, "options": list(question.options)})
    write_examples(folder / "examples.jsonl", examples)
    drawn = [{"id": one.id, "answer": said, "spans": one.spans} for one in examples for said in ("A", "B", one.answer)]
    for name, lines in {"questions": rows, "drawn": drawn}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines), encoding="utf-8")


def _write_adapter(folder: Path) -> None:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(3)
    config = LoraConfig(r=4, target_modules=LINEAR, init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_peft_model(load_policy("tiny", device="cpu", dtype="float32").model, config).save_pretrained(str(folder))


@dataclass(frozen=True, slots=True)
class Job:
    """A command, the same at the start and to go on, and what it leaves in its folder."""

    name: str
    words: Callable[[Materials, Path], list[str]]
    left: Callable[[Path], Any]


def timeless(value: Any) -> Any:
    """Return a value without what depends on the clock; decoders side by side decode some frames twice."""
    if isinstance(value, dict):
        kept = {key: one for key, one in value.items() if key != "decoded_frames" and not _clock(key)}
        return {key: timeless(one) for key, one in kept.items()}
    return [timeless(one) for one in value] if isinstance(value, list) else value


def _clock(key: str) -> bool:
    return key.startswith(CLOCKS) or key.endswith("seconds")


def hashes(folder: Path, skip: tuple[str, ...] = ()) -> dict[str, str]:
    """Return every file of a folder with its hash; what a kill leaves under a hidden name is not one."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".") and path.name not in skip
    }


def rows(path: Path) -> list[Any]:
    """Return the rows of a JSON Lines file without clocks."""
    return [timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def answered(folder: Path) -> dict[str, Any]:
    """Return what a run of questions leaves: every row once, whatever their order, and what was made of them."""
    found: dict[str, Any] = {}
    for path in folder.glob("predictions.*.jsonl"):
        found[path.name] = sorted(rows(path), key=lambda row: str(row["id"]))  # one that is there twice shows
    for name in ("answers.jsonl",):
        if (folder / name).is_file():
            found[name] = rows(folder / name)
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    found["scores"] = [(row["mode"], row["n"], row.get("accuracy")) for row in summary["table"]]
    return found


def trained(folder: Path) -> dict[str, Any]:
    """Return what a training leaves: every step once, its rollouts, its weights, the names of its files."""
    found: dict[str, Any] = {"log": rows(folder / "log.jsonl") if (folder / "log.jsonl").is_file() else []}
    if (folder / "rollouts.jsonl").is_file():
        found["rollouts"] = hashlib.sha256((folder / "rollouts.jsonl").read_bytes()).hexdigest()[:16]
    state = max(folder.glob("checkpoint-*/trainer_state.json"), key=lambda path: path.stat().st_mtime)
    history = json.loads(state.read_text(encoding="utf-8"))["log_history"]
    found["history"] = [timeless(one) for one in history]
    found["weights"] = {name: one for name, one in hashes(folder).items() if name.endswith(".safetensors")}
    found["names"] = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    found["steps"] = json.loads((folder / "training.json").read_text(encoding="utf-8"))["steps"]
    return found


def _settings(folder: Path, values: dict[str, Any]) -> list[str]:
    """Write a run's settings beside it; `--resume` once there is a run."""
    path = folder / "settings.json"
    path.write_text(json.dumps({"model": str(find("tiny")), "out": str(folder / "run")} | values), encoding="utf-8")
    return [str(path), *(["--resume"] if (folder / "run" / "run.json").is_file() else [])]


def _eval(things: Materials, folder: Path) -> list[str]:
    usual = ["--data", str(things.folder), "--model", "tiny", "--device", "cpu", "--out", str(folder / "run")]
    modes = ["--mode", "direct", "--mode", "zoom", "--set", "max_new_tokens=40", "--resamples", "20"]
    return ["eval", "world-short", *usual, *modes]


def _many(things: Materials, folder: Path) -> list[str]:
    usual = ["--questions", str(things.folder / "questions.jsonl"), "--model", "tiny", "--device", "cpu"]
    return ["ask", *usual, *EXACT, "--mode", "coarse", "--set", "max_new_tokens=40", "--out", str(folder / "run")]


def _sft(things: Materials, folder: Path) -> list[str]:
    clips = {"steps": 4, "clips": 1, "shortest_s": 6, "longest_s": 8, "questions": 1, "listing": 0.0}
    return ["sft", *_settings(folder, MORE | {"learning_rate": 1e-3, "stages": [clips]})]


def _train(things: Materials, folder: Path) -> list[str]:
    batches = {"train_batch_size": 2, "mini_batch_size": 1, "steps": 4, "learning_rate": 1e-4, "threads": 1}
    usual = {"bf16": False, "gradient_checkpointing": False, "report_to": "none", "save_every": 1}
    rollout = {"num_generations": 2, "max_new_tokens": 32, "prompts_at_once": 2}
    data = {"examples": [str(things.folder / "examples.jsonl")]}
    return ["train", *_settings(folder, batches | usual | {"rollout": rollout, "data": data})]


def _merge(things: Materials, folder: Path) -> list[str]:
    (folder / "run").mkdir(exist_ok=True)
    out = folder / "run" / "merged"
    if out.is_dir() and any(out.iterdir()):  # it is whole: asked again, the command refuses, as it should
        return ["--version"]
    return ["merge", str(things.folder / "adapter"), "--base", str(find("tiny")), "--out", str(out)]


def _world(things: Materials, folder: Path) -> list[str]:
    return ["world", "--count", "2", "--seed", "7", "--workers", "2", "--out", str(folder / "run")]


JOBS = {
    job.name: job
    for job in (
        Job("world", _world, hashes),
        Job("merge", _merge, hashes),
        Job("eval", _eval, answered),
        Job("many", _many, answered),
        Job("sft", _sft, trained),
        Job("train", _train, trained),
    )
}
