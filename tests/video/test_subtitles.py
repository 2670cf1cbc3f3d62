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


# --- what is no speech, and what cannot be read ---


def cues_and_notes(folder: Path, text: str | bytes) -> tuple[list[tuple[float, float, str]], tuple[str, ...]]:
    found = read_subtitles(save(folder, text))
    return [(cue.start_s, cue.end_s, cue.text) for cue in found], found.notes


def test_vtt_identifiers_comments_and_styles_are_not_said(tmp_path: Path) -> None:
    text = (
        "WEBVTT - title\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nREGION\nid:fred\n\nsecond part\n"
        "00:05.000 --> 00:06.000\nhi\n\nNOTE\nremark over\ntwo lines\n\nNOTE\n00:06.000 --> 00:06.500\ncommented\n\n"
        "6d2b-9/13-0\n00:07.000 --> 00:08.000\nNOTE this\n\nlost\n"
    )
    said = [(5.0, 6.0, "hi"), (7.0, 8.0, "NOTE this")]
    assert cues_and_notes(tmp_path, text) == (said, ("subtitles: 1 cue left out, they have no time",))


def test_srt_numbers_are_not_said_and_numbers_that_are_said_stay(tmp_path: Path) -> None:
    text = "392\n00:00:01,46 --> 00:00:02,83\nI am here\n393\n00:00:03,00 --> 00:00:04,00\n394\n"
    text += "00:00:05,00 --> 00:00:06,00\n42\n\n395\n00:00:07,00 --> 00:00:08,00\n7\n"
    assert cues_and_notes(tmp_path, text) == ([(1.46, 2.83, "I am here"), (5.0, 6.0, "42"), (7.0, 8.0, "7")], ())


def test_srt_times_that_are_none_or_before_the_video(tmp_path: Path) -> None:
    text = "1\n-00:00:01,000 --> 00:00:02,000\nearly\n\n2\n00:00:13,980 --> 00:00:19x,580\nentry1\n\n"
    text += "3\n100:00:20,980 --> 100:00:21,680\nlate\n\n4\n00:00:05:12 --> 00:00:06:00\nframes\n\n"
    text += "5\n-00:00:09,000 --> -00:00:08,000\nbefore\n\n6\n00:00:01:500 --> 00:00:02:250\nthousandths\n"
    said = [(0.0, 2.0, "early"), (1.5, 2.25, "thousandths"), (360020.98, 360021.68, "late")]
    assert cues_and_notes(tmp_path, text) == (
        said,
        (
            "subtitles: 2 cues left out, their times cannot be read (first at line 6)",
            "subtitles: 1 cue left out, they lie before 0 or beyond any video",
            "subtitles: 1 cue start before 0 and are cut there",
        ),
    )


TT = '<?xml version="1.0" encoding="utf-8"?><tt xmlns="http://www.w3.org/ns/ttml" '
TT += 'xmlns:ttp="http://www.w3.org/ns/ttml#parameter" ttp:tickRate="10000000" ttp:frameRate="25">'


def test_ttml_times(tmp_path: Path) -> None:
    body = (
        '<body begin="1s"><div><p begin="10000000t" end="20000000t">hi</p>'
        '<p begin="00:00:03:05" end="00:00:04.5">a<br/>b'
        '\n<span>c</span></p><p begin="2f" dur="1500ms">d</p><p begin="x" end="2s">e</p><p>f</p></div>'
        '<div timeContainer="seq" begin="10s"><p dur="1s">g</p><p dur="2s">h</p></div></body></tt>'
    )
    said = [(1.08, 2.58, "d"), (2.0, 3.0, "hi"), (4.2, 5.5, "a\nb c"), (11.0, 12.0, "g"), (12.0, 14.0, "h")]
    notes = (
        "subtitles: 1 cue left out, their times cannot be read (first at line 0)",
        "subtitles: 1 cue left out, they have no time",
    )
    assert cues_and_notes(tmp_path, TT + body) == (said, notes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (TT + '<body><div><p begin="1s" end="2s">hi</p>', "not whole TTML"),
        (
            TT + '<body><div><p begin="wallclock(1)" end="2s">hi</p></div></body></tt>',
            "1 have times that cannot be read",
        ),
        (TT + "<body>" + "<div>" * 3000 + "</div>" * 3000 + "</body></tt>", "nested over"),
        ('<?xml version="1.0"?><!DOCTYPE tt [<!ENTITY a "b">]><tt xmlns="http://www.w3.org/ns/ttml"/>', "entities"),
    ],
)
def test_ttml_that_cannot_be_read_is_one_line(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words) as error:
        read_subtitles(save(tmp_path, text))
    assert "\n" not in str(error.value)


ASS = "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname\nStyle: Default,Arial\n\n[Events]\n"


def test_ass_drawings_comments_and_columns(tmp_path: Path) -> None:
    text = ASS + (
        "Format: Start, End, Style, Text\nDialogue: 0:00:03.00,0:00:04.00,Default,{\\p1}m 0 0 l 100 0{\\p0}\n"
        "Dialogue: 0:00:03.00,0:00:04.00,Default,{\\pos(1,2)}one, {\\b1}two{\\b0}\\Nthree{a remark}\n"
        "Comment: 0:00:05.00,0:00:06.00,Default,no\nDialogue: 100:00:05.00,100:00:06.00,Default,late\n"
        "Dialogue: x,0:00:06.00,Default,lost\n"
    )
    said = [(3.0, 4.0, "one, two\nthree"), (360005.0, 360006.0, "late")]
    assert cues_and_notes(tmp_path, text) == (
        said,
        ("subtitles: 1 cue left out, their times cannot be read (first at line 14)",),
    )


def test_entities_are_letters_and_braces_are_said(tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\n{laughs} it&#39;s &quot;ok&quot; &amp; R&D &lt;3\n"
    assert cues_and_notes(tmp_path, text) == ([(1.0, 2.0, '{laughs} it\'s "ok" & R&D <3')], ())


@pytest.mark.parametrize(
    ("said", "encoding", "name"),
    [
        ("你好，世界", "gbk", "GB18030"),
        ("我們去吃飯吧", "big5", "Big5"),
        ("Привет, мир", "cp1251", "Windows-1251"),
        ("Он положил ключ на стол", "koi8_r", "KOI8-R"),
        ("鍵はどこですか", "shift_jis", "CP932"),
        ("열쇠는 어디에 있나요", "euc_kr", "CP949"),
        ("Γειά σου κόσμε", "cp1253", "Windows-1253"),
        ("Gdzie jest klucz? Żółć", "cp1250", "Windows-1250"),
        ("¿Dónde está la llave?", "cp1252", "Windows-1252"),
    ],
)
def test_a_guessed_encoding_is_told(said: str, encoding: str, name: str, tmp_path: Path) -> None:
    text = f"1\n00:00:01,000 --> 00:00:02,000\n{said}\n\n2\n00:00:03,000 --> 00:00:04,000\nworld\n"
    cues, notes = cues_and_notes(tmp_path, text.encode(encoding))
    assert cues == [(1.0, 2.0, said), (3.0, 4.0, "world")]
    assert [note.split("(")[0] for note in notes] == [f"subtitles: not UTF-8, read as {name} "]


def test_damaged_utf8_stays_utf8(tmp_path: Path) -> None:
    line = "Он положил ключ на стол и ушёл".encode()
    data = b"1\n00:00:01,000 --> 00:00:02,000\n" + line + b"\xff\n"
    cues, notes = cues_and_notes(tmp_path, data)
    assert cues[0][2] == "Он положил ключ на стол и ушёл\ufffd"
    assert notes == ("subtitles: 1 damaged characters in UTF-8 text are read as U+FFFD",)


def test_utf16_without_its_mark(tmp_path: Path) -> None:
    text = "1\n00:00:01,000 --> 00:00:02,000\nÜber\n"
    for encoding in ("utf-16-le", "utf-16-be"):
        assert cues_and_notes(tmp_path, text.encode(encoding)) == ([(1.0, 2.0, "Über")], ())


def test_ends_that_the_format_does_not_have_are_said_to_be_guessed(tmp_path: Path) -> None:
    note = "subtitles: the format has no ends; they are guessed from how much is said"
    sami = b"<SAMI><BODY><SYNC Start=1000><P>hi<SYNC Start=9000><P>there</BODY></SAMI>"
    for data, starts in ((sami, [1.0, 9.0]), (b"00:00:01:hi\n00:00:09:there\n", [1.0, 9.0])):
        cues, notes = cues_and_notes(tmp_path, data)
        assert [start_s for start_s, _, _ in cues] == starts
        assert notes == (note,)
    assert cues_and_notes(tmp_path, b"{1}{1}25\n{25}{50}hi\n") == ([(1.0, 2.0, "hi")], ())


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
