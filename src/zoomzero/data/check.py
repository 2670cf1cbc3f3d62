"""What is wrong with an examples file, said before hours are spent on it: its videos, spans, answers and leaks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from zoomzero.data.example import Example
from zoomzero.data.fingerprint import VIDEO_SUFFIXES, content_key, question_key, video_name
from zoomzero.data.manifest import find_leaks
from zoomzero.errors import ConfigError, VideoError
from zoomzero.prompts import option_labels
from zoomzero.spans import Span
from zoomzero.video.decode import decode
from zoomzero.video.probe import probe
from zoomzero.video.types import FramePlan, VideoInfo

Progress = Callable[[int, int], None]
LATE_S = 1.0  # a span may end so much after the video: annotators round
OTHER_LENGTH_S, OTHER_LENGTH_SHARE = 2.0, 0.02  # what tells a re-encoded video from a cut one
LOOKS = 4  # pictures decoded of every video, spread over it; key frames will do
SERIOUS = ("missing", "unreadable", "bad span", "past the end", "bad answer", "leak")  # what training stumbles on


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.

    Args:
        kind: `missing`, `renamed`, `unreadable`, `damaged`, `other length`, `same video`, `same question`, `bad span`,
            `past the end`, `bad answer`, `no spans` or `leak`.
        example_id: the first example it is about.
        video: its video, as the file names it.
        detail: what exactly, and where to look.
    """

    kind: str
    example_id: str
    video: str
    detail: str


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was found: `problems` in the order of the examples, `examples` with renamed videos under their new names."""

    problems: tuple[Problem, ...]
    examples: tuple[Example, ...]
    videos: int

    @property
    def counts(self) -> dict[str, int]:
        """How many problems of each kind."""
        return dict(Counter(problem.kind for problem in self.problems))

    @property
    def sound(self) -> tuple[Example, ...]:
        """The examples nothing serious is wrong with."""
        bad_videos = {one.video for one in self.problems if one.kind in ("missing", "unreadable")}
        bad = {one.example_id for one in self.problems if one.kind in SERIOUS}
        return tuple(one for one in self.examples if one.video not in bad_videos and one.id not in bad)

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        problems = [asdict(problem) for problem in self.problems]
        return {
            "examples": len(self.examples),
            "videos": self.videos,
            "sound": len(self.sound),
            "counts": self.counts,
            "problems": problems,
        }


def check_data(
    examples: Sequence[Example],
    videos: str | Path | None = None,
    *,
    evaluation: Sequence[str | Path] = (),
    timeout_s: float = 120.0,
    threads: int = 4,
    progress: Progress | None = None,
) -> DataReport:
    """Look at every example and every video once.

    Args:
        examples: as `read_examples` gives them: absolute paths, or relative to here.
        videos: a folder where missing videos are looked for under other names, with everything below it.
        evaluation: manifests or examples files of what will be measured on.
        timeout_s: seconds one video may be silent.
        threads: videos opened side by side.
        progress: called with (videos done, videos in all).

    Raises:
        ConfigError: there is no such folder of videos.
        DataError: an evaluation file cannot be read.
    """
    if videos is not None and not Path(videos).is_dir():
        raise ConfigError("videos", f"{videos} is no directory", "give the folder that holds the videos")
    found, problems = _find_videos(examples, None if videos is None else Path(videos))
    names = list(dict.fromkeys(example.video for example in found))
    there = [name for name in names if Path(name).exists()]
    infos: dict[str, VideoInfo] = {}
    with ThreadPoolExecutor(threads) as pool:
        opened = pool.map(lambda video: _opened(video, timeout_s), there)
        for done, (name, (info, notes)) in enumerate(zip(there, opened, strict=True)):
            first = next(example for example in found if example.video == name)
            kind = "unreadable" if info is None else "damaged"
            problems += [Problem(kind, first.id, name, note) for note in notes]
            if info is not None:
                infos[name] = info
            if progress:
                progress(done + 1, len(there))
    problems += _same_contents(found, there)
    problems += [problem for example in found for problem in _check_example(example, infos.get(example.video))]
    problems += _same_questions(found)
    if evaluation:
        problems += [
            Problem("leak", leak.example_id, leak.video, f"{leak.evaluation} asks about this video (same {leak.by})")
            for leak in find_leaks(found, evaluation).leaks
        ]
    places = {example.id: place for place, example in enumerate(found)}
    return DataReport(tuple(sorted(problems, key=lambda problem: places[problem.example_id])), tuple(found), len(names))


def _find_videos(examples: Sequence[Example], folder: Path | None) -> tuple[list[Example], list[Problem]]:
    """Return the examples with the videos that lie elsewhere put right, and what is missing or renamed."""
    elsewhere: dict[str, list[Path]] = {}
    if folder is not None:
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in VIDEO_SUFFIXES:
                elsewhere.setdefault(video_name(path), []).append(path)
    found: dict[str, str] = {}
    problems = []
    for example in examples:
        if example.video in found:
            continue
        found[example.video] = example.video
        if Path(example.video).exists():
            continue
        others = elsewhere.get(video_name(example.video), [])
        if len(others) == 1:
            found[example.video] = str(others[0])
            problems.append(Problem("renamed", example.id, example.video, f"it is {others[0]}"))
        else:
            detail = f"no such file; {len(others)} files go by its name" if others else "no such file"
            problems.append(Problem("missing", example.id, example.video, detail))
    return [replace(example, video=found[example.video]) for example in examples], problems


def _opened(video: str, timeout_s: float) -> tuple[VideoInfo | None, tuple[str, ...]]:
    """Open a video and decode a few pictures of it; return what it is and what is wrong with it, None: all of it."""
    try:
        info = probe(video, timeout_s=timeout_s)
        times_s = tuple(info.duration_s * i / LOOKS for i in range(LOOKS))
        # at their own size: nothing is resized, and torch is not loaded
        plan = FramePlan(times_s, info.height, info.width, info.fps, (Span(0.0, info.duration_s),), 0)
        clip = decode(info, plan, timeout_s=timeout_s, exact=False)
    except VideoError as error:
        return None, (str(error),)
    return info, tuple(dict.fromkeys((*info.notes, *clip.notes)))


def _same_contents(examples: Sequence[Example], there: Sequence[str]) -> list[Problem]:
    """Return the videos that are one file under several names; only files of one size are read."""
    sizes: dict[int, list[str]] = {}
    for name in there:
        if Path(name).is_file():
            sizes.setdefault(Path(name).stat().st_size, []).append(name)
    first: dict[str, str] = {}
    problems = []
    for name in (name for alike in sizes.values() if len(alike) > 1 for name in alike):
        other = first.setdefault(content_key(name), name)
        if other != name:
            example = next(example for example in examples if example.video == name)
            problems.append(Problem("same video", example.id, name, f"the same file as {other}"))
    return problems


def _check_example(example: Example, info: VideoInfo | None) -> list[Problem]:
    """Return what is wrong with an example itself; `info` is its video's, None where that cannot be read."""
    found = []
    for start_s, end_s in example.spans:
        if start_s < 0 or not end_s > start_s:
            found.append(("bad span", f"({start_s:g}, {end_s:g}) covers no time"))
        elif info is not None and end_s > info.duration_s + LATE_S:
            found.append(("past the end", f"({start_s:g}, {end_s:g}) of a video of {info.duration_s:.1f} s"))
    if not example.spans:
        found.append(("no spans", "rewards about the evidence are left out for it"))
    labels = option_labels(len(example.options))
    if example.options and example.answer not in labels:
        found.append(("bad answer", f"{example.answer!r} is none of {', '.join(labels)}"))
    if info is not None and example.duration_s > 0:
        off_s = abs(info.duration_s - example.duration_s)
        if off_s > max(OTHER_LENGTH_S, OTHER_LENGTH_SHARE * example.duration_s):
            found.append(("other length", f"{info.duration_s:.1f} s, the example says {example.duration_s:.1f} s"))
    return [Problem(kind, example.id, example.video, detail) for kind, detail in found]


def _same_questions(examples: Sequence[Example]) -> list[Problem]:
    first: dict[tuple[str, str], str] = {}
    problems = []
    for example in examples:
        other = first.setdefault((example.video, question_key(example.question)), example.id)
        if other != example.id:
            problems.append(Problem("same question", example.id, example.video, f"asked by {other} already"))
    return problems
