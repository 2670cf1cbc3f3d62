"""What a pass shows and how it reads the reply: subtitles, families, damaged videos, numbers that are none."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from scripted_policy import ScriptedPolicy, broken, rates, says
from small_videos import damage, write_small
from zoomzero.answer.ask import answer
from zoomzero.answer.confidence import answer_confidence, softmax, span_confidence
from zoomzero.answer.result import PassResult
from zoomzero.answer.scoring import zoom
from zoomzero.answer.session import QuestionSession, moved, subtitle_text
from zoomzero.answer.trace import Trace
from zoomzero.answer.writing import coarse_pass, draw
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.errors import ModelError, VideoError
from zoomzero.policy.base import Sampling
from zoomzero.prompts import coarse_text, read_response, video_header, zoom_text
from zoomzero.spans import Span
from zoomzero.video.probe import probe
from zoomzero.video.subtitles import Cue
from zoomzero.video.types import VideoInfo

QUESTION = "Which symbol is on the red circle?"
OPTIONS = ("E", "H")
SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=96, min_frame_tokens=1),
    zoom=PassSettings(fps=2, max_tokens=400, max_frames=64, min_frame_tokens=16),
    window=PassSettings(fps=1, max_tokens=32, max_frames=16, min_frame_tokens=1),
    widen_s=2.0,
    candidates=1,
    outside_looks=1,
)
SUBTITLES = """1
00:00:03,000 --> 00:00:05,000
first words

2
00:00:21,000 --> 00:00:22,000
in the middle

3
00:00:40,000 --> 00:00:44,000
last words
"""


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("passes") / "small.mp4")


@pytest.fixture(scope="module")
def info(video: Path) -> VideoInfo:
    return probe(video)


@pytest.fixture(scope="module")
def holed(video: Path) -> Path:
    """The video, with nothing to decode from 16 to 32 s."""
    return damage(video, video.parent / "holed.mp4", 16.0, 32.0)


@pytest.fixture(scope="module")
def subtitles(video: Path) -> Path:
    path = video.parent / "words.srt"
    path.write_text(SUBTITLES)
    return path


def ask(policy: ScriptedPolicy, video: Path | VideoInfo, mode: str, **more: Any) -> Trace:
    settings = more.pop("settings", SETTINGS)
    trace, _ = answer(policy, settings, video, QUESTION, OPTIONS, mode=mode, **more)  # type: ignore[arg-type]
    assert policy.replies == []
    return trace


# --- subtitles ---


def test_subtitles_are_shown_to_the_window_that_holds_them_and_to_the_coarse_pass(video: Path, subtitles: Path) -> None:
    policy = ScriptedPolicy(says("A", [(2.0, 4.0)]), says("A"), says("A"), says("A"), rates(1, 1))
    ask(policy, video, "divide", subtitles=subtitles)
    first, second, third, coarse, close = (shown.text for shown in policy.shown)
    assert "Subtitles: [0-5] first words\n" in first
    assert "Subtitles: [21-26] in the middle\n" in second
    assert "Subtitles: [37-42] last words\n" in third
    assert "Subtitles: [0-5] first words\n[20-25] in the middle\n[40-45] last words\n" in coarse
    assert close == zoom_text(QUESTION, OPTIONS, "brief", "letter")
    for text, others in ((first, ("middle", "last")), (second, ("first", "last")), (third, ("first", "middle"))):
        assert not any(word in text for word in others)


def test_direct_reads_subtitles_or_says_that_it_does_not(video: Path, subtitles: Path) -> None:
    policy = ScriptedPolicy(rates(1, 1))
    trace = ask(policy, video, "direct", subtitles=subtitles)
    assert "[20-25] in the middle" in policy.shown[0].text
    assert trace.notes == ()
    policy = ScriptedPolicy(rates(1, 1))
    texts = SETTINGS.model_copy(update={"score_options_as": "text"})
    trace = ask(policy, video, "direct", subtitles=subtitles, settings=texts)
    assert "in the middle" not in policy.shown[0].text
    assert trace.notes == ("this model's direct mode reads no subtitles",)


def test_subtitle_times_count_from_where_the_model_believes_the_video_to_begin() -> None:
    cues = (Cue(61.0, 62.0, "hello"), Cue(70.0, 71.0, "bye"))
    assert subtitle_text(cues, Span(60.0, 90.0)) == "[60-65] hello\n[70-75] bye"
    assert subtitle_text(cues, Span(60.0, 90.0), 60.0) == "[0-5] hello\n[10-15] bye"
    assert subtitle_text(cues, Span(0.0, 60.0)) == ""


# --- families that know no free times ---


def test_windows_of_a_family_without_free_times_are_shown_as_videos_of_their_own(video: Path, subtitles: Path) -> None:
    policy = ScriptedPolicy(
        says("A"), says("B", [(2.0, 4.0)], p=0.96), says("A"), says("A", [(9.0, 10.0)]), free_times=False
    )
    trace = ask(policy, video, "divide", subtitles=subtitles)
    shown = policy.shown[1]
    assert shown.times_s == tuple(float(t) for t in range(16))
    assert shown.clip.spans == (Span(0.0, 16.0),)
    assert shown.text.startswith(video_header(16.0) + "Subtitles: [5-10] in the middle\n")
    assert policy.shown[3].text.startswith(video_header(48.0))
    window, coarse = trace.passes[1], trace.passes[3]
    assert window.times_s == tuple(float(t) for t in range(16, 32))  # the trace keeps the video's own times
    assert (window.spans, window.found) == ((Span(16.0, 32.0),), (Span(18.0, 20.0),))
    assert trace.spans == (Span(18.0, 20.0),)
    assert coarse.found == (Span(9.0, 10.0),)


def test_windows_of_a_family_with_free_times_keep_theirs(video: Path) -> None:
    policy = ScriptedPolicy(says("A"), says("B", [(18.0, 20.0)], p=0.96), says("A"), says("A"))
    trace = ask(policy, video, "divide")
    assert policy.shown[1].times_s == tuple(float(t) for t in range(16, 32))
    assert policy.shown[1].text == video_header(48.0) + coarse_text(QUESTION, OPTIONS, "think", "brief")
    assert trace.spans == (Span(18.0, 20.0),)


def test_windows_of_a_model_that_wants_its_own_clock_are_videos_of_their_own(video: Path) -> None:
    policy = ScriptedPolicy(says("A"), says("B", [(2.0, 4.0)], p=0.96), says("A"), says("A"))
    trace = ask(policy, video, "divide", settings=SETTINGS.model_copy(update={"window_clock": "window"}))
    assert policy.shown[1].times_s == tuple(float(t) for t in range(16))
    assert policy.shown[1].text.startswith(video_header(16.0))
    assert trace.passes[1].times_s == tuple(float(t) for t in range(16, 32))
    assert trace.spans == (Span(18.0, 20.0),)


def test_looks_outside_are_windows_too(video: Path, subtitles: Path) -> None:
    policy = ScriptedPolicy(
        says("A", [(0.0, 16.0)], p=0.1), rates(1, 1), says("B", [(5.0, 6.0)]), rates(1, 9), free_times=False
    )
    settings = SETTINGS.model_copy(update={"weak": 0.6})
    trace = ask(policy, video, "search", subtitles=subtitles, settings=settings)
    outside = policy.shown[2]
    assert outside.times_s == tuple(float(t) for t in range(16))  # 32-48 s of the video
    assert outside.text.startswith(video_header(16.0) + "Subtitles: [5-10] last words\n")
    assert trace.spans == (Span(37.0, 38.0),)


def test_moving_a_clip_keeps_its_pixels(info: VideoInfo) -> None:
    session = QuestionSession(ScriptedPolicy(rates(1, 1)), SETTINGS, info, QUESTION, OPTIONS)
    look = zoom(session, "zoom", [Span(20.0, 22.0)])
    told = moved(look.clip, -20.0)
    assert told.times_s == (0.0, 0.5, 1.0, 1.5)
    assert told.spans == (Span(0.0, 2.0),)
    assert told.frames is look.clip.frames


def test_long_videos_get_the_long_template(video: Path) -> None:
    policy = ScriptedPolicy(says("A"), says("A"), says("A"), says("A"))
    ask(policy, video, "divide", settings=SETTINGS.model_copy(update={"style": "full", "long_after_s": 40.0}))
    assert policy.shown[3].text == video_header(48.0) + coarse_text(QUESTION, OPTIONS, "think", "full", long=True)


# --- damaged videos ---


def test_a_window_that_does_not_decode_is_left_out_and_said(holed: Path) -> None:
    policy = ScriptedPolicy(says("A"), says("A", [(40.0, 41.0)], p=0.96), says("A"))
    trace = ask(policy, holed, "divide")
    assert [one.name for one in trace.passes] == ["window 1 of 3", "window 3 of 3", "coarse"]
    assert trace.reason == "of 2 windows 1 is certain"
    coarse = trace.passes[-1]
    assert not [t for t in coarse.times_s if 16 <= t < 32]
    assert coarse.spans == (Span(0.0, 16.0), Span(32.0, 48.0))
    assert coarse.notes
    assert set(coarse.notes) < set(trace.notes)
    (left_out,) = [note for note in trace.notes if note.startswith("window 2 of 3 was left out: none of the 16 frames")]
    assert trace.to_dict()["notes"].count(left_out) == 1


@pytest.mark.parametrize("mode", ["zoom", "context"])
def test_a_close_look_that_does_not_decode_leaves_the_coarse_answer(holed: Path, mode: str) -> None:
    trace = ask(ScriptedPolicy(says("B", [(20.0, 28.0)], p=0.3)), holed, mode)
    assert (trace.option, trace.spans) == ("B", (Span(20.0, 28.0),))
    assert "does not decode" in trace.reason
    assert any(note.startswith("the close look was left out") for note in trace.notes)


def test_a_candidate_that_cannot_be_verified_is_not_believed(holed: Path) -> None:
    policy = ScriptedPolicy(says("A", [(20.0, 28.0)], p=0.99), says("B", [(40.0, 42.0)], p=0.2), rates(1, 9))
    trace = ask(policy, holed, "search", settings=SETTINGS.model_copy(update={"candidates": 2}))
    assert [one.name for one in trace.passes] == ["coarse", "candidate 1", "verify 2"]
    assert (trace.option, trace.spans) == ("B", (Span(40.0, 42.0),))
    assert any(note.startswith("verify 1 was left out") for note in trace.notes)


def test_a_video_of_which_nothing_decodes_is_an_error(video: Path) -> None:
    hopeless = damage(video, video.parent / "hopeless.mp4", 2.0, 48.0)
    with pytest.raises(VideoError, match=r"hopeless\.mp4"):
        ask(ScriptedPolicy(), hopeless, "zoom", settings=narrow_start())


def narrow_start() -> ModelSettings:
    """Settings whose coarse pass sees nothing before 24 s: two frames at half a frame a minute."""
    return SETTINGS.model_copy(update={"coarse": PassSettings(fps=1 / 24, max_tokens=96, min_frame_tokens=1)})


def test_only_what_does_not_decode_is_forgiven(info: VideoInfo) -> None:
    asked = QuestionSession(ScriptedPolicy(), SETTINGS, info, QUESTION, OPTIONS, timeout_s=100.0)

    def fails(stage: str) -> PassResult:
        raise VideoError("v.mp4", stage, "broke", "mend it")

    assert asked.attempt("window 7", lambda: fails("decode")) is None
    assert asked.missed == ["window 7 was left out: broke"]
    with pytest.raises(VideoError):
        asked.attempt("window 8", lambda: fails("open"))
    hanging = QuestionSession(ScriptedPolicy(), SETTINGS, info, QUESTION, OPTIONS, timeout_s=0.0)
    with pytest.raises(VideoError):
        hanging.attempt("window 9", lambda: fails("decode"))
    assert hanging.missed == []


# --- numbers ---


@pytest.mark.parametrize(
    ("mode", "replies"),
    [
        ("coarse", [broken(says("A"))]),
        ("direct", [rates(math.nan, 1)]),
        ("direct", [rates(0, 0)]),  # every option impossible
        ("zoom", [says("A", [(20.0, 22.0)]), rates(math.nan, math.nan)]),
        ("search", [says("A", [(20.0, 22.0)]), broken(says("B"))]),
    ],
)
def test_a_model_that_computes_no_numbers_gives_no_answer(video: Path, mode: str, replies: list[Any]) -> None:
    settings = SETTINGS.model_copy(update={"candidates": 2})
    with pytest.raises(ModelError, match=r"^model scripted: its probabilities are not numbers \(NaN\); use --dtype"):
        ask(ScriptedPolicy(*replies), video, mode, settings=settings)


def test_confidences_are_those_of_the_tokens_that_say_it() -> None:
    letter = says("B", [(1.0, 2.0)], p=0.25, peak=3.0)
    reading = read_response(letter.text, 2, "think")
    assert answer_confidence(reading, letter) == pytest.approx(0.25)
    assert span_confidence(reading, letter) == pytest.approx(3.0)
    words = says("a cap", [(1.0, 2.0)], p=0.5)
    assert answer_confidence(read_response(words.text, 0, "think"), words) == pytest.approx(0.5)
    nothing = says(text="I do not know")
    assert span_confidence(read_response(nothing.text, 2, "think"), nothing) == 0.0


def test_softmax_by_hand() -> None:
    assert softmax([math.log(2), math.log(6)]) == pytest.approx((0.25, 0.75))
    assert softmax([-1e4, -1e4 - math.log(3)]) == pytest.approx((0.75, 0.25))
    assert softmax([0.0, -math.inf]) == (1.0, 0.0)


def test_drawing_nothing_asks_for_nothing(info: VideoInfo) -> None:
    policy = ScriptedPolicy(says("A"))
    asked = QuestionSession(policy, SETTINGS, info, QUESTION, OPTIONS)
    assert draw(asked, "candidate", coarse_pass(asked), 0, Sampling()) == []
    assert len(policy.drawn) == 1
