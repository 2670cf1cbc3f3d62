"""What is attached to a number is read, or its span is left out: never another number."""

from __future__ import annotations

import pytest

from zoomzero.prompts import read_response
from zoomzero.prompts.letters import plain_letters
from zoomzero.prompts.times import read_spans

READ = [
    ("(1, 2e1)", [(1.0, 20.0)]),
    ("1 to 2 minutes", [(60.0, 120.0)]),
    ("1.5 - 2 min", [(90.0, 120.0)]),
    ("30 s to 2 minutes", [(30.0, 120.0)]),
    ("(1, 2) minutes", [(60.0, 120.0)]),
    ("[(1, 2), (3, 4)] minutes", [(60.0, 120.0), (180.0, 240.0)]),
    ("1h - 2h", [(3600.0, 7200.0)]),
    ("1 min 5 s - 1 min 10.5 s", [(65.0, 70.5)]),
    ("1m5s to 1h2m3s", [(65.0, 3723.0)]),
    ("1分5秒到1分10秒", [(65.0, 70.0)]),
    ("500 ms - 1500ms", [(0.5, 1.5)]),
    ("00:01:05,500 --> 00:01:10,000", [(65.5, 70.0)]),
    ("01:05,500 - 01:10,000", [(65.5, 70.0)]),
    ("(1,234.5 - 1,300.0)", [(1234.5, 1300.0)]),
    ("1,234 to 1,300", [(1234.0, 1300.0)]),
    ("1,234.5; 1,300.0", [(1234.5, 1300.0)]),
    ("5,2 - 10,4", [(5.2, 10.4)]),
    ("(1,234)", [(1.0, 234.0)]),  # the grammar's own form
    ("1-2,3-4", [(1.0, 2.0), (3.0, 4.0)]),
    ("5-10, 20-30; 40-50", [(5.0, 10.0), (20.0, 30.0), (40.0, 50.0)]),
    ("12:34.56 - 12:40.10", [(754.56, 760.1)]),
    ("1:05 minutes to 1:10 minutes", [(65.0, 70.0)]),
    ('["00:05", "00:10"]', [(5.0, 10.0)]),
    ('[{"start": 5.2, "end": 10.4}, {"start": 41, "end": 44.5}]', [(5.2, 10.4), (41.0, 44.5)]),
    ("starts at 5 s and ends at 10 s", [(5.0, 10.0)]),
    ("between 5 and 10 seconds", [(5.0, 10.0)]),
    ("**5.2** - **10.4**", [(5.2, 10.4)]),
    ("（5.2，10.4）", [(5.2, 10.4)]),
    ("٥ - ١٠", [(5.0, 10.0)]),
    ("5.2 → 10.4", [(5.2, 10.4)]),
    ("20 -30", [(20.0, 30.0)]),
    ("5s-10s", [(5.0, 10.0)]),
    ("[\n  5.2,\n  10.4\n]", [(5.2, 10.4)]),
    ("the scene (5, 10)", [(5.0, 10.0)]),
    ("(5.2, 10.4), confidence 0.9, 0.95", [(5.2, 10.4)]),
    ("minutes 1-2", [(60.0, 120.0)]),
    ("in hours 1 - 2", [(3600.0, 7200.0)]),
    ("at minute 1:05-1:10", [(65.0, 70.0)]),
    ("5 to 10 minutes 20 - 30", [(300.0, 600.0), (20.0, 30.0)]),
    ("10\n300 - 320", [(300.0, 320.0)]),
]
LEFT_OUT = [
    ("10-20%", "unclear_span"),
    ("10％-20％", "unclear_span"),
    ("10-20 frames", "unclear_span"),
    ("frames 10-20", "unclear_span"),
    ("frames: [(10, 20), (30, 40)]", "unclear_span"),
    ("(10, 20) frames", "unclear_span"),
    ("confidence 0.9, 0.95", "unclear_span"),
    ("score: (0.1, 0.2)", "unclear_span"),
    ("1k - 2k", "unclear_span"),
    ("5M - 6M", "unclear_span"),
    ("1st - 2nd", "unclear_span"),
    ("$5 - 10", "unclear_span"),
    ("scene 3 - 4", "unclear_span"),
    ("2024-11-29", "unclear_span"),
    ("1,5, 2,5", "unclear_span"),  # thousands, decimals, or four numbers
    ("1,2; 3,4", "unclear_span"),
    ("1:75 - 1:80", "unclear_span"),
    ("00:00:05:12 - 00:00:07:03", "unclear_span"),  # frames of an unknown rate
    ("00:00:05;12 - 00:00:07;03", "unclear_span"),
    ("1:05 hours - 1:10 hours", "unclear_span"),
    ("5 m/s - 6 m/s", "unclear_span"),
    ("1 000 - 1 300", "unclear_span"),  # thousands, or the end of something else
    ("1\u202f000,5 - 1\u00a0300,5", "unclear_span"),
    ("1'234 - 1'300", "unclear_span"),
    ("5 1/2 - 10", "unclear_span"),
    ("10^2 - 10^3", "unclear_span"),
    ("5±1 - 10±1", "unclear_span"),
    ("1*10^2 - 2*10^2", "unclear_span"),
    ("(1, 2e20)", "unclear_span"),
    ("(1, 2e999)", "nan_span"),
    ("(−5, 10)", "negative_span"),
    ("(0, inf)", "nan_span"),
    ("2 to 1 minutes", "reversed_span"),
]


@pytest.mark.parametrize(("written", "spans"), READ)
def test_what_is_attached_is_read(written: str, spans: list[tuple[float, float]]) -> None:
    found, problems = read_spans(written)
    assert [tuple(round(x, 6) for x in span) for span in found] == spans
    assert problems <= {"unclear_span"}


@pytest.mark.parametrize(("written", "code"), LEFT_OUT)
def test_what_cannot_be_told_is_left_out_with_a_code(written: str, code: str) -> None:
    assert read_spans(written) == ((), {code})
    reading = read_response(f"<answer>A</answer>\n<glue>[(1, 2)], {written}\n; 7 - 8</glue>", 2, "no_think")
    assert reading.spans[0] == (1.0, 2.0)
    assert code in reading.problems


@pytest.mark.parametrize("written", ["", "none", "5", "at 5 s", "1:05,110", "5 and 10", "- 5\n- 10", "$5 - $10"])
def test_what_is_no_pair_is_no_span(written: str) -> None:
    assert read_spans(written)[0] == ()


def test_bare_numbers_need_a_unit_where_that_is_asked_for() -> None:
    assert read_spans("15-16", bare=False) == ((), {"unclear_span"})
    assert read_spans("0:15-0:16", bare=False) == (((15.0, 16.0),), set())
    assert read_spans("15-16 min", bare=False) == (((900.0, 960.0),), set())


def test_plain_letters_keep_places() -> None:
    text = "“Ｂ”（５．２，−３）。٣🪿ſ"
    assert plain_letters(text) == '"B"(5.2,-3).3🪿ſ'
    assert len(plain_letters(text)) == len(text)
