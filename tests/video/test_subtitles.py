"""Subtitles: formats, encodings, tags, and the groups a prompt gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.errors import DataError
from zoomzero.spans import Span
from zoomzero.video.subtitles import Cue, cues_in, read_subtitles

SRT = """1
00:00:01,000 --> 00:00:02,500
{\\an8}<b>Where</b> is the <font color="red">cup</font>?

2
00:01:00,250 --> 00:01:02,000
On the table,
next to x < y &amp; z.

3
00:01:03,000 --> 00:01:04,000
<i></i>
"""
CUES = (Cue(1.0, 2.5, "Where is the cup?"), Cue(60.25, 62.0, "On the table,\nnext to x < y & z."))


def save(folder: Path, text: str | bytes, name: str = "a.srt") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_srt_with_tags_and_an_empty_line(tmp_path: Path) -> None:
    assert read_subtitles(save(tmp_path, SRT)) == CUES


def test_windows_line_ends(tmp_path: Path) -> None:
    assert read_subtitles(save(tmp_path, SRT.replace("\n", "\r\n"))) == CUES


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    assert read_subtitles(save(tmp_path, SRT, "a.txt")) == CUES


def test_webvtt_with_voices_settings_and_word_times(tmp_path: Path) -> None:
    text = (
        "WEBVTT - a title\n\nNOTE a comment\n\nintro\n00:01.000 --> 00:03.000 align:start position:0%\n"
        "<v Ann>Good <00:00:01.500><c>morning</c>\n\n01:00:00.000 --> 01:00:01.000\nlate\n"
    )
    assert read_subtitles(save(tmp_path, text, "a.vtt")) == (Cue(1.0, 3.0, "Good morning"), Cue(3600.0, 3601.0, "late"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings(encoding: str, tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nÜber café – naïve\n"
    cues = read_subtitles(save(tmp_path, text.encode(encoding)))
    assert cues == (Cue(1.0, 2.0, "Über café – naïve"),)


def test_cues_come_in_time_order_without_impossible_ones(tmp_path: Path) -> None:
    text = (
        "1\n00:00:09,000 --> 00:00:10,000\nlast\n\n2\n00:00:01,000 --> 00:00:02,000\nfirst\n\n"
        "3\n00:00:05,000 --> 00:00:04,000\nreversed\n"
    )
    assert [cue.text for cue in read_subtitles(save(tmp_path, text))] == ["first", "last"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a subtitle file"),
        (b"Once upon a time.\n", "not a subtitle file"),
        (b'{"a": 1}', "not a subtitle file"),
        (b"WEBVTT\n\n", "holds no timed line"),
        (b"\x00\x01\x02video\x00", "is not text"),
    ],
)
def test_what_is_no_subtitle_file_is_an_error(content: bytes, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        read_subtitles(save(tmp_path, content))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        read_subtitles(tmp_path / "none.srt")


# --- groups ---


def test_groups_by_hand() -> None:
    cues = (
        Cue(8.0, 11.0, "before and into it"),
        Cue(12.0, 13.0, "one"),
        Cue(14.5, 16.0, "two\nthree"),
        Cue(15.0, 17.0, "four"),
        Cue(24.9, 27.0, "last"),
        Cue(25.0, 26.0, "after"),
    )
    assert cues_in(cues, Span(10.0, 25.0)) == [
        (Span(10.0, 15.0), "before and into it one two three"),
        (Span(15.0, 20.0), "four"),
        (Span(20.0, 25.0), "last"),
    ]


def test_the_last_group_ends_with_the_span() -> None:
    assert cues_in((Cue(6.0, 7.0, "x"),), Span(0.0, 7.0)) == [(Span(5.0, 7.0), "x")]
    assert cues_in((Cue(6.0, 7.0, "x"),), Span(0.0, 20.0), group_s=2.0) == [(Span(6.0, 8.0), "x")]


def test_captions_that_roll_are_said_once() -> None:
    cues = (
        Cue(0.0, 2.0, "so today"),
        Cue(2.0, 4.0, "so today\nwe will cook"),
        Cue(4.0, 6.0, "we will cook\na soup"),
        Cue(6.0, 8.0, "a soup"),
        Cue(40.0, 42.0, "a soup"),
    )
    assert cues_in(cues, Span(0.0, 60.0)) == [
        (Span(0.0, 5.0), "so today we will cook a soup"),
        (Span(40.0, 45.0), "a soup"),
    ]


def test_a_group_length_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="group_s"):
        cues_in((), Span(0, 1), group_s=0.0)


@given(
    starts=st.lists(st.floats(0, 100), max_size=20),
    low=st.floats(0, 90),
    length=st.floats(0.5, 60),
    group_s=st.floats(0.5, 10),
)
def test_groups_are_ordered_inside_the_span_and_lose_nothing(
    starts: list[float], low: float, length: float, group_s: float
) -> None:
    cues = tuple(Cue(s, s + 1.0, f"line{i}") for i, s in enumerate(sorted(starts)))
    span = Span(low, low + length)
    groups = cues_in(cues, span, group_s)
    assert [g.start_s for g, _ in groups] == sorted({g.start_s for g, _ in groups})
    assert all(span.start_s <= g.start_s < g.end_s <= span.end_s for g, _ in groups)
    said = {word for _, text in groups for word in text.split()}
    assert said == {cue.text for cue in cues if cue.end_s > span.start_s and cue.start_s < span.end_s}
