"""Miniatures: what a benchmark's reader reads back is what the videos show, and nothing else is true of them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from world_films import COUNT, SEED, films, laid_out, layout_of
from world_truth import name_of, symbol_of, truth
from zoomzero.benchmarks.definitions.registry import BENCHMARKS, benchmark
from zoomzero.data.annotation import Dataset, Question
from zoomzero.data.convert import to_examples
from zoomzero.data.example import read_examples, write_examples
from zoomzero.spans import Span
from zoomzero.world.miniature import FORMATS
from zoomzero.world.miniatures.material import film, with_options
from zoomzero.world.scenes import Event, Scene
from zoomzero.world.write import WorldKind, world_item

ASKING = ("nextgqa", "rextime", "cgbench", "videomme", "videomme-v2", "longvideobench", "mlvu", "lvbench", "mcq")
IN_WORDS = ("videozerobench",)
MOMENTS = ("timelens", "charades")
CAPTIONS = ("qvhighlights", "activitynet", "plm")
NAMES = (*ASKING, *IN_WORDS, *MOMENTS, *CAPTIONS)
WITH_SPANS = ("nextgqa", "rextime", "cgbench", "lvbench")
DURATIONS_STATED = ("nextgqa", "rextime", "cgbench", "mlvu", "longvideobench")
N_OPTIONS = {"nextgqa": {5}, "cgbench": {5, 6, 7, 8}, "videomme-v2": {8}, "longvideobench": {4, 5}}


def load(name: str, folder: Path, kind: WorldKind = "short") -> Dataset:
    if name == "videomme":
        pytest.importorskip("pyarrow", reason="Video-MME is a parquet file")
    dataset = benchmark(name).load(laid_out(name, folder, kind))
    assert dataset.split == FORMATS[name].split
    return dataset


def scene_of(name: str, video: str, kind: WorldKind) -> Scene:
    """Find the scene behind a file name, from the position of the file among the miniature's videos."""
    return films(kind)[layout_of(name, kind).videos.index(video)].scene


def test_films_are_those_of_the_world() -> None:
    for index in range(COUNT):
        item = world_item("short", SEED, index)
        assert (films("short")[index].scene, films("short")[index].questions[0]) == (item.scene, item.question)


# --- benchmarks that ask --------------------------------------------------------------------------------


def test_there_is_one_for_every_benchmark_with_a_format_of_its_own() -> None:
    assert set(FORMATS) == set(NAMES)
    assert set(NAMES) <= set(BENCHMARKS)


@pytest.mark.parametrize("kind", ["short", "long"])
@pytest.mark.parametrize("name", ASKING)
def test_questions_are_read_back_as_the_scene_answers_them(name: str, kind: WorldKind, tmp_path: Path) -> None:
    dataset = load(name, tmp_path, kind)
    assert len(dataset.questions) >= COUNT
    for one in dataset.questions:
        scene = scene_of(name, one.video, kind)
        right = truth(one.question, scene)
        assert one.options[one.labels.index(one.answer)] == right.answer
        assert len(set(one.options)) == len(one.options)
        assert len(one.options) in N_OPTIONS.get(name, {4})
        assert one.right == {one.answer}, "every other option has another text, so it is wrong"
        assert [tuple(span) for span in one.spans] == (right.spans if name in WITH_SPANS else [])
        assert one.duration_s == (scene.duration_s if name in DURATIONS_STATED else 0)
    assert not any(dataset.notes.values()), dataset.notes


@pytest.mark.parametrize("name", ASKING)
def test_the_worlds_own_question_is_among_them(name: str, tmp_path: Path) -> None:
    dataset = load(name, tmp_path)
    asked = {(one.video, one.question) for one in dataset.questions}
    videos = layout_of(name).videos
    own = [world_item("short", SEED, index).question for index in range(COUNT)]
    one_span = [len(question.spans) == 1 or name not in ("rextime", "lvbench") for question in own]
    expected = {(video, q.text) for video, q, fits in zip(videos, own, one_span, strict=True) if fits}
    assert len(expected) >= COUNT - 2
    assert expected <= asked


def test_most_benchmarks_share_a_video_among_questions(tmp_path: Path) -> None:
    for name, most in (("nextgqa", 4), ("cgbench", 4), ("videomme", 3), ("mlvu", 1)):
        questions = load(name, tmp_path / name).questions
        per_video = [sum(one.video == video for one in questions) for video in {one.video for one in questions}]
        assert max(per_video) == most, name
        assert len({one.id for one in questions}) == len(questions)


def test_groups_are_the_benchmarks_own(tmp_path: Path) -> None:
    """Tables must not be empty: every group an evaluator prints has at least one of its official values."""
    found = {
        name: {group: {v for one in load(name, tmp_path / name).questions for v in one.groups.get(group, ())}}
        for name, group in (("nextgqa", "type"), ("mlvu", "task"), ("videomme", "duration"), ("rextime", "source"))
    }
    assert found["nextgqa"]["type"] == {"TC", "TN", "CH"}, "TP counts with TN"
    assert found["mlvu"]["task"] == {"plotQA", "findNeedle", "count", "order"}
    assert found["videomme"]["duration"] == {"short"}
    assert found["rextime"]["source"] == {"ActivityNet", "QVHighlights"}


@pytest.mark.parametrize("count", [4, 5, 6, 7, 8])
def test_more_options_keep_the_right_one_and_add_wrong_ones(count: int) -> None:
    places: set[int] = set()
    for index in range(24):
        one = film("short", 1, index)
        for place, asked in enumerate(one.questions):
            wider = with_options(one, place, count)
            right = truth(asked.text, one.scene)
            assert wider.options[wider.answer] == right.answer == asked.options[asked.answer]
            assert len(set(wider.options)) == len(wider.options) == count
            assert [text for text in wider.options if text in asked.options] == list(asked.options)
            assert not any(text in asked.text for text in wider.options)
            places.add(wider.answer)
    assert places == set(range(count))


# --- benchmarks answered in words, or with a moment -------------------------------------------------------


@pytest.mark.parametrize("kind", ["short", "long"])
def test_videozerobench_is_answered_in_words_and_told_the_moments(kind: WorldKind, tmp_path: Path) -> None:
    dataset = load("videozerobench", tmp_path, kind)
    told = benchmark("videozerobench").load(tmp_path, "level-2").questions
    assert len(dataset.questions) == len(told) >= COUNT
    for one, more in zip(dataset.questions, told, strict=True):
        right = truth(one.question, scene_of("videozerobench", one.video, kind))
        assert (one.answer, [tuple(span) for span in one.spans]) == (right.answer, right.spans)
        assert (one.options, one.in_words) == ((), True)
        assert more.question.startswith(one.question)
        assert f"{right.spans[0][0]:.2f} to {right.spans[0][1]:.2f} seconds" in more.question


@pytest.mark.parametrize("kind", ["short", "long"])
@pytest.mark.parametrize("name", MOMENTS)
def test_a_sentence_has_one_moment_and_it_is_on_screen_then(name: str, kind: WorldKind, tmp_path: Path) -> None:
    dataset = load(name, tmp_path, kind)
    assert len(dataset.questions) >= 2 * COUNT
    for one in dataset.questions:
        scene = scene_of(name, one.video, kind)
        shown = [
            Span(event.start_s, event.end_s)
            for event in scene.events
            if f"{name_of(event)} marked {symbol_of(event)} is on screen" in one.question
        ]
        assert one.spans == tuple(shown), "exactly one appearance fits the sentence"
        assert one.duration_s == scene.duration_s


# --- benchmarks made of captions ------------------------------------------------------------------------


def pairs_of(scene: Scene) -> list[tuple[str, Event, Event]]:
    """Every sentence `The X marked S is followed by the Y marked T.` that is true of a scene, by its events' starts."""
    events = sorted(scene.events, key=lambda event: event.start_s)
    named = [f"{name_of(event)} marked {symbol_of(event)}" for event in events]
    return [
        (f"The {named[i]} is followed by the {named[i + 1]}.", events[i], events[i + 1]) for i in range(len(events) - 1)
    ]


def right_text(one: Question) -> str:
    return one.options[one.labels.index(one.answer)]


@pytest.mark.parametrize("kind", ["short", "long"])
def test_qvhighlights_asks_what_only_this_clip_shows(kind: WorldKind, tmp_path: Path) -> None:
    dataset = load("qvhighlights", tmp_path, kind)
    assert len(dataset.questions) == 2 * COUNT
    for one in dataset.questions:
        scene = scene_of("qvhighlights", one.video, kind)
        true = {text: (first, second) for text, first, second in pairs_of(scene)}
        first, second = true[right_text(one)]
        assert one.spans == (Span(first.start_s, max(first.end_s, second.end_s)),)
        assert one.duration_s == scene.duration_s
        assert not [text for text in one.options if text in true and text != right_text(one)]
        assert len(one.options) == 4
        assert len(one.saliency) == scene.duration_s // 2
        rated = [2.0 * i for i, scores in enumerate(one.saliency) if any(scores)]
        assert one.spans[0].start_s - 2 < rated[0] <= one.spans[0].start_s
        assert rated[-1] < one.spans[0].end_s
    assert dataset.notes["left_out_no_other_option"] == 0
    assert dataset.notes["options_from_same_video"] >= 2 * COUNT, "clips come in recordings"


@pytest.mark.parametrize("kind", ["short", "long"])
def test_activitynet_asks_for_the_order_of_the_first_events(kind: WorldKind, tmp_path: Path) -> None:
    dataset = load("activitynet", tmp_path, kind)
    assert len(dataset.questions) == 5 * COUNT
    for one in dataset.questions:
        events = sorted(scene_of("activitynet", one.video, kind).events, key=lambda event: event.start_s)
        texts = [f"A {name_of(event)} marked {symbol_of(event)} appears." for event in events]
        if quoted := re.search('"(.*)"', one.question):
            place = texts.index(quoted[1]) + 1
        else:
            assert one.question == "Which of these happens first in the video?"
            place = 0
        assert right_text(one) == texts[place]
        assert one.spans == (Span(events[place].start_s, events[place].end_s),)
        assert len(one.options) == 4
        assert all(
            texts.index(text) > place for text in one.options if text in texts and place == 0 and text != texts[0]
        )
    assert not any(count for note, count in dataset.notes.items() if note != "options_from_same_video"), dataset.notes


@pytest.mark.parametrize("kind", ["short", "long"])
def test_plm_reads_phases_moments_and_two_options(kind: WorldKind, tmp_path: Path) -> None:
    dataset = load("plm", tmp_path, kind)
    kinds = {"plm_rdcap_train": 0, "plm_rcap_train": 0, "plm_fgqa_train": 0}
    for one in dataset.questions:
        scene = scene_of("plm", one.video, kind)
        file = one.id.partition(":")[0]
        kinds[file] += 1
        if file == "plm_fgqa_train":
            assert right_text(one) == truth(one.question, scene).answer
            assert (len(one.options), one.spans) == (2, ())
            continue
        true = {text: (first, second) for text, first, second in pairs_of(scene)}
        first, second = true[right_text(one)]
        end_s = first.end_s if file == "plm_rdcap_train" else max(first.end_s, second.end_s)
        assert one.spans == (Span(first.start_s, end_s),)
        assert one.duration_s == scene.duration_s
        happening = {text: true[text][0].start_s for text in one.options if text in true}
        if quoted := re.search('"(.*)"', one.question):
            after_s = true[quoted[1]][0].start_s
            happening = {text: start_s for text, start_s in happening.items() if start_s > after_s}
        assert min(happening, key=lambda text: happening[text]) == right_text(one)
        if file == "plm_rcap_train":
            assert list(happening) == [right_text(one)]
    assert kinds["plm_rcap_train"] == kinds["plm_fgqa_train"] == COUNT
    assert kinds["plm_rdcap_train"] >= (1 if kind == "short" else 0)
    if kinds["plm_rdcap_train"]:
        assert dataset.notes["phases_out_of_frame_left_out"] > 0


# --- conversion, formats --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_conversion_repairs_nothing_and_reads_back(name: str, tmp_path: Path) -> None:
    dataset = load(name, tmp_path / "annotation")
    examples, counts = to_examples(dataset)
    stated = {"without_spans", "durations_estimated", "without_options"}
    assert not {what: n for what, n in counts.items() if n and what not in stated}
    write_examples(tmp_path / "examples.jsonl", examples)
    back = read_examples(tmp_path / "examples.jsonl")
    assert [(e.id, e.question, e.options, e.answer, e.spans) for e in back] == [
        (q.id, q.question, q.options, q.answer, q.spans) for q in dataset.questions
    ]


def header(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return next(csv.reader(file))


def keys(value: Any) -> set[str]:
    return set(value[0] if isinstance(value, list) else next(iter(value.values())))


@pytest.mark.parametrize(
    ("name", "ours", "real", "fields"),
    [
        ("nextgqa", "test.csv", "nextgqa/test.csv", header),
        ("nextgqa", "gsub_test.json", "nextgqa/gsub_test.json", lambda p: keys(json.loads(p.read_text()))),
        ("cgbench", "cgbench_mini.json", "cgbench/cgbench_mini.json", lambda p: keys(json.loads(p.read_text()))),
        ("mlvu", "json/2_needle.json", "mlvu/2_needle.json", lambda p: keys(json.loads(p.read_text()))),
        (
            "activitynet",
            "train.json",
            "activitynet_captions/train_modified.json",
            lambda p: keys(json.loads(p.read_text())),
        ),
        (
            "qvhighlights",
            "highlight_val_release.jsonl",
            "qvhighlights/highlight_val_release.jsonl",
            lambda p: set(json.loads(p.read_text().splitlines()[0])),
        ),
    ],
)
def test_fields_are_those_of_the_release(
    name: str, ours: str, real: str, fields: Callable[[Path], Any], tmp_path: Path, shared: Path
) -> None:
    assert fields(laid_out(name, tmp_path) / ours) == fields(shared / "data" / real)
