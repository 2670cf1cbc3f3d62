"""Annotation to Examples: every repair counted, the result written with a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from zoomzero.data.annotation import Dataset, Question
from zoomzero.data.example import Example, write_examples
from zoomzero.data.manifest import Manifest, Progress, make_manifest, manifest_path, write_manifest
from zoomzero.errors import VideoError
from zoomzero.spans import Span

__all__ = ["Manifest", "manifest_path", "repair_spans", "to_examples", "write_converted"]

REPAIRS = ("negative_starts", "reversed_spans", "clipped_spans", "empty_spans")
STATED = (
    "duplicate_options",
    "empty_options",
    "without_options",
    "without_spans",
    "durations_probed",
    "durations_estimated",
    "missing_videos",
    "unreadable_videos",
    "answer_not_among_options",
)


def repair_spans(spans: Iterable[Span], duration_s: float, counts: Counter[str]) -> tuple[Span, ...]:
    """Return spans that lie in the video, one for one and in order; what was done is added to `counts`.

    A reversed span is turned round (`reversed_spans`), a start below 0 becomes 0 (`negative_starts`), an end past the
    video becomes its end (`clipped_spans`; not when the duration is unknown), and a span of no length, before or after
    that, is left out (`empty_spans`).

    Args:
        spans: as annotated, seconds.
        duration_s: length of the video, 0 when unknown.
        counts: counter to add to.
    """
    repaired = []
    for start_s, end_s in spans:
        if end_s < start_s:
            counts["reversed_spans"] += 1
            start_s, end_s = end_s, start_s
        if start_s < 0:
            counts["negative_starts"] += 1
            start_s = 0.0
        if duration_s and end_s > duration_s:
            counts["clipped_spans"] += 1
            end_s = duration_s
        if end_s > start_s:
            repaired.append(Span(start_s, end_s))
        else:
            counts["empty_spans"] += 1
    return tuple(repaired)


def to_examples(dataset: Dataset, videos: str | Path | None = None) -> tuple[list[Example], dict[str, int]]:
    """Return a data set's questions as Examples, and the counts of what was repaired or found odd.

    Options are never changed, since their letters are the benchmark's. A question whose right answer is none of its
    options is left out (`answer_not_among_options`); where the file has letters without option texts, the example is
    an open question without an answer (`without_options`), good for grounding alone. A duration the annotation does not
    state is read from the video when that is there (`durations_probed`), else a rough guess (`durations_estimated`),
    also of a video that cannot be read (`unreadable_videos`): running a model needs the videos anyway and goes by their
    true length, and `zoomzero data check` says which they are. `missing_videos` are those the folder does not hold.

    Args:
        dataset: the questions.
        videos: folder to put before every video path; without it paths stay as the benchmark names them.
    """
    counts: Counter[str] = Counter(dict.fromkeys(REPAIRS + STATED, 0))
    root = Path(videos).expanduser().resolve() if videos is not None else None
    lengths: dict[str, float | None] = {}
    missing = {one.video for one in dataset.questions if root is not None and not (root / one.video).exists()}
    counts["missing_videos"] = len(missing)
    examples = []
    for one in dataset.questions:
        if one.options and not one.answer:
            counts["answer_not_among_options"] += 1
            continue
        example = _to_example(one, dataset, root, counts, lengths)
        _state(one, example, counts)
        examples.append(example)
    return examples, dict(counts)


def _to_example(
    one: Question, dataset: Dataset, root: Path | None, counts: Counter[str], lengths: dict[str, float | None]
) -> Example:
    duration_s = one.duration_s or _length(one, root, counts, lengths)
    return Example(
        id=one.id,
        video=str(root / one.video) if root is not None else one.video,
        question=one.question,
        options=one.options,
        answer=one.answer if one.options or one.in_words else "",
        spans=repair_spans(one.spans, one.duration_s, counts),
        duration_s=duration_s,
        source=dataset.name,
        split=dataset.split,
    )


def _length(one: Question, root: Path | None, counts: Counter[str], lengths: dict[str, float | None]) -> float:
    """Return the length of a video whose annotation does not state it; `lengths` remembers the videos looked at."""
    video = root / one.video if root is not None else None
    if video is not None and video.exists():
        if one.video not in lengths:
            lengths[one.video] = _probed(video)
            counts["unreadable_videos"] += lengths[one.video] is None
        found = lengths[one.video]
        if found is not None:
            counts["durations_probed"] += 1
            return found
    counts["durations_estimated"] += 1
    return one.estimate_s


def _probed(video: Path) -> float | None:
    """Return a video's length, None where it cannot be read."""
    from zoomzero.video.probe import probe

    try:
        return probe(video).duration_s
    except VideoError:
        return None


def _state(one: Question, example: Example, counts: Counter[str]) -> None:
    counts["duplicate_options"] += len(set(one.options)) < len(one.options)
    counts["empty_options"] += any(not option.strip() for option in one.options)
    counts["without_options"] += not one.options
    counts["without_spans"] += not example.spans


def write_converted(
    dataset: Dataset,
    out: str | Path,
    seed: int = 0,
    videos: str | Path | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Write a data set as `out` (JSON Lines) and `out`.manifest.json; return the manifest.

    Args:
        dataset: the questions.
        out: the examples file.
        seed: the seed the questions were made with, where options are drawn.
        videos: folder to put before every video path.
        progress: called with (videos looked at for the manifest, videos in all).
    """
    out = Path(out)
    examples, repairs = to_examples(dataset, videos)
    write_examples(out, examples)
    manifest = make_manifest(
        out,
        examples,
        benchmark=dataset.name,
        split=dataset.split,
        seed=seed,
        sources=dataset.files,
        repairs=repairs,
        notes=dataset.notes,
        progress=progress,
    )
    write_manifest(out, manifest)
    return manifest
