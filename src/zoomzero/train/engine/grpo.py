"""Reinforcement learning with Zoom-Zero's rewards: group-relative policy optimisation on `transformers.Trainer`.

An update reads `mini_batch_size` prompts with G completions each. The trainer asks for a batch of rollouts when it
has none left, learns from them in one or several updates, and keeps what is not learned from yet in its checkpoints, so
that a run that was killed goes on as if it had not been.

Source: METHOD "optimisation" in docs/method.md; docs/reference/training.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback

from zoomzero.config import ModelSettings
from zoomzero.errors import TrainingError
from zoomzero.policy.local.features import FeatureCounts
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.train.credit.advantages import distillation, goes_over_batch
from zoomzero.train.credit.loss import (
    LossDiagnostics,
    LossInputs,
    loss_denominator,
    policy_loss,
    pool_diagnostics,
    server_weights,
)
from zoomzero.train.engine.checkpoints import CheckpointedTrainer, kept_when_lost
from zoomzero.train.engine.sharded import trained_weights
from zoomzero.train.engine.trainer import PREFIX
from zoomzero.train.rollouts.collector import RolloutCollector, Tally
from zoomzero.train.rollouts.credited import credited, group_masks
from zoomzero.train.rollouts.record import RolloutGroup
from zoomzero.train.rollouts.scores import (
    GroupScores,
    PackedGroups,
    Reference,
    Teacher,
    computing,
    pack_groups,
    plan_rows,
)
from zoomzero.train.rollouts.served import check_drift
from zoomzero.train.run.log import RunLog
from zoomzero.train.run.monitor import Monitor, peak_mb, pooled
from zoomzero.train.run.processes import gather
from zoomzero.train.run.validate import Validation
from zoomzero.train.settings import GrpoSettings
from zoomzero.train.stopwatch import Stopwatch

BEST_BY = ("validation/answer", "validation/iou")


class UpdateLoader:
    """What the trainer iterates over: one update's groups at a time, none for a run that has made all its updates."""

    def __init__(self, trainer: GrpoTrainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[dict[str, list[RolloutGroup]]]:
        while self.trainer.state.global_step < self.trainer.args.max_steps:
            yield {"groups": self.trainer.next_groups()}


class OptimizerClock(TrainerCallback):  # type: ignore[misc]
    """Counts the optimizer's seconds."""

    def __init__(self, watch: Stopwatch) -> None:
        self.watch, self.running = watch, ExitStack()

    def on_pre_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self.running.enter_context(self.watch.phase("optimizer"))

    def on_optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        """Stop it."""
        self.running.close()


class GrpoTrainer(CheckpointedTrainer):
    """The GRPO step on the trainer's engine (accelerate, schedules, checkpoints, logging integrations).

    Args:
        settings: of the run.
        policy: the model that is trained.
        reference: scores of the frozen start model; None when nothing needs it.
        teacher: scores of a model to be imitated; None: there is none.
        collector: makes rollouts.
        validation: asks held-out examples; None: nobody does.
        source: directory of the start checkpoint.
        model_settings: how the model is asked.
        watch: seconds by phase, shared with the collector.
    """

    def __init__(
        self,
        settings: GrpoSettings,
        policy: QwenPolicy,
        reference: Reference | None,
        teacher: Teacher | None,
        collector: RolloutCollector,
        validation: Validation | None,
        source: Path,
        model_settings: ModelSettings,
        watch: Stopwatch,
        **kwargs: Any,
    ) -> None:
        self.reference, self.teacher, self.collector = reference, teacher, collector
        self.validation, self.watch = validation, watch
        self.monitor = Monitor()
        self._features_before = FeatureCounts()
        self.pending: list[RolloutGroup] = []
        scores = GroupScores(policy.model, settings.rollout.temperature, settings.head_chunk)
        super().__init__(
            settings, policy, source, model_settings, model=scores, train_dataset=collector.stream.examples, **kwargs
        )
        self.out = Path(self.args.output_dir)
        self.run_log = RunLog(self.out, self.rank, settings.rollouts_logged)
        self.best: dict[str, float] = {}
        self.stale = 0
        self._validated = -1
        self.add_callback(OptimizerClock(watch))

    # --- what is learned from ----------------------------------------------------------------------------------------

    def get_train_dataloader(self) -> UpdateLoader:
        """Return the updates."""
        return UpdateLoader(self)

    def next_groups(self) -> list[RolloutGroup]:
        """Return the groups of the next update, drawing a new batch of rollouts when there are none left."""
        if not self.pending:
            with kept_when_lost(self):
                self.pending = self._new_rollouts()
        count = self.settings.mini_batch_size // self.args.world_size
        groups, self.pending = self.pending[:count], self.pending[count:]
        return groups

    def _new_rollouts(self) -> list[RolloutGroup]:
        self.model.eval()
        self.collector.engine.update(self._trained_weights, self.state.global_step)
        kept, dropped = self.collector.collect(
            self.settings.train_batch_size // self.args.world_size, self.state.global_step
        )
        if goes_over_batch(self.settings.objective.credit.estimator):
            kept = credited(kept, self.settings, lambda sums: self.accelerator.reduce(sums, "sum"))
        self.monitor.add_rollouts([*kept, *dropped], self.collector.tally)
        self.run_log.add_unreadable(self.collector.tally.unreadable)
        self.collector.tally = Tally()
        with self.watch.phase("log_probs"):
            kept = self._with_log_probs(kept)
        check_drift(kept, self.collector.engine)
        self.monitor.add_served(kept, self.settings.rollout.server)
        self.run_log.add_rollouts([*kept, *dropped])
        return kept

    def _trained_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the trained weights under their checkpoint names."""
        return ((name.removeprefix(PREFIX), value) for name, value in trained_weights(self.model))

    def _with_log_probs(self, groups: Sequence[RolloutGroup]) -> list[RolloutGroup]:
        """Store the log-probabilities updates compare with: the writer's if several follow, reference's, teacher's."""
        wants_old = self.settings.mini_batches > 1 or self.settings.rollout.server is not None
        wants_reference = self.settings.objective.loss.beta > 0
        if not (wants_old or wants_reference or self.teacher is not None):
            return list(groups)
        count = self.settings.mini_batch_size // self.args.world_size
        updates = [groups[first : first + count] for first in range(0, len(groups), count)]
        # packed as the updates will pack them, so that the first one's ratios are exactly 1
        rows = (row for update in updates for row in self._packed(update, self._rows(update)))
        with self.reference.present() if self.reference is not None and wants_reference else nullcontext():
            done = self._scored(rows, wants_old, wants_reference)
        return [done[group.index] for group in groups]

    def _scored(self, rows: Iterator[PackedGroups], wants_old: bool, wants_reference: bool) -> dict[int, RolloutGroup]:
        """Return the groups of rows with the log-probabilities that are wanted, by index."""
        done: dict[int, RolloutGroup] = {}
        for row in rows:
            with torch.no_grad(), self._computing():
                old = self.model(row.prompts, row.completions, row.features)["log_probs"] if wants_old else None
                reference = self.reference.log_probs(row) if self.reference is not None and wants_reference else None
                prompted = [self.collector.prompt_of(group) for group in row.groups]
                teacher = self.teacher.log_probs(row, prompted) if self.teacher is not None else None
            done |= {group.index: group for group in row.filled(old, reference, teacher)}
        return done

    def _rows(self, groups: Sequence[RolloutGroup]) -> list[list[int]]:
        """Return which groups share a row; under sharding every process must make equally many forward passes."""
        most = 1 if self.settings.sharded else self.settings.row_tokens
        return plan_rows(self.policy, groups, [self.collector.prompt_of(group) for group in groups], most)

    def _packed(self, groups: Sequence[RolloutGroup], rows: Sequence[Sequence[int]]) -> Iterator[PackedGroups]:
        """Yield the rows one by one: the visual features of all of them need not fit into the memory."""
        for row in rows:
            chosen = [groups[i] for i in row]
            prompted = [self.collector.prompt_of(group) for group in chosen]
            with self.watch.phase("vision"), self._computing():
                packed = pack_groups(
                    self.collector.policy, chosen, prompted, frozen_vision=not self.settings.train_vision
                )
            yield packed

    # --- one update --------------------------------------------------------------------------------------------------

    def _computing(self) -> AbstractContextManager[Any]:
        return computing(self.settings, self.policy.device)

    def training_step(self, model: Any, inputs: dict[str, Any], num_items_in_batch: Any = None) -> Any:
        """Run forward and backward over one update's groups and return its loss on this process."""
        groups: list[RolloutGroup] = inputs["groups"]
        model.train()
        rows = self._rows(groups)
        denominator = self.accelerator.reduce(self._denominator(groups), "sum")
        parts: list[LossDiagnostics] = []

        def loss_of(row: PackedGroups) -> Tensor:
            loss, diagnostics = self._row_loss(model, row, denominator)
            parts.append(diagnostics)
            tokens.append(row.tokens)
            return loss

        tokens: list[int] = []
        self._learned_from = groups
        with self.watch.phase("backward"):
            total = self.learn(model, self._packed(groups, rows), len(rows), loss_of)
        self.monitor.add_update(pool_diagnostics(parts), sum(tokens))
        return total

    def _denominator(self, groups: Sequence[RolloutGroup]) -> Tensor:
        """Return what this process's part of an update is divided by, 0-d."""
        masks = [group_masks(group.rollouts, self.settings)[0] for group in groups]
        parts = [loss_denominator(mask, self.settings.objective.loss) for mask in masks]
        return torch.stack(parts).sum().to(self.args.device)

    def _masks(self, row: PackedGroups) -> Tensor:
        """Return which tokens count, (N, T) bool over all rollouts of a row."""
        masks = [group_masks(group.rollouts, self.settings)[0] for group in row.groups]
        longest = max(mask.shape[1] for mask in masks)
        return torch.cat([torch.nn.functional.pad(mask, (0, longest - mask.shape[1])) for mask in masks])

    def _row_loss(self, model: Any, row: PackedGroups, denominator: Tensor) -> tuple[Tensor, LossDiagnostics]:
        device = self.args.device
        rollouts = [rollout for group in row.groups for rollout in group.rollouts]

        def stored(name: str) -> Tensor | None:
            values = [getattr(rollout, name) for rollout in rollouts]
            if any(value is None for value in values):
                return None
            return row.padded(torch.tensor([x for value in values for x in value])).to(device)

        with self._computing():
            scores = model(row.prompts, row.completions, row.features, entropy=True)
        advantages, old, teacher = stored("advantages"), stored("old_log_probs"), stored("teacher_log_probs")
        server, rules = stored("server_log_probs"), self.settings.rollout.server
        assert advantages is not None
        if teacher is not None and self.settings.teacher is not None:
            own = row.padded(scores["log_probs"]) if old is None else old
            credit = distillation(teacher, own, self.settings.teacher.most)
            advantages = advantages + self.settings.teacher.weight * credit
        result = policy_loss(
            LossInputs(
                log_probs=row.padded(scores["log_probs"]),
                advantages=advantages,
                mask=self._masks(row).to(device),
                old_log_probs=old,
                ref_log_probs=stored("ref_log_probs"),
                entropy=row.padded(scores["entropy"].detach()),
            ),
            self.settings.objective.loss,
            denominator,
            weights=None
            if rules is None or old is None or server is None
            else server_weights(old, server, rules.max_weight),
        )
        return result.loss, result.diagnostics

    def stop_not_finite(self, what: str) -> None:
        """End a run whose numbers are lost, its rollouts kept.

        Raises:
            TrainingError: always.
        """
        path = self.run_log.save_failed(self.state.global_step, self._learned_from)
        fix = "start again in another directory with a lower learning_rate, or with bf16 = false"
        raise TrainingError(self.state.global_step, f"{what} is not finite (rollouts in {path})", fix)

    # --- what is seen of it ------------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what was collected since the last log line, pooled over processes, and keep it in `log.jsonl`."""
        if "loss" in logs:
            logs = {**logs, **pooled(gather(self.monitor.take())), "memory/peak_mb": max(gather(peak_mb()))}
        self.state.epoch = self.collector.stream.epochs  # the trainer would take all updates for one epoch
        super().log(logs, start_time)
        if self.is_world_process_zero():
            self.run_log.add_log(self.state.global_step, logs)

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        if self.control.should_save:
            self.control.should_log = True  # sums that wait for a log line are not in the checkpoint
        self.monitor.add_seconds(self.watch.take())
        self.monitor.add_features(self._feature_counts())
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _stop_on_plateau(self, metrics: dict[str, float]) -> None:
        """End the run when validation has not become better for a while."""
        reward = statistics.fmean(metrics[name] for name in BEST_BY if name in metrics)
        better = reward > self.best.get("reward", -1.0)
        self.best["reward"] = max(reward, self.best.get("reward", -1.0))
        self.stale = 0 if better else self.stale + 1
        patience = self.settings.validation.patience
        if patience is not None and self.stale >= patience:
            self.control.should_training_stop = True

    def validation_summary(self) -> dict[str, dict[str, float]]:
        """Return the validation of the start model, of the last one, and of the best by the mean of answer and IoU."""
        rows = [row for row in self.state.log_history if any(name in row for name in BEST_BY)]
        if not rows:
            return {}
        best = max(rows, key=lambda row: statistics.fmean(row[name] for name in BEST_BY if name in row))
        named = {"start": rows[0], "last": rows[-1], "best": best}
        if rows[0]["step"] > 0:
            named.pop("start")
        return {
            which: {name: value for name, value in row.items() if name == "step" or name.startswith("validation/")}
            for which, row in named.items()
        }

    def _feature_counts(self) -> FeatureCounts:
        """Return what was asked of the feature cache since the last call."""
        cache, before = self.policy.features, self._features_before
        self._features_before = cache.counts if cache is not None else before
        return self._features_before.since(before)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Ask the held-out examples greedily, log what comes out, and keep the best models."""
        if self.validation is None or self._validated == self.state.global_step:
            return {}  # the trainer asks twice after the last step
        self._validated, began = self.state.global_step, time.perf_counter()
        self.model.eval()
        with kept_when_lost(self):
            self.collector.engine.update(self._trained_weights, self.state.global_step)
            sums = self.validation.run(self.collector, self.rank, self.args.world_size)
        metrics = pooled(gather(sums))
        self.log(metrics)
        for name in BEST_BY:
            if metrics.get(name, 0.0) > self.best.get(name, -1.0):
                self.best[name] = metrics[name]
                self.write_model(self.out / f"best-{name.split('/')[1]}", getattr(torch, self.settings.save_dtype))
        self._stop_on_plateau(metrics)
        self.watch.take()  # its seconds, and what it looked up, are no step's
        self._feature_counts()
        self.monitor.leave_out(time.perf_counter() - began)
        return metrics
