"""Supervised fine-tuning: samples in, a checkpoint out, on `transformers.Trainer`.

A run from random weights teaches the vision tower first (`train/engine/vision.py`), then follows a curriculum of world
samples; a run from a checkpoint learns from examples, on the engine of reinforcement learning: adapters or all weights,
whole or in shards, on several processes.

Samples are packed into rows (`policy/local/attention/packed.py`), and the loss is one mean over the tokens of all
rows of an update. Sample `i` of a run is a pure function of the run's seed, so a resumed run reads what the
uninterrupted one would have read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch import Tensor, nn
from transformers import TrainerCallback, TrainingArguments

from zoomzero.config import MODEL_SETTINGS_FILE, ModelSettings, load_model_settings
from zoomzero.data.example import Example
from zoomzero.data.manifest import check_leaks, splits_used
from zoomzero.data.sft_sample import SFTSample
from zoomzero.errors import ConfigError
from zoomzero.files import read_rows
from zoomzero.policy.local.attention.packed import HEAD_CHUNK, PackedStates, packed_states, suffix_logprobs
from zoomzero.policy.local.checkpoint.adapters import find_whole
from zoomzero.policy.local.load import quiet
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.policy.local.vision import VisualFeatures
from zoomzero.progress import bar
from zoomzero.train.engine.loading import load_copy, load_trained, own_device, read_sources
from zoomzero.train.engine.sft_samples import LOOKS, PackedSFTSamples, pack_sft_samples
from zoomzero.train.engine.sft_trainer import SampleLoader, SampleStream, SftTrainer, StageCallback, make_loader
from zoomzero.train.engine.sharded import trained_weights
from zoomzero.train.engine.trainer import PREFIX, check_engine, engine_arguments
from zoomzero.train.engine.vision import LOG_FILE as VISION_LOG
from zoomzero.train.engine.vision import pretrain
from zoomzero.train.rollouts.engine import LocalEngine
from zoomzero.train.run.clock import RunClock
from zoomzero.train.run.directory import TrainingRecord, check_run, claimed_run, last_checkpoint, make_record
from zoomzero.train.run.held_out import HeldOut
from zoomzero.train.run.processes import join_processes, place_among, share_threads
from zoomzero.train.settings import SftSettings
from zoomzero.train.stopwatch import Stopwatch
from zoomzero.video.types import Geometry
from zoomzero.world.curriculum import Stage, step_samples
from zoomzero.world.start import write_start

GUIDED_LAYER = 2  # text layer some heads of which are told where to look
GUIDED_HEADS = {"when": 0, "what": 2, "which": 3}  # by what they look for, see `Look`
LABEL_LAYER, LABEL_HEAD = 1, 0  # the head that tells an option's last token which letter the option has


class SFTLoss(nn.Module):
    """The model as the trainer sees it: packed samples in, loss out.

    Args:
        model: the prepared transformers model, with or without an adapter.
        guidance: weight of `guidance_loss`.
        chunk: tokens whose logits are in memory at once.
    """

    def __init__(self, model: Any, guidance: float = 0.0, chunk: int = HEAD_CHUNK) -> None:
        super().__init__()
        self.model, self.guidance, self.chunk = model, guidance, chunk

    def tie_weights(self) -> None:
        """Let the head share the embeddings' weights again, after others moved or loaded them (sharding does)."""
        self.model.tie_weights()

    def forward(
        self,
        samples: PackedSFTSamples,
        features: VisualFeatures | None = None,
        total: Tensor | None = None,
        looks: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the weighted mean cross-entropy over the answers' tokens; only they go through the head.

        Args:
            samples: a row.
            features: of its clips, where the prompts do not carry their patches.
            total: weight of all tokens of the update, 0-d; None: the row's own.
            looks: `look_counts` of the update; None: the row's own.
        """
        watch = (LABEL_LAYER, GUIDED_LAYER) if self.guidance else ()
        packed = packed_states(
            self.model, samples.prompts, samples.suffixes, features, positions=samples.positions, watch=watch
        )
        weights = torch.cat([w for group in samples.weights for w in group]).to(packed.states.device)  # (T,)
        counted = weights > 0
        asked = PackedStates(packed.states[counted], packed.targets[counted], ())
        losses = -suffix_logprobs(self.model, asked, chunk=self.chunk)
        loss = (losses * weights[counted]).sum() / (weights.sum() if total is None else total)
        return {"loss": loss + self.guidance * guidance_loss(packed, samples, looks) if self.guidance else loss}


def guidance_loss(packed: PackedStates, samples: PackedSFTSamples, counts: Tensor | None = None) -> Tensor:
    """Return how far some heads are from looking where items say, the mean of each kind of look, summed over kinds.

    `counts` are the `look_counts` that the means are over, by default these samples' own.

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
    over = (samples.look_counts if counts is None else counts).to(packed.states.device)
    parts = [torch.cat(found).sum() / of for found, of in zip(losses.values(), over, strict=True) if found]
    return torch.stack(parts).sum() if parts else packed.states.new_zeros(())


def _scores(packed: PackedStates, layer: int, head: int, asking: Tensor, places: Tensor) -> Tensor:
    """Return how much a head's queries at n places like its keys at N places, (n, N) float32."""
    query, key = packed.watched[layer]  # (1, H, L, d), (1, KV, L, d)
    shared = query.shape[1] // key.shape[1]
    scores: Tensor = query[0, head, asking] @ key[0, head // shared, places].mT * query.shape[-1] ** -0.5
    return scores.float()


def _cross_entropies(scores: Tensor, right: Tensor) -> Tensor:
    return nn.functional.cross_entropy(scores, right.to(scores.device), reduction="none")


def train(settings: SftSettings, *, resume: bool = False, callbacks: Sequence[TrainerCallback] = ()) -> TrainingRecord:
    """Run supervised fine-tuning to its end and write the model to `settings.out`.

    Args:
        settings: the run.
        resume: go on from the last checkpoint in `settings.out`.
        callbacks: for progress.

    Raises:
        ConfigError: `out` holds a run already and `resume` is off, there is nothing to resume, or settings that do not
            fit together or with what is there.
        ModelError, DataError: the start checkpoint or the examples cannot be read.
        TrainingError: the run cannot go on.
    """
    state, out = join_processes(), Path(settings.out)
    _check(settings, state.num_processes)
    with ExitStack() as held:
        with state.main_process_first():
            if state.is_main_process:
                check_run(settings, out, resume=resume, processes=state.num_processes)
            examples = _learned_from(settings)
            if state.is_main_process:
                held.enter_context(claimed_run(settings, out, processes=state.num_processes))
        return _train(settings, out, last_checkpoint(out) if resume else None, callbacks, examples)


def _learned_from(settings: SftSettings) -> tuple[list[Example], dict[str, Any]]:
    """Return the examples with real videos, and what the run's record says about them; the world's videos are written.

    Raises:
        ConfigError, ModelError, DataError: there is no model, no example, or one that evaluation must keep.
    """
    if settings.model != "random":
        find_whole(settings.model)
    if settings.stages:
        return [], {}
    examples, files = read_sources(settings.sources)
    leaks = check_leaks(examples, settings.data.evaluation, allow=settings.data.allow_overlap)
    return examples, {**splits_used(examples, files), "leaks": asdict(leaks)}


def _check(settings: SftSettings, processes: int) -> None:
    """Refuse what cannot work before anything is loaded."""
    check_engine(settings, processes)
    fewest = min((stage.samples for stage in settings.stages), default=processes)
    if fewest < processes:
        reason = f"a step of one reads {fewest} samples, which {processes} processes cannot share"
        raise ConfigError("stages", reason, "start fewer processes, or let each step read more")


def _train(
    settings: SftSettings,
    out: Path,
    last: Path | None,
    callbacks: Sequence[TrainerCallback],
    learned_from: tuple[list[Example], dict[str, Any]],
) -> TrainingRecord:
    """Run in a directory that is this run's, from a checkpoint or the start."""
    state = PartialState()
    torch.manual_seed(settings.seed)
    with state.main_process_first():
        source = _start(settings, out)
    settings_here = settings.model_copy(update={"model": str(source)})
    model_settings = settings.model_settings(load_model_settings(source))
    policy = load_trained(settings_here, sees=True)
    with state.main_process_first():  # the others read what it has written
        share_threads(settings.threads, waited_for=True)
        seen = _pretrain_vision(policy, settings, out, made=last is not None)
    share_threads(settings.threads)
    if settings.lora is None:
        policy.model.requires_grad_(settings.train_only != "embeddings")
        policy.model.model.visual.requires_grad_(settings.learns_vision)
        policy.model.get_input_embeddings().requires_grad_(True)
    policy.model.train()
    stages = [Stage(**stage.model_dump()) for stage in settings.stages]
    examples, data = learned_from
    loader = make_loader(settings, examples, model_settings, policy, out) if examples else None
    clock = RunClock()
    held_out = _held_out(settings_here, policy, model_settings, out, clock)
    trainer = SftTrainer(
        settings,
        policy,
        source,
        model_settings,
        SFTLoss(policy.model, settings.guidance, settings.head_chunk),
        loader,
        clock=clock,
        args=_arguments(settings_here, out, loader),
        train_dataset=SampleStream(_step_maker(settings, stages, model_settings, policy.geometry), settings.steps)
        if loader is None
        else loader.samples.groups,
        data_collator=lambda read: {
            "samples": pack_sft_samples([s for one in read for s in one], policy.builder, policy.end_of_turn)
        },
        callbacks=[
            *callbacks,
            *([StageCallback(policy.model.model.visual, stages)] if stages else []),
            *([held_out] if held_out is not None else []),
        ],
    )
    try:
        with quiet():  # its warnings are about data loaders that this is not
            result = trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        if loader is not None:
            loader.close()
    record = make_record(
        settings,
        steps=result.global_step,
        minutes=clock.minutes,
        final_loss=trainer.last_loss,
        data=data if examples else {"world_seed": settings.world_seed, **seen},
    )
    trainer.write_model(out, getattr(torch, settings.save_dtype))
    if trainer.is_world_process_zero():
        record.write(out)
    trainer.accelerator.wait_for_everyone()
    return record


def _held_out(
    settings: SftSettings, policy: QwenPolicy, model_settings: ModelSettings, out: Path, clock: RunClock
) -> HeldOut | None:
    """Return who asks held-out examples, of a whole copy where the model is in shards; None when nobody does."""
    watched = settings.validation
    if watched.examples is None and watched.world is None:
        return None
    computing = partial(torch.autocast, torch.device(own_device()).type, torch.bfloat16, enabled=settings.in_bf16)
    if not settings.sharded:
        return HeldOut(policy, model_settings, watched, out, computing=computing, clock=clock)
    copied = load_copy(settings)
    engine = LocalEngine(copied, Stopwatch(), shares_weights=False)

    def refresh(model: Any) -> None:
        weights = trained_weights(model)
        engine.update(lambda: ((name.removeprefix(PREFIX), value) for name, value in weights), 0)  # a copy counts none

    return HeldOut(copied, model_settings, watched, out, refresh=refresh, computing=computing, clock=clock)


def _arguments(settings: SftSettings, out: Path, loader: SampleLoader | None) -> TrainingArguments:
    """Return the engine's settings."""
    draw = settings.draw_ahead if loader is None else 0
    tower_rests = len({stage.train_vision for stage in settings.stages}) > 1  # for a while: it then has no gradients
    of_examples = {"ignore_data_skip": True, "logging_nan_inf_filter": False}  # the loader knows where it stands
    return engine_arguments(
        settings,
        out,
        dataloader_num_workers=draw,
        dataloader_prefetch_factor=4 if draw else None,
        lr_scheduler_kwargs=_schedule_details(settings),
        ddp_find_unused_parameters=tower_rests,
        **({} if loader is None else of_examples),
    )


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


def _step_maker(
    settings: SftSettings, stages: Sequence[Stage], model_settings: ModelSettings, geometry: Geometry
) -> Callable[[int], list[SFTSample]]:
    """Return what draws this process's share of a step of the curriculum."""
    place = place_among()
    return lambda step: step_samples(settings.world_seed, step, stages, model_settings, geometry, *place)
