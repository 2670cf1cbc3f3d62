"""Models on a cluster, each in a Ray actor; the driver hands out questions and writes the rows.

Ray is imported when a run asks for it (`pip install 'ray>=2.40'`). An actor that is lost with its node is replaced
and its question asked again (`executors.Crowd`): the rows are those of one process. The videos, and a model given as a
directory, must lie under the same path on every node.
"""

from __future__ import annotations

import importlib
import logging
import os
import time
from collections.abc import Iterator, Sequence
from typing import Any

from zoomzero.benchmarks.runner.asking import Asker, Batch, Item, ModelSpec, load_asker
from zoomzero.benchmarks.runner.executors import Crowd, Event, Facts
from zoomzero.errors import ConfigError, ModelError, ZoomZeroError

LOCAL = "local"
NO_MODEL_S = 1800.0  # for the first model to load: an actor that no node has room for waits for ever
LOOK_UP_EVERY_S = 1.0  # Ray's waiting lets no signal through
DIED = "its node or process died"


class ModelActor:
    """What runs in an actor: one model, asked one question at a time. Errors come back as values, which stay whole."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.asker: Asker | None = None

    def load(self) -> tuple[str, Any]:
        """Load the model; return ("ready", facts) or ("error", a typed error)."""
        try:
            self.asker, facts = load_asker(self.spec)
        except ZoomZeroError as error:
            return "error", error
        return "ready", facts | {"process": os.getpid()}

    def ask(self, item: Item) -> tuple[str, Any]:
        """Return ("row", the item's row)."""
        assert self.asker is not None, "load comes before ask"
        return "row", self.asker.ask(item)


def import_ray() -> Any:
    """Return the ray module.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError("--ray", "ray is not installed", "run `pip install 'ray>=2.40'`") from error


class _Actors:
    """The pool of actors: see `executors.Pool`."""

    def __init__(self, ray: Any, spec: ModelSpec, count: int, gpus: float) -> None:
        self.ray, self.spec, self.gpus = ray, spec, gpus
        self.kind = ray.remote(ModelActor)
        self.loaded = False
        self.actors: dict[int, Any] = {}
        self.pending: dict[Any, int] = {}  # what was asked of whom
        for worker in range(count):
            self.replace(worker)

    def events(self) -> Sequence[Event]:
        started = time.monotonic()
        while True:
            done, _ = self.ray.wait(list(self.pending), num_returns=1, timeout=LOOK_UP_EVERY_S)
            if done:
                return [self._event(self.pending.pop(reference), reference) for reference in done]
            if not self.loaded and time.monotonic() - started > NO_MODEL_S:
                reason = f"no worker of the cluster has loaded it for {NO_MODEL_S:.0f} s"
                raise ModelError(self.spec.model, reason, "see `ray status`: every worker needs a free GPU, or CPU")

    def _event(self, worker: int, reference: Any) -> Event:
        try:
            kind, value = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError:  # no question's fault: those come back as rows
            raise
        except self.ray.exceptions.RayError as error:  # the actor, its node, or the node's memory is gone
            return Event(worker, "dead", f"{DIED}: {type(error).__name__}")
        if kind == "error":
            raise value
        self.loaded = True
        return Event(worker, kind, value)

    def send(self, worker: int, item: Item) -> None:
        self.pending[self.actors[worker].ask.remote(item)] = worker

    def replace(self, worker: int) -> None:
        actor = self.kind.options(num_cpus=1, num_gpus=self.gpus, max_restarts=0).remote(self.spec)
        self.actors[worker] = actor
        self.pending[actor.load.remote()] = worker


class RayActors:
    """An executor of Ray actors.

    Args:
        spec: the model each of them loads.
        address: of the cluster, or `local` for one on this machine that ends with the run.
        count: how many actors; None: one for each GPU of the cluster, one where it has none.
    """

    def __init__(self, spec: ModelSpec, address: str, count: int | None) -> None:
        if count is not None and count < 1:
            raise ConfigError("--workers", f"{count} actors ask nothing", "give 1 or more")
        self.spec, self.address, self.count = spec, address, count
        self._ray: Any = None
        self._crowd: Crowd | None = None

    @property
    def models(self) -> int:
        """How many models there are, 1 before it is known."""
        return self.count or 1

    def start(self) -> Facts:
        """Join the cluster, start the actors and wait for the first model."""
        ray = import_ray()
        options: dict[str, Any] = {"address": self.address, "log_to_driver": False, "logging_level": logging.ERROR}
        if self.address == LOCAL:
            options |= {"include_dashboard": False, "num_cpus": max(self.count or 1, os.cpu_count() or 1)}
        try:
            ray.init(**options)
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = f"no cluster answers at {self.address} ({' '.join(str(error).split())[:160]})"
            raise ConfigError("--ray", reason, "start one with `ray start --head`, or give --ray local") from error
        self._ray = ray
        gpus = ray.cluster_resources().get("GPU", 0) if self.spec.device in ("auto", "cuda") else 0
        self.count = self.count or max(1, int(gpus))
        self._crowd = Crowd(_Actors(ray, self.spec, self.count, 1.0 if gpus else 0.0))
        return self._crowd.first_ready()

    def rows(self, batches: Sequence[Batch]) -> Iterator[tuple[Item, str]]:
        """Yield every item with its row as it is done."""
        assert self._crowd is not None, "start comes before rows"
        return self._crowd.rows(batches)

    def close(self) -> None:
        """Leave the cluster, which ends the actors."""
        if self._ray is not None:
            self._ray.shutdown()
        self._ray = self._crowd = None
