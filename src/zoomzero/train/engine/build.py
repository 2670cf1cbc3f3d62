"""From settings to a run: loads what it needs, checks that it fits together, trains, and writes the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainingArguments

from zoomzero.config import ModelSettings, load_model_settings
from zoomzero.data.example import Example, read_examples
from zoomzero.data.manifest import check_leaks, splits_used
from zoomzero.errors import ConfigError
from zoomzero.policy.local.checkpoint.adapters import find_whole
from zoomzero.policy.local.checkpoint.network import pick_dtype
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.load import find, load_policy, quiet
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.train.credit.advantages import find_estimator
from zoomzero.train.engine.grpo import GrpoTrainer
from zoomzero.train.engine.loading import (
    load_copy,
    load_trained,
    load_whole,
    own_device,
    read_sources,
)
from zoomzero.train.engine.trainer import check_engine, engine_arguments
from zoomzero.train.rollouts.collector import RolloutCollector
from zoomzero.train.rollouts.scores import Reference, Teacher, computing
from zoomzero.train.rollouts.served import make_engine
from zoomzero.train.rollouts.stream import ExampleStream, difficulty_weights
from zoomzero.train.rollouts.verify import Verifier
from zoomzero.train.run.directory import (
    FREE_TO_CHANGE,
    TrainingRecord,
    check_run,
    claimed_run,
    last_checkpoint,
    make_record,
)
from zoomzero.train.run.processes import join_processes, share_threads
from zoomzero.train.run.progress import GrpoProgress
from zoomzero.train.run.validate import Validation
from zoomzero.train.run.worlds import written_world
from zoomzero.train.settings import GrpoSettings
from zoomzero.train.stopwatch import Stopwatch

# What a resumed run may change besides: no weight depends on it.
FREE_HERE = (
    *("rollouts_logged", "rollout.prompts_at_once", "rollout.server.weights_dir"),
    *(f"rollout.server.{name}" for name in ("url", "model", "api_key_env", "timeout_s", "retries", "concurrency")),
)


def train(settings: GrpoSettings, *, resume: bool = False, callbacks: Sequence[TrainerCallback] = ()) -> TrainingRecord:
    """Run reinforcement learning to its end and write the model to `settings.out`.

    Args:
        settings: the run.
        resume: go on from the last checkpoint in `settings.out`, from the beginning when it has none yet.
        callbacks: for progress.

    Raises:
        ConfigError: settings that do not fit together or with what is there, training items that are evaluation items.
        ModelError, DataError: the start checkpoint or the examples cannot be read.
        TrainingError: the run cannot go on; its message says where its last rollouts are.
    """
    state = join_processes()
    _check(settings, state.num_processes)
    share_threads(settings.threads)
    torch.manual_seed(settings.seed)
    out = Path(settings.out)
    with state.main_process_first():
        if state.is_main_process:
            check_run(settings, out, resume=resume, free=(*FREE_TO_CHANGE, *FREE_HERE), processes=state.num_processes)
        for model in (settings.model, *([settings.teacher.model] if settings.teacher else [])):
            find_whole(model)  # before videos are written
        examples, held_out, files = gather_examples(settings)
        leaks = check_leaks(examples, settings.data.evaluation, allow=settings.data.allow_overlap)
    trainer = make_trainer(settings, examples, held_out, state.process_index, state.num_processes, callbacks)
    with ExitStack() as held:
        held.callback(_close, trainer, callbacks)
        if state.is_main_process:  # nothing else can be refused any more: a second try must not stumble on the first
            held.enter_context(claimed_run(settings, out, processes=state.num_processes))
        last = last_checkpoint(out) if resume else None
        if resume:
            trainer.restore(last)
        with quiet():  # its warnings are about data loaders and file systems that this is not
            result = trainer.train(resume_from_checkpoint=str(last) if last else None)
        return _finish(settings, trainer, result, {**splits_used(examples, files), "leaks": asdict(leaks)})


def _close(trainer: GrpoTrainer, callbacks: Sequence[TrainerCallback]) -> None:
    """Let go of what works in the background and of the terminal."""
    trainer.collector.close()
    for callback in callbacks:
        if isinstance(callback, GrpoProgress):
            callback.close()


def _finish(settings: GrpoSettings, trainer: GrpoTrainer, result: Any, data: dict[str, Any]) -> TrainingRecord:
    """Write the model and the record of a run that has made all its updates."""
    out = Path(settings.out)
    record = make_record(
        settings,
        steps=result.global_step,
        minutes=trainer.clock.minutes,
        final_loss=trainer.last_loss,
        data=data,
        validation=trainer.validation_summary(),
    )
    trainer.write_model(out, getattr(torch, settings.save_dtype))
    if trainer.is_world_process_zero():
        record.write(out)
    trainer.accelerator.wait_for_everyone()
    return record


def gather_examples(settings: GrpoSettings) -> tuple[list[Example], list[Example], list[str]]:
    """Return what is learned from, what is held out, and the files the former came from; world videos are written here.

    Raises:
        ConfigError: there is nothing to learn from, or an example without a truth.
        DataError: a file cannot be read.
    """
    examples, files = read_sources(settings.data)
    _check_taught(examples, settings)
    unscored = [example.id for example in examples if not example.options]
    if unscored and settings.rollout.verifier != "off" and settings.objective.reward.zoom == "soft":
        reason = f"soft needs options, {len(unscored)} examples are open questions, first {unscored[0]}"
        raise ConfigError("objective.reward.zoom", reason, "use hard, or leave these examples out")
    watch = settings.validation
    held_out = read_examples(watch.examples) if watch.examples else []
    held_out += read_examples(written_world(watch.world)) if watch.world else []
    return examples, held_out, files


def _check_taught(examples: Sequence[Example], settings: GrpoSettings) -> None:
    """Refuse examples without spans where no reward is left for them but that of the format."""
    weights = settings.objective.reward.weights
    left = weights.answer or (weights.zoom and settings.rollout.verifier != "off")
    blind = [] if left else [example.id for example in examples if not example.spans]
    if blind:
        fix = "give objective.reward.weights.answer or .zoom a weight, give the spans, or leave these examples out"
        reason = f"{len(blind)} examples have no spans, first {blind[0]}, and no other reward is left for them"
        raise ConfigError("data.examples", reason, fix)


def make_trainer(
    settings: GrpoSettings,
    examples: Sequence[Example],
    held_out: Sequence[Example],
    rank: int,
    world: int,
    callbacks: Sequence[TrainerCallback],
) -> GrpoTrainer:
    """Load the models and put the run together."""
    source = find(settings.model)
    model_settings = settings.model_settings(load_model_settings(source))
    out, watch = Path(settings.out), Stopwatch(torch.cuda.synchronize if torch.cuda.is_available() else None)
    policy = load_trained(settings)
    copied = load_copy(settings) if settings.sharded else policy
    reference = make_reference(settings, copied)
    if not settings.train_vision:
        features = FeatureCache(settings.data.feature_cache_mb << 20, settings.data.feature_cache_dir)
        for one in (policy, copied, *([reference.policy] if reference else [])):
            one.features = features  # one frozen tower, whoever runs it
    weights = difficulty_weights(examples, settings.data.difficulty) if settings.data.difficulty else None
    engine = make_engine(settings, policy, copied, watch, lambda: computing(settings, policy.device))
    collector = RolloutCollector(
        engine,
        copied,
        make_verifier(settings, model_settings, copied, reference, watch),
        ExampleStream(examples, settings.seed, rank, world, weights),
        settings,
        model_settings,
        watch,
    )
    trainer = GrpoTrainer(
        settings,
        policy,
        reference,
        load_teacher(settings, policy),
        collector,
        Validation(held_out, settings) if held_out else None,
        source,
        model_settings,
        watch,
        args=arguments(settings, out, validates=bool(held_out)),
        eval_dataset=list(held_out) or None,
        callbacks=list(callbacks),
    )
    for callback in callbacks:
        if isinstance(callback, GrpoProgress):
            callback.follow(watch)
    return trainer


def make_reference(settings: GrpoSettings, policy: QwenPolicy) -> Reference | None:
    """Return the frozen start model: the adapter switched off, a copy, or nothing when nobody asks it.

    Args:
        settings: of the run.
        policy: the whole model that draws rollouts.
    """
    if not settings.needs_reference:
        return None
    if settings.lora is not None:
        return Reference(policy, settings, adapter=policy.model)
    if not settings.offload_reference:
        return Reference(load_whole(settings, settings.dtype), settings)
    device = torch.device(own_device())
    dtype = str(pick_dtype(settings.model, settings.dtype, device)).removeprefix("torch.")
    return Reference(load_policy(settings.model, device="cpu", dtype=dtype), settings, visits=device)


def load_teacher(settings: GrpoSettings, policy: QwenPolicy) -> Teacher | None:
    """Return the model to be imitated, if there is one.

    Raises:
        ConfigError: it reads other tokens or frames than the model that is trained.
    """
    if settings.teacher is None:
        return None
    teacher = load_policy(settings.teacher.model, device=own_device(), dtype=settings.dtype)
    vocabularies = [one.builder.codec.tokenizer.get_vocab() for one in (teacher, policy)]
    if teacher.family != policy.family or teacher.geometry != policy.geometry or vocabularies[0] != vocabularies[1]:
        reason = f"{settings.teacher.model} reads other tokens or frames than {settings.model}"
        raise ConfigError("teacher.model", reason, "choose a checkpoint of the same family and vocabulary")
    return Teacher(teacher, settings)


def make_verifier(
    settings: GrpoSettings,
    model_settings: ModelSettings,
    policy: QwenPolicy,
    reference: Reference | None,
    watch: Stopwatch,
) -> Verifier | None:
    """Return who answers in the zoom pass."""
    who = settings.rollout.verifier
    if who == "off":
        return None
    answers = reference if who == "reference" else None

    @contextmanager
    def guard() -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(computing(settings, policy.device))
            if answers is not None:
                stack.enter_context(answers.guard())
            yield

    return Verifier(answers.policy if answers else policy, settings, model_settings, watch, guard)


def arguments(settings: GrpoSettings, out: Path, *, validates: bool) -> TrainingArguments:
    """Return the engine's settings."""
    return engine_arguments(
        settings,
        out,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if validates else "no",
        eval_steps=settings.validation.every if validates else None,
        eval_on_start=validates,
        ignore_data_skip=True,  # the stream itself knows where it stands
    )


def _check(settings: GrpoSettings, processes: int) -> None:
    """Refuse what cannot work before anything is loaded."""
    find_estimator(settings.objective.credit.estimator)
    check_engine(settings, processes)
    if settings.rollout.server is not None and processes > 1:
        reason = f"draws for one process, and these are {processes}"
        raise ConfigError("rollout.server", reason, "start one process, or leave it out")
    if settings.objective.reward.consensus and settings.rollout.verifier == "off":
        fix = "set rollout.verifier, or objective.reward.consensus = false"
        raise ConfigError("objective.reward.consensus", "needs verified spans but there is no verifier", fix)
