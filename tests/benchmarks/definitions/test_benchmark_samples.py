"""Several rows for one question, read from one file or several."""

from __future__ import annotations

from pathlib import Path

import pytest

from zoomzero.benchmarks.predictions import read_samples
from zoomzero.data.annotation import Question
from zoomzero.errors import DataError
from zoomzero.spans import Span

CLOSED = Question("c", "v.mp4", "What?", ("red", "blue"), "B", (Span(1, 2),), 10.0)
OPEN = Question("o", "v.mp4", "What?", (), "a red car", (Span(1, 2),), 10.0)


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_rows_of_a_question_are_kept_in_order(tmp_path: Path) -> None:
    one = written(
        tmp_path / "1.jsonl",
        '{"id": "c", "answer": "A", "spans": [[1, 2]]}',
        '{"id": "o", "answer": " A red car ", "spans": []}',
        '{"id": "c", "answer": "blue", "spans": [[2, 1], ["x", 3]]}',
        '{"id": "c", "answer": "purple"}',
    )
    two = written(tmp_path / "2.jsonl", '{"id": "c", "answer": 1}', '{"id": "s", "answer": "A"}')
    found = read_samples([one, two], [CLOSED, OPEN])
    assert [row.answer for row in found.rows["c"]] == ["A", "B", None, "B"]
    assert found.rows["c"][1].spans == (Span(2.0, 1.0),)
    assert [row.answer for row in found.rows["o"]] == ["a red car"]  # the annotated words, said with other capitals
    assert {name: count for name, count in found.faults.items() if count} == {
        "unread_answers": 1,
        "bad_spans": 1,
        "reversed_spans": 1,
        "unknown_ids": 1,
    }
    assert found.errors == {}


def test_an_error_counts_only_without_answers(tmp_path: Path) -> None:
    path = written(
        tmp_path / "p.jsonl",
        '{"id": "c", "error": "first try"}',
        '{"id": "c", "answer": "A"}',
        '{"id": "o", "error": "v.mp4: cannot open"}',
        '{"id": "o", "answer": "cut',
    )
    path.write_bytes(path.read_bytes()[:-1])  # the last row was being written
    found = read_samples([path], [CLOSED, OPEN])
    assert (set(found.rows), found.errors) == ({"c"}, {"o": "v.mp4: cannot open"})
    assert found.faults["half_written_lines"] == 1


def test_a_file_about_other_questions_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no question of this split"):
        read_samples([written(tmp_path / "p.jsonl", '{"id": "s", "answer": "A"}')], [CLOSED])
    with pytest.raises(DataError, match="holds no complete row"):
        read_samples([written(tmp_path / "q.jsonl")], [CLOSED])
