"""Examples files: round trips, and one typed line for everything that is wrong with a line."""

from __future__ import annotations

import dataclasses
import json
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomzero.data.example import Example, read_examples, write_examples
from zoomzero.errors import DataError
from zoomzero.spans import Span

ROW: dict[str, Any] = {
    "id": "walk-1",
    "video": "videos/walk.mp4",
    "question": "What does the man pick up?",
    "options": ["a cap", "a bottle", "a phone"],
    "answer": "B",
    "spans": [[5.2, 10.4], [20, 30.5]],
    "duration_s": 83.3,
    "source": "made",
    "split": "test",
}


def write(path: Path, *lines: str | dict[str, Any]) -> Path:
    path.write_text("".join((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines), encoding="utf-8")
    return path


def error_of(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_examples(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


def test_row_becomes_an_example(tmp_path: Path) -> None:
    (example,) = read_examples(write(tmp_path / "x.jsonl", ROW))
    assert example == Example(
        id="walk-1",
        video=str(tmp_path / "videos" / "walk.mp4"),
        question="What does the man pick up?",
        options=("a cap", "a bottle", "a phone"),
        answer="B",
        spans=(Span(5.2, 10.4), Span(20.0, 30.5)),
        duration_s=83.3,
        source="made",
        split="test",
    )


def test_absolute_video_stays(tmp_path: Path) -> None:
    (example,) = read_examples(write(tmp_path / "x.jsonl", ROW | {"video": "/somewhere/walk.mp4"}))
    assert example.video == "/somewhere/walk.mp4"


def test_open_question_has_no_options_and_any_answer(tmp_path: Path) -> None:
    (example,) = read_examples(write(tmp_path / "x.jsonl", ROW | {"options": [], "answer": "a bottle", "spans": []}))
    assert (example.options, example.answer, example.spans) == ((), "a bottle", ())


def test_blank_lines_and_no_lines_are_fine(tmp_path: Path) -> None:
    assert len(read_examples(write(tmp_path / "x.jsonl", "", ROW, "  ", ROW | {"id": "walk-2"}, ""))) == 2
    assert read_examples(write(tmp_path / "none.jsonl")) == []


words = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
times = st.floats(0, 1e6, allow_nan=False)
spans = st.tuples(times, st.floats(0.001, 1e4)).map(lambda x: Span(x[0], x[0] + x[1]))


@st.composite
def examples(draw: st.DrawFn) -> Example:
    options = tuple(draw(st.lists(words, max_size=6)))
    answer = draw(st.sampled_from(string.ascii_uppercase[: len(options)])) if options else draw(words)
    found = tuple(draw(st.lists(spans, max_size=4)))
    name = draw(st.text(string.ascii_letters, min_size=1, max_size=8))
    length = draw(st.floats(0.1, 1e6))
    return Example(draw(words), f"/{name}", draw(words), options, answer, found, length, draw(words), draw(words))


@settings(max_examples=100, deadline=None)
@given(st.lists(examples(), max_size=4, unique_by=lambda e: e.id))
def test_examples_come_back_as_they_were(written: list[Example]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "examples.jsonl"
        write_examples(path, written)
        assert read_examples(path) == written
        assert [p.name for p in Path(directory).iterdir()] == ["examples.jsonl"], "no partial file is left"


def test_line_ends_inside_texts_stay_inside_their_line(tmp_path: Path) -> None:
    odd = dataclasses.replace(
        Example("i", "/v", "a\nb\r\nc\u2028d\x85e", (), "x\ty", (), 1.0, "s", "t"), id='"quoted"\\'
    )
    write_examples(tmp_path / "x.jsonl", [odd])
    assert (tmp_path / "x.jsonl").read_bytes().count(b"\n") == 1
    assert read_examples(tmp_path / "x.jsonl") == [odd]


def test_file_is_written_complete_or_not_at_all(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ROW)
    before = path.read_bytes()

    def cut() -> Any:
        yield read_examples(path)[0]
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        write_examples(path, cut())
    assert path.read_bytes() == before


def test_missing_file_is_named(tmp_path: Path) -> None:
    assert error_of(tmp_path / "none.jsonl").startswith("file: no such file; give an examples.jsonl")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 2: not JSON"),
        ("walk.mp4", "line 2: not JSON"),
        ("[1, 2]", "line 2: is not a JSON object"),
        ("null", "line 2: is not a JSON object"),
        ({"id": "a"}, "line 2: lacks video, question, options, answer, spans, duration_s, source, split"),
        (ROW | {"spam": 1, "eggs": 2}, "line 2: has unknown fields eggs, spam; an example has id, video"),
        (ROW | {"spans": [[1, float("nan")]]}, "line 2: spans and duration_s must be finite"),
        (ROW | {"spans": [[1, float("inf")]]}, "line 2: spans and duration_s must be finite"),
        (ROW | {"duration_s": float("nan")}, "line 2: spans and duration_s must be finite"),
        (ROW | {"duration_s": 0}, "line 2: duration_s 0 is not a length"),
        (ROW | {"duration_s": "long"}, "line 2: spans are [start, end] pairs and duration_s a number"),
        (ROW | {"duration_s": None}, "line 2: spans are [start, end] pairs and duration_s a number"),
        (ROW | {"spans": [[1, 2, 3]]}, "line 2: spans are [start, end] pairs"),
        (ROW | {"spans": [5]}, "line 2: spans are [start, end] pairs"),
        (ROW | {"spans": [1, 2]}, "line 2: spans are [start, end] pairs"),
        (ROW | {"spans": None}, "line 2: spans are [start, end] pairs"),
        (ROW | {"spans": ["12"]}, "line 2: spans are [start, end] pairs"),
        (ROW | {"spans": [[1, 10**400]]}, "line 2: spans are [start, end] pairs"),
        (ROW | {"spans": {}}, "line 2: spans are [start, end] pairs"),
        (ROW | {"spans": [[9, 4]]}, "line 2: span [9.0, 4.0] is not 0 <= start < end"),
        (ROW | {"spans": [[4, 4]]}, "line 2: span [4.0, 4.0] is not 0 <= start < end"),
        (ROW | {"spans": [[-1, 4]]}, "line 2: span [-1.0, 4.0] is not 0 <= start < end"),
        (ROW | {"options": "a cap"}, "line 2: options must be a list of texts"),
        (ROW | {"options": ["a cap", 3]}, "line 2: options must be a list of texts"),
        (ROW | {"options": None}, "line 2: options must be a list of texts"),
        (ROW | {"answer": "D"}, "line 2: answer 'D' is no option's label; give A to C"),
        (ROW | {"answer": "a bottle"}, "line 2: answer 'a bottle' is no option's label"),
        (ROW | {"answer": 1}, "line 2: answer must be text"),
        (ROW | {"id": None, "question": 7}, "line 2: id, question must be text"),
        (ROW | {"video": ["a"]}, "line 2: video must be text"),
    ],
)
def test_wrong_line_is_named_with_what_is_wrong(tmp_path: Path, line: Any, says: str) -> None:
    assert error_of(write(tmp_path / "x.jsonl", ROW | {"id": "first"}, line)).startswith(says)


def test_bytes_that_are_not_utf8_are_an_error_of_their_line(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ROW)
    path.write_bytes(
        path.read_bytes() + json.dumps(ROW | {"id": "b", "question": "é"}, ensure_ascii=False).encode("latin-1")
    )
    assert error_of(path).startswith("line 2: not JSON")


def test_repeated_id_names_both_lines_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", ROW | {"id": "a"}, "", ROW | {"id": "b"}, "", ROW | {"id": "a"})
    assert error_of(path) == "line 5: id 'a' was used on line 1 already"
