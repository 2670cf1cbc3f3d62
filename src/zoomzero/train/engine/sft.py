"""Supervised fine-tuning: samples in, a checkpoint out, on `transformers.Trainer`.

A run from random weights teaches the vision tower first (`train/engine/vision.py`), then follows a curriculum of world
samples; a run from a checkpoint learns from examples.

One micro-batch is a few samples packed into one row (`policy/local/attention/packed.py`); sample `i` of a run is a
pure function of the run's seed, so a resumed run reads what the uninterrupted one would have read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler
from transformers import TrainerCallback

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, load_model_settings
from zoomzero.data.example import read_examples
from zoomzero.data.sft_sample import SFTSample
from zoomzero.files import read_rows
from zoomzero.policy.capabilities import require
from zoomzero.policy.local.attention.packed import PackedStates, packed_states
from zoomzero.policy.local.checkpoint.adapters import find_whole
from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.save import save_checkpoint
from zoomzero.progress import bar
from zoomzero.train.engine.optimizers import Muon
from zoomzero.train.engine.sft_samples import LOOKS, ExampleSFTSamples, PackedSFTSamples, pack_sft_samples
from zoomzero.train.engine.trainer import PolicyTrainer, engine_arguments
from zoomzero.train.engine.vision import LOG_FILE as VISION_LOG
from zoomzero.train.engine.vision import pretrain
from zoomzero.train.run.directory import TrainingRecord, check_run, claimed_run, last_checkpoint, make_record
from zoomzero.train.run.held_out import HeldOut
from zoomzero.train.settings import SftSettings
from zoomzero.video.types import Geometry
from zoomzero.world.curriculum import Stage, stage_of, step_samples
from zoomzero.world.start import write_start

GUIDED_LAYER = 2  # text layer some heads of which are told where to look
GUIDED_HEADS = {"when": 0, "what": 2, "which": 3}  # by what they look for, see `Look`
LABEL_LAYER, LABEL_HEAD = 1, 0  # the head that tells an option's last token which letter the option has


class SFTLoss(nn.Module):
    """The model as the trainer sees it: packed samples in, loss out."""

    def __init__(self, model: Any, guidance: float = 0.0) -> None:
        super().__init__()
        self.model, self.guidance = model, guidance

    def forward(self, samples: PackedSFTSamples) -> dict[str, Tensor]:
        """Return the weighted mean cross-entropy over the answers' tokens; only they go through the head."""
        watch = (LABEL_LAYER, GUIDED_LAYER) if self.guidance else ()
        packed = packed_states(self.model, samples.prompts, samples.suffixes, positions=samples.positions, watch=watch)
        weights = torch.cat([w for group in samples.weights for w in group]).to(packed.states.device)  # (T,)
        counted = weights > 0
        logits = self.model.lm_head(packed.states[counted]).float()
        losses = nn.functional.cross_entropy(logits, packed.targets[counted], reduction="none")
        loss = (losses * weights[counted]).sum() / weights.sum()
        return {"loss": loss + self.guidance * guidance_loss(packed, samples) if self.guidance else loss}


def guidance_loss(packed: PackedStates, samples: PackedSFTSamples) -> Tensor:
    """Return how far some heads are from looking where items say, the mean of each kind of look, summed over kinds.

    For a token that says when something begins, one head's queries and keys are compared over the prompt's visual
    tokens alone: cross-entropy against the one that shows the beginning. Another head does so for the words that name
    what begins then, a third finds the option with the text that was just written, a fourth, a layer below, tells an
    option's text its letter. They form circuits (looking up by name, by time, by content) which a small model takes
    very long to find by itself.
    """
    losses: dict[str, list[Tensor]] = {kind: [] for kind in (*LOOKS, "label")}
    first = 0
    for visual, lengths, looks, options in zip(
        packed.visual, packed.lengths, samples.looks, samples.options, strict=True
    ):
        for length, rows, ends in zip(lengths, looks, options, strict=True):
            for number, kind in enumerate(LOOKS):
                of_kind = rows[rows[:, 1] == number]
                if len(of_kind):
                    asking = packed.predictors[first + of_kind[:, 0]]
                    # a token lies where its successor is predicted
                    places = packed.predictors[first + ends[:, 1] + 1] if kind == "which" else visual
                    scores = _scores(packed, GUIDED_LAYER, GUIDED_HEADS[kind], asking, places)
                    losses[kind].append(_cross_entropies(scores, of_kind[:, 2]))
            for label, end in ends.tolist():
                places = packed.predictors[first + 1 : first + end + 2]  # the question so far
                scores = _scores(packed, LABEL_LAYER, LABEL_HEAD, places[-1:], places)
                losses["label"].append(_cross_entropies(scores, torch.tensor([label])))
            first += length
    means = [torch.cat(found).mean() for found in losses.values() if found]
    return torch.stack(means).sum() if means else packed.states.new_zeros(())


def _scores(packed: PackedStates, layer: int, head: int, asking: Tensor, places: Tensor) -> Tensor:
    """Return how much a head's queries at n places like its keys at N places, (n, N) float32."""
    query, key = packed.watched[layer]  # (1, H, L, d), (1, KV, L, d)
    shared = query.shape[1] // key.shape[1]
    scores: Tensor = query[0, head, asking] @ key[0, head // shared, places].mT * query.shape[-1] ** -0.5
    return scores.float()


def _cross_entropies(scores: Tensor, right: Tensor) -> Tensor:
    return nn.functional.cross_entropy(scores, right.to(scores.device), reduction="none")


class SftTrainer(PolicyTrainer):
    """The trainer that reads samples in order and saves plain checkpoints."""

    def __init__(
        self,
        policy: QwenPolicy,
        source: Path,
        model_settings: ModelSettings,
        optimizer: str = "adamw",
        guidance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        self.optimizer_name = optimizer
        super().__init__(policy, source, model_settings, model=SFTLoss(policy.model, guidance), **kwargs)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return the run's optimizer, made once."""
        if self.optimizer_name == "muon" and getattr(self, "optimizer", None) is None:
            self.optimizer = Muon(self.model, self.args.learning_rate, weight_decay=self.args.weight_decay)
        found: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        return found

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> SequentialSampler:
        return SequentialSampler(self.train_dataset)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self.save_weights(Path(output_dir or self.args.output_dir), torch.float32)

    def save_weights(self, directory: Path, dtype: torch.dtype) -> None:
        """Write the model as a plain checkpoint."""
        save_checkpoint(self.policy.model, self.source, directory, settings=self.model_settings, dtype=dtype)


class SampleStream(Dataset[list[SFTSample]]):
    """What micro-batch 0 .. count-1 of a run reads."""

    def __init__(self, make: Callable[[int], list[SFTSample]], count: int) -> None:
        self.make, self.count = make, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> list[SFTSample]:
        return self.make(index)


class StageCallback(TrainerCallback):  # type: ignore[misc]
    """Lets the vision tower learn in the stages that say so."""

    def __init__(self, tower: Any, stages: Sequence[Stage]) -> None:
        self.tower, self.stages = tower, stages

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Switch the tower's gradients."""
        self.tower.requires_grad_(stage_of(self.stages, state.global_step).train_vision)


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
    source = _start(settings, out)
    model_settings = settings.model_settings(load_model_settings(source))
    policy = load_policy(str(source), dtype="float32", settings=model_settings)
    require(policy, "train", "fine-tuning")
    seen = _pretrain_vision(policy, settings, out, made=last is not None)
    policy.model.train().requires_grad_(settings.train_only != "embeddings")
    policy.model.model.visual.requires_grad_(settings.train_only == "all")
    policy.model.get_input_embeddings().requires_grad_(True)
    stages = [Stage(**stage.model_dump()) for stage in settings.stages]
    per_batch, batches = (1, 1) if stages else (settings.samples_per_row, settings.rows_per_step)
    held_out = HeldOut(policy, model_settings, settings.validation, out)
    trainer = SftTrainer(
        policy,
        source,
        model_settings,
        settings.optimizer,
        settings.guidance,
        args=engine_arguments(
            settings,
            out,
            per_device_train_batch_size=per_batch,
            gradient_accumulation_steps=batches,
            dataloader_num_workers=settings.draw_ahead,
            dataloader_prefetch_factor=4 if settings.draw_ahead else None,
            lr_scheduler_kwargs=_schedule_details(settings),
        ),
        train_dataset=SampleStream(
            _sample_maker(settings, stages, model_settings, policy.geometry), settings.steps * per_batch * batches
        ),
        data_collator=lambda read: {
            "samples": pack_sft_samples([s for one in read for s in one], policy.builder, policy.end_of_turn)
        },
        callbacks=[
            *callbacks,
            *([StageCallback(policy.model.model.visual, stages)] if stages else []),
            *([held_out] if held_out.examples else []),
        ],
    )
    started = time.perf_counter()
    result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    record = make_record(
        settings,
        steps=result.global_step,
        started=started,
        final_loss=trainer.last_loss,
        data={"examples": settings.examples} if settings.examples else {"world_seed": settings.world_seed, **seen},
    )
    trainer.save_weights(out, torch.float16)
    record.write(out)
    return record


def _start(settings: SftSettings, out: Path) -> Path:
    """Return the directory of the checkpoint a run starts from; a random one is written first."""
    if settings.model != "random":
        return find_whole(settings.model)
    start = out / "start"
    if not (start / MODEL_SETTINGS_FILE).is_file():
        write_start(start, seed=settings.seed)
    return start


def _pretrain_vision(policy: QwenPolicy, settings: SftSettings, out: Path, *, made: bool) -> dict[str, float]:
    """Teach a random tower to see unless that is `made` already, and return how well it does."""
    if settings.vision is None:
        return {}
    tower = policy.model.model.visual
    if made:
        found = read_rows(out / VISION_LOG)[-1]
    else:
        with bar("learning to see", "batches") as step:
            found = pretrain(
                tower, policy.family, settings.vision, out, progress=lambda done, total, _: step(done, total)
            )
    return {f"vision_{name}": value for name, value in found.items()}


def _schedule_details(settings: SftSettings) -> dict[str, Any]:
    if settings.schedule != "warmup_stable_decay":
        return {}
    return {"num_decay_steps": round(settings.steps * settings.decay), "min_lr_ratio": 0.01, "decay_type": "linear"}


def _sample_maker(
    settings: SftSettings, stages: Sequence[Stage], model_settings: ModelSettings, geometry: Geometry
) -> Callable[[int], list[SFTSample]]:
    if settings.examples is not None:
        make = ExampleSFTSamples(read_examples(settings.examples), model_settings, geometry)
        return lambda index: [make(index)]
    return lambda index: step_samples(settings.world_seed, index, stages, model_settings, geometry)
