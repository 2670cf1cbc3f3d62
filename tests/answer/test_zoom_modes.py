"""Every mode's logic, with a model that follows a script and a real video file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripted_policy import Rates, ScriptedPolicy, rates, says
from small_videos import DURATION_S, SCENE, write_small
from zoomzero.answer.ask import answer
from zoomzero.answer.trace import Trace
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.errors import ConfigError
from zoomzero.policy.base import Sampling
from zoomzero.prompts import coarse_text, video_header, zoom_text
from zoomzero.spans import Span
from zoomzero.world.render import render

QUESTION = "Which symbol is on the red circle?"
OPTIONS = ("E", "H", "K")
SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=96, min_frame_tokens=1),  # 48 frames are 24 patches: 2 x 2 tokens each
    zoom=PassSettings(fps=2, max_tokens=400, max_frames=64, min_frame_tokens=16),  # frames stay 6 x 6 tokens
    window=PassSettings(fps=1, max_tokens=32, max_frames=16, min_frame_tokens=1),  # 3 windows of 16 s, 2 x 2 tokens
    widen_s=2.0,
    candidates=3,
)
WINDOWS = [Span(0.0, 16.0), Span(16.0, 32.0), Span(32.0, 48.0)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("zoom") / "small.mp4")


def ask(policy: ScriptedPolicy, video: Path, mode: str, options: tuple[str, ...] = OPTIONS, **more: Any) -> Trace:
    """Ask; the whole script must have been used."""
    settings = more.pop("settings", SETTINGS)
    trace, looks = answer(policy, settings, video, QUESTION, options, mode=mode, **more)  # type: ignore[arg-type]
    assert policy.replies == []
    assert [look.trace for look in looks] == list(trace.passes)
    return trace


def names(trace: Trace) -> list[str]:
    return [one.name for one in trace.passes]


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
    trace = ask(ScriptedPolicy(says("D", [(1.0, 2.0)], p=0.9)), video, "coarse")  # there are three options
    assert (trace.answer, trace.option, trace.confidence) == (None, None, 0.0)
    assert trace.passes[0].problems == ("unknown_option",)
    assert trace.notes == ("the model's reply names no answer",)


# --- zoom ---


def test_zoom_looks_at_the_widened_spans_and_nothing_else(video: Path) -> None:
    policy = ScriptedPolicy(says("A", [(10.0, 12.0), (14.0, 15.0), (47.0, 60.0)], p=0.4), rates(1, 8, 1))
    trace = ask(policy, video, "zoom")
    close = policy.shown[1]
    # widened by 2 s: (8, 14) and (12, 17) are one, (45, 50) ends with the video; 2 frames a second
    assert close.clip.spans == (Span(8.0, 17.0), Span(45.0, 48.0))
    assert close.times_s == (*np.arange(8.0, 17.0, 0.5), *np.arange(45.0, 48.0, 0.5))
    assert close.size == (160, 160)  # 18 + 6 frames are 12 patches of at most 33 tokens: 5 x 5
    assert close.text == zoom_text(QUESTION, OPTIONS, "brief", "letter")
    assert trace.spans == (Span(10.0, 12.0), Span(14.0, 15.0), Span(47.0, 48.0))  # cut to the video, not widened
    assert (trace.option, trace.confidence) == ("B", pytest.approx(0.8))
    assert trace.reason == "zoom is the most confident (0.80 against coarse 0.40)"


def test_zoom_shows_the_pixels_of_the_times_it_tells(video: Path) -> None:
    policy = ScriptedPolicy(says("A", [(20.0, 22.0)]), rates(1, 0, 0))
    ask(policy, video, "zoom")
    clip = policy.shown[1].clip
    drawn = render(SCENE, clip.times_s)  # (T, 192, 192, 3), before it was encoded
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
    assert context.visual_tokens == 6 * 36  # the close frames alone
    assert context.prompt_tokens == coarse.prompt_tokens + context.new_tokens
    assert trace.costs["prefill_tokens"] == coarse.prompt_tokens + context.new_tokens
    assert policy.scored[0][0] == 1
    assert (trace.option, trace.confidence) == ("B", pytest.approx(0.9))
    assert first.verb == "read"


# --- divide ---


def divide(video: Path, windows: list[Any], coarse: Any, *more: Rates, **settings: Any) -> tuple[Trace, ScriptedPolicy]:
    policy = ScriptedPolicy(*windows, coarse, *more)
    return ask(policy, video, "divide", settings=SETTINGS.model_copy(update=settings)), policy


def test_divide_looks_at_every_window_then_at_everything(video: Path) -> None:
    trace, policy = divide(video, [says("A"), says("B"), says("C")], says("B", [(5.0, 7.0)], p=0.2))
    assert names(trace) == ["window 1 of 3", "window 2 of 3", "window 3 of 3", "coarse"]
    assert [shown.clip.spans for shown in policy.shown] == [*((w,) for w in WINDOWS), (Span(0.0, 48.0),)]
    assert [t for shown in policy.shown[:3] for t in shown.times_s] == [float(t) for t in range(48)]
    assert {shown.size for shown in policy.shown} == {(64, 64)}
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(5.0, 7.0),), pytest.approx(0.2))
    assert trace.reason == "no window shows evidence, so the pass over the whole video decides"


def test_divide_stops_at_one_certain_window(video: Path) -> None:
    windows = [says("A", [(2.0, 4.0)], p=0.5), says("B", [(20.0, 21.0)], p=0.96), says("C", [(40.0, 41.0)], p=0.9)]
    trace, _ = divide(video, windows, says("C", p=1.0))
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(20.0, 21.0),), pytest.approx(0.96))
    assert trace.reason == "of 3 windows 1 is certain"


def test_divide_joins_the_spans_of_certain_windows_that_agree(video: Path) -> None:
    windows = [says("B", [(14.0, 16.0)], p=0.96), says("B", [(16.0, 18.0)], p=0.99), says("C", [(40.0, 41.0)], p=0.5)]
    trace, _ = divide(video, windows, says("C"))
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(14.0, 18.0),), pytest.approx(0.99))
    assert trace.reason == "of 3 windows 2 are certain, and they agree"


def test_divide_zooms_when_certain_windows_disagree(video: Path) -> None:
    windows = [says("A", [(2.0, 4.0)], p=0.96), says("B", [(20.0, 21.0)], p=0.97), says("C")]
    trace, policy = divide(video, windows, says("A"), rates(0, 0, 1))
    assert policy.shown[-1].clip.spans == (Span(0.0, 6.0), Span(18.0, 23.0))
    assert (trace.option, trace.spans) == ("C", (Span(2.0, 4.0), Span(20.0, 21.0)))


@pytest.mark.parametrize(
    ("shares", "coarse_p", "winner", "option", "spans"),
    [
        ((9, 1, 0), 0.4, "zoom", "A", (Span(2.0, 4.0), Span(40.0, 41.0))),  # the union that was looked at
        ((1, 1, 1), 0.8, "coarse", "C", (Span(30.0, 31.0),)),
        ((1, 1, 1), 0.5, "window 1 of 3", "B", (Span(2.0, 4.0),)),
    ],
)
def test_divide_takes_the_most_confident_of_close_look_whole_and_best_window(
    video: Path, shares: tuple[float, ...], coarse_p: float, winner: str, option: str, spans: tuple[Span, ...]
) -> None:
    windows = [says("B", [(2.0, 4.0)], p=0.7), says("A"), says("B", [(40.0, 41.0)], p=0.6)]
    trace, _ = divide(video, windows, says("C", [(30.0, 31.0)], p=coarse_p), Rates(shares))
    assert names(trace)[-1] == "zoom"
    assert (trace.option, trace.spans) == (option, spans)
    assert trace.reason.startswith(f"{winner} is the most confident")


def test_divide_zooms_into_the_windows_with_the_sharpest_spans(video: Path) -> None:
    windows = [
        says("A", [(2.0, 4.0)], p=0.9, peak=1.0),
        says("B", [(20.0, 21.0)], p=0.5, peak=3.0),
        says("C", [(40.0, 41.0)], p=0.5, peak=2.0),
    ]
    _, policy = divide(video, windows, says("A"), rates(1, 1, 1), divide_top=2)
    assert policy.shown[-1].clip.spans == (Span(18.0, 23.0), Span(38.0, 43.0))


# --- search ---


def test_search_draws_candidates_from_one_reading(video: Path) -> None:
    greedy, second, third = says("A", [(4.0, 6.0)]), says("B", [(20.0, 22.0)]), says("B", [(20.0, 22.2)])
    policy = ScriptedPolicy(greedy, second, third, rates(6, 2, 2), rates(1, 8, 1))
    trace = ask(policy, video, "search")
    assert names(trace) == ["coarse", "candidate 1", "candidate 2", "verify 1", "verify 2"]  # the third is the second
    assert policy.drawn == [(0, 1, Sampling(max_tokens=512)), (0, 2, Sampling(temperature=1.0, max_tokens=512))]
    assert [shown.clip.spans for shown in policy.shown[1:]] == [(Span(2.0, 8.0),), (Span(18.0, 24.0),)]
    coarse, first, other, *_ = trace.passes
    assert (first.visual_tokens, first.new_tokens, first.decoded_frames, first.times_s) == (0, 0, 0, ())
    assert first.prompt_tokens == coarse.prompt_tokens
    assert trace.costs["visual_tokens"] == 96 + 2 * 6 * 36
    assert trace.costs["frames"] == 48 + 2 * 12
    assert trace.costs["prefill_tokens"] == sum(
        p.prompt_tokens for p in trace.passes if p is not first and p is not other
    )
    assert trace.costs["generated_tokens"] == sum(len(one.token_ids) for one in (greedy, second, third))


def test_search_believes_the_best_verified_candidate(video: Path) -> None:
    candidates = [says("A", [(4.0, 6.0)], p=0.7), says("B", [(20.0, 22.0)], p=0.2), says("C", [(40.0, 42.0)], p=0.5)]
    policy = ScriptedPolicy(*candidates, rates(6, 2, 2), rates(1, 8, 1), rates(2, 1, 7))
    trace = ask(policy, video, "search")
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(20.0, 22.0),), pytest.approx(0.8))
    expected = "best of 3 verified candidates; verify 2 is the most confident (0.80 against candidate 1 0.20)"
    assert trace.reason == expected


def test_search_looks_outside_when_every_candidate_is_weak(video: Path) -> None:
    settings = {"candidates": 1, "outside_looks": 2}
    policy = ScriptedPolicy(
        says("A", [(4.0, 8.0)], p=0.3),
        rates(4, 3, 3),  # below 0.5
        says("B", [(20.0, 21.0)], p=0.4),  # outside 1
        rates(1, 9, 1),
        says("C", []),  # outside 2 names nothing to verify
    )
    trace = ask(policy, video, "search", settings=SETTINGS.model_copy(update=settings))
    assert names(trace) == ["coarse", "verify 1", "outside 1", "verify outside 1", "outside 2"]
    # nobody pointed at 0-4 s and 8-48 s: 1 + 3 looks of at most 16 s cover them, 2 are spread
    assert [shown.clip.spans[0] for shown in (policy.shown[2], policy.shown[4])] == [
        pytest.approx((8.0, 8.0 + 40 / 3)),
        pytest.approx((8.0 + 80 / 3, 48.0)),
    ]
    assert (trace.option, trace.spans) == ("B", (Span(20.0, 21.0),))
    assert trace.reason.startswith("best of 2 verified candidates; verify outside 1 is the most confident")


def test_search_keeps_a_weak_candidate_that_nothing_outside_beats(video: Path) -> None:
    settings = SETTINGS.model_copy(update={"candidates": 1, "outside_looks": 1})
    policy = ScriptedPolicy(
        says("A", [(4.0, 8.0)], p=0.3), rates(4, 3, 3), says("B", [(20.0, 21.0)], p=0.2), rates(35, 33, 32)
    )
    trace = ask(policy, video, "search", settings=settings)
    assert (trace.option, trace.spans, trace.confidence) == ("A", (Span(4.0, 8.0),), pytest.approx(0.4))


def test_search_without_any_evidence_keeps_the_coarse_answer(video: Path) -> None:
    settings = SETTINGS.model_copy(update={"candidates": 2, "outside_looks": 1})
    trace = ask(ScriptedPolicy(says("C", p=0.3), says("A"), says("B")), video, "search", settings=settings)
    assert names(trace) == ["coarse", "candidate 1", "outside 1"]
    assert (trace.option, trace.spans, trace.confidence) == ("C", (), pytest.approx(0.3))
    assert trace.reason == "no candidate could be verified, so the coarse answer stands"


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
