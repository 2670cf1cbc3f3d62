"""Supervised fine-tuning: samples in, a checkpoint out, on `transformers.Trainer`.

One micro-batch is a few samples packed into one row (`policy/local/attention/packed.py`); sample `i` of a run is a
pure function of the run's seed, so a resumed run reads what the uninterrupted one would have read.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import TrainerCallback

from zoomzero.config import ModelSettings, load_model_settings, settings_hash
from zoomzero.data.example import read_examples
from zoomzero.data.sft_sample import SFTSample
from zoomzero.policy.capabilities import require
from zoomzero.policy.local.attention.packed import packed_states
from zoomzero.policy.local.load import find, load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.save import save_checkpoint
from zoomzero.train.engine.sft_samples import ExampleSFTSamples, PackedSFTSamples, pack_sft_samples
from zoomzero.train.engine.trainer import PolicyTrainer, engine_arguments
from zoomzero.train.run.directory import TrainingRecord, check_run, claimed_run, device_name, last_checkpoint, versions
from zoomzero.train.settings import SftSettings
from zoomzero.video.types import Geometry
from zoomzero.world.lessons import Stage, world_lesson


class SFTLoss(nn.Module):
    """The model as the trainer sees it: packed samples in, loss out."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: PackedSFTSamples) -> dict[str, Tensor]:
        """Return the weighted mean cross-entropy over the answers' tokens; only they go through the head."""
        packed = packed_states(self.model, samples.prompts, samples.suffixes, positions=samples.positions)
        weights = torch.cat([w for group in samples.weights for w in group]).to(packed.states.device)  # (T,)
        counted = weights > 0
        logits = self.model.lm_head(packed.states[counted]).float()
        losses = nn.functional.cross_entropy(logits, packed.targets[counted], reduction="none")
        return {"loss": (losses * weights[counted]).sum() / weights.sum()}


class SftTrainer(PolicyTrainer):
    """The trainer that reads samples in order and saves plain checkpoints."""

    def __init__(self, policy: QwenPolicy, source: Path, model_settings: ModelSettings, **kwargs: Any) -> None:
        super().__init__(policy, source, model_settings, model=SFTLoss(policy.model), **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.save_weights(Path(output_dir or self.args.output_dir), torch.float32)

    def save_weights(self, directory: Path, dtype: torch.dtype) -> None:
        """Write the model as a plain checkpoint."""
        save_checkpoint(self.policy.model, self.source, directory, settings=self.model_settings, dtype=dtype)


class SFTDataset(Dataset[SFTSample]):
    """Samples 0 .. count-1 of a run."""

    def __init__(self, make: Callable[[int], SFTSample], count: int) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> SFTSample:
        return self.make(index)


def train(settings: SftSettings, *, resume: bool = False, callbacks: Sequence[TrainerCallback] = ()) -> TrainingRecord:
    """Run supervised fine-tuning to its end and write the model to `settings.out`.

    Args:
        settings: the run.
        resume: go on from the last checkpoint in `settings.out`.
        callbacks: for progress.

    Raises:
        ConfigError: `out` holds a run already and `resume` is off, or there is nothing to resume.
        ModelError, DataError: the start checkpoint or the examples cannot be read.
    """
    out = Path(settings.out)
    check_run(settings, out, resume=resume)
    with claimed_run(settings, out):
        return _train(settings, out, last_checkpoint(out) if resume else None, callbacks)


def _train(settings: SftSettings, out: Path, last: Path | None, callbacks: Sequence[TrainerCallback]) -> TrainingRecord:
    """Run in a directory that is this run's, from a checkpoint or the start."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    torch.manual_seed(settings.seed)
    source = find(settings.model)
    model_settings = load_model_settings(source)
    policy = load_policy(settings.model, dtype="float32", settings=model_settings)
    require(policy, "train", "fine-tuning")
    policy.model.train().requires_grad_(settings.train_only != "embeddings")
    policy.model.model.visual.requires_grad_(settings.train_only == "all")
    policy.model.get_input_embeddings().requires_grad_(True)
    make = _maker(settings, model_settings, policy.geometry)
    count = settings.steps * settings.rows_per_step * settings.samples_per_row
    trainer = SftTrainer(
        policy,
        source,
        model_settings,
        args=engine_arguments(
            settings,
            out,
            per_device_train_batch_size=settings.samples_per_row,
            gradient_accumulation_steps=settings.rows_per_step,
        ),
        train_dataset=SFTDataset(make, count),
        data_collator=lambda samples: {"samples": pack_sft_samples(samples, policy.builder, policy.end_of_turn)},
        callbacks=list(callbacks),
    )
    started = time.perf_counter()
    result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    record = TrainingRecord(
        settings=settings.model_dump(mode="json"),
        settings_hash=settings_hash(settings),
        steps=result.global_step,
        minutes=round((time.perf_counter() - started) / 60, 1),
        final_loss=round(trainer.last_loss, 4),
        device=device_name(),
        versions=versions(),
        data={"examples": settings.examples} if settings.examples else {"world_seed": settings.world_seed},
    )
    trainer.save_weights(out, torch.float16)
    (out / "training.json").write_text(json.dumps(asdict(record), indent=1) + "\n")
    return record


def _maker(settings: SftSettings, model_settings: ModelSettings, geometry: Geometry) -> Callable[[int], SFTSample]:
    if settings.examples is not None:
        return ExampleSFTSamples(read_examples(settings.examples), model_settings, geometry)
    stage = Stage(**settings.stage.model_dump())
    return lambda index: world_lesson(settings.world_seed, index, stage, model_settings, geometry)
