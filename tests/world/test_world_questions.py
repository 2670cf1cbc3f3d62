"""Questions: every answer, option and span checked against the scene by an independent reading of the words."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from world_truth import COUNTS, name_of, symbol_of, truth
from zoomzero.world.questions import QUESTION_KINDS, Question, QuestionKind, ask
from zoomzero.world.scenes import Event, Scene, make_scene
from zoomzero.world.write import world_item


def event(start_s: float, end_s: float, kind: int, symbol: int) -> Event:
    return Event(start_s, end_s, kind, symbol, 0.5, 0.5, 0.0, 0.0)


def scene_of(*events: Event, duration_s: float = 60.0) -> Scene:
    return Scene(duration_s, events, (90.0, 90.0, 90.0), 0.0)


def check(question: Question, scene: Scene) -> None:
    """Everything a question says, against the scene."""
    right = truth(question.text, scene)
    assert question.options[question.answer] == right.answer
    assert [tuple(span) for span in question.spans] == right.spans
    assert [(name, tuple(span)) for name, span in question.reasoning] == [
        (name_of(e), (e.start_s, e.end_s)) for e in right.asked
    ]
    assert len(set(question.options)) == 4, "four different options"
    on_screen = {name_of(e) for e in scene.events}
    if question.kind == "symbol":
        assert set(question.options) <= {symbol_of(e) for e in scene.events}
    elif question.kind == "count":
        assert sorted(question.options) == sorted(COUNTS)
    else:
        assert set(question.options) <= on_screen
    if question.kind == "order":
        assert name_of(right.asked[0]) not in question.options


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(24, 100), st.sampled_from(QUESTION_KINDS))
def test_question_says_what_the_scene_shows(seed: int, half_s: int, kind: QuestionKind) -> None:
    rng = np.random.default_rng(seed)
    scene = make_scene(rng, 2.0 * half_s)
    question = ask(rng, scene, kind)
    if question is not None:
        assert question.kind == kind
        check(question, scene)


@pytest.mark.parametrize("index", range(8))
def test_question_about_a_long_video_says_what_it_shows(index: int) -> None:
    item = world_item("long", 3, index)
    assert item.scene.duration_s == 1200.0
    check(item.question, item.scene)


def test_nearly_every_short_scene_allows_every_kind() -> None:
    missing: Counter[str] = Counter()
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scene = make_scene(rng, 60.0)
        missing.update(kind for kind in QUESTION_KINDS if ask(rng, scene, kind) is None)
    assert missing["symbol"] == missing["count"] == missing["last"] == 0
    assert missing["order"] <= 10


def test_order_asks_for_the_neighbour_by_start_time() -> None:
    # red square 2 s, green square 4 s, blue square 5 s, yellow square 20 s (the first three overlap)
    scene = scene_of(*(event(s, s + 6, kind, kind) for s, kind in ((2, 0), (4, 1), (5, 2), (20, 3))))
    answers = {}
    for seed in range(80):
        question = ask(np.random.default_rng(seed), scene, "order")
        # anchor and target take two of the four kinds away, so a scene of four has no three wrong options
        assert question is None
    scene = scene_of(*scene.events, event(30, 35, 4, 4))
    for seed in range(80):
        question = ask(np.random.default_rng(seed), scene, "order")
        assert question is not None
        answers[question.text] = question.options[question.answer]
    assert answers == {
        "Which object appears next after the red square?": "green square",
        "Which object appears next after the green square?": "blue square",
        "Which object appears next after the blue square?": "yellow square",
        "Which object appears next after the yellow square?": "purple square",
        "Which object appears last before the green square?": "red square",
        "Which object appears last before the blue square?": "green square",
        "Which object appears last before the yellow square?": "blue square",
        "Which object appears last before the purple square?": "yellow square",
    }


def test_only_objects_that_appear_once_are_named() -> None:
    """`the red square` must mean one object in symbol and order questions; red squares appear twice here."""
    kinds = [0, 1, 0, 2, 3, 4]
    scene = scene_of(*(event(9.0 * i, 9.0 * i + 4, kind, i) for i, kind in enumerate(kinds)))
    for seed in range(60):
        for kind in ("symbol", "order"):
            question = ask(np.random.default_rng(seed), scene, kind)
            assert question is not None
            assert "the red square" not in question.text


def test_symbol_that_comes_again_next_door_is_no_wrong_option() -> None:
    scene = scene_of(*(event(9.0 * i, 9.0 * i + 4, i, symbol) for i, symbol in enumerate((0, 0, 1, 2, 3))))
    for seed in range(20):
        question = ask(np.random.default_rng(seed), scene, "symbol")
        assert question is not None
        check(question, scene)


def test_count_gives_one_span_for_each_appearance() -> None:
    scene = scene_of(event(1, 5, 0, 0), event(10, 14, 0, 1), event(20, 24, 0, 2), event(50, 60, 0, 3))
    question = ask(np.random.default_rng(0), scene, "count")
    assert question is not None
    assert question.text == "How many times does the red square appear?"
    assert question.options[question.answer] == "four"
    assert [tuple(s) for s in question.spans] == [(1, 5), (10, 14), (20, 24), (50, 60)]


def test_what_appears_five_times_is_not_counted() -> None:
    scene = scene_of(*(event(10.0 * i, 10.0 * i + 4, 0, i) for i in range(5)))
    assert ask(np.random.default_rng(0), scene, "count") is None


def test_scene_without_three_wrong_options_has_no_question() -> None:
    scene = scene_of(event(0, 4, 0, 0), event(10, 14, 1, 1), event(50, 60, 2, 2))
    assert ask(np.random.default_rng(0), scene, "last") is None
    assert ask(np.random.default_rng(0), scene, "symbol") is None
    assert ask(np.random.default_rng(0), scene, "order") is None


def test_wrong_options_of_the_end_were_seen_last() -> None:
    scene = scene_of(*(event(5.0 * i, 5.0 * i + 4, i, i) for i in range(8)), duration_s=39.0)
    question = ask(np.random.default_rng(0), scene, "last")
    assert question is not None
    assert set(question.options) == {name_of(e) for e in scene.events[-4:]}
    assert question.options[question.answer] == name_of(scene.events[-1])


@pytest.mark.parametrize("kind", QUESTION_KINDS)
def test_right_option_is_everywhere_equally_often(kind: QuestionKind) -> None:
    places: Counter[int] = Counter()
    for seed in range(400):
        rng = np.random.default_rng((17, seed))
        question = ask(rng, make_scene(rng, 60.0), kind)
        if question is not None:
            places[question.answer] += 1
    total = places.total()
    assert total >= 380
    # binomial(400, 1/4): mean 100, standard deviation 8.7; four deviations on either side
    assert all(65 <= places[i] <= 135 for i in range(4)), places
