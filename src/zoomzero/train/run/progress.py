"""A progress bar for `transformers.Trainer` runs: steps, loss, learning rate, time left."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from zoomzero.train.stopwatch import Stopwatch


class RichProgress(TrainerCallback):  # type: ignore[misc]
    """Shows a bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bar: Progress | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Open the bar at the step the run starts from."""
        columns = (
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        if self.console.is_terminal and state.is_world_process_zero:
            self.bar = Progress(*columns, console=self.console)
            self.bar.start()
            self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step, loss="-")

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Move the bar."""
        if self.bar is not None:
            self.bar.update(self.task, completed=state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the loss."""
        if logs is None or "loss" not in logs or not state.is_world_process_zero:
            return
        if self.bar is not None:
            self.bar.update(self.task, loss=f"{float(logs['loss']):.4f}")
        else:
            line = f"step {state.global_step} of {state.max_steps}  loss {float(logs['loss']):.4f}"
            self.console.print(f"{line}  rate {float(logs['learning_rate']):.2e}", highlight=False, soft_wrap=True)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Close the bar."""
        self.close()

    def close(self) -> None:
        """Take the bar away, also where a run ends early; nothing more is shown."""
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


class GrpoProgress(RichProgress):
    """The same for reinforcement learning: what the run is doing just now, and what came out of each step."""

    last = "-"

    def follow(self, watch: Stopwatch) -> None:
        """Show the phases of a run's stopwatch on the bar."""
        watch.entered = self._phase

    def _phase(self, name: str) -> None:
        if self.bar is not None:
            self.bar.update(self.task, loss=f"{self.last}  {name}")

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show losses and rewards, where the seconds went, and what validation says."""
        if logs is None or not state.is_world_process_zero:
            return
        if any(name.startswith("validation/") for name in logs):
            shown = {name.partition("/")[2]: value for name, value in logs.items()}
            values = "  ".join(f"{name} {value:.3f}" for name, value in shown.items() if name)
            self.console.print(f"step {state.global_step}  validation  {values}", highlight=False, soft_wrap=True)
        elif "loss" in logs:
            self.last = f"{float(logs['loss']):.4f}"
            names = [name for name in logs if name.startswith("reward/") and not name.endswith("_std")]
            values = "  ".join(f"{name.split('/')[1]} {logs[name]:.3f}" for name in [*names, "loss/kl"] if name in logs)
            seconds = "  ".join(
                f"{name.removeprefix('seconds/')} {value:.1f}"
                for name, value in logs.items()
                if name.startswith("seconds/") and value >= 0.05
            )
            line = f"step {state.global_step} of {state.max_steps}  loss {self.last}  {values}  | s: {seconds}"
            self.console.print(line, highlight=False, soft_wrap=True)
            if logs.get("zero_variance/all", 0.0) >= 1.0:
                self.console.print(nothing_to_learn(logs), style="yellow", highlight=False, soft_wrap=True)


def nothing_to_learn(logs: dict[str, Any]) -> str:
    """Return the line for updates whose groups all teach nothing: what was equal, and where to read on."""
    prefix = "zero_variance/"
    shares = {name.removeprefix(prefix): value for name, value in logs.items() if name.startswith(prefix)}
    equal = ", ".join(f"{name} in {share:.0%}" for name, share in shares.items() if name != "all")
    return (
        "nothing to learn from: in no group does any completion earn more than another "
        f"(equal: {equal} of the groups); see docs/reference/training.md, What the log says"
    )
