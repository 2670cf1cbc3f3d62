"""One side of "an update of GRPO": makes an update each time it is told to.

`zoomzero` trains on the video files. `trl` is GRPOTrainer with the frames as images: given a video it passes the prompt
on without it. Both with G = 8, the same rewards, a KL term, a frozen vision tower, float32, no recomputation.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback
from turns import Turns

REWARDS = ("format", "iou", "answer")
COMMON = {"learning_rate": 1e-6, "beta": 0.01, "temperature": 1.0, "generations": 8}


class Gate(TrainerCallback):
    """Lets a trainer make one update for each word of the parent: all that lies between two ends of updates counts."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.watching: Any = None
        self.tokens: list[int] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Wait for the first word."""
        self.turns.say(ready=True)
        self._wait(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Say what the update took and wait for the next word."""
        self.watching.__exit__(None, None, None)
        self.turns.say(**self.took, completion_tokens=self.tokens)
        self.tokens = []
        self._wait(control)

    def _wait(self, control: Any) -> None:
        if not self.turns.told():
            control.should_training_stop = True
            raise SystemExit(0)
        self.watching = self.turns.watched()
        self.took = self.watching.__enter__()


def rewards(text: str, row: dict[str, Any]) -> dict[str, float]:
    """Return the rewards of a completion, those of the product's training."""
    from zoomzero.data.example import Example
    from zoomzero.prompts import read_response
    from zoomzero.spans import Span
    from zoomzero.train.credit.objective import RewardSettings
    from zoomzero.train.credit.rewards import reward_values

    example = Example(
        id=row["id"],
        video=row["video"],
        question=row["question"],
        options=tuple(row["options"]),
        answer=row["answer"],
        spans=tuple(Span(*span) for span in row["spans"]),
        duration_s=row["duration_s"],
        source="world",
        split="train",
    )
    reading = read_response(text, len(example.options), "no_think")
    return reward_values(text, reading, example, RewardSettings(), mode="no_think", zoom=None).there()


def trl(job: dict[str, Any], turns: Turns) -> None:
    """Train with GRPOTrainer."""
    from datasets import Dataset, Features, Image, Value
    from datasets import List as ListOf
    from transformers import AutoProcessor, Qwen3VLForConditionalGeneration
    from trl import GRPOConfig, GRPOTrainer

    model = Qwen3VLForConditionalGeneration.from_pretrained(job["model"], dtype=torch.float32)
    model.model.visual.requires_grad_(False)
    gate, rows = Gate(turns), {row["id"]: row for row in job["rows"]}

    def reward(name: str) -> Any:
        def function(completions: Any, id: list[str], completion_ids: Any = None, **rest: Any) -> list[float]:
            gate.tokens = [len(ids) for ids in completion_ids or ()]
            found = zip(completions, id, strict=True)
            return [rewards(said[0]["content"], rows[which])[name] for said, which in found]

        function.__name__ = name
        return function

    prompt = [{"role": Value("string"), "content": Value("string")}]
    features = Features({"id": Value("string"), "prompt": prompt, "images": ListOf(Image())})
    data = [
        {"id": row["id"], "prompt": [{"role": "user", "content": row["text"]}], "images": row["frames"]}
        for row in job["rows"]
    ]
    arguments = GRPOConfig(
        output_dir=tempfile.mkdtemp(),
        per_device_train_batch_size=COMMON["generations"],
        num_generations=COMMON["generations"],
        max_completion_length=job["tokens"],
        max_steps=len(data),
        learning_rate=COMMON["learning_rate"],
        beta=COMMON["beta"],
        temperature=COMMON["temperature"],
        generation_kwargs={"suppress_tokens": job["forbidden"]},
        gradient_checkpointing=False,
        bf16=False,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        shuffle_dataset=False,
        disable_tqdm=True,
    )
    trainer = GRPOTrainer(
        model=model,
        reward_funcs=[reward(name) for name in REWARDS],
        args=arguments,
        train_dataset=Dataset.from_list(data, features=features),
        processing_class=AutoProcessor.from_pretrained(job["model"]),
        callbacks=[gate],
    )
    trainer.train()


def zoomzero(job: dict[str, Any], turns: Turns) -> None:
    """Train with the product."""
    from zoomzero.train.engine.build import train
    from zoomzero.train.rollouts.collector import RolloutCollector
    from zoomzero.train.settings import GrpoSettings

    RolloutCollector.decodes_ahead = False  # nothing is done while another's turn is
    settings = GrpoSettings.model_validate(
        {
            "model": job["model"],
            "out": str(Path(tempfile.mkdtemp()) / "run"),
            "steps": len(job["rows"]),
            "train_batch_size": 1,
            "mini_batch_size": 1,
            "learning_rate": COMMON["learning_rate"],
            "gradient_checkpointing": False,
            "bf16": False,
            "report_to": "none",
            "save_every": 10_000,
            "threads": 1,
            "data": {"examples": [job["examples"]]},
            "rollout": {
                "num_generations": COMMON["generations"],
                "max_new_tokens": job["tokens"],
                "temperature": COMMON["temperature"],
                "verifier": "off",  # the close look is ours alone
                "controls": 0,
                "filter": {"enabled": False},
            },
            "objective": {"credit": {"estimator": "grpo"}, "loss": {"beta": COMMON["beta"]}},
        }
    )
    train(settings, callbacks=[Gate(turns)])


MAKE = {"trl": trl, "zoomzero": zoomzero}


def main() -> None:
    turns = Turns()
    torch.set_num_threads(1)
    MAKE[turns.job["who"]](turns.job, turns)


if __name__ == "__main__":
    main()
