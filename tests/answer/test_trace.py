"""What an answer costs, and how it is shown as JSON and as text. Numbers by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from zoomzero.answer.trace import PassTrace, Trace, total_costs
from zoomzero.pages.text import one_line, spans_text, trace_text
from zoomzero.spans import Span

COARSE = PassTrace(
    name="coarse",
    spans=(Span(0.0, 60.0),),
    times_s=(0.0, 20.0, 40.0, 59.5),
    height=64,
    width=96,
    decoded_frames=9,
    visual_tokens=12,
    prompt_tokens=50,
    new_tokens=50,
    generated_tokens=30,
    seconds=1.25,
    decode_seconds=0.25,
    text="<answer>A</answer>",
    answer="a cap",
    option="A",
    confidence=0.4,
    found=(Span(10.0, 12.5),),
    span_confidence=3.0,
)
DRAWN = replace(
    COARSE, name="candidate 1", times_s=(), decoded_frames=0, visual_tokens=0, new_tokens=0, decode_seconds=0.0
)
CLOSE = replace(
    COARSE,
    name="verify 1",
    spans=(Span(0.0, 22.5),),
    times_s=(10.0, 11.0),
    decoded_frames=4,
    visual_tokens=36,
    prompt_tokens=70,
    new_tokens=70,
    generated_tokens=0,
    seconds=0.5,
    decode_seconds=0.125,
    text="",
    answer="a bottle",
    option="B",
    confidence=0.75,
    found=(),
    option_probabilities=(0.25, 0.75),
)
TRACE = Trace(
    video="/v/walk.mp4",
    duration_s=60.0,
    question="What does she pick up?",
    options=("a cap", "a bottle"),
    mode="search",
    answer="a bottle",
    option="B",
    spans=(Span(10.0, 12.5), Span(40.0, 41.0)),
    confidence=0.75,
    reason="verify 1 is the most confident (0.75 against coarse 0.40)",
    passes=(COARSE, DRAWN, CLOSE),
    model="tiny",
    settings_hash="0123456789ab",
    seconds=2.5,
    notes=("the header says 70.0 s but the file ends at 60.0 s: truncated",),
)


def test_costs_are_sums_and_count_what_was_read_once() -> None:
    assert TRACE.costs == {
        "visual_tokens": 12 + 36,
        "prefill_tokens": 50 + 70,
        "generated_tokens": 30 + 30,
        "frames": 4 + 2,
        "decoded_frames": 9 + 4,
        "decode_seconds": 0.375,
        "seconds": 2.5,
    }
    assert set(total_costs([]).values()) == {0}


def test_as_json_every_field_comes_back() -> None:
    read = json.loads(json.dumps(TRACE.to_dict(), allow_nan=False))
    assert read["spans"] == [[10.0, 12.5], [40.0, 41.0]]
    assert read["passes"][2]["option_probabilities"] == [0.25, 0.75]
    assert (read["answer"], read["option"], read["confidence"], read["mode"]) == ("a bottle", "B", 0.75, "search")
    assert read["costs"] == TRACE.costs
    passes = [
        PassTrace(**{k: tuple(map(_frozen, v)) if isinstance(v, list) else v for k, v in p.items()})
        for p in read["passes"]
    ]
    assert passes == list(TRACE.passes)


def _frozen(value: object) -> object:
    return Span(*value) if isinstance(value, list) else value


def test_as_text_line_by_line() -> None:
    assert trace_text(TRACE).splitlines() == [
        "Answer    (B) a bottle   confidence 0.75",
        "Evidence  10.0-12.5 s (00:10.0 – 00:12.5), 40.0-41.0 s (00:40 – 00:41)",
        "Why       verify 1 is the most confident (0.75 against coarse 0.40)",
        "Note      the header says 70.0 s but the file ends at 60.0 s: truncated",
        "",
        "pass               frames      size  visual   read written  seconds  answer",
        "coarse                  4     96x64      12     50      30     1.25  A 0.40  10.0-12.5 s",
        "candidate 1             0     96x64       0      0      30     1.25  A 0.40  10.0-12.5 s",
        "verify 1                2     96x64      36     70       0     0.50  B 0.75",
        "all                     6                48    120      60     2.50",
    ]


def test_as_text_without_answer_and_evidence() -> None:
    nothing = replace(TRACE, answer=None, option=None, spans=(), confidence=0.0, passes=())
    lines = trace_text(nothing).splitlines()
    assert lines[0] == "Answer    none: the model's reply names no answer   confidence 0.00"
    assert lines[1] == "Evidence  none named"


def test_an_open_answer_cannot_break_the_table_or_the_terminal() -> None:
    wild = "first line\nsecond\t\x1b[31mred\x07 " + "long " * 400
    shown = trace_text(
        replace(TRACE, answer=wild, option=None, options=(), passes=(replace(CLOSE, answer=wild, option=None),))
    )
    assert len(shown.splitlines()) == 8
    assert "\x1b" not in shown
    assert shown.splitlines()[0].startswith("Answer    first line second [31mred long long")
    assert shown.splitlines()[6].endswith("  first line second [31mred long long l... 0.75")


@pytest.mark.parametrize(
    ("text", "most", "line"),
    [
        ("a  b\n", 10, "a b"),
        ("abcdefgh", 8, "abcdefgh"),
        ("abcdefghi", 8, "abcde..."),
        ("", 8, ""),
        ("日本", 8, "日本"),
    ],
)
def test_one_line(text: str, most: int, line: str) -> None:
    assert one_line(text, most) == line


def test_spans_as_text() -> None:
    assert spans_text((Span(1.04, 2.06), Span(3.0, 4.0))) == "1.0-2.1 s, 3.0-4.0 s"
    assert spans_text(()) == ""
