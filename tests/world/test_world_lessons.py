"""The curriculum: every lesson is a pure function of its place, shows what the mp4 shows, and teaches the truth."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from world_truth import name_of, symbol_of, truth

from zoomzero.config import ModelSettings, PassSettings
from zoomzero.data.sft_sample import SFTItem, SFTSample
from zoomzero.prompts import is_well_formed, read_response, video_header
from zoomzero.spans import Span, clip
from zoomzero.train.settings import StageSettings
from zoomzero.video.decode import decode
from zoomzero.video.probe import probe
from zoomzero.video.types import FramePlan, Geometry
from zoomzero.world import lessons
from zoomzero.world.lessons import LIST_TEXT, WINDOW_MARGIN_S, Stage, world_lesson
from zoomzero.world.scenes import Event, Scene, make_scene
from zoomzero.world.write import write_video

GEOMETRY = Geometry(patch=16)
LOOK = PassSettings(fps=1, max_tokens=64, max_frames=128, min_frame_tokens=1, max_frame_tokens=1)
SETTINGS = ModelSettings(
    style="brief",
    coarse=LOOK,
    window=LOOK,
    zoom=PassSettings(fps=1, max_tokens=128, max_frames=16, min_frame_tokens=16, max_frame_tokens=16),
    score_options_as="text",
)
WHOLE = Stage(windows=0.0, sparse=0.0, zooms=0.0, questions=3)
WINDOWS = Stage(windows=1.0, sparse=0.0, zooms=0.0, questions=12)
ZOOMS = Stage(windows=0.0, sparse=0.0, zooms=1.0)
SPARSE = Stage(windows=0.0, sparse=1.0, zooms=0.0, questions=1)


class Made(NamedTuple):
    """A lesson with the scene it was drawn from."""

    lesson: SFTSample
    scene: Scene


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make lesson `index` of a stage and catch its scene."""
    caught: list[Scene] = []

    def catch(*arguments: Any) -> Scene:
        caught.append(make_scene(*arguments))
        return caught[-1]

    monkeypatch.setattr(lessons, "make_scene", catch)
    return lambda index, stage: Made(world_lesson(1, index, stage, SETTINGS, GEOMETRY), caught[-1])


class Asked(NamedTuple):
    """An item's text, taken apart."""

    question: str
    options: list[str]
    mode: str


def parts(item: SFTItem) -> Asked:
    m = re.fullmatch(r"Question: (.*)\nOptions: \(A\) (.*) \(B\) (.*) \(C\) (.*) \(D\) (.*)\n(.*)", item.text)
    assert m, item.text
    tails = {
        "Think, then answer.": "think",
        "Answer and show when.": "no_think",
        "Respond with only the letter of the option.": "letter",
        "Respond with only the text of the option.": "text",
    }
    return Asked(m[1], [m[i] for i in range(2, 6)], tails[m[6]])


def tenths(spans: Any) -> list[tuple[float, float]]:
    return [(round(s, 1), round(e, 1)) for s, e in spans]


def is_asked_for(item: SFTItem, scene: Scene) -> bool:
    """Whether the question names an object that this scene has."""
    named = re.search(r"the (\w+ \w+)(?: appear)?\?$", item.text.split("\n")[0])
    return named is None or named[1] == "the video" or any(name_of(e) == named[1] for e in scene.events)


def test_lesson_is_a_pure_function_of_its_place() -> None:
    stage = Stage()
    made = [world_lesson(1, index, stage, SETTINGS, GEOMETRY) for index in (0, 1, 2, 3, 0, 1, 2, 3)]
    for first, again in zip(made[:4], made[4:], strict=True):
        assert np.array_equal(first.clip.frames, again.clip.frames)
        assert (first.items, first.header, first.clip.times_s) == (again.items, again.header, again.clip.times_s)
    other = world_lesson(2, 0, stage, SETTINGS, GEOMETRY)
    assert len({lesson.items for lesson in [*made[:4], other]}) == 5


def test_settings_of_a_stage_are_its_fields() -> None:
    assert {field.name for field in dataclasses.fields(Stage)} == set(StageSettings.model_fields)
    assert Stage(**StageSettings(zooms=0.1, questions=2).model_dump()).questions == 2


def test_shares_choose_the_kind_of_lesson() -> None:
    stage = Stage(windows=0.3, sparse=0.2, zooms=0.3, questions=1, listing=0.0)
    made = [world_lesson(4, index, stage, SETTINGS, GEOMETRY) for index in range(60)]
    zooms = [lesson for lesson in made if lesson.clip.frames.shape[1] == 128]
    coarse = [lesson for lesson in made if lesson.clip.frames.shape[1] == 32]
    assert len(zooms) + len(coarse) == 60
    assert all(lesson.header == "" for lesson in zooms)
    assert all(lesson.header.startswith("This video in total has") for lesson in coarse)
    whole = [lesson for lesson in coarse if lesson.header == video_header(lesson.clip.spans[0].length_s)]
    sparse = [lesson for lesson in whole if lesson.clip.spans[0].end_s > 96]
    assert 8 <= len(zooms) <= 28  # binomial(60, 0.3): mean 18, standard deviation 3.5
    assert 3 <= len(sparse) <= 23  # binomial(60, 0.2): mean 12, standard deviation 3.1


@pytest.mark.parametrize("index", range(16))
def test_whole_video_lesson_teaches_the_truth(make: Any, index: int) -> None:
    lesson, scene = make(index, WHOLE)
    assert lesson.header == video_header(scene.duration_s)
    assert lesson.clip.fps == 1.0
    for item in lesson.items:
        if item.text == LIST_TEXT:
            listed = [(name_of(e), e.start_s, e.end_s) for e in scene.events]
            assert item.target == "".join(f" {name} ({s:.1f}, {e:.1f})" for name, s, e in listed)
            continue
        question, options, mode = parts(item)
        if not is_asked_for(item, scene):
            check_not_visible(item, mode)
            continue
        right = truth(question, scene)
        label = "ABCD"[options.index(right.answer)]
        assert item.untrained == ()
        if mode == "letter":
            assert item.target == label
            continue
        assert is_well_formed(item.target, 4, mode)
        read = read_response(item.target, 4)
        assert (read.answer, tenths(read.spans)) == (label, tenths(right.spans))
        if mode == "think":
            for event in right.asked:
                assert f"the {name_of(event)}" in item.target
                assert f"({event.start_s:.1f}, {event.end_s:.1f})" in item.target.split("</think>")[0]


def check_not_visible(item: SFTItem, mode: str) -> None:
    """No spans, and the letter, which nobody can know, is not learned."""
    assert mode in ("think", "no_think")
    assert is_well_formed(item.target, 4, mode)
    assert item.target.endswith("<glue>[]</glue>")
    assert ("not visible" in item.target) == (mode == "think")
    ((low, high),) = item.untrained
    assert item.target[low:high] in "ABCD"
    assert item.target[:low].endswith("<answer>")


def seen_in_window(lesson: SFTSample, scene: Scene) -> list[tuple[Event, Span]]:
    """The events that show for a second or more, in video time; where the scene lies is told by header and window."""
    (window,) = lesson.clip.spans
    assert window.length_s in (32, 48, 64)
    assert scene.duration_s == window.length_s + 2 * WINDOW_MARGIN_S
    at_end = lesson.header == video_header(window.end_s)
    shift_s = window.end_s - scene.duration_s if at_end else window.start_s - WINDOW_MARGIN_S
    shown = [(e, clip([(e.start_s + shift_s, e.end_s + shift_s)], *window)) for e in scene.events]
    return [(event, span) for event, spans in shown for span in spans if span.length_s >= 1.0]


def check_window_item(item: SFTItem, scene: Scene, seen: list[tuple[Event, Span]]) -> str:
    """Check one item and return what came up: the kind of its answer."""
    if item.text == LIST_TEXT:
        assert item.target == "".join(f" {name_of(e)} ({s:.1f}, {f:.1f})" for e, (s, f) in seen)
        return "list"
    question, options, mode = parts(item)
    if mode == "letter":
        assert item.target in "ABCD"
        return "letter"
    read = read_response(item.target, 4)
    if not read.spans:
        check_not_visible(item, mode)
        return "not visible"
    asked = truth(question, scene).asked
    visible = [(event, span) for event, span in seen if event in asked]
    answer = options["ABCD".index(read.answer)]
    if question.startswith("How many"):
        assert answer == ["one", "two", "three", "four"][len(visible) - 1]
        assert tenths(read.spans) == tenths(span for _, span in visible)
        return "all counted" if len(visible) == len(asked) else "fewer counted"
    assert {event for event, _ in visible} == set(asked), "asked and answered from what the window shows"
    assert answer == truth(question, scene).answer
    assert tenths(read.spans) == tenths(span for event, span in visible if event == asked[-1])
    return "end" if question.endswith("end of the video?") else "seen"


def test_window_lessons_speak_of_what_the_window_shows(make: Any) -> None:
    everything = {"list", "letter", "not visible", "all counted", "fewer counted", "end", "seen"}
    came_up: Counter[str] = Counter()
    for index in range(400):
        if index >= 30 and set(came_up) == everything:
            break
        lesson, scene = make(index, WINDOWS)
        seen = seen_in_window(lesson, scene)
        found = [check_window_item(item, scene, seen) for item in lesson.items]
        came_up.update(found)
        if "end" in found:
            assert lesson.header == video_header(lesson.clip.spans[0].end_s), "only the last window shows the end"
    assert set(came_up) == everything


@pytest.mark.parametrize("index", range(20))
def test_zoom_lesson_names_what_its_frames_show(make: Any, index: int) -> None:
    lesson, scene = make(index, ZOOMS)
    times = np.array(lesson.clip.times_s)
    assert lesson.clip.frames.shape[1:] == (128, 128, 3)
    assert 2 <= len(times) <= 16
    *asked, listing = lesson.items
    assert listing.text == LIST_TEXT
    listed = re.findall(r" (\w+ \w+) ([A-Z])", listing.target)
    assert "".join(f" {name} {symbol}" for name, symbol in listed) == listing.target
    pairs = {(name_of(e), symbol_of(e)) for e in scene.events}
    assert set(listed) <= pairs
    for item in asked:
        question, options, mode = parts(item)
        answer = item.target if mode == "text" else options["ABCD".index(item.target)]
        assert answer in options
        named = re.fullmatch(r"Which symbol is on the (\w+ \w+)\?", question)
        if named and named[1] in dict(listed) and is_asked_for(item, scene):
            assert answer == truth(question, scene).answer


def test_zoom_lessons_look_at_moments_of_long_videos_too(make: Any) -> None:
    starts = [make(index, ZOOMS).lesson.clip.times_s[0] for index in range(30)]
    assert sum(start > 100 for start in starts) >= 8


def test_jittered_spans_mostly_hold_the_evidence(make: Any) -> None:
    """Six of seven zoom lessons look at the asked moment; the first question is then answered right."""
    right = 0
    for index in range(40):
        lesson, scene = make(index, ZOOMS)
        question, options, mode = parts(lesson.items[0])
        answer = lesson.items[0].target if mode == "text" else options["ABCD".index(lesson.items[0].target)]
        right += answer == truth(question, scene).answer
    assert right >= 32


def compare_with_file(lesson: SFTSample, scene: Scene, path: Path) -> None:
    """Decode the lesson's times from the scene's mp4 and compare pixels and times."""
    write_video(path, scene)
    info = probe(path)
    height, width = lesson.clip.frames.shape[1:3]
    plan = FramePlan(lesson.clip.times_s, height, width, lesson.clip.fps, lesson.clip.spans, 0)
    decoded = decode(info, plan, workers=1)
    assert decoded.times_s == pytest.approx(lesson.clip.times_s, abs=1e-6)
    errors = np.abs(decoded.frames.astype(np.int16) - lesson.clip.frames).mean((1, 2, 3))
    assert errors.max() < 4, "more than the codec costs"


def test_coarse_frames_are_those_of_the_file(make: Any, tmp_path: Path) -> None:
    lesson, scene = make(8, WHOLE)
    assert lesson.clip.spans == (Span(0.0, scene.duration_s),)
    compare_with_file(lesson, scene, tmp_path / "scene.mp4")


def test_zoom_frames_are_those_of_the_file(make: Any, tmp_path: Path) -> None:
    index = next(i for i in range(20) if make(i, ZOOMS).lesson.clip.times_s[-1] < 48)  # not moved in time
    lesson, scene = make(index, ZOOMS)
    compare_with_file(lesson, scene, tmp_path / "scene.mp4")


def test_sparse_lesson_shows_a_whole_longer_video(make: Any) -> None:
    """More than 96 s in at most 128 frames, the last moments among them."""
    for index in range(6):
        lesson, scene = make(index, SPARSE)
        assert scene.duration_s >= 96
        assert lesson.clip.spans == (Span(0.0, scene.duration_s),)
        assert len(lesson.clip.times_s) <= 128
        assert scene.duration_s - lesson.clip.times_s[-1] <= 4.0
