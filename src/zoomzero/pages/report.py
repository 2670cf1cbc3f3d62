"""The report over many answers: table of modes, accuracy against cost, every question with its timelines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoomzero import spans as span_math
from zoomzero.answer.trace import Trace
from zoomzero.benchmarks.wilson import wilson
from zoomzero.pages import timeline
from zoomzero.pages.charts.cost import ModePoint, cost_chart
from zoomzero.pages.media import Picture, picture
from zoomzero.pages.render import render, write_page
from zoomzero.prompts import option_labels
from zoomzero.spans import Span

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

THUMBNAIL_SIDE = 96  # pixels
_CLOSE_KINDS = {"zoom", "context", "outside"}  # looks at a part; a candidate is another reading of the whole video


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """A frame of a close look: when it is in the video, and its picture (H, W, 3) uint8."""

    time_s: float
    frame: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class DemoRow:
    """One answer to one question with the truth.

    `kind` is the kind of question (`symbol`, ...). `truth_option` is the right option's label, None where
    there is none to compare with; `true_spans` is the true evidence, empty where it is not known. `world` tells the
    videos apart that are reported apart; `looks` are frames to show beside the timeline.
    """

    mode: str
    example_id: str
    kind: str
    question: str
    options: tuple[str, ...]
    truth_option: str | None
    true_spans: tuple[Span, ...]
    trace: Trace
    world: str = ""
    looks: tuple[Look, ...] = ()


@dataclass(frozen=True, slots=True)
class ModeRow:
    """One line of the table of modes; what was not measured is None. `low`..`high` is the 95 % interval."""

    name: str
    accuracy: float | None
    low: float
    high: float
    miou: float | None
    miop: float | None
    visual_tokens: float | None
    seconds: float | None
    n: int


@dataclass(frozen=True, slots=True)
class World:
    """What the modes reached on one kind of videos: their table, and accuracy against cost."""

    name: str
    modes: tuple[ModeRow, ...]
    plot: Any


@dataclass(frozen=True, slots=True)
class AnswerRow:
    """One mode's answer to a question as shown. `result` is right, wrong or unjudged."""

    mode: str
    result: str
    option: str | None
    answer: str | None
    confidence: float | None
    iou: float | None
    visual_tokens: float
    seconds: float
    reason: str
    notes: tuple[str, ...]
    lane: timeline.Lane
    pictures: tuple[tuple[float, Picture], ...]  # moments in seconds, and what shows there


@dataclass(frozen=True, slots=True)
class Card:
    """One question with the truth and every mode's answer."""

    example_id: str
    kind: str
    question: str
    options: tuple[tuple[str, str, bool], ...]  # label, text, right
    duration_s: float
    ticks: tuple[timeline.Tick, ...]
    truth: timeline.Lane | None
    answers: tuple[AnswerRow, ...]


def demo_report(summary: Mapping[str, Any], traces: Sequence[DemoRow]) -> str:
    """Return the report as one self-contained HTML document.

    Args:
        summary: `{"worlds": {world: {mode: {"accuracy", "miou", "miop", "visual_tokens", "seconds", "n"}}}}`; other
            plain values at the top level are listed under the title.
        traces: the answers, any order; those of one example make one card.
    """
    worlds = tuple(_world(name, modes, traces) for name, modes in summary.get("worlds", {}).items())
    facts = tuple((key.replace("_", " "), _fact(v)) for key, v in summary.items() if isinstance(v, str | int | float))
    cards = _cards(traces)
    return render(
        "report.html.j2",
        worlds=worlds,
        facts=facts,
        cards=cards,
        answer_modes=tuple(dict.fromkeys(row.mode for row in traces)),
        kinds=tuple(sorted({row.kind for row in traces if row.kind})),
        videos=len({row.trace.video for row in traces}),
        legend=_legend(cards),
    )


def write_demo_report(path: str | Path, summary: Mapping[str, Any], traces: Sequence[DemoRow]) -> Path:
    """Write `demo_report` to a file, complete or not at all, and return its path.

    Raises:
        ConfigError: the file cannot be written (names --out).
    """
    return write_page(path, demo_report(summary, traces), "--out")


def _world(name: str, modes: Mapping[str, Any], traces: Sequence[DemoRow]) -> World:
    rows = tuple(_mode_row(mode, values) for mode, values in modes.items())
    points = [
        ModePoint(row.name, row.accuracy, row.visual_tokens, row.n)
        for row in rows
        if row.accuracy is not None and row.visual_tokens is not None
    ]
    chance = _chance([row for row in traces if row.world == name])
    chart = cost_chart(points, "visual tokens a question", "Accuracy against visual tokens", chance)
    return World(name, rows, chart)


def _mode_row(name: str, values: Mapping[str, Any]) -> ModeRow:
    n = int(values.get("n") or 0)
    accuracy = _measured(values, "accuracy")
    low, high = wilson(accuracy, n) if accuracy is not None else (0.0, 1.0)
    return ModeRow(
        name=name,
        accuracy=accuracy,
        low=low,
        high=high,
        miou=_measured(values, "miou"),
        miop=_measured(values, "miop"),
        visual_tokens=_measured(values, "visual_tokens"),
        seconds=_measured(values, "seconds"),
        n=n,
    )


def _fact(value: str | int | float) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _measured(values: Mapping[str, Any], key: str) -> float | None:
    """Return a number, None when it is missing or no number: the table then shows a dash."""
    value = values.get(key)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _chance(rows: Sequence[DemoRow]) -> float | None:
    """Return the accuracy of guessing: the mean over examples of one over the number of options."""
    shares = {row.example_id: 1 / len(row.options) for row in rows if row.options and row.truth_option}
    return sum(shares.values()) / len(shares) if shares else None


def _cards(rows: Sequence[DemoRow]) -> tuple[Card, ...]:
    """Return one card an example, in the order the examples first appear."""
    by_example: dict[str, list[DemoRow]] = {}
    for row in rows:
        by_example.setdefault(row.example_id, []).append(row)
    return tuple(_card(group) for group in by_example.values())


def _card(group: Sequence[DemoRow]) -> Card:
    first = group[0]
    axis_s = max(timeline.extent_s(row.trace, row.true_spans) for row in group)
    labels = option_labels(len(first.options))
    truth = None
    if first.true_spans:
        truth = timeline.Lane("true", "true", timeline.blocks(first.true_spans, axis_s, "true evidence", "true"))
    return Card(
        example_id=first.example_id,
        kind=first.kind,
        question=first.question,
        options=tuple(
            (label, text, label == first.truth_option) for label, text in zip(labels, first.options, strict=True)
        ),
        duration_s=axis_s,
        ticks=timeline.ticks(axis_s),
        truth=truth,
        answers=tuple(_answer(row, axis_s) for row in group),
    )


def _answer(row: DemoRow, axis_s: float) -> AnswerRow:
    trace = row.trace
    result = "unjudged" if row.truth_option is None else "right" if trace.option == row.truth_option else "wrong"
    return AnswerRow(
        mode=row.mode,
        result=result,
        option=trace.option,
        answer=trace.answer,
        confidence=trace.confidence,
        iou=span_math.iou(trace.spans, row.true_spans) if row.true_spans and trace.spans else None,
        visual_tokens=trace.costs["visual_tokens"],
        seconds=trace.seconds,
        reason=trace.reason,
        notes=trace.notes,
        lane=_answer_lane(trace, axis_s),
        pictures=tuple((look.time_s, picture(look.frame, THUMBNAIL_SIDE)) for look in row.looks),
    )


def _answer_lane(trace: Trace, axis_s: float) -> timeline.Lane:
    """Return one lane: what was looked at closely, and over it the evidence of the answer."""
    close = [span for one in trace.passes if timeline.kind_of(one.name) in _CLOSE_KINDS for span in one.spans]
    seen = timeline.blocks(close, axis_s, "zoomed in", "seen")
    found = timeline.blocks(trace.spans, axis_s, "found", "final")
    return timeline.Lane("found", "zoom", (*seen, *found))


def _legend(cards: Sequence[Card]) -> tuple[tuple[str, str, str], ...]:
    roles = {block.role for card in cards for answer in card.answers for block in answer.lane.blocks}
    entries = [("true", "true", "true evidence")] if any(card.truth for card in cards) else []
    entries += [("final", "final", "found")] if "final" in roles else []
    entries += [("zoom", "seen", "zoomed in")] if "seen" in roles else []
    return tuple(entries)
