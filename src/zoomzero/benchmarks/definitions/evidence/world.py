"""Examples files as benchmarks: the procedural world (`world-short`, `world-long`), and your own (`examples`).

`examples.jsonl` as in docs/reference/formats.md. World questions are grouped by kind: symbol, order, count, last.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from zoomzero.benchmarks.definitions.base import Benchmark, Pairs, ReadOptions, Source, set_measures
from zoomzero.benchmarks.metrics import Measure
from zoomzero.data.annotation import Dataset, Question
from zoomzero.data.example import Example, read_examples

WORLDS = {"world-short": "short", "world-long": "long"}


def _read(name: str, source: Source, options: ReadOptions) -> Dataset:
    path = source.files[0]
    questions = tuple(_question(example, path.parent) for example in read_examples(path))
    return Dataset(name, source.split, questions, (path,))


def _question(example: Example, folder: Path) -> Question:
    video = Path(example.video)
    of_world = example.source.startswith("world-")
    return Question(
        id=example.id,
        video=str(video.relative_to(folder) if video.is_relative_to(folder) else video),
        question=example.question,
        options=example.options,
        answer=example.answer,
        spans=example.spans,
        duration_s=example.duration_s,
        in_words=bool(example.answer) and not example.options,
        groups={"kind": (example.id.rsplit("-", 1)[-1],)} if of_world else {"source": (example.source,)},
    )


def _measure(pairs: Pairs) -> list[Measure]:
    """Score spans as sets and every question: nobody else's rule is to be followed here."""
    return set_measures(BENCHMARKS[0], pairs)


BENCHMARKS = tuple(
    Benchmark(
        name=name,
        about=about,
        splits={"test": ("examples.jsonl",)},
        default_split="test",
        read=partial(_read, name),
        measure=_measure,
        groups=("kind", "source"),
        headline=("Acc@GQA", "Acc@QA", "mIoU", "mIoP"),
    )
    for name, about in (
        ("world-short", "the procedural world, videos of 48 to 80 s"),
        ("world-long", "the procedural world, videos of 20 minutes"),
        ("examples", "your own examples file"),
    )
)
