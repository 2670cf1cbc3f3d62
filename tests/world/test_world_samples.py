"""Samples of the world teach the truth: every target is worked out again from what the frames show."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

from sample_truth import check_coarse_item, named_in, parts, seen_in, tenths
from world_truth import name_of, symbol_of, truth
from zoomzero.data.sft_sample import SFTItem, SFTSample
from zoomzero.prompts import is_well_formed, read_response, video_header
from zoomzero.spans import Span, intersection_s
from zoomzero.video.plan import plan_regular
from zoomzero.video.types import Geometry
from zoomzero.world import samples
from zoomzero.world.samples import LIST_TEXT, coarse_sample, context_sample, joint_sample, picture_sample, zoom_sample
from zoomzero.world.scenes import Event, make_scene
from zoomzero.world.start import TINY_SETTINGS as SETTINGS
from zoomzero.world.views import View, sparse_view, whole_view, window_view

GEOMETRY = Geometry(patch=8, merge=4)
COARSE, CLOSE = SETTINGS.coarse.budget(), SETTINGS.zoom.budget()


class Made(NamedTuple):
    """A sample with the view it was drawn from."""

    sample: SFTSample
    view: View


@pytest.fixture
def catch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Made]:
    """Make a sample whose view is drawn inside, and catch the view."""
    caught: list[View] = []

    def noting(make: Callable[..., View]) -> Callable[..., View]:
        def noted(*arguments: Any) -> View:
            caught.append(make(*arguments))
            return caught[-1]

        return noted

    monkeypatch.setattr(samples, "whole_view", noting(whole_view))
    monkeypatch.setattr(samples, "sparse_view", noting(sparse_view))
    monkeypatch.setattr(samples, "View", noting(View))  # a close look moves the view it has drawn
    return lambda make, seed, *rest, **more: Made(make(np.random.default_rng(seed), *rest, **more), caught[-1])


def look(
    make_view: Callable[..., View], seed: int, *lengths: int, questions: int = 6, lookups: int = 0, listing: float = 1.0
) -> Made:
    rng = np.random.default_rng((5, seed))
    view = make_view(rng, *lengths)
    how_many = {"questions": questions, "lookups": lookups, "listing": listing}
    return Made(coarse_sample(rng, view, COARSE, SETTINGS, GEOMETRY, **how_many), view)


def check_look(made: Made) -> Counter[str]:
    """Check all items of a look and count what came up."""
    sample, view = made
    assert sample.header == video_header(view.total_s)
    assert sample.clip.spans == (view.span,)
    assert sample.clip.frames.shape[1:] == (32, 32, 3)
    seen = seen_in(view, sample.clip.times_s)
    return Counter(check_coarse_item(item, view, seen) for item in sample.items)


def shown_events(made: Made, frames: int = 1) -> list[Event]:
    """The events that at least so many frames show."""
    times = np.array(made.sample.clip.times_s) - made.view.shift_s
    return [e for e in made.view.scene.events if ((e.start_s <= times) & (times < e.end_s)).sum() >= frames]


def answer_of(item: SFTItem) -> str:
    """The text of the option an item of a close look is answered with."""
    _, options, mode = parts(item)
    assert mode in ("text", "letter")
    answer = item.target if mode == "text" else options["ABCD".index(item.target)]
    assert answer in options
    return answer


# --- a whole video, or a window of one --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_whole_video_shows_all_its_events(seed: int) -> None:
    made = look(whole_view, seed, 48, 80)
    assert made.sample.clip.times_s == tuple(float(t) for t in range(round(made.view.total_s)))
    came_up = check_look(made)
    assert came_up["list"] == 1
    assert made.sample.items[-1].target.count("(") == len(made.view.scene.events), "nothing is left out"
    assert came_up["its neighbour is not there"] == came_up["the end lies elsewhere"] == came_up["fewer counted"] == 0


@pytest.mark.parametrize("lengths", [(4, 10), (6, 24), (16, 46)])
def test_clip_that_is_a_piece_of_a_scene_speaks_of_what_it_shows(lengths: tuple[int, int]) -> None:
    """A clip is told to be the whole video, so its end is asked for only where one known object shows there."""
    came_up: Counter[str] = Counter()
    for seed in range(70):
        came_up += check_look(look(whole_view, seed, *lengths))
    assert came_up["the end lies elsewhere"] == 0
    assert min(came_up[one] for one in ("list", "letter", "not there", "fewer counted", "end", "seen")) > 0, came_up


def test_window_speaks_of_what_it_shows() -> None:
    came_up: Counter[str] = Counter()
    for seed in (*range(30), 92):  # the last asks for an end that lies elsewhere, which is rare
        came_up += check_look(look(window_view, seed))
    wanted = ("list", "letter", "not there", "the end lies elsewhere", "end", "seen")
    assert min(came_up[one] for one in wanted) > 0, came_up


def test_sparse_look_speaks_of_what_lies_on_its_frames() -> None:
    """80 frames of up to 20 minutes: most events fall between two frames, and count as not there."""
    came_up: Counter[str] = Counter()
    left_out = 0
    for seed in range(12):
        made = look(sparse_view, seed)
        assert len(made.sample.clip.times_s) == 80
        came_up += check_look(made)
        left_out += len(made.view.scene.events) - made.sample.items[-1].target.count("(")
    assert left_out > 100
    assert min(came_up[one] for one in ("list", "letter", "not there", "the end lies elsewhere", "seen")) > 0, came_up


def test_pieces_of_a_long_video_speak_of_what_they_show(catch: Callable[..., Made]) -> None:
    came_up: Counter[str] = Counter()
    many = 0
    for seed in range(40):
        sample, view = catch(joint_sample, seed, SETTINGS.window.budget(), SETTINGS, GEOMETRY, lookups=2)
        assert sample.header == video_header(view.total_s)
        assert len(sample.clip.times_s) <= 80
        assert all(any(s <= t < e for s, e in sample.clip.spans) for t in sample.clip.times_s)
        seen = seen_in(view, sample.clip.times_s, *sample.clip.spans)
        came_up += Counter(check_coarse_item(item, view, seen) for item in sample.items)
        many += len(read_response(sample.items[0].target, 4).spans) > 1
    assert many >= 10, "several moments answer together"
    assert min(came_up[one] for one in ("letter", "not there", "fewer counted", "seen")) > 0, came_up


def test_listing_comes_as_often_as_asked_and_always_without_questions() -> None:
    listed = [look(whole_view, s, 6, 10, questions=1, listing=0.5).sample.items[-1].text for s in range(60)]
    assert 15 <= listed.count(LIST_TEXT) <= 45  # binomial(60, 1/2): mean 30, standard deviation 3.9
    for seed in range(10):
        (item,) = look(whole_view, seed, 6, 10, questions=0, listing=0.0).sample.items
        assert item.text == LIST_TEXT
        assert len(look(whole_view, seed, 6, 10, questions=2, listing=0.0).sample.items) == 2


@pytest.mark.parametrize(("make_view", "lengths"), [(whole_view, (4, 32)), (whole_view, (48, 80)), (window_view, ())])
def test_objects_are_looked_up_by_name(make_view: Callable[..., View], lengths: tuple[int, ...]) -> None:
    came_up: Counter[str] = Counter()
    for seed in range(25):
        made = look(make_view, seed, *lengths, questions=0, lookups=6, listing=0.0)
        assert 1 <= len(made.sample.items) <= 6
        came_up += check_look(made)
    assert set(came_up) == {"looked up", "looked up in vain"}
    most = 0.4 if make_view is whole_view else 0.8  # windows hold little of what is asked about a long video
    assert came_up["looked up in vain"] < most * came_up["looked up"]


def test_nothing_is_looked_up_in_vain_where_everything_shows() -> None:
    """A video of 300 s in 80 frames may show all 24 kinds."""
    full = 0
    for seed in range(60):
        rng = np.random.default_rng((6, seed))
        view = View(make_scene(rng, 300.0), 0.0, Span(0, 300), 300.0)
        plan = plan_regular(view.info, COARSE, GEOMETRY, view.span)
        seen = seen_in(view, plan.times_s)
        items = samples._lookup_items(rng, view, plan, 24)
        found = [check_coarse_item(item, view, seen) for item in items]
        if len({e.kind for e, _ in seen}) == 24:
            full += 1
            assert found == ["looked up"] * 24
    assert full > 5


def test_answer_modes_come_in_their_shares() -> None:
    """Of what shows, a tenth is answered with a letter, a tenth without thinking; the letters are balanced."""
    modes: Counter[str] = Counter()
    letters: Counter[str] = Counter()
    for seed in range(40):
        for item in look(whole_view, seed, 48, 60, listing=0.0).sample.items:
            if not item.untrained:
                modes[parts(item).mode] += 1
                letters[re.sub(r".*<answer>|</answer>.*", "", item.target, flags=re.DOTALL)] += 1
    total = modes.total()
    assert total > 180
    assert 0.05 < modes["letter"] / total < 0.16
    assert 0.05 < modes["no_think"] / total < 0.16
    assert all(0.15 < letters[letter] / total < 0.35 for letter in "ABCD"), letters


def test_sample_is_a_pure_function_of_its_seed() -> None:
    for make in (
        lambda seed: look(whole_view, seed, 6, 48).sample,
        lambda seed: zoom_sample(np.random.default_rng(seed), SETTINGS, GEOMETRY),
        lambda seed: context_sample(np.random.default_rng(seed), SETTINGS, GEOMETRY),
    ):
        first, again, other = make(1), make(1), make(2)
        assert np.array_equal(first.clip.frames, again.clip.frames)
        assert (first.items, first.header, first.clip.times_s) == (again.items, again.header, again.clip.times_s)
        assert first.items != other.items


# --- one pair of frames -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbols", [False, True])
def test_pair_of_frames_is_listed(catch: Callable[..., Made], symbols: bool) -> None:
    empty = 0
    for seed in range(40):
        made = catch(picture_sample, seed, CLOSE if symbols else COARSE, GEOMETRY, symbols=symbols)
        side = 128 if symbols else 32
        assert made.sample.clip.frames.shape == (2, side, side, 3)
        assert (made.sample.header, made.sample.clip.times_s) == ("", (0.0, 1.0))
        (item,) = made.sample.items
        shown = shown_events(made)
        assert shown == shown_events(made, 2), "on the 2-second grid both frames show the same objects"
        said = [f" {name_of(e)} {symbol_of(e)}" if symbols else f" {name_of(e)}" for e in shown]
        assert (item.text, item.target) == (LIST_TEXT, "".join(said))
        empty += not shown
    assert 0 < empty < 20


# --- close looks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_close_look_names_what_its_frames_show(catch: Callable[..., Made], seed: int) -> None:
    made = catch(zoom_sample, seed, SETTINGS, GEOMETRY)
    sample, scene = made.sample, made.view.scene
    assert sample.header == ""
    assert sample.history == ()
    assert sample.clip.frames.shape[1:] == (128, 128, 3)
    assert 2 <= len(sample.clip.times_s) <= 24
    *asked, stranger, listing = sample.items
    shown = shown_events(made, 2)
    assert listing.text == LIST_TEXT
    assert listing.target == "".join(f" {name_of(e)} {symbol_of(e)}" for e in shown)
    kinds = Counter(name_of(e) for e in scene.events)
    assert [named_in(parts(item).question) for item in asked[1:]] == [
        name_of(e) for e in shown if kinds[name_of(e)] == 1
    ][:3]
    for item in asked[1:]:
        assert answer_of(item) == truth(parts(item).question, scene).answer
    assert named_in(parts(stranger).question) not in {name_of(e) for e in shown_events(made)}
    assert answer_of(stranger)
    for item in sample.items[:-1]:
        assert len(set(parts(item).options)) == len(parts(item).options) in (2, 3, 4)
        assert item.untrained == ()


@pytest.mark.parametrize("make", [zoom_sample, context_sample])
def test_answers_of_a_close_look_count_as_much_as_is_said(catch: Callable[..., Made], make: Any) -> None:
    """The list does not, and what is drawn is the same."""
    plain, heavy = (catch(make, 3, SETTINGS, GEOMETRY, weight=weight).sample for weight in (1.0, 4.0))
    assert [item.weight for item in plain.items] == [1.0] * len(plain.items)
    assert [item.weight for item in heavy.items] == [1.0 if i.text == LIST_TEXT else 4.0 for i in heavy.items]
    assert [(i.text, i.target) for i in plain.items] == [(i.text, i.target) for i in heavy.items]


def check_evidence(made: Made, item: SFTItem) -> tuple[bool, bool]:
    """Whether the frames show a second of every span of the evidence, and whether the answer is right."""
    question = parts(item).question
    right = truth(question, made.view.scene)
    moved = [Span(s + made.view.shift_s, e + made.view.shift_s) for s, e in right.spans]
    return all(intersection_s([span], made.sample.clip.spans) >= 1.0 for span in moved), answer_of(item) == right.answer


def test_close_look_that_misses_the_evidence_is_answered_by_chance(catch: Callable[..., Made]) -> None:
    """What shows is answered right, always; what does not at random, so that the model learns to be unsure."""
    found: Counter[tuple[bool, bool]] = Counter()
    for seed in range(120):
        made = catch(zoom_sample, seed, SETTINGS, GEOMETRY)
        found[check_evidence(made, made.sample.items[0])] += 1
    assert found[True, False] == 0
    assert 85 <= found[True, True] <= 119  # 17 of 20 looks go to the right place
    missed = found[False, True] + found[False, False]
    assert missed > 0
    assert found[False, False] >= 0.4 * missed, found  # three of four by chance


def test_some_questions_offer_two_or_three_options(catch: Callable[..., Made]) -> None:
    """As users ask; counts always offer all four numbers, for a window may show another than the whole video."""
    offered: Counter[tuple[bool, int]] = Counter()
    for seed in range(300):
        asked = parts(catch(zoom_sample, seed, SETTINGS, GEOMETRY).sample.items[0])
        offered[asked.question.startswith("How many"), len(asked.options)] += 1
    assert offered[True, 4] > 0
    assert offered[True, 2] == offered[True, 3] == 0
    of_others = sum(offered[False, n] for n in (2, 3, 4))
    for n in (2, 3):  # a tenth each
        assert 0.03 * of_others <= offered[False, n] <= 0.2 * of_others, offered


def test_strangers_answer_is_every_option_alike(catch: Callable[..., Made]) -> None:
    places: Counter[int] = Counter()
    for seed in range(140):
        item = catch(zoom_sample, seed, SETTINGS, GEOMETRY).sample.items[-2]
        places[parts(item).options.index(answer_of(item))] += 1
    assert all(15 <= places[i] <= 55 for i in range(4)), places  # mean 35, standard deviation 5.1


def test_close_looks_are_asked_about_what_they_do_not_show_as_often_as_is_said(catch: Callable[..., Made]) -> None:
    """Without strangers nothing else changes; a share of them is drawn."""
    asked = [catch(zoom_sample, seed, SETTINGS, GEOMETRY).sample.items for seed in range(60)]
    never = [catch(zoom_sample, seed, SETTINGS, GEOMETRY, strangers=0.0).sample.items for seed in range(60)]
    some = [catch(zoom_sample, seed, SETTINGS, GEOMETRY, strangers=0.25).sample.items for seed in range(60)]
    for all_of, none_of in zip(asked, never, strict=True):
        assert none_of == (*all_of[:-2], all_of[-1])
    more = sum(len(one) - len(other) for one, other in zip(some, never, strict=True))
    assert 6 <= more <= 26, more  # mean 15, standard deviation 3.4


def test_close_looks_lie_in_long_videos_too(catch: Callable[..., Made]) -> None:
    made = [catch(zoom_sample, seed, SETTINGS, GEOMETRY) for seed in range(40)]
    starts = [one.sample.clip.times_s[0] for one in made]
    assert sum(start > 100 for start in starts) >= 10
    assert all(one.view.span.start_s == one.view.shift_s <= start for one, start in zip(made, starts, strict=True))
    assert all(one.sample.clip.times_s[-1] < one.view.total_s <= 1200 for one in made)


def test_most_answers_of_a_close_look_are_the_options_text(catch: Callable[..., Made]) -> None:
    items = [item for s in range(40) for item in catch(zoom_sample, s, SETTINGS, GEOMETRY).sample.items[:-1]]
    as_text = sum(parts(item).mode == "text" for item in items) / len(items)
    assert 0.82 < as_text < 0.97  # nine of ten


# --- close looks that go on from a look at the whole video ------------------------------------------------------------


@pytest.mark.parametrize("seed", range(16))
def test_context_goes_on_from_a_whole_look_and_its_answer(catch: Callable[..., Made], seed: int) -> None:
    made = catch(context_sample, seed, SETTINGS, GEOMETRY)
    sample, view = made
    (before,) = sample.history
    assert before.clip.frames.shape == (round(view.total_s), 32, 32, 3)
    assert sample.clip.frames.shape[1:] == (128, 128, 3)
    header = video_header(view.total_s)
    assert before.text.startswith(header)
    asked = parts(SFTItem(before.text.removeprefix(header), before.reply))
    assert asked.mode == "think"
    assert is_well_formed(before.reply, len(asked.options), "think")
    read, right = read_response(before.reply, 4), truth(asked.question, view.scene)
    assert tenths(read.spans) == tenths(right.spans)
    is_symbol = asked.question.startswith("Which symbol")
    assert is_symbol or asked.options["ABCD".index(read.answer)] == right.answer
    (item,) = sample.items
    assert parts(item)[:2] == asked[:2], "the same question again"
    shows, is_right = check_evidence(made, item)
    assert is_right or (is_symbol and not shows)


def test_symbol_is_guessed_before_the_close_look(catch: Callable[..., Made]) -> None:
    """Nobody reads a symbol at 32 pixels: the first answer is a guess, the second one is right."""
    guesses: list[bool] = []
    for seed in range(150):
        made = catch(context_sample, seed, SETTINGS, GEOMETRY)
        (before,) = made.sample.history
        if "Which symbol" in before.text:
            asked = parts(made.sample.items[0])
            guess = asked.options["ABCD".index(read_response(before.reply, 4).answer)]
            guesses.append(guess == truth(asked.question, made.view.scene).answer)
    assert len(guesses) >= 8
    assert 0 < np.mean(guesses) < 0.6
