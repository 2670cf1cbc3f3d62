"""What users may see of answers and errors: names instead of the server's paths, and lanes to draw."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoomzero.answer.trace import PassTrace, Trace
from zoomzero.pages import timeline
from zoomzero.pages.page import PassFrames, winning_pass
from zoomzero.pages.timeline import Block, Lane
from zoomzero.prompts import PROBLEMS
from zoomzero.spans import Span, complement, intersection_s
from zoomzero.video.types import Geometry

THUMB_SIDE, THUMB_QUALITY = 192, 78  # pixels, of an answer's pictures
REEL_SIDE = 96  # pixels, of those shown while a pass goes on
MOST_THUMBS = 48  # of one pass
MOST_TEXT = 20_000  # characters of a reply that are sent
REJECTED_S = 0.05  # a found stretch of less is no candidate of its own


def public_model(name: str) -> str:
    """Return a model's name without where it lies: of a directory its last part, of a server what it serves."""
    if name.startswith(("http://", "https://")):
        return name.partition("#")[2] or "a model behind a server"
    return Path(name).name if Path(name).is_absolute() or name.startswith((".", "~")) else name


def public_text(text: str, names: dict[str, str]) -> str:
    """Return a text with every path in `names` replaced by what users call it, longest paths first."""
    for path in sorted(names, key=len, reverse=True):
        if path:
            text = text.replace(path, names[path])
    return text


def public_trace(trace: Trace, video: str, names: dict[str, str]) -> Trace:
    """Return a trace that holds no path of the server: what is shown, stored and downloaded.

    Args:
        trace: the answer.
        video: what the user calls its video.
        names: path -> what users call it.
    """
    passes = tuple(replace(one, notes=tuple(public_text(note, names) for note in one.notes)) for one in trace.passes)
    return replace(
        trace,
        video=video,
        model=public_model(trace.model),
        server=None,
        notes=tuple(public_text(note, names) for note in trace.notes),
        reason=public_text(trace.reason, names),
        passes=passes,
    )


def view(
    trace: Trace,
    truth: Sequence[Sequence[float]] = (),
    right: str | None = None,
    geometry: Geometry | None = None,
) -> dict[str, Any]:
    """Return a public trace as what the page draws: JSON values.

    Args:
        trace: from `public_trace`.
        truth: the true evidence, where it is known.
        right: the right option's label, where it is known.
        geometry: how the model cuts frames into tokens. `shown_tokens` counts those of all frames it was shown, which
            modes are compared by: what an earlier question or mode has read is missing in `costs`.
    """
    winner = winning_pass(trace)
    spans = tuple(Span(*one) for one in truth)
    return {
        "question": trace.question,
        "options": list(trace.options),
        "mode": trace.mode,
        "answer": trace.answer,
        "option": trace.option,
        "spans": [list(span) for span in trace.spans],
        "confidence": trace.confidence,
        "reason": trace.reason,
        "notes": list(trace.notes),
        "model": trace.model,
        "seconds": trace.seconds,
        "costs": trace.costs,
        "shown_tokens": trace.costs["visual_tokens"] if geometry is None else shown_tokens(trace, geometry),
        "passes": [pass_view(one, one is winner) for one in trace.passes],
        "right": None if right is None else trace.option == right,
        "truth": [list(span) for span in spans],
        **drawing(trace, spans),
    }


def shown_tokens(trace: Trace, geometry: Geometry) -> int:
    """Return the visual tokens of all frames a model was shown, whether it read them now or before."""
    return sum(
        len(one.times_s) // geometry.temporal * (one.height // geometry.factor) * (one.width // geometry.factor)
        for one in trace.passes
    )


def pass_view(one: PassTrace, won: bool = False) -> dict[str, Any]:
    """Return a pass as JSON values, its long texts cut."""
    values = asdict(one)
    values |= {
        "kind": timeline.kind_of(one.name),
        "won": won,
        "frames": len(one.times_s),
        "text": one.text[:MOST_TEXT],
        "problems": [PROBLEMS.get(code, code) for code in one.problems],
    }
    return {name: value for name, value in values.items() if name != "times_s"}


def drawing(trace: Trace, truth: tuple[Span, ...] = ()) -> dict[str, Any]:
    """Return what the timeline shows: lanes from top to bottom, ticks, and the legend."""
    drawn = list(timeline.lanes(trace, truth))
    axis_s = timeline.extent_s(trace, truth)
    if (rejected := rejected_lane(trace, axis_s)) is not None:
        drawn.insert(1 + bool(truth), rejected)
    legend = [list(one) for one in timeline.legend(drawn)]
    if rejected is not None:
        legend = [["rejected", "rejected", "candidate that was not believed"], *legend]
    return {
        "axis_s": axis_s,
        "ticks": [asdict(tick) for tick in timeline.ticks(axis_s)],
        "lanes": [asdict(lane) for lane in drawn],
        "legend": legend,
    }


def rejected_lane(trace: Trace, axis_s: float) -> Lane | None:
    """Return a lane with what passes found and the answer does not show as evidence; None when there is nothing."""
    blocks: list[Block] = []
    for one in trace.passes:
        for found in one.found:
            if intersection_s([found], trace.spans) > 0:
                continue  # it is what the answer shows, or a part of it
            left = [part for part in complement(trace.spans, *found) if part.end_s - part.start_s > REJECTED_S]
            blocks += timeline.blocks(left, axis_s, f"{one.name} found this, and it was not believed", "rejected")
    if not blocks:
        return None
    rows = timeline.pack_rows([(b.start_s, b.end_s) for b in blocks])
    placed = tuple(replace(block, row=row) for block, row in zip(blocks, rows, strict=True))
    return Lane("rejected", "rejected", placed, rows=max(rows) + 1)


def jpeg(frame: npt.NDArray[np.uint8], side: int = THUMB_SIDE, quality: int = THUMB_QUALITY) -> bytes:
    """Return a frame, (H, W, 3) uint8 RGB, as JPEG with no side above `side` pixels."""
    from PIL import Image

    image = Image.fromarray(frame, "RGB")
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def thumbs(times_s: Sequence[float], frames: npt.NDArray[np.uint8], side: int = THUMB_SIDE) -> list[dict[str, Any]]:
    """Return pictures for the browser, evenly spread where there are many: `{"time_s", "url"}`."""
    step = max(1.0, len(times_s) / MOST_THUMBS)
    places = sorted({int(i * step) for i in range(min(len(times_s), MOST_THUMBS))})
    return [{"time_s": times_s[i], "url": _data_url(jpeg(frames[i], side))} for i in places]


def frame_groups(looks: Sequence[PassFrames]) -> list[dict[str, Any]]:
    """Return the frames of passes as JSON values, for the page."""
    return [
        {
            "name": one.name,
            "kind": timeline.kind_of(one.name),
            "width": int(one.frames.shape[2]),
            "height": int(one.frames.shape[1]),
            "count": len(one.times_s),
            "thumbs": thumbs(one.times_s, one.frames),
        }
        for one in looks
    ]


def _data_url(content: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(content).decode("ascii")
