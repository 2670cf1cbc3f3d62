"""A trace as text for the terminal."""

from __future__ import annotations

from zoomzero.answer.trace import PassTrace, Trace, said_confidence
from zoomzero.pages.timeline import span_label
from zoomzero.spans import Span


def trace_text(trace: Trace) -> str:
    """Return the answer, its evidence, why it was chosen, and one line for every pass."""
    chosen = one_line(trace.answer) if trace.answer is not None else "none: the model's reply names no answer"
    label = f"({trace.option}) " if trace.option is not None else ""
    lines = [
        f"Answer    {label}{chosen}   confidence {said_confidence(trace.confidence)}",
        f"Evidence  {evidence_text(trace.spans) or 'none named'}",
        f"Why       {trace.reason}",
    ]
    lines += [f"Note      {note}" for note in trace.notes]
    lines += [
        "",
        f"{'pass':<18}{'frames':>7}{'size':>10}{'visual':>8}{'read':>7}{'written':>8}{'seconds':>9}  answer",
    ]
    lines += [_pass_line(one) for one in trace.passes]
    costs = trace.costs
    total = f"{'all':<18}{costs['frames']:>7.0f}{'':>10}{costs['visual_tokens']:>8.0f}{costs['prefill_tokens']:>7.0f}"
    lines.append(f"{total}{costs['generated_tokens']:>8.0f}{trace.seconds:>9.2f}")
    return "\n".join(lines)


def spans_text(spans: tuple[Span, ...]) -> str:
    """Return spans as `12.5-18.0 s, 40.0-44.0 s`."""
    return ", ".join(f"{span.start_s:.1f}-{span.end_s:.1f} s" for span in spans)


def evidence_text(spans: tuple[Span, ...]) -> str:
    """Return spans as `72.5-78.0 s (01:12.5 – 01:18.0)`: as the model counts, and as players do."""
    return ", ".join(f"{spans_text((span,))} ({span_label(span)})" for span in spans)


def one_line(text: str, most: int = 1000) -> str:
    """Return text as one line that a terminal can show: no line ends or control characters, cut at `most`."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def _pass_line(one: PassTrace) -> str:
    size = f"{one.width}x{one.height}"
    said = f"{one.option or one_line(one.answer or '-', most=40)} {said_confidence(one.confidence)}"
    found = f"  {spans_text(one.found)}" if one.found else ""
    return (
        f"{one.name:<18}{len(one.times_s):>7}{size:>10}{one.visual_tokens:>8}{one.new_tokens:>7}"
        f"{one.generated_tokens:>8}{one.seconds:>9.2f}  {said}{found}"
    )
