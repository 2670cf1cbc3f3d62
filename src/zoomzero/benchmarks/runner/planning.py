"""What one `zoomzero eval` asks: its settings, and the plan made of them before a model is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from zoomzero.answer.ask import with_budget
from zoomzero.answer.modes import PASSES, PASSES_OF
from zoomzero.answer.names import MODES, AskMode
from zoomzero.benchmarks.definitions.base import Benchmark, ReadOptions
from zoomzero.benchmarks.definitions.evidence.world import WORLDS
from zoomzero.benchmarks.definitions.registry import benchmark
from zoomzero.benchmarks.runner import preflight
from zoomzero.benchmarks.runner.asking import Item
from zoomzero.benchmarks.runner.videos import find_videos
from zoomzero.benchmarks.scoring.summary import with_questions
from zoomzero.config import ModelSettings, Settings
from zoomzero.data.annotation import Dataset, Question
from zoomzero.errors import ConfigError
from zoomzero.models import EMBEDDED
from zoomzero.policy.open import open_settings, refuse_weights
from zoomzero.policy.remote.settings import ServerSettings, is_server
from zoomzero.progress import bar

if TYPE_CHECKING:
    from zoomzero.policy.local.checkpoint.adapters import Found

WORLD_COUNT = {"short": 64, "long": 8}
Say = Callable[[str], None]


class EvalSettings(Settings):
    """One `zoomzero eval`."""

    benchmark: str = Field(description="Name of the benchmark.")
    out: Path = Field(description="The run's folder.")
    data: Path | None = Field(None, description="Folder or file of the annotation; a world is written without one.")
    videos: Path | None = Field(None, description="Folder of the videos; that of the annotation without one.")
    split: str | None = Field(None, description="Split of the benchmark; its default without one.")
    model: str = Field("tiny", description="`tiny`, a checkpoint directory, or a hub id.")
    adapter: str | None = Field(None, description="LoRA adapter that is added to the model.")
    quantize: str | None = Field(None, description="`4bit` or `8bit`: round a plain checkpoint's matrices.")
    modes: tuple[AskMode, ...] = Field(("zoom",), description="How to look, one after another.")
    overrides: tuple[str, ...] = Field((), description="Changes to the model's settings, key=value.")
    budget: int | None = Field(None, ge=1, description="Visual tokens each pass may spend.")
    device: str = Field("auto", description="Where the model runs; with several workers `auto` takes GPUs in turn.")
    dtype: str = Field("auto", description="Number type of the weights.")
    seed: int = Field(0, ge=0, description="Seed of questions made from captions, and of a world that is written.")
    fps: float | None = Field(None, gt=0, lt=1000, description="Frame rate of annotation in frames (plm).")
    count: int | None = Field(None, ge=1, description="Videos of the world that is written.")
    limit: int | None = Field(None, ge=1, description="Ask so many questions, drawn evenly; more of them later.")
    only: Path | None = Field(None, description="File of the ids to ask.")
    workers: int | None = Field(None, ge=1, description="Models side by side; one in this process without it.")
    concurrency: int | None = Field(None, ge=1, description="Videos asked about at once, of a model behind a server.")
    ray: str | None = Field(None, description="Address of a Ray cluster, or `local`.")
    skip_missing: bool = Field(False, description="Leave out questions about missing videos; they count as missing.")
    max_failed: float = Field(0.2, ge=0, le=1, description="Share of failed rows above which the run stops.")
    retry_failed: bool = Field(False, description="Ask questions again whose rows report an error.")
    faithfulness: bool = Field(False, description="Two extra close looks a question, for the faithfulness gap.")
    timeout_s: float = Field(120.0, gt=0, description="Seconds one decoding job may be silent.")
    keep_tokens: int = Field(0, ge=0, description="Prompt tokens whose prefill a video's next questions begin from.")
    resamples: int = Field(1000, ge=1, description="Draws of the bootstrap behind the intervals.")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be asked, after everything that can be checked without a model has been.

    `dataset` holds the chosen questions, `files` the videos that are there, `notes` what the user should know.
    """

    bench: Benchmark
    dataset: Dataset
    options: ReadOptions
    videos: Path
    files: dict[str, Path]
    missing_videos: tuple[str, ...]
    found: Found | None  # the checkpoint and its adapter; None: the model is behind a server
    model_settings: ModelSettings
    server: ServerSettings | None
    notes: tuple[str, ...]

    def items(self, modes: Sequence[AskMode]) -> list[Item]:
        """Return every question about a video that is there, in every mode."""
        return [
            Item(question, str(self.files[question.video].absolute()), mode)
            for question in self.dataset.questions
            if question.video in self.files
            for mode in modes
        ]


def make_plan(settings: EvalSettings, data: Path, say: Say = lambda text: None) -> Plan:
    """Read the annotation, find the videos and check all that needs no model.

    Args:
        settings: what is asked for.
        data: where the annotation is (`prepare_data`).
        say: called with what is being done.
    """
    from zoomzero.policy.local.checkpoint.adapters import find_both

    say("reading the annotation")
    bench = benchmark(settings.benchmark)
    options = ReadOptions(seed=settings.seed, fps=settings.fps)
    dataset = choose(bench.load(data, settings.split, options), settings.limit, settings.only)
    videos = (settings.videos or (data if data.is_dir() else data.parent)).expanduser()
    say("looking for the videos")
    found = find_videos(videos, (question.video for question in dataset.questions))
    notes = preflight.check_videos(found, dataset.questions, videos, skip_missing=settings.skip_missing)
    notes += preflight.check_options(dataset.questions)
    preflight.check_disk(settings.out.expanduser(), len(dataset.questions) * len(settings.modes))
    model_settings, server = _model_settings(settings)
    place = None if server is not None else find_both(settings.model, settings.adapter)
    if place is not None:  # how long a server's prompts may be, it says when one is too long
        preflight.check_tokens(preflight.read_config(place.where), model_settings, settings.modes, dataset.questions)
    notes += preflight.check_sample(
        found.files.values(),
        settings.max_failed,
        timeout_s=settings.timeout_s,
        embedded=settings.model in EMBEDDED,
        progress=lambda name: say(f"opening {name}"),
    )
    return Plan(
        bench, dataset, options, videos, found.files, found.missing, place, model_settings, server, tuple(notes)
    )


def check_choices(settings: EvalSettings) -> None:
    """Refuse modes that are not there, or twice there, and choices that exclude each other.

    Raises:
        ConfigError: naming the option.
    """
    if not settings.modes:
        raise ConfigError("--mode", "no mode is given", f"use one or more of {', '.join(MODES)}")
    if len(set(settings.modes)) < len(settings.modes):
        raise ConfigError("--mode", "the same mode is given twice", "give each once")
    benchmark(settings.benchmark)  # a name that is none is said before its data is asked for
    is_world = settings.benchmark in WORLDS
    if settings.data is None and not is_world:
        reason = f"{settings.benchmark} has annotation of its own"
        raise ConfigError(
            "--data", reason, "give its folder (only world-short and world-long are written when missing)"
        )
    if settings.videos is None and not is_world and settings.benchmark != "examples":
        raise ConfigError("--videos", f"{settings.benchmark}'s videos are needed", "give the folder that holds them")
    if settings.concurrency is not None and not is_server(settings.model):
        raise ConfigError("--concurrency", "is for a model behind a server", "use --workers for a checkpoint")
    if is_server(settings.model) and (settings.workers is not None or settings.ray is not None):
        raise ConfigError("--workers", "a model behind a server needs no processes", "use --concurrency")
    if is_server(settings.model):
        refuse_weights(settings.adapter, settings.quantize)
    if settings.count is not None and not is_world:
        raise ConfigError("--count", "only a world is written", "use --limit to ask fewer questions")


def prepare_data(settings: EvalSettings) -> Path:
    """Return the annotation's place; a world that is not there is written first."""
    kind = WORLDS.get(settings.benchmark)
    data = settings.data.expanduser() if settings.data is not None else None
    if kind is None or (data is not None and settings.count is None):
        assert data is not None, "check_choices"
        return data
    from zoomzero.world.write import write_world

    count = settings.count or WORLD_COUNT[kind]
    folder = data or settings.out.expanduser().absolute().parent / f"world-{kind}-{settings.seed}-{count}"
    with bar("writing videos", "s of video") as step:
        write_world(folder, count, settings.seed, kind, progress=step)  # type: ignore[arg-type]
    return folder


def choose(dataset: Dataset, limit: int | None, only: Path | None) -> Dataset:
    """Return the data set with the questions to be asked.

    Args:
        dataset: all of them.
        limit: how many, None for all. They are drawn by a hash of their ids: spread over the whole data set, the same
            every time, and a larger limit has all those of a smaller one.
        only: file of ids.

    Raises:
        DataError: ids that are no questions.
    """
    questions: Sequence[Question] = dataset.questions
    if only is not None:
        ids = preflight.read_ids(only.expanduser(), questions)
        questions = [question for question in questions if question.id in ids]
    if limit is not None:
        questions = sorted(questions, key=lambda one: hashlib.sha256(one.id.encode()).digest())[:limit]
    return with_questions(dataset, {question.id for question in questions})


def _model_settings(settings: EvalSettings) -> tuple[ModelSettings, ServerSettings | None]:
    """Return how the model is asked, within the budget, and the server it is behind."""
    own, server = open_settings(settings.model, settings.overrides, settings.adapter, settings.quantize)
    if server is not None and settings.concurrency is not None:
        server = server.model_copy(update={"concurrency": settings.concurrency})
    if settings.budget is None:
        return own, server
    needed = {name for mode in settings.modes for name in PASSES_OF[mode]}
    return with_budget(own, settings.budget, [name for name in PASSES if name in needed]), server
