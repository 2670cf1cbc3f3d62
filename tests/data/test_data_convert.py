"""Repairs, examples, manifests; questions made from captions."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.data.annotation import Dataset, Question
from zoomzero.data.captions import FIRST, SHOWN, Caption, order_questions, shown_questions
from zoomzero.data.convert import manifest_path, repair_spans, to_examples, write_converted
from zoomzero.data.example import read_examples
from zoomzero.spans import Span


def question(id_: str = "1", **changes: object) -> Question:
    values: dict[str, object] = {
        "id": id_,
        "video": "v.mp4",
        "question": "What?",
        "options": ("a", "b"),
        "answer": "B",
        "spans": (Span(1, 2),),
        "duration_s": 10.0,
    }
    return Question(**(values | changes))  # type: ignore[arg-type]


def dataset(tmp_path: Path, *questions: Question) -> Dataset:
    source = tmp_path / "source.json"
    source.write_text("{}")
    return Dataset("made", "train", questions, (source,), {"left_out": 3})


@pytest.mark.parametrize(
    ("span", "repaired", "counted"),
    [
        ((1, 2), (1, 2), []),
        ((-0.5, 8), (0, 8), ["negative_starts"]),
        ((9, 5), (5, 9), ["reversed_spans"]),
        ((4, 12), (4, 10), ["clipped_spans"]),
        ((12, -1), (0, 10), ["reversed_spans", "negative_starts", "clipped_spans"]),
        ((3, 3), None, ["empty_spans"]),
        ((11, 12), None, ["clipped_spans", "empty_spans"]),
        ((-3, -1), None, ["negative_starts", "empty_spans"]),
    ],
)
def test_repairs(span: tuple[float, float], repaired: tuple[float, float] | None, counted: list[str]) -> None:
    counts: Counter[str] = Counter()
    assert repair_spans([Span(*span)], 10.0, counts) == ((repaired,) if repaired else ())
    assert counts == Counter(counted)


def test_an_unknown_duration_clips_nothing() -> None:
    counts: Counter[str] = Counter()
    assert repair_spans([Span(4, 12)], 0.0, counts) == ((4, 12),)
    assert not counts


@given(st.lists(st.tuples(st.floats(-50, 150), st.floats(-50, 150)).map(lambda t: Span(*t))))
def test_repaired_spans_lie_in_the_video(spans: list[Span]) -> None:
    counts: Counter[str] = Counter()
    repaired = repair_spans(spans, 100.0, counts)
    assert all(0 <= s < e <= 100 for s, e in repaired)
    assert len(repaired) + counts["empty_spans"] == len(spans)
    assert repair_spans(repaired, 100.0, Counter()) == repaired


def test_oddities_are_counted(tmp_path: Path) -> None:
    questions = (
        question("1", options=("a", "a", "b"), answer="A"),
        question("2", options=("", "b"), answer="B"),
        question("3", options=(), answer="C"),
        question("4", answer=""),
        question("5", spans=(), duration_s=0.0, estimate_s=120.0),
    )
    examples, counts = to_examples(dataset(tmp_path, *questions))
    assert [example.id for example in examples] == ["1", "2", "3", "5"]
    assert examples[0].options == ("a", "a", "b")  # letters stay the benchmark's
    assert (examples[2].options, examples[2].answer) == ((), "")
    assert examples[3].duration_s == 120.0
    assert {name: count for name, count in counts.items() if count} == {
        "duplicate_options": 1,
        "empty_options": 1,
        "without_options": 1,
        "answer_not_among_options": 1,
        "without_spans": 1,
        "durations_estimated": 1,
    }


def test_a_duration_is_read_from_the_video_when_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = []

    class Info:
        duration_s = 77.5

    def probe(path: Path) -> Info:
        looked_at.append(path)
        return Info()

    monkeypatch.setattr("zoomzero.video.probe.probe", probe)
    (tmp_path / "v.mp4").write_bytes(b"x")
    questions = [question(id_, duration_s=0.0, estimate_s=120.0) for id_ in "12"]
    absent = question("3", video="w.mp4", duration_s=0.0, estimate_s=120.0)
    examples, counts = to_examples(dataset(tmp_path, *questions, absent), videos=tmp_path)
    assert [example.duration_s for example in examples] == [77.5, 77.5, 120.0]
    assert looked_at == [tmp_path.resolve() / "v.mp4"]
    assert (counts["durations_probed"], counts["durations_estimated"], counts["missing_videos"]) == (2, 1, 1)


def test_a_video_that_does_not_open_is_counted_and_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"cut off on its way")
    questions = [question(id_, duration_s=0.0, estimate_s=120.0, spans=(Span(100, 130),)) for id_ in "12"]
    examples, counts = to_examples(dataset(tmp_path, *questions), videos=tmp_path)
    assert [(example.duration_s, example.spans) for example in examples] == [(120.0, (Span(100, 130),))] * 2
    assert (counts["unreadable_videos"], counts["durations_probed"], counts["durations_estimated"]) == (1, 0, 2)


def test_manifest(tmp_path: Path) -> None:
    out = tmp_path / "e.jsonl"
    manifest = write_converted(dataset(tmp_path, question("1"), question("2", spans=(Span(-1, 5),))), out, seed=5)
    assert read_examples(out)[1].spans == ((0, 5),)
    written = json.loads(manifest_path(out).read_text())
    assert written["examples_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest() == manifest.examples_sha256
    assert written["sources"] == [{"file": "source.json", "sha256": hashlib.sha256(b"{}").hexdigest()}]
    assert (written["split"], written["seed"], written["examples"], written["videos"]) == ("train", 5, 2, 1)
    assert written["repairs"]["negative_starts"] == 1
    assert written["notes"] == {"left_out": 3}


# --- captions ---------------------------------------------------------------------------------------------


def caption(id_: str, video: str, start_s: float, text: str, recording: str | None = None) -> Caption:
    return Caption(id_, video, recording or video, text, (Span(start_s, start_s + 5),), 60.0)


OTHERS = [caption(f"o{i}", f"other{i}", 0, f"other {i}") for i in range(6)]


def test_order_questions_ask_for_what_comes_next() -> None:
    video = [caption("c", "v", 20, "third"), caption("a", "v", 0, "first"), caption("b", "v", 10, "second")]
    found, notes = order_questions([*video, *OTHERS], 0)
    by_id = {one.id: one for one in found}
    assert by_id["a"].question == FIRST
    assert by_id["b"].question == 'What happens right after this in the video: "first"?'
    assert by_id["c"].question == 'What happens right after this in the video: "second"?'
    assert {"second", "third"} < set(by_id["a"].options)
    assert "first" not in by_id["b"].options
    assert "third" in by_id["b"].options
    assert by_id["b"].spans == (Span(10, 15),)
    for one in found:
        assert len(set(one.options)) == 4
        assert {"a": "first", "b": "second", "c": "third"}.get(one.id, one.id.replace("o", "other ")) == (
            one.options[one.labels.index(one.answer)]
        )
    assert notes["options_from_same_video"] == 2 + 1 + 1
    assert notes["options_from_other_videos"] == 3 * len(found) - 4


def test_captions_without_a_clear_place_are_left_out() -> None:
    video = [
        caption("a", "v", 0, "x"),
        caption("b", "v", 0, "y"),
        caption("c", "v", 9, "z"),
        caption("d", "v", 19, "Z"),
    ]
    found, notes = order_questions([*video, *OTHERS], 0)
    assert {one.id for one in found} == {one.id for one in OTHERS}
    assert notes["left_out_unclear_order"] == 4


def test_shown_questions_never_offer_what_is_also_true() -> None:
    clip = [caption("a", "r1", 0, "dog", "r"), caption("b", "r1", 9, "man", "r")]
    rest = [caption("c", "r2", 0, "cat", "r"), caption("d", "r3", 0, "Dog", "r"), *OTHERS]
    found, notes = shown_questions([*clip, *rest], 0)
    first = found[0]
    assert first.question == SHOWN
    assert "cat" in first.options
    assert not {"man", "Dog"} & set(first.options)  # the same clip's, and the same words as the answer
    assert notes["options_from_same_video"] == 1 + 2 + 2 + 2


def test_nothing_true_is_borrowed_from_other_videos_either() -> None:
    clip = [caption("a", "r1", 0, "dog"), caption("b", "r1", 9, "man")]
    found, _ = shown_questions([*clip, caption("c", "x", 0, "MAN"), *OTHERS[:2]], 0)
    assert set(found[0].options) == {"dog", "other 0", "other 1"}


def test_a_seed_fixes_every_question_whatever_else_is_asked() -> None:
    video = [caption(f"v{i}", "v", 10 * i, f"event {i}") for i in range(6)]
    whole = {one.id: one for one in order_questions([*video, *OTHERS], 7)[0]}
    again = {one.id: one for one in order_questions([*reversed(OTHERS), *reversed(video)], 7)[0]}
    assert all(whole[one.id].options == again[one.id].options for one in video)  # three of their own: none borrowed
    answers = Counter(one.answer for seed in range(40) for one in order_questions(video, seed)[0])
    assert set(answers) == set("ABCD")


def test_a_lonely_video_has_fewer_options() -> None:
    found, notes = order_questions([caption("a", "v", 0, "x"), caption("b", "v", 9, "y")], 0)
    assert [one.id for one in found] == ["a"]  # nothing is wrong after x but y
    assert found[0].options in (("x", "y"), ("y", "x"))
    assert (notes["options_from_other_videos"], notes["left_out_no_other_option"]) == (0, 1)
