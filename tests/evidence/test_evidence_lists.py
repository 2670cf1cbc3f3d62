from __future__ import annotations

from zoomzero.evidence.lists import edl, srt, time_code
from zoomzero.spans import Span

SPANS = [Span(3661.25, 3662.0), Span(4.0, 9.5)]


def test_srt_worked_by_hand() -> None:
    assert srt(SPANS, "a\nbottle") == (
        "1\n00:00:04,000 --> 00:00:09,500\na bottle\n\n2\n01:01:01,250 --> 01:01:02,000\na bottle\n"
    )


def test_nothing_in_a_text_ends_a_cue_or_styles_it() -> None:
    shown = srt([Span(0.0, 1.0)], "x\n\n2\n00:00:05,000 --> 00:00:06,000\n<b>{\\an8}y").splitlines()
    assert len(shown) == 3
    assert shown[2] == "x 2 00:00:05,000 → 00:00:06,000 ‹b>(\\an8}y"
    assert srt([Span(0.0, 1.0)], " ").splitlines()[2] == "evidence"


def test_edl_worked_by_hand() -> None:
    # at 25 frames a second 9.5 s is frame 237.5, which rounds to the even 238: 13 frames into second 9
    assert edl(SPANS, 25.0, "walk.mp4", "What?\nRED LINE") == "\n".join(
        [
            "TITLE: What? RED LINE",
            "FCM: NON-DROP FRAME",
            "",
            "001  AX       V     C        00:00:04:00 00:00:09:13 00:00:00:00 00:00:05:13",
            "* FROM CLIP NAME: walk.mp4",
            "",
            "002  AX       V     C        01:01:01:06 01:01:02:00 00:00:05:13 00:00:06:07",
            "* FROM CLIP NAME: walk.mp4",
            "",
        ]
    )


def test_ntsc_counts_its_frames() -> None:
    # 100 s of 29.97 frames a second are 2997 frames: 99 s and 27 frames of 30
    assert edl([Span(100.0, 100.0)], 30000 / 1001, "a", "b").splitlines()[3].split()[4:6] == [
        "00:01:39:27",
        "00:01:39:28",
    ]
    assert time_code(0, 30) == "00:00:00:00"
