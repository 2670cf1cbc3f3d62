"""The trainer of supervised fine-tuning: samples decoded ahead, packed into rows, learned from as one batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, Dataset
from transformers import TrainerCallback

from zoomzero.config import ModelSettings
from zoomzero.data.example import Example
from zoomzero.data.sft_sample import SFTSample
from zoomzero.errors import TrainingError, VideoError
from zoomzero.interrupts import end_with_parent
from zoomzero.policy.local.attention.packed import fill_rows
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.prompt import PromptBuilder
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.vision import VisualFeatures, plain_features
from zoomzero.train.engine.optimizers import Muon, rate_factor
from zoomzero.train.engine.sft_samples import ExampleSFTSamples, PackedSFTSamples, pack_sft_samples
from zoomzero.train.engine.trainer import PolicyTrainer
from zoomzero.train.rollouts.collector import LEAST_SEEN
from zoomzero.train.rollouts.stream import difficulty_weights
from zoomzero.train.run.log import RunLog
from zoomzero.train.run.monitor import peak_mb
from zoomzero.train.run.processes import gather
from zoomzero.train.settings import SftSettings
from zoomzero.video.cache import FrameCache
from zoomzero.world.curriculum import Stage, stage_of

MOST_ATTEMPTS = 20  # other videos tried in the place of one that cannot be read


class SampleLoader:
    """What the trainer iterates over: each update's samples of this process; the next ones are decoded meanwhile.

    Sample i of a run depends on the run's settings and i alone. One whose video cannot be read is replaced by another
    one's, counted and listed. Processes take equal runs of an update's samples, so together they read what one would.

    Args:
        samples: by their place in the run.
        settings: of the run.
        out: the run's directory.
        rank, world: this process among all.
        step: tells how many updates are made.
    """

    def __init__(
        self,
        samples: ExampleSFTSamples,
        settings: SftSettings,
        out: Path,
        rank: int,
        world: int,
        step: Callable[[], int] = lambda: 0,
    ) -> None:
        self.samples, self.settings, self.step = samples, settings, step
        self.rank, self.world = rank, world
        self.share = settings.samples_per_step // world
        self.seen = self.unreadable = 0
        self.log = RunLog(out, rank, 0)
        self._pool = ThreadPoolExecutor(min(self.share, os.cpu_count() or 1), "decode-ahead")
        self._coming: dict[int, list[Future[tuple[SFTSample | None, list[str]]]]] = {}

    def close(self) -> None:
        """Let go of what is decoded in the background."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def __iter__(self) -> Iterator[dict[str, list[SFTSample]]]:
        while (step := self.step()) < self.settings.steps:
            coming = self._coming.pop(step, None) or self._start(step)
            if step + 1 < self.settings.steps:
                self._coming = {step + 1: self._start(step + 1)}
            yield {"samples": [self._taken(one, step) for one in coming]}

    def _start(self, step: int) -> list[Future[tuple[SFTSample | None, list[str]]]]:
        first = step * self.settings.samples_per_step + self.rank * self.share
        return [self._pool.submit(self._read, place) for place in range(first, first + self.share)]

    def _read(self, place: int) -> tuple[SFTSample | None, list[str]]:
        """Return the sample of a place, and what could not be read before it."""
        problems: list[str] = []
        for attempt in range(MOST_ATTEMPTS):
            try:
                return self.samples(place, attempt), problems
            except VideoError as error:
                problems.append(str(error))
        return None, problems

    def _taken(self, coming: Future[tuple[SFTSample | None, list[str]]], step: int) -> SFTSample:
        """Wait for a sample and count what could not be read.

        Raises:
            TrainingError: more than `data.max_unreadable` of the videos.
        """
        sample, problems = coming.result()
        self.seen += 1 + len(problems)
        self.unreadable += len(problems)
        self.log.add_unreadable(problems)
        enough = self.seen >= min(LEAST_SEEN, len(self.samples.groups))
        if sample is None or (enough and self.unreadable > self.settings.data.max_unreadable * self.seen):
            reason = f"{self.unreadable} of {self.seen} videos cannot be read, the last: {problems[-1]}"
            raise TrainingError(step, reason, "mend or remove them, or raise data.max_unreadable")
        return sample


@dataclass(frozen=True, slots=True, eq=False)
class SftRow:
    """Samples that go through the model together; `samples` lie in the order of `packed`'s prompts."""

    samples: tuple[SFTSample, ...]
    packed: PackedSFTSamples

    @property
    def amounts(self) -> Tensor:
        """How much all its tokens count together, then its `look_counts`, 1-d."""
        weight = torch.cat([weights for group in self.packed.weights for weights in group]).sum()
        return torch.cat([weight[None], self.packed.look_counts])


def plan_sft_rows(
    samples: Sequence[SFTSample],
    builder: PromptBuilder,
    end_of_turn: int,
    settings: SftSettings,
    agree: Callable[[int], int] = lambda count: count,
) -> list[SftRow]:
    """Pack an update's samples of this process into rows of `samples_per_row` and `row_tokens` at most.

    Args:
        samples: at least one.
        builder: of the model that will read them.
        end_of_turn: the token that closes an answer.
        settings: of the run.
        agree: told how many rows there are, says how many there must be (sharded processes make equally many).
    """
    alone = sorted(
        ((sample, pack_sft_samples([sample], builder, end_of_turn)) for sample in samples),
        key=lambda one: len(one[1].prompts[0]),  # equal lengths side by side are one batch in attention
    )
    full = fill_rows([packed.tokens for _, packed in alone], settings.row_tokens)
    rows = [row[i : i + settings.samples_per_row] for row in full for i in range(0, len(row), settings.samples_per_row)]
    wanted = agree(len(rows))
    while len(rows) < wanted:
        longest = max(range(len(rows)), key=lambda i: len(rows[i]))
        row, half = rows[longest], (len(rows[longest]) + 1) // 2
        rows[longest : longest + 1] = [row[:half], row[half:]]
    return [SftRow(tuple(alone[i][0] for i in row), _joined([alone[i][1] for i in row])) for row in rows]


def _joined(parts: Sequence[PackedSFTSamples]) -> PackedSFTSamples:
    """Return several packed samples as one row."""
    columns: dict[str, Any] = {
        field.name: tuple(one for part in parts for one in getattr(part, field.name))
        for field in fields(PackedSFTSamples)
    }
    return PackedSFTSamples(**columns)


def row_features(
    policy: QwenPolicy, row: SftRow, computing: Callable[[], AbstractContextManager[Any]]
) -> VisualFeatures | None:
    """Return what a frozen tower makes of a row's clips, kept ones looked up; None when prompts carry their patches.

    Args:
        policy: sees the clips.
        row: of samples.
        computing: how the tower computes.
    """
    if all(prompt.patches is not None for prompt in row.packed.prompts):
        return None
    clips = [clip for sample in row.samples for clip in (*(e.clip for e in sample.history), sample.clip)]
    with torch.no_grad(), computing():
        found = policy.encode(clips)
    return None if found is None else plain_features(found)


def make_loader(
    settings: SftSettings, examples: Sequence[Example], model_settings: ModelSettings, policy: QwenPolicy, out: Path
) -> SampleLoader:
    """Return the loader of a run on real videos; a frozen tower gets a place to keep its features."""
    state, data = PartialState(), settings.sources
    if not settings.learns_vision:
        policy.features = FeatureCache(data.feature_cache_mb << 20, data.feature_cache_dir)
    samples = ExampleSFTSamples(
        examples,
        model_settings,
        policy.geometry,
        seed=settings.seed,
        weights=difficulty_weights(examples, data.difficulty) if data.difficulty else None,
        cache=FrameCache(data.frame_cache_mb << 20),
        timeout_s=data.timeout_s,
    )
    return SampleLoader(samples, settings, out, state.process_index, state.num_processes)


class SftTrainer(PolicyTrainer):
    """The trainer that reads samples in order.

    Args:
        settings: of the run.
        policy: the model that is trained.
        source: directory of the start checkpoint.
        model_settings: how the model is asked.
        loss: the module that is trained: a row, its features and the weight of all rows' tokens in, `loss` out.
        loader: of samples with real videos; None: the data set's are drawn.
        kwargs: of `Trainer`.
    """

    def __init__(
        self,
        settings: SftSettings,
        policy: QwenPolicy,
        source: Path,
        model_settings: ModelSettings,
        loss: nn.Module,
        loader: SampleLoader | None = None,
        **kwargs: Any,
    ) -> None:
        self.loader = loader
        self.builder = replace(policy.builder, pixels=settings.learns_vision)
        super().__init__(settings, policy, source, model_settings, model=loss, **kwargs)
        if loader is not None:
            loader.step = lambda: self.state.global_step

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return the run's optimizer, made once."""
        if self.settings.optimizer == "muon" and getattr(self, "optimizer", None) is None:
            self.optimizer = Muon(self.model, self.args.learning_rate, weight_decay=self.args.weight_decay)
        found: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        return found

    def create_scheduler(self, num_training_steps: int, optimizer: torch.optim.Optimizer | None = None) -> Any:
        """Return the run's learning rates, made once: `rates`, or transformers' schedule."""
        if self.settings.rates and getattr(self, "lr_scheduler", None) is None:
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, partial(rate_factor, self.settings.rates))
            self._created_lr_scheduler = True
        return super().create_scheduler(num_training_steps, optimizer)

    def get_train_dataloader(self) -> Any:
        """Return what the run reads."""
        if self.loader is not None:
            return self.loader
        args = self.args
        return DataLoader(  # of this process's share of each step: the engine's own would share out whole steps
            self.train_dataset,
            batch_size=1,
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            prefetch_factor=args.dataloader_prefetch_factor,
        )

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Run forward and backward over one update's rows and return the mean over all their tokens."""
        model.train()
        rows = self._rows(inputs["samples"])
        amounts = torch.stack([row.amounts for row in rows]).sum(0).to(self.args.device)
        amounts = self.accelerator.reduce(amounts, "sum")

        def computing() -> AbstractContextManager[Any]:
            return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.settings.in_bf16)

        def loss_of(row: SftRow) -> Tensor:
            features = row_features(self.policy, row, computing)
            with computing():
                loss: Tensor = model(row.packed, features, amounts[0], amounts[1:])["loss"]
            return loss

        return self.learn(model, rows, len(rows), loss_of)

    def _rows(self, samples: PackedSFTSamples | Sequence[SFTSample]) -> list[SftRow]:
        """Return an update's rows; a step of the world's curriculum is one already."""
        if isinstance(samples, PackedSFTSamples):
            return [SftRow((), samples)]
        agree = (lambda count: max(gather(count))) if self.settings.sharded else (lambda count: count)
        return plan_sft_rows(samples, self.builder, self.policy.end_of_turn, self.settings, agree)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the run takes, over all processes."""
        if "loss" in logs:
            logs = {**logs, "memory/peak_mb": max(gather(peak_mb()))}
            if self.loader is not None:
                logs["data/unreadable"] = sum(gather(self.loader.unreadable))
        super().log(logs, start_time)

    def stop_not_finite(self, what: str) -> None:
        """End a run whose numbers are lost.

        Raises:
            TrainingError: always.
        """
        fix = "start again in another directory with a lower learning_rate, or with bf16 = false"
        raise TrainingError(self.state.global_step, f"{what} is not finite", fix)


class SampleStream(Dataset[list[SFTSample]]):
    """What micro-batch 0 .. count-1 of a run reads."""

    def __init__(self, make: Callable[[int], list[SFTSample]], count: int) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[SFTSample]:
        end_with_parent()
        return self.make(index)


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """Lets the vision tower learn in the stages that say so."""

    def __init__(self, tower: Any, stages: Sequence[Stage]) -> None:
        self.tower, self.stages = tower, stages

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Switch the tower's gradients."""
        self.tower.requires_grad_(stage_of(self.stages, state.global_step).train_vision)
