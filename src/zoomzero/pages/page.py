"""The evidence page of one answer: video, timeline of every look, frames, passes, costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from zoomzero import spans as span_math
from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.pages import timeline
from zoomzero.pages.media import Picture, picture, video_source
from zoomzero.pages.render import render, write_page
from zoomzero.prompts import PROBLEMS, option_labels
from zoomzero.spans import Span

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

EMBED_VIDEO_BYTES = 64 * 2**20
LONG_QUESTION = 240  # characters; longer ones are set as text, not as a headline
_CLOSED_KINDS = {"direct", "coarse", "window"}  # looks at everything: their frames are shown on request


@dataclass(frozen=True, slots=True, eq=False)
class PassFrames:
    """The frames a pass saw, to be shown as thumbnails.

    `name` is the pass's name in the trace, `times_s` (T,) true times in seconds,
    `frames` (T, H, W, 3) uint8 RGB.
    """

    name: str
    times_s: tuple[float, ...]
    frames: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class OptionRow:
    """One option as shown: label, text, probability where a pass gave one, whether it was chosen."""

    label: str
    text: str
    probability: float | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """One frame as shown."""

    time_s: float
    picture: Picture


@dataclass(frozen=True, slots=True)
class FrameGroup:
    """The thumbnails of one pass; `is_open` says whether they show at once."""

    name: str
    height: int
    width: int
    thumbnails: tuple[Thumbnail, ...]
    is_open: bool


def evidence_page(
    trace: Trace,
    *,
    video: Path,
    frames: Sequence[PassFrames] = (),
    embed_video_bytes: int = EMBED_VIDEO_BYTES,
    true_spans: Sequence[Sequence[float]] = (),
    page_folder: Path | None = None,
    linked: bool = True,
) -> str:
    """Return the evidence page as one self-contained HTML document.

    Args:
        trace: the answer with its history.
        video: the file it was asked about, or a directory of images (no player then).
        frames: pictures to show, usually those of the zoom passes.
        embed_video_bytes: an mp4 or webm up to this size goes into the page; larger ones play from the file.
        true_spans: the right evidence where it is known; drawn as a lane of its own.
        page_folder: where the page will lie, to which links are relative; by default the working directory.
        linked: whether a video that is not inside the page may be linked.

    Raises:
        VideoError: the video cannot be read.
    """
    truth = tuple(Span(float(start), float(end)) for start, end in true_spans)
    lanes = timeline.lanes(trace, truth)
    axis_s = timeline.extent_s(trace, truth)
    winner = winning_pass(trace)
    scored = _scored_pass(trace, winner)
    return render(
        "evidence.html.j2",
        trace=trace,
        video_name=Path(trace.video).name or trace.video,
        source=video_source(video, embed_video_bytes, page_folder or Path.cwd(), linked=linked),
        aspect=_aspect(trace, frames),
        long_question=len(trace.question) > LONG_QUESTION,
        options=_option_rows(trace, scored),
        scored=scored,
        winner_index=next((i for i, one in enumerate(trace.passes) if one is winner), -1),
        axis_s=axis_s,
        ticks=timeline.ticks(axis_s),
        lanes=lanes,
        legend=timeline.legend(lanes),
        groups=_frame_groups(frames),
        labels=option_labels(len(trace.options)),
        problems=PROBLEMS,
        truth=truth,
        iou=span_math.iou(trace.spans, truth) if truth else None,
    )


def write_evidence_page(
    path: str | Path,
    trace: Trace,
    *,
    video: Path,
    frames: Sequence[PassFrames] = (),
    embed_video_bytes: int = EMBED_VIDEO_BYTES,
    true_spans: Sequence[Sequence[float]] = (),
) -> Path:
    """Write `evidence_page` to a file, complete or not at all, and return its path.

    Raises:
        ConfigError: the file cannot be written (names --html).
        VideoError: the video cannot be read.
    """
    html = evidence_page(
        trace,
        video=video,
        frames=frames,
        embed_video_bytes=embed_video_bytes,
        true_spans=true_spans,
        page_folder=Path(path).parent,
    )
    return write_page(path, html, "--html")


def winning_pass(trace: Trace) -> PassTrace | None:
    """Return the last pass that gave the final answer with the final confidence; None when none did."""
    matches = [
        one
        for one in trace.passes
        if one.option == trace.option
        and (trace.option is not None or (one.answer is not None and one.answer == trace.answer))
        and _same(one.confidence, trace.confidence)
    ]
    return matches[-1] if matches else None


def _same(one: float | None, other: float | None) -> bool:
    """Whether two confidences are the same; unknown ones are."""
    return one is other if one is None or other is None else abs(one - other) <= 1e-6


def _scored_pass(trace: Trace, winner: PassTrace | None) -> PassTrace | None:
    """Return the pass whose probabilities are shown: the winner, else the last with one for each option."""
    known = [one for one in trace.passes if trace.options and len(one.option_probabilities) == len(trace.options)]
    if winner is not None and any(one is winner for one in known):
        return winner
    return known[-1] if known else None


def _option_rows(trace: Trace, scored: PassTrace | None) -> tuple[OptionRow, ...]:
    labels = option_labels(len(trace.options))
    chances = scored.option_probabilities if scored else (None,) * len(labels)
    return tuple(
        OptionRow(label, text, chance, label == trace.option)
        for label, text, chance in zip(labels, trace.options, chances, strict=True)
    )


def _aspect(trace: Trace, frames: Sequence[PassFrames]) -> str:
    """Return the picture's shape for the style sheet: the page does not jump when the video has loaded."""
    sizes = [one.frames.shape[1:3] for one in frames] + [(one.height, one.width) for one in trace.passes]
    height, width = next(((h, w) for h, w in sizes if h > 0 and w > 0), (9, 16))
    return f"{width} / {height}"


def _frame_groups(frames: Sequence[PassFrames]) -> tuple[FrameGroup, ...]:
    """Return the thumbnails by pass, close looks open; of wide looks alone, the first is open."""
    shown = [one for one in frames if len(one.frames)]
    close = [timeline.kind_of(one.name) not in _CLOSED_KINDS for one in shown]
    groups = []
    for i, one in enumerate(shown):
        thumbnails = tuple(Thumbnail(t, picture(f)) for t, f in zip(one.times_s, one.frames, strict=True))
        height, width = one.frames.shape[1:3]
        groups.append(FrameGroup(one.name, height, width, thumbnails, close[i] or (i == 0 and not any(close))))
    return tuple(groups)
