"""zoomzero as a model of lmms-eval: `python -m lmms_eval --model zoomzero --model_args model=DIR,mode=zoom --tasks ..`.

lmms-eval finds it through the entry-point group `lmms_eval.models` once zoomzero is installed beside it. Questions are
answered one by one, each with as many passes as its mode takes; lmms-eval gets the letter (or the words) and nothing
else, and every answer's whole trace goes into a log of ours.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, get_args

from lmms_eval.api.model import lmms

from zoomzero.answer.ask import answer
from zoomzero.answer.names import AskMode
from zoomzero.answer.trace import Trace
from zoomzero.errors import ConfigError, DataError, VideoError, ZoomZeroError
from zoomzero.plugins.contexts import read_context
from zoomzero.policy.base import TrainablePolicy
from zoomzero.policy.open import open_policy, open_settings
from zoomzero.progress import bar
from zoomzero.video.decode import warm_up

LOG = "zoomzero-traces.jsonl"


class ZoomZero(lmms):  # type: ignore[misc]
    """A policy with a mode of looking, as lmms-eval's model.

    Args:
        model: `tiny`, a checkpoint directory, a hub id, or a server (`http://HOST:PORT/v1#NAME`).
        mode: direct, coarse, zoom, context, divide or search.
        device, dtype: as `zoomzero ask` takes them; under a launcher `auto` takes the GPU of the local rank.
        budget: visual tokens each pass may spend.
        timeout: seconds a decoding job may be silent.
        log: file the traces are appended to, empty for none; with several processes each has its own.
        batch_size, max_batch_size: lmms-eval's; questions are answered one by one whatever they say.
        settings: changes to the model's settings, for example `coarse.fps=2`.

    Raises:
        ConfigError: an unknown mode or setting. ModelError: the checkpoint cannot be loaded.
    """

    def __init__(
        self,
        model: str = "tiny",
        mode: str = "zoom",
        device: str = "auto",
        dtype: str = "auto",
        budget: int | None = None,
        timeout: float = 120.0,
        log: str | None = LOG,
        batch_size: int | str = 1,
        max_batch_size: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        if mode not in get_args(AskMode):
            raise ConfigError("mode", f"{mode!r} is unknown", f"use one of {', '.join(get_args(AskMode))}")
        self.mode: Any = mode
        self.budget_tokens, self.timeout_s = budget, float(timeout)
        local = os.environ.get("LOCAL_RANK")
        overrides = [f"{key}={value}" for key, value in settings.items()]
        self.settings, server = open_settings(model, overrides)
        warm_up()
        where = f"cuda:{local}" if device == "auto" and local else device
        self.policy = open_policy(model, server, self.settings, device=where, dtype=dtype)
        self._rank, self._world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        self.log = _log_path(log, self._rank, self._world_size)

    @property
    def device(self) -> Any:
        """The device the model is on; lmms-eval gathers results there."""
        if isinstance(self.policy, TrainablePolicy):
            return self.policy.device
        import torch

        return torch.device("cpu")  # the model is elsewhere

    def generate_until(self, requests: list[Any]) -> list[str]:
        """Answer every request: the option's letter for a multiple-choice prompt, words for any other.

        Args:
            requests: lmms-eval's; `args` holds (context, generation settings, doc_to_visual, doc id, task, split). The
                generation settings are not used: how an answer is drawn is the mode's business.

        Returns:
            One text for each, in order; empty where the model named no answer.

        Raises:
            VideoError: a video cannot be read; it names the task and the doc. DataError: anything else that is wrong
                with a doc, by task and doc id. No sample is ever left out.
        """
        answers = []
        with bar("answering", "questions") as step:
            for number, request in enumerate(requests, 1):
                context, generation, doc_to_visual, doc_id, task, split = request.args
                doc = self.task_dict[task][split][doc_id]
                text = self._answer(context, doc_to_visual(doc), task, split, doc_id)
                self.cache_hook.add_partial("generate_until", (context, generation), text)
                answers.append(text)
                step(number, len(requests))
        return answers

    def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Refuse: an answer found in several passes has no likelihood under one prompt."""
        raise ConfigError("--tasks", "asks for log-likelihoods", "choose a task of type generate_until")

    def generate_until_multi_round(self, requests: list[Any]) -> list[str]:
        """Refuse: rounds would each need the video anew."""
        raise ConfigError("--tasks", "asks in several rounds", "choose a task of type generate_until")

    def _answer(self, context: str, visuals: Any, task: str, split: str, doc_id: Any) -> str:
        where = f"task {task}, doc {doc_id}"
        video = _only_video(visuals, where)
        asked = read_context(context)
        try:
            trace, _ = answer(
                self.policy,
                self.settings,
                video,
                asked.question,
                asked.options,
                mode=self.mode,
                budget_tokens=self.budget_tokens,
                timeout_s=self.timeout_s,
            )
        except VideoError as error:
            raise VideoError(error.path, error.stage, f"{error.reason} ({where})", error.fix) from error
        except ZoomZeroError as error:
            raise DataError(video, where, str(error)) from error
        self._write({"task": task, "split": split, "doc_id": doc_id, "context": context}, trace)
        return (trace.option if asked.options else trace.answer) or ""

    def _write(self, said: dict[str, Any], trace: Trace) -> None:
        if self.log is None:
            return
        row = {**said, "trace": trace.to_dict()}
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False, allow_nan=False, default=str) + "\n")


def _only_video(visuals: Any, where: str) -> str:
    """Return the path of the one video a doc shows."""
    given = list(visuals) if isinstance(visuals, (list, tuple)) else [visuals]
    if len(given) != 1 or not isinstance(given[0], (str, os.PathLike)):
        kinds = ", ".join(type(one).__name__ for one in given) or "nothing"
        raise DataError(where, "visuals", f"shows {kinds}; zoomzero answers about one video file, choose such a task")
    return os.fspath(given[0])


def _log_path(log: str | None, rank: int, world_size: int) -> Path | None:
    """Return the file traces go to, checked: it must not turn out unwritable after the first answer."""
    if not log:
        return None
    path = Path(log).expanduser()
    path = path.with_name(f"{path.stem}.rank{rank}{path.suffix}") if world_size > 1 else path
    if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise ConfigError("log", f"nothing can be written to {path.parent}", "give a file in another directory")
    return path
