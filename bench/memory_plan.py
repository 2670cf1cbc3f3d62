"""`zoomzero plan` against what two processes on this machine really hold: small random models, a few updates each way.

    python bench/memory_plan.py                     # all cases; code 1 when one is off by more than --within
    python bench/memory_plan.py --cases sft-replicated

Measured are the bytes of all blocks of 8 KiB and more that are allocated (the C library's own count, read a thousand
times a second), from the first update to the last: tensors, and next to nothing else. Linux with glibc alone.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import multiprocessing
import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

TEXT = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 4, "max_position_embeddings": 8192}
TEXT |= {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64}
VISION = {"hidden_size": 24, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 256, "depth": 2}
VISION |= {"deepstack_visual_indexes": [0], "num_position_embeddings": 64, "patch_size": 16}
SFT = {"samples_per_row": 8, "rows_per_step": 4, "train_only": "text", "schedule": "constant"}
GRPO = {
    "train_batch_size": 4,
    "mini_batch_size": 4,
    "row_tokens": 1,  # every group is a row of its own
    "rollout": {"num_generations": 4, "max_new_tokens": 48, "filter": {"enabled": False}, "controls": 0},
}
LORA = {"lora": {"rank": 16, "alpha": 32}}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "sft-replicated": ("sft", {}),
    "sft-checkpointed": ("sft", {"gradient_checkpointing": True}),
    "sft-adapters": ("sft", LORA),
    "sft-sharded": ("sft", {"fsdp": True}),
    "grpo-replicated": ("train", {}),
    "grpo-sharded": ("train", {"fsdp": True}),
}


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in (*"abcd", "hblkhd", *"efghi")]  # bytes in blocks of their own


class Meter:
    """The most bytes in large blocks while it runs, above those when it was made."""

    def __init__(self) -> None:
        self.libc = ctypes.CDLL("libc.so.6")
        self.libc.mallinfo2.restype = _Mallinfo
        self.libc.mallopt(-3, 8192)  # M_MMAP_THRESHOLD
        self.before = self.libc.mallinfo2().hblkhd
        self.peak, self.running = 0, False
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            if self.running:
                self.peak = max(self.peak, self.libc.mallinfo2().hblkhd - self.before)
            time.sleep(1e-3)


def work(settings_file: str, command: str, report: str, rank: int, port: int) -> None:
    """Be one process of a run and write what it held."""
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    from transformers import TrainerCallback

    from zoomzero.config import load_settings
    from zoomzero.train.engine import build, sft
    from zoomzero.train.run.processes import gather, leave_processes
    from zoomzero.train.settings import SftSettings, load_grpo_settings

    meter = Meter()

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            meter.running = True

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            meter.running = state.global_step < state.max_steps

    if command == "sft":
        sft.train(load_settings(SftSettings, settings_file), callbacks=[Watch()])
    else:
        build.train(load_grpo_settings(settings_file), callbacks=[Watch()])
    peaks = gather(meter.peak)
    if os.environ["RANK"] == "0":
        Path(report).write_text(json.dumps(peaks))
    leave_processes()


def write_model(folder: Path) -> Path:
    """Write a small random Qwen3-VL that reads and writes as the embedded model does."""
    import torch
    from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

    from zoomzero.config import ModelSettings, PassSettings
    from zoomzero.world.vocabulary import write_tokenizer

    tokenizer = write_tokenizer(folder)
    names = {"video_token_id": "<|video_pad|>", "image_token_id": "<|image_pad|>"}
    names |= {"vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>"}
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [16, 8, 8], "mrope_interleaved": True}
    ends = {"bos_token_id": None, "eos_token_id": tokenizer.token_to_id("<|im_end|>")}
    config = Qwen3VLConfig(
        text_config={**TEXT, **ends, "vocab_size": tokenizer.get_vocab_size(), "rope_parameters": rope},
        vision_config=VISION,
        tie_word_embeddings=True,
        **{name: tokenizer.token_to_id(token) for name, token in names.items()},
    )
    torch.manual_seed(0)
    # on disk in another number type than in memory: weights that are read as they are stay a mapped file, uncounted
    Qwen3VLForConditionalGeneration(config).half().save_pretrained(folder)
    look = PassSettings(fps=1, max_tokens=64, max_frames=64, min_frame_tokens=1, max_frame_tokens=1)
    zoom = PassSettings(fps=1, max_tokens=64, max_frames=16, min_frame_tokens=4, max_frame_tokens=4)
    asked = ModelSettings(style="brief", coarse=look, zoom=zoom, widen_s=0.5, score_options_as="text")
    (folder / "zoomzero.json").write_text(asked.model_dump_json())
    return folder


def text_tokens(model: Path, examples: Path) -> int:
    """Return how many tokens the longest prompt has besides the 64 visual ones that are planned."""
    from zoomzero.config import load_model_settings
    from zoomzero.data.example import read_examples
    from zoomzero.policy.local.load import load_policy
    from zoomzero.train.rollouts.prompted import Prompter
    from zoomzero.video.cache import FrameCache

    policy, asked = load_policy(model, device="cpu"), load_model_settings(model)
    ask = Prompter(policy, asked, FrameCache(0), 60.0)
    chats = [ask(0, example).chat for example in read_examples(examples)]
    return max(policy.prompt_length(chat) for chat in chats) - asked.coarse.max_tokens


def row_tokens(model: Path, settings: Any) -> int:
    """Return the tokens of the largest row of a supervised run."""
    from zoomzero.config import load_model_settings
    from zoomzero.data.example import read_examples
    from zoomzero.policy.local.load import load_policy
    from zoomzero.train.engine.sft_samples import ExampleSFTSamples
    from zoomzero.train.engine.sft_trainer import plan_sft_rows

    policy, asked = load_policy(model, device="cpu"), load_model_settings(model)
    samples = ExampleSFTSamples(read_examples(settings.examples), asked, policy.geometry, seed=settings.seed)
    share, most = settings.samples_per_step // 2, 0
    for first in range(0, settings.steps * settings.samples_per_step, share):
        read = [samples(i) for i in range(first, first + share)]
        rows = plan_sft_rows(read, policy.builder, policy.end_of_turn, settings)
        most = max(most, *(row.packed.tokens for row in rows))
    return most


def measure(case: str, folder: Path, model: Path, examples: Path) -> tuple[float, float]:
    """Return what was planned and what was measured, bytes of one process."""
    from zoomzero.config import load_model_settings, load_settings
    from zoomzero.train.plan import measure_model, plan_memory
    from zoomzero.train.settings import SftSettings, load_grpo_settings

    command, changes = CASES[case]
    values: dict[str, Any] = {"model": str(model), "out": str(folder / case), "steps": 2, "bf16": False, "threads": 1}
    values |= {"dtype": "float32", "gradient_checkpointing": False, "report_to": "none", "log_every": 1}
    caches = {"frame_cache_mb": 0, "feature_cache_mb": 0}
    values |= {"data": {"examples": [str(examples)], **caches}} if command == "train" else {"data": caches}
    values |= (GRPO if command == "train" else {**SFT, "examples": str(examples)}) | changes
    file = folder / f"{case}.json"
    file.write_text(json.dumps(values))
    asked, sizes = load_model_settings(model), measure_model(str(model))
    if command == "sft":
        settings: Any = load_settings(SftSettings, file)
        tokens = {"text_tokens": 0}
        settings = settings.model_copy(update={"row_tokens": row_tokens(model, settings), "samples_per_row": 99})
    else:
        settings, tokens = load_grpo_settings(str(file)), {"text_tokens": text_tokens(model, examples)}
    planned = plan_memory(settings, sizes, asked, gpus=2, memory=2**30, **tokens)
    print(case, {name: round(size / 2**20, 1) for name, size in (planned.always | planned.update).items()}, flush=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    report = folder / f"{case}.report"
    told = (str(file), command, str(report))
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=work, args=(*told, rank, port)) for rank in range(2)]
    for one in ranks:
        one.start()
    while any(one.is_alive() for one in ranks):
        time.sleep(0.2)
        if any(one.exitcode for one in ranks):  # the other would wait for it
            for one in ranks:
                one.kill()
            raise SystemExit(f"{case} failed")
    return planned.peak, max(json.loads(report.read_text()))


def main() -> None:
    """Plan, run, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--within", type=float, default=0.15, help="share of the measured peak that a plan may be off")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    from zoomzero.world.write import write_world

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = write_model(folder / "model")
        write_world(folder / "world", 4, 5, "short")
        off = []
        print("| case | planned MiB | measured MiB | planned / measured |\n|---|---|---|---|")
        for case in given.cases:
            planned, measured = measure(case, folder, model, folder / "world" / "examples.jsonl")
            print(f"| {case} | {planned / 2**20:.1f} | {measured / 2**20:.1f} | {planned / measured:.2f} |", flush=True)
            off += [case] if abs(planned - measured) > given.within * measured else []
    if off:
        raise SystemExit(f"off by more than {given.within:.0%}: {', '.join(off)}")


if __name__ == "__main__":
    main()
