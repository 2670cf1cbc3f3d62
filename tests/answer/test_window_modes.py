"""Divide and search: windows and candidates, with replies written by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from scripted_asking import OPTIONS, QUESTION, SETTINGS, ask, names

from scripted_policy import Rates, ScriptedPolicy, rates, says
from small_videos import write_small
from zoomzero.answer.ask import answer
from zoomzero.answer.modes.verify import mutual
from zoomzero.answer.trace import Trace
from zoomzero.policy.base import Sampling
from zoomzero.spans import Span

WINDOWS = [Span(0.0, 16.0), Span(16.0, 32.0), Span(32.0, 48.0)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("zoom") / "small.mp4")


# --- divide ---


def divide(video: Path, windows: list[Any], *more: Any, **settings: Any) -> tuple[Trace, ScriptedPolicy]:
    policy = ScriptedPolicy(*windows, *more)
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
    trace, _ = divide(video, [says("A"), says("B", [(20.0, 21.0)], p=0.96), says("C")])
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(20.0, 21.0),), pytest.approx(0.96))
    assert trace.reason == "of 3 windows one shows evidence, and it is certain"


def test_divide_does_not_believe_a_window_whose_evidence_does_not_show(video: Path) -> None:
    windows = [says("A", [(2.0, 4.0)], p=0.94), says("B", [(20.0, 21.0)], p=0.6), says("C")]
    trace, policy = divide(video, windows, rates(4, 3, 3), rates(1, 8, 1))
    assert names(trace)[3:] == ["verify window 1 of 3", "verify window 2 of 3"]
    assert [shown.clip.spans for shown in policy.shown[3:]] == [(Span(0.0, 6.0),), (Span(18.0, 23.0),)]
    # window 1: (0.4 + 0.94) / 2 = 0.67; window 2: (0.8 + 0.6) / 2 = 0.70, and only its close look holds
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(20.0, 21.0),), pytest.approx(0.8))
    said = "verify window 2 of 3 0.70, verify window 1 of 3 0.67"
    best = "window 2 of 3 shows the best verified evidence"
    assert trace.reason == f"verify window 2 of 3 is believed: {best} ({said})"


@pytest.mark.parametrize(
    ("said", "p", "option", "confidence", "by"),
    [("B", 0.6, "C", 0.9, "zoom"), ("B", 0.95, "B", 0.95, "all evidence")],
)
def test_divide_reads_and_looks_at_all_evidence_that_holds(
    video: Path, said: str, p: float, option: str, confidence: float, by: str
) -> None:
    windows = [says("A", [(14.0, 16.0)], p=0.9), says("A", [(16.0, 18.0)], p=0.9), says("A", [(40.0, 41.0)], p=0.9)]
    close = (rates(8, 1, 1), rates(7, 2, 1), rates(4, 3, 3))
    trace, policy = divide(video, windows, *close, says(said, [(3.0, 5.0)], p=p), rates(1, 0, 9))
    assert names(trace)[-2:] == ["all evidence", "zoom"]
    # 0.85, 0.80 and 0.65: the last one's close look is below 0.5
    assert policy.shown[-2].clip.spans == (Span(10.0, 22.0),), "four seconds around, in whole patches"
    assert policy.shown[-1].clip.spans == (Span(12.0, 20.0),)
    assert (trace.option, trace.spans, trace.confidence) == (option, (Span(14.0, 18.0),), pytest.approx(confidence))
    assert trace.reason.startswith("the evidence of 2 windows holds (verify window 1 of 3 0.85")
    assert trace.reason.endswith(f"and {by} sees all of it")


def test_divide_keeps_the_best_window_when_all_evidence_together_shows_nothing(video: Path) -> None:
    windows = [says("B", [(2.0, 4.0)], p=0.7), says("B", [(20.0, 22.0)], p=0.9), says("A")]
    close = (rates(1, 8, 1), rates(1, 7, 2))
    trace, _ = divide(video, windows, *close, says("A", [(3.0, 5.0)], p=0.3), rates(4, 3, 3))
    # the windows come by how sharply their spans were written: equal, so in order; 0.75 and 0.80
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(20.0, 22.0),), pytest.approx(0.9))
    assert trace.reason.startswith("window 2 of 3 is believed: window 2 of 3 shows the best verified evidence")


def test_divide_verifies_the_windows_with_the_sharpest_spans(video: Path) -> None:
    windows = [
        says("A", [(2.0, 4.0)], p=0.9, peak=1.0),
        says("B", [(20.0, 21.0)], p=0.5, peak=3.0),
        says("C", [(40.0, 41.0)], p=0.5, peak=2.0),
    ]
    trace, policy = divide(video, windows, rates(1, 8, 1), rates(1, 1, 1), divide_top=2)
    assert [shown.clip.spans for shown in policy.shown[3:]] == [(Span(18.0, 23.0),), (Span(38.0, 43.0),)]
    assert trace.option == "B"


@pytest.mark.parametrize(
    ("said", "p", "shares", "expected"),
    [
        ("B", 0.6, (1, 8, 1), 0.7),  # both say B: (0.8 + 0.6) / 2
        ("A", 0.6, (1, 8, 1), 0.5),  # the candidate leaves 0.4 to two others: (0.8 + 0.2) / 2
        ("Q", 0.6, (1, 8, 1), 0.8),  # it named no option: the close look alone
    ],
)
def test_mutual_confidence_worked_by_hand(
    video: Path, said: str, p: float, shares: tuple[float, ...], expected: float
) -> None:
    _, results = answer(
        ScriptedPolicy(says(said, [(2.0, 4.0)], p=p), Rates(shares)), SETTINGS, video, QUESTION, OPTIONS
    )
    assert mutual(results[0], results[1], 3) == pytest.approx(expected)


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
    assert trace.costs["visual_tokens"] == 96 + 2 * 6 * 16
    assert trace.costs["frames"] == 48 + 2 * 12
    assert trace.costs["prefill_tokens"] == sum(
        p.prompt_tokens for p in trace.passes if p is not first and p is not other
    )
    assert trace.costs["generated_tokens"] == sum(len(one.token_ids) for one in (greedy, second, third))


def test_search_believes_the_best_verified_candidate(video: Path) -> None:
    candidates = [says("A", [(4.0, 6.0)], p=0.7), says("B", [(20.0, 22.0)], p=0.2), says("C", [(40.0, 42.0)], p=0.5)]
    policy = ScriptedPolicy(*candidates, rates(6, 2, 2), rates(1, 8, 1), rates(2, 1, 7))
    trace = ask(policy, video, "search")
    # (0.6 + 0.7) / 2, (0.8 + 0.2) / 2, (0.7 + 0.5) / 2: the first two passes agree best
    assert (trace.option, trace.spans, trace.confidence) == ("A", (Span(4.0, 6.0),), pytest.approx(0.7))
    best = "coarse is the best verified of 3 candidates (verify 1 0.65 against verify 2 0.50, verify 3 0.60)"
    surer = "verify 2 is surer (0.80), but a close look at its moment is not"
    assert trace.reason == f"coarse is believed: {best}; {surer}"


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
    assert trace.reason.startswith("verify outside 1 is believed: outside 1 is the best verified of 2 candidates")


def test_search_looks_again_where_frames_far_apart_named_something(video: Path) -> None:
    """Six frames lie 8 s apart: what they name between them is looked for in its window, and only that is verified."""
    coarse = SETTINGS.coarse.model_copy(update={"max_frames": 6})
    settings = SETTINGS.model_copy(update={"candidates": 2, "coarse": coarse})
    policy = ScriptedPolicy(
        says("A", [(4.0, 6.0)], p=0.9),
        says("C", [(36.0, 40.0)], p=0.8),
        says("C", []),  # near 1, the window from 0 s: it is not there
        says("B", [(34.0, 37.0)], p=0.6),  # near 2, the window from 32 s
        rates(1, 8, 1),
    )
    trace = ask(policy, video, "search", settings=settings)
    assert names(trace) == ["coarse", "candidate 1", "near 1", "near 2", "verify 1"]
    assert [shown.clip.spans for shown in policy.shown[1:3]] == [(WINDOWS[0],), (WINDOWS[2],)]
    assert policy.shown[3].clip.spans == (Span(32.0, 39.0),)  # widened by 2 s
    assert (trace.option, trace.spans, trace.confidence) == ("B", (Span(34.0, 37.0),), pytest.approx(0.8))


def test_search_goes_on_outside_the_windows_where_nothing_was_found_again(video: Path) -> None:
    coarse = SETTINGS.coarse.model_copy(update={"max_frames": 6})
    settings = SETTINGS.model_copy(update={"candidates": 1, "outside_looks": 2, "coarse": coarse})
    policy = ScriptedPolicy(
        says("A", [(4.0, 6.0)], p=0.9), says("C", []), says("C", []), says("B", [(34.0, 37.0)], p=0.6), rates(1, 8, 1)
    )
    trace = ask(policy, video, "search", settings=settings)
    assert names(trace) == ["coarse", "near 1", "outside 1", "outside 2", "verify outside 2"]
    assert [shown.clip.spans for shown in policy.shown[2:4]] == [(WINDOWS[1],), (WINDOWS[2],)]
    assert (trace.option, trace.spans) == ("B", (Span(34.0, 37.0),))


def test_search_keeps_a_weak_candidate_that_nothing_outside_beats(video: Path) -> None:
    settings = SETTINGS.model_copy(update={"candidates": 1, "outside_looks": 1})
    policy = ScriptedPolicy(
        says("A", [(4.0, 8.0)], p=0.3), rates(4, 3, 3), says("B", [(20.0, 21.0)], p=0.9), rates(35, 33, 32)
    )
    trace = ask(policy, video, "search", settings=settings)
    assert (trace.option, trace.spans, trace.confidence) == ("A", (Span(4.0, 8.0),), pytest.approx(0.4))


def test_search_without_any_evidence_keeps_the_coarse_answer(video: Path) -> None:
    settings = SETTINGS.model_copy(update={"candidates": 2, "outside_looks": 1})
    trace = ask(ScriptedPolicy(says("C", p=0.3), says("A"), says("B")), video, "search", settings=settings)
    assert names(trace) == ["coarse", "candidate 1", "outside 1"]
    assert (trace.option, trace.spans, trace.confidence) == ("C", (), pytest.approx(0.3))
    assert trace.reason == "no candidate could be verified, so the pass over the whole video decides"
