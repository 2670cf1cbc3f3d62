"""Every mode's logic, with a model that follows a script and a real video file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scripted_asking import OPTIONS, QUESTION, SETTINGS, ask, names

from scripted_policy import Rates, ScriptedPolicy, rates, says
from small_videos import DURATION_S, SCENE, write_small
from zoomzero.answer.ask import answer
from zoomzero.errors import ConfigError
from zoomzero.policy.base import Sampling
from zoomzero.prompts import coarse_text, video_header, zoom_text
from zoomzero.spans import Span
from zoomzero.world.render import render


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("zoom") / "small.mp4")


# --- one pass ---


def test_direct_scores_the_letters_after_one_look_at_everything(video: Path) -> None:
    policy = ScriptedPolicy(rates(1, 7, 2))
    trace = ask(policy, video, "direct")
    (shown,) = policy.shown
    assert shown.times_s == tuple(float(t) for t in range(48))
    assert shown.size == (64, 64)
    assert shown.text == video_header(DURATION_S) + coarse_text(QUESTION, OPTIONS, "direct", "brief")
    assert policy.scored == [(0, ("A", "B", "C"), False)]
    assert policy.drawn == []
    assert (trace.answer, trace.option, trace.spans) == ("H", "B", ())
    assert trace.confidence == pytest.approx(0.7)
    assert trace.passes[0].option_probabilities == pytest.approx((0.1, 0.7, 0.2))


def test_direct_scores_texts_when_the_settings_say_so(video: Path) -> None:
    policy = ScriptedPolicy(rates(1, 1, 2))
    settings = SETTINGS.model_copy(update={"score_options_as": "text"})
    trace = ask(policy, video, "direct", settings=settings)
    assert policy.shown[0].text == video_header(DURATION_S) + zoom_text(QUESTION, OPTIONS, "brief", "text")
    assert policy.scored == [(0, OPTIONS, True)]
    assert (trace.answer, trace.option) == ("K", "C")


def test_coarse_reads_answer_spans_and_confidences(video: Path) -> None:
    policy = ScriptedPolicy(says("C", [(10.0, 14.0), (13.0, 20.0)], p=0.6, peak=4.0))
    trace = ask(policy, video, "coarse")
    assert policy.shown[0].text == video_header(DURATION_S) + coarse_text(QUESTION, OPTIONS, "think", "brief")
    assert policy.drawn == [(0, 1, Sampling(temperature=0.0, max_tokens=512))]
    assert (trace.answer, trace.option) == ("K", "C")
    assert trace.spans == (Span(10.0, 20.0),)
    assert trace.confidence == pytest.approx(0.6)
    assert trace.passes[0].span_confidence == pytest.approx(4.0)
    assert trace.passes[0].problems == ()


def test_a_reply_without_an_answer_is_said_and_has_no_confidence(video: Path) -> None:
    reply = says("", [(1.0, 2.0)], p=0.9, text="<think>look</think>\n<answer></answer>\n<glue>[(1.0, 2.0)]</glue>")
    trace = ask(ScriptedPolicy(reply), video, "coarse", options=())
    assert (trace.answer, trace.option, trace.confidence) == (None, None, 0.0)
    assert trace.notes == ("the model's reply names no answer",)
    assert trace.reason == "one pass over the whole video; its reply names no answer"


@pytest.mark.parametrize("mode", ["coarse", "zoom", "context"])
def test_options_are_scored_where_a_reply_names_none(video: Path, mode: str) -> None:
    policy = ScriptedPolicy(says("D", [], p=0.9), rates(1, 7, 2))  # there are three options
    trace = ask(policy, video, mode)
    assert names(trace) == ["coarse", "direct"]
    assert [shown.times_s for shown in policy.shown] == [tuple(float(t) for t in range(48))] * 2
    assert trace.passes[0].problems == ("unknown_option",)
    assert (trace.option, trace.spans, trace.confidence) == ("B", (), pytest.approx(0.7))
    assert trace.notes == ()
    assert trace.reason.endswith("; its reply names no option, so the options were scored instead")


# --- zoom ---


def test_zoom_looks_at_the_widened_spans_and_nothing_else(video: Path) -> None:
    policy = ScriptedPolicy(says("A", [(10.0, 12.0), (14.0, 15.0), (47.0, 60.0)], p=0.4), rates(1, 8, 1))
    trace = ask(policy, video, "zoom")
    close = policy.shown[1]
    # widened by 2 s: (8, 14) and (12, 17) are one, (45, 50) ends with the video; 2 frames a second
    assert close.clip.spans == (Span(8.0, 17.0), Span(45.0, 48.0))
    assert close.times_s == (*np.arange(8.0, 17.0, 0.5), *np.arange(45.0, 48.0, 0.5))
    assert close.size == (128, 128)  # 18 + 6 frames are 12 patches of at most 33 tokens: the file has 4 x 4
    assert close.text == zoom_text(QUESTION, OPTIONS, "brief", "letter")
    assert trace.spans == (Span(10.0, 12.0), Span(14.0, 15.0), Span(47.0, 48.0))  # cut to the video, not widened
    assert (trace.option, trace.confidence) == ("B", pytest.approx(0.8))
    assert trace.reason == "zoom is the most confident (0.80 against coarse 0.40)"


def test_zoom_shows_the_pixels_of_the_times_it_tells(video: Path) -> None:
    policy = ScriptedPolicy(says("A", [(20.0, 22.0)]), rates(1, 0, 0))
    ask(policy, video, "zoom")
    clip = policy.shown[1].clip
    drawn = render(SCENE, clip.times_s)  # (T, 128, 128, 3), before it was encoded
    assert clip.frames.shape == drawn.shape
    assert np.abs(clip.frames.astype(int) - drawn).mean() < 6
    elsewhere = render(SCENE, [t - 10 for t in clip.times_s])
    assert np.abs(clip.frames.astype(int) - elsewhere).mean() > 9


@pytest.mark.parametrize(
    ("coarse_p", "shares", "winner", "option"),
    [
        (0.9, (2, 2, 6), "coarse", "A"),
        (0.5, (2, 2, 6), "zoom", "C"),
        (0.6, (2, 2, 6), "zoom", "C"),  # of equals the close look
    ],
)
def test_zoom_keeps_the_likelier_answer(
    video: Path, coarse_p: float, shares: tuple[float, ...], winner: str, option: str
) -> None:
    trace = ask(ScriptedPolicy(says("A", [(20.0, 22.0)], p=coarse_p), Rates(shares)), video, "zoom")
    assert (trace.option, trace.confidence) == (option, pytest.approx(max(coarse_p, 0.6)))
    assert trace.reason.startswith(f"{winner} is the most confident")
    assert trace.spans == (Span(20.0, 22.0),)


@pytest.mark.parametrize(("p", "passes"), [(0.95, ["coarse"]), (0.85, ["coarse", "zoom"])])
def test_zoom_does_without_a_close_look_when_the_coarse_pass_is_sure(video: Path, p: float, passes: list[str]) -> None:
    settings = SETTINGS.model_copy(update={"enough": 0.9})
    more = [rates(8, 1, 1)] if "zoom" in passes else []
    trace = ask(ScriptedPolicy(says("A", [(20.0, 22.0)], p=p), *more), video, "zoom", settings=settings)
    assert (names(trace), trace.option, trace.spans) == (passes, "A", (Span(20.0, 22.0),))


def test_a_pass_that_saw_few_frames_is_widened_by_half_their_distance(video: Path) -> None:
    few = SETTINGS.coarse.model_copy(update={"max_frames": 4})  # at 0, 12, 24 and 36 s
    policy = ScriptedPolicy(says("A", [(20.0, 22.0)], p=0.4), rates(1, 8, 1))
    ask(policy, video, "zoom", settings=SETTINGS.model_copy(update={"coarse": few}))
    assert policy.shown[1].clip.spans == (Span(14.0, 28.0),)


def test_zoom_answers_when_the_coarse_pass_named_no_option(video: Path) -> None:
    trace = ask(ScriptedPolicy(says("Q", [(20.0, 22.0)], p=1.0), rates(4, 3, 3)), video, "zoom")
    assert (trace.option, trace.notes) == ("A", ())


@pytest.mark.parametrize("spans", [[], [(60.0, 70.0)]], ids=["none", "after the end"])
@pytest.mark.parametrize("mode", ["zoom", "context"])
def test_without_spans_the_coarse_answer_stands(video: Path, mode: str, spans: list[tuple[float, float]]) -> None:
    policy = ScriptedPolicy(says("B", spans, p=0.3))
    trace = ask(policy, video, mode)
    assert (names(trace), trace.option, trace.spans) == (["coarse"], "B", ())
    assert "nothing to zoom into" in trace.reason


def test_context_goes_on_from_what_was_read(video: Path) -> None:
    wrote = says("A", [(20.0, 22.0)], p=0.4)
    policy = ScriptedPolicy(wrote, rates(0, 9, 1))
    trace = ask(policy, video, "context")
    first, second = policy.shown
    assert (second.verb, second.after) == ("extend", 0)
    assert [turn.role for turn in second.turns] == ["assistant", "user"]
    assert second.turns[0].parts == (wrote.text,)
    assert second.times_s == tuple(np.arange(18.0, 24.0, 0.5))
    coarse, context = trace.passes
    assert context.visual_tokens == 6 * 16  # the close frames alone
    assert context.prompt_tokens == coarse.prompt_tokens + context.new_tokens
    assert trace.costs["prefill_tokens"] == coarse.prompt_tokens + context.new_tokens
    assert policy.scored[0][0] == 1
    assert (trace.option, trace.confidence) == ("B", pytest.approx(0.9))
    assert first.verb == "read"


# --- open questions, budget, progress ---


def test_open_questions_get_words_from_both_looks(video: Path) -> None:
    policy = ScriptedPolicy(says("an E", [(4.0, 6.0)], p=0.5), says(text="an H", p=0.8))
    trace = ask(policy, video, "zoom", options=())
    assert policy.shown[0].text == video_header(DURATION_S) + coarse_text(QUESTION, (), "think", "brief")
    assert policy.shown[1].text == zoom_text(QUESTION, (), "brief")
    assert policy.drawn[1] == (1, 1, Sampling(max_tokens=64))
    assert (trace.answer, trace.option, trace.confidence) == ("an H", None, pytest.approx(0.8))
    assert trace.passes[1].generated_tokens == 5


def test_an_open_answer_is_read_out_of_its_tags(video: Path) -> None:
    trace = ask(ScriptedPolicy(says(text="<answer>an H</answer>", p=0.8)), video, "direct", options=())
    assert (trace.answer, trace.confidence) == ("an H", pytest.approx(0.8))


def test_the_budget_holds_in_every_pass(video: Path) -> None:
    policy = ScriptedPolicy(says("A", [(20.0, 22.0)]), rates(1, 1, 8))
    trace = ask(policy, video, "zoom", budget_tokens=20)
    # 48 frames at 1 token a patch are 24 > 20: 40 frames; the close look keeps 16 tokens a patch: one patch
    assert [(len(one.times_s), one.visual_tokens) for one in trace.passes] == [(40, 20), (2, 16)]


@pytest.mark.parametrize(("mode", "tokens"), [("direct", 0), ("coarse", -3), ("zoom", 15), ("search", 15)])
def test_a_budget_that_holds_no_frame_is_refused_before_anything_runs(video: Path, mode: str, tokens: int) -> None:
    policy = ScriptedPolicy()
    least = 1 if mode in ("direct", "coarse") else 16
    with pytest.raises(ConfigError, match=f"^--budget: .*; give at least {least}$"):
        ask(policy, video, mode, budget_tokens=tokens)
    assert policy.shown == []


def test_progress_names_every_pass_as_it_starts(video: Path) -> None:
    told: list[tuple[str, int]] = []
    policy = ScriptedPolicy(says("A", [(4.0, 6.0)]), says("B"), says("C"), rates(1, 1, 8))
    ask(policy, video, "search", progress=lambda name: told.append((name, len(policy.shown))))
    assert told == [("coarse", 0), ("candidate", 1), ("verify 1", 1)]


@pytest.mark.parametrize(
    ("question", "options", "mode", "complaint"),
    [
        (" ", (), "zoom", "QUESTION: is empty"),
        ("q", ("a",), "zoom", "--option: one option leaves nothing to choose"),
        ("q", ("a", " "), "zoom", "--option: option 2 is empty"),
        ("q", ("a", "b", "a "), "zoom", "--option: the same text is given twice"),
        ("q", (), "fast", "--mode: 'fast' is unknown; use one of direct, coarse, zoom, context, divide, search"),
        ("caf\udce9", (), "zoom", "QUESTION: holds bytes that are not UTF-8"),
        ("q", ("a", "\udcff"), "zoom", "--option: holds bytes that are not UTF-8"),
    ],
)
def test_what_cannot_be_asked_is_refused(question: str, options: tuple[str, ...], mode: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        answer(ScriptedPolicy(), SETTINGS, "nowhere.mp4", question, options, mode=mode)  # type: ignore[arg-type]
    assert str(caught.value).startswith(complaint)
