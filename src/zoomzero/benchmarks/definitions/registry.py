"""The benchmarks by name. Each is one file beside this one; add a new one to the list."""

from __future__ import annotations

from zoomzero.benchmarks.definitions import (
    activitynet,
    cgbench,
    lvbench,
    mlvu,
    nextgqa,
    plm,
    qvhighlights,
    rextime,
    videomme,
    world,
)
from zoomzero.benchmarks.definitions.base import Benchmark
from zoomzero.errors import ConfigError

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one
    for one in (
        nextgqa.BENCHMARK,
        rextime.BENCHMARK,
        cgbench.BENCHMARK,
        qvhighlights.BENCHMARK,
        activitynet.BENCHMARK,
        videomme.BENCHMARK,
        mlvu.BENCHMARK,
        lvbench.BENCHMARK,
        plm.BENCHMARK,
        nextgqa.NEXTQA,
        *world.BENCHMARKS,
    )
}


def benchmark(name: str) -> Benchmark:
    """Return a benchmark by name.

    Raises:
        ConfigError: no benchmark has this name.
    """
    if name not in BENCHMARKS:
        raise ConfigError(name, "is no benchmark", f"choose from {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
