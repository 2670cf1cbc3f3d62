"""Manifests: what an examples file is made of, which videos and questions it holds, and whether training may see them.

A manifest lies beside its examples file as `FILE.manifest.json`. It lists videos by normalised file name and, where the
file was there, by a cheap hash of its content; questions by a hash of their normalised text. That is enough to find
out, without the evaluation's own files, that something to be learned from is also something to be asked.

Two videos count as the same when their content is, or when their names are, unless both files were there, differ, and
are of different lengths. A question counts as the same when its text is and the video's content or name is.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from zoomzero.data.annotation import read_json, sha256
from zoomzero.data.example import Example, read_examples
from zoomzero.data.fingerprint import content_key, question_key, video_name
from zoomzero.errors import ConfigError, DataError
from zoomzero.files import write_whole

SUFFIX = ".manifest.json"
SAME_LENGTH_S, SAME_LENGTH_SHARE = 2.0, 0.05  # annotations round durations; copies of a video keep theirs
SHOWN = 3

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ListedVideo:
    """One video of an examples file.

    `name` is `video_name` of its path, `content` is `content_key` (empty where the file was not there), `questions`
    are `question_key`s, sorted, one for each example about it.
    """

    name: str
    content: str
    duration_s: float
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an examples file is made of.

    `repairs` counts changed spans and stated oddities (`zoomzero.data.convert`), `notes` what the reader of the
    annotation left out or assumed, `sources` the files it was made from with their hashes. `splits` counts the examples
    by source and split; `listing` holds the videos, sorted.
    """

    benchmark: str
    split: str
    seed: int
    examples: int
    videos: int
    examples_sha256: str
    sources: tuple[dict[str, str], ...]
    repairs: dict[str, int]
    notes: dict[str, int]
    splits: dict[str, dict[str, int]]
    listing: tuple[ListedVideo, ...]

    def summary(self) -> dict[str, Any]:
        """Return everything but the listing, as plain values."""
        return {name: value for name, value in asdict(self).items() if name != "listing"}


# --- making and reading ---------------------------------------------------------------------------------


def manifest_path(out: str | Path) -> Path:
    """Return where the manifest of an examples file lies."""
    return Path(f"{out}{SUFFIX}")


def make_manifest(
    path: str | Path,
    examples: Sequence[Example],
    *,
    benchmark: str | None = None,
    split: str | None = None,
    seed: int = 0,
    sources: Iterable[str | Path] = (),
    repairs: Mapping[str, int] | None = None,
    notes: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Return the manifest of an examples file that is there.

    Args:
        path: the examples file.
        examples: what it holds; relative video paths are relative to it.
        benchmark, split: by default those of the examples.
        seed: the seed the questions were made with.
        sources: the files it was made from.
        repairs, notes: counts, see `Manifest`.
        progress: called with (videos looked at, videos in all).
    """
    path = Path(path)
    splits = count_splits(examples)
    return Manifest(
        benchmark=", ".join(splits) if benchmark is None else benchmark,
        split=", ".join(dict.fromkeys(one.split for one in examples)) if split is None else split,
        seed=seed,
        examples=len(examples),
        videos=len({one.video for one in examples}),
        examples_sha256=sha256(path),
        sources=tuple({"file": Path(one).name, "sha256": sha256(one)} for one in sources),
        repairs=dict(repairs or {}),
        notes=dict(notes or {}),
        splits=splits,
        listing=_listing(examples, path.parent, progress),
    )


def write_manifest(path: str | Path, manifest: Manifest) -> Path:
    """Write a manifest beside its examples file, complete or not at all, and return where."""
    where = manifest_path(path)
    write_whole(where, json.dumps(asdict(manifest), indent=1, ensure_ascii=False) + "\n")
    return where


def _listing(examples: Sequence[Example], folder: Path, progress: Progress | None) -> tuple[ListedVideo, ...]:
    videos: dict[str, list[Example]] = {}
    for one in examples:
        videos.setdefault(one.video, []).append(one)
    listed = []
    for number, (video, group) in enumerate(videos.items(), 1):
        keys = tuple(sorted(question_key(one.question) for one in group))
        listed.append(ListedVideo(video_name(video), content_key(folder / video), group[0].duration_s, keys))
        if progress:
            progress(number, len(videos))
    return tuple(sorted(listed, key=lambda one: (one.name, one.content, one.questions)))


def count_splits(examples: Iterable[Example]) -> dict[str, dict[str, int]]:
    """Return how many examples there are by source and split."""
    counts: dict[str, Counter[str]] = {}
    for one in examples:
        counts.setdefault(one.source, Counter())[one.split] += 1
    return {source: dict(of_split) for source, of_split in counts.items()}


def read_manifest(path: str | Path) -> Manifest:
    """Read a manifest.

    Raises:
        DataError: no such file, or it is not a manifest that lists videos and questions.
    """
    path = Path(path)
    values = read_json(path)
    names = [field.name for field in fields(Manifest)]
    if not isinstance(values, dict) or "examples_sha256" not in values:
        raise DataError(path, "file", f"is no manifest; give an examples file or its {SUFFIX}")
    if "listing" not in values:
        raise DataError(path, "listing", "lists no videos and questions; write it again with `zoomzero convert`")
    if wrong := sorted(set(names) ^ set(values)):
        raise DataError(path, ", ".join(wrong), f"a manifest has exactly {', '.join(names)}; write it again")
    try:
        return TypeAdapter(Manifest).validate_python(values)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where, *inside = map(str, first["loc"] or ("file",))
        what = ": ".join([*inside, first["msg"]])
        raise DataError(path, where, f"is damaged ({what}); write it again with `zoomzero convert`") from error


def manifest_of(examples_path: str | Path, progress: Progress | None = None) -> Manifest:
    """Return an examples file's manifest: the one beside it, or one made now when that is missing or of other bytes.

    Args:
        examples_path: the examples file, or a manifest itself.
        progress: called with (videos looked at, videos in all) where one is made.

    Raises:
        DataError: there is no such file, or it does not hold what it should.
    """
    path = Path(examples_path)
    if path.name.endswith(SUFFIX):
        return read_manifest(path)
    if manifest_path(path).is_file() and path.is_file():
        beside = read_json(manifest_path(path))
        if isinstance(beside, dict) and beside.get("examples_sha256") == sha256(path) and "listing" in beside:
            return read_manifest(manifest_path(path))
    examples = read_examples(path)
    return make_manifest(path, [_absolute(one) for one in examples], progress=progress)


def _absolute(example: Example) -> Example:
    """Return an example as read, its video's path independent of where the examples file lies."""
    return replace(example, video=str(Path(example.video).absolute()))


def splits_used(train: Sequence[Example], files: Iterable[str | Path] = ()) -> dict[str, Any]:
    """Return what a checkpoint records about the data it learned from.

    Args:
        train: the examples learned from.
        files: the examples files they came from.

    Returns:
        `{"examples", "videos", "splits": {source: {split: count}}, "files": [{"file", "sha256"}]}`.
    """
    return {
        "examples": len(train),
        "videos": len({one.video for one in train}),
        "splits": count_splits(train),
        "files": [{"file": str(one), "sha256": sha256(one)} for one in files],
    }


# --- the leak check -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Leak:
    """One training item that an evaluation holds.

    `by` says how it was found: `content`, `name` (of the video) or `question` (the video's name is the same, its file
    and length are not, but it is asked the same). `same_question`: the evaluation asks this very question.
    """

    example_id: str
    video: str
    evaluation: str
    by: str
    same_question: bool


@dataclass(frozen=True, slots=True)
class LeakReport:
    """What was compared and what was found.

    `evaluation` names the manifests with their counts; `hashed` of the `videos` training videos were there to be
    compared by content, the others went by name alone.
    """

    evaluation: tuple[dict[str, Any], ...]
    items: int
    videos: int
    hashed: int
    leaks: tuple[Leak, ...]

    @property
    def leaked_ids(self) -> frozenset[str]:
        """The ids of the training items that leak."""
        return frozenset(leak.example_id for leak in self.leaks)

    @property
    def counts(self) -> dict[str, int]:
        """Items that leak: in all, by each way they were found, and with the same question."""
        items = {
            "items": self.leaks,
            **{f"by_{by}": [leak for leak in self.leaks if leak.by == by] for by in ("content", "name", "question")},
            "same_question": [leak for leak in self.leaks if leak.same_question],
        }
        # ids are unique in one file only, and an item may leak into several evaluations
        return {name: len({(leak.example_id, leak.video) for leak in leaks}) for name, leaks in items.items()}

    def text(self) -> str:
        """Return one line: what was compared, what was found."""
        against = " and ".join(
            f"{one['file']} ({one['examples']} items on {one['videos']} videos)" for one in self.evaluation
        )
        how = f"videos by name, {self.hashed} also by content; questions by text and video"
        found = self.counts
        result = f"{found['items']} leak" if found["items"] else "none leaks"
        if found["items"]:
            result += f", {found['same_question']} of them with the same question"
        return f"compared {self.items} items on {self.videos} videos with {against or 'nothing'}: {how}: {result}"

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for a run's record."""
        return asdict(self) | {"counts": self.counts}


def find_leaks(train: Sequence[Example], evaluation: Sequence[str | Path]) -> LeakReport:
    """Compare training items with evaluations; see the module's text for what counts as the same.

    Args:
        train: as `read_examples` gives them: video paths that exist from here.
        evaluation: manifests, or examples files (their manifest is read, or made on the fly).

    Raises:
        DataError: an evaluation cannot be read.
    """
    manifests = {str(path): manifest_of(path) for path in evaluation}
    index = _Index(manifests)
    videos: dict[str, list[Example]] = {}
    for one in train:
        videos.setdefault(one.video, []).append(one)
    leaks: list[Leak] = []
    hashed = 0
    for video, group in videos.items():
        found, compared = index.find(video, group)
        leaks += found
        hashed += compared
    held = [
        {"file": path, "examples": m.examples, "videos": m.videos, "splits": m.splits, "sha256": m.examples_sha256}
        for path, m in manifests.items()
    ]
    return LeakReport(tuple(held), len(train), len(videos), hashed, tuple(leaks))


def check_leaks(train: Sequence[Example], evaluation: Sequence[str | Path], *, allow: bool) -> LeakReport:
    """Refuse training items whose video or question a named evaluation holds.

    Args:
        train: the examples to learn from, as `read_examples` gives them.
        evaluation: manifests or examples files of what will be measured on.
        allow: learn from them all the same; the report says from what.

    Raises:
        ConfigError: there are such items and `allow` is off. DataError: an evaluation cannot be read.
    """
    report = find_leaks(train, evaluation)
    if report.leaks and not allow:
        counts, first = report.counts, list(dict.fromkeys(leak.example_id for leak in report.leaks))[:SHOWN]
        files = list(dict.fromkeys(leak.evaluation for leak in report.leaks))
        reason = (
            f"{counts['items']} of {report.items} training items are about videos it asks about, "
            f"{counts['same_question']} with the same question (first {', '.join(first)}; in {', '.join(files)})"
        )
        without = " ".join(f"--without {path}" for path in files)
        fix = f"remove them with `zoomzero filter EXAMPLES --out CLEAN {without}`, or set data.allow_overlap = true"
        raise ConfigError("data.evaluation", reason, fix)
    return report


class _Index:
    """Looks videos up in several manifests by name and by content."""

    def __init__(self, manifests: Mapping[str, Manifest]) -> None:
        self.by_name: dict[str, list[tuple[str, ListedVideo]]] = {}
        self.by_content: dict[str, list[tuple[str, ListedVideo]]] = {}
        self.sizes: set[str] = set()
        for path, manifest in manifests.items():
            for listed in manifest.listing:
                self.by_name.setdefault(listed.name, []).append((path, listed))
                if listed.content:
                    self.by_content.setdefault(listed.content, []).append((path, listed))
                    self.sizes.add(listed.content.partition("-")[0])

    def find(self, video: str, group: Sequence[Example]) -> tuple[list[Leak], bool]:
        """Return the leaks among the items about one video, and whether its content was compared."""
        path = Path(video)
        there = path.is_file()
        name = video_name(video)
        # A file of a size that no evaluation video has needs no hash, unless its name is to be told apart.
        wanted = there and (str(path.stat().st_size) in self.sizes or name in self.by_name)
        content = content_key(video) if wanted else ""
        same = self.by_content.get(content, []) if content else []
        leaks = [self._leak(one, path_, listed, "content") for path_, listed in same for one in group]
        for path_, listed in self.by_name.get(name, []):
            if content and listed.content == content:
                continue
            other = bool(content and listed.content) and not _same_length(listed.duration_s, group[0].duration_s)
            found = [self._leak(one, path_, listed, "question" if other else "name") for one in group]
            leaks += [leak for leak in found if not other or leak.same_question]
        return leaks, there and bool(self.by_content)

    @staticmethod
    def _leak(one: Example, evaluation: str, listed: ListedVideo, by: str) -> Leak:
        return Leak(one.id, one.video, evaluation, by, question_key(one.question) in listed.questions)


def _same_length(a_s: float, b_s: float) -> bool:
    """Return whether two durations may be those of one video; an unknown one (0) may be anything."""
    return not (a_s > 0 and b_s > 0) or abs(a_s - b_s) <= max(SAME_LENGTH_S, SAME_LENGTH_SHARE * max(a_s, b_s))
