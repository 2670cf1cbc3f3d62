"""The benchmarks by name. A new one is one file in a room beside this file, and one line here."""

from __future__ import annotations

from importlib import import_module

from zoomzero.benchmarks.definitions.base import Benchmark
from zoomzero.errors import ConfigError

# Each module has `BENCHMARKS`, what it defines. This is the order in which they are listed.
MODULES = (
    "evidence.nextgqa",
    "evidence.rextime",
    "evidence.cgbench",
    "evidence.videozerobench",
    "grounding.timelens",
    "grounding.charades",
    "grounding.qvhighlights",
    "grounding.activitynet",
    "grounding.plm",
    "choice.videomme",
    "choice.videomme_v2",
    "choice.longvideobench",
    "choice.mlvu",
    "choice.lvbench",
    "choice.mcq",
    "evidence.world",
)

BENCHMARKS: dict[str, Benchmark] = {
    one.name: one for module in MODULES for one in import_module(f"zoomzero.benchmarks.definitions.{module}").BENCHMARKS
}


def benchmark(name: str) -> Benchmark:
    """Return a benchmark by name.

    Raises:
        ConfigError: no benchmark has this name.
    """
    if name not in BENCHMARKS:
        raise ConfigError(name, "is no benchmark", f"choose from {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]
