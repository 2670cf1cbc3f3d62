"""The typed errors of the project: one line each, naming the file or setting and the fix."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LONGEST = 1500  # characters of an error


class ZoomZeroError(Exception):
    """Base of every error a user can cause; `exit_code` is what the command line returns."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines())  # files and users put line ends into names, and endless ones
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 3 :]}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors cross process borders (decode and render workers), so they must survive pickling."""
        return type(self).__new__, (type(self), *self.args), vars(self)


class ConfigError(ZoomZeroError):
    """A setting or argument is wrong.

    Args:
        setting: the name the user typed (`--budget`, `coarse.fps`).
        reason: what is wrong with its value.
        fix: what to write instead.
    """

    exit_code = 2

    def __init__(self, setting: str, reason: str, fix: str) -> None:
        super().__init__(f"{setting}: {reason}; {fix}")
        self.setting, self.reason, self.fix = setting, reason, fix


class DataError(ZoomZeroError):
    """A data file (examples, annotation, predictions) does not hold what it should.

    Args:
        path: the file.
        where: line, column or key.
        reason: what is wrong there, and the fix.
    """

    exit_code = 2

    def __init__(self, path: str | Path, where: str, reason: str) -> None:
        super().__init__(f"{path}: {where}: {reason}")
        self.path, self.where, self.reason = str(path), where, reason


class VideoError(ZoomZeroError):
    """A video cannot be opened, probed or decoded.

    Args:
        path: the file or directory.
        stage: `open`, `probe`, `plan` or `decode`.
        reason: what is wrong.
        fix: what the user can do about it.
    """

    exit_code = 3

    def __init__(self, path: str | Path, stage: str, reason: str, fix: str) -> None:
        super().__init__(f"{path}: cannot {stage}: {reason}; {fix}")
        self.path, self.stage, self.reason, self.fix = str(path), stage, reason, fix


class ModelError(ZoomZeroError):
    """A checkpoint cannot be found, loaded or run.

    Args:
        model: the directory or hub id.
        reason: what is wrong.
        fix: what the user can do about it.
    """

    exit_code = 4

    def __init__(self, model: str | Path, reason: str, fix: str) -> None:
        super().__init__(f"model {model}: {reason}; {fix}")
        self.model, self.reason, self.fix = str(model), reason, fix


class TrainingError(ZoomZeroError):
    """A training run cannot go on.

    Args:
        step: updates made before it stopped.
        reason: what happened.
        fix: what the user can do about it.
    """

    exit_code = 5

    def __init__(self, step: int, reason: str, fix: str) -> None:
        super().__init__(f"training stopped after step {step}: {reason}; {fix}")
        self.step, self.reason, self.fix = step, reason, fix


class EvaluationError(ZoomZeroError):
    """A run over a benchmark cannot go on; what it has done stays in its folder.

    Args:
        run: the run's folder.
        reason: what happened.
        fix: what the user can do about it.
    """

    exit_code = 6

    def __init__(self, run: str | Path, reason: str, fix: str) -> None:
        super().__init__(f"{run}: {reason}; {fix}")
        self.run, self.reason, self.fix = str(run), reason, fix


class ServerError(ModelError):
    """A model behind a server did not answer, or not with what was asked for.

    Args:
        model: the server's address and the model's name.
        reason: what happened.
        fix: what the user can do about it.
        status: the HTTP status, None when there was no whole reply.
    """

    def __init__(self, model: str, reason: str, fix: str, status: int | None = None) -> None:
        super().__init__(model, reason, fix)
        self.status = status

    @property
    def passing(self) -> bool:
        """Whether the same question may be answered another time: the server was away, busy or ill."""
        return self.status is None or self.status == 429 or self.status >= 500
