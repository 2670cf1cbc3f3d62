"""Reading predictions: every format, every fault."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoomzero.benchmarks.predictions import FAULTS, Prediction, Predictions, read_predictions
from zoomzero.data.annotation import Question
from zoomzero.errors import DataError
from zoomzero.spans import Span

OPTIONS = ("apple", "banana", "cherry")
ASKED = tuple(
    Question(id_, "v.mp4", "?", OPTIONS, "B", (Span(0, 5),), duration_s=60.0) for id_ in ("1_0", "1_1", "2_0")
)


def read(tmp_path: Path, text: str | bytes, name: str = "p.jsonl", **kwargs: Any) -> Predictions:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_predictions([path], ASKED, **kwargs)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def faults(found: Predictions) -> dict[str, int]:
    assert set(found.faults) == set(FAULTS)
    return {name: count for name, count in found.faults.items() if count}


# --- formats ----------------------------------------------------------------------------------------------


def test_our_lines(tmp_path: Path) -> None:
    rows = (
        {"id": "1_0", "answer": "B", "spans": [[1, 2], [4, 5.5]], "response": "C is wrong", "seconds": 3},
        {"id": "1_1", "answer": None, "spans": []},
        {"id": "2_0", "answer": None, "spans": [], "error": "v.mp4: cannot open: no such file"},
    )
    found = read(tmp_path, lines(*rows))
    assert found.rows == {
        "1_0": Prediction("1_0", "B", (Span(1, 2), Span(4, 5.5))),
        "1_1": Prediction("1_1"),
        "2_0": Prediction("2_0", failed=True),
    }
    assert faults(found) == {}


def test_moment_retrieval_submission(tmp_path: Path) -> None:
    row = {
        "qid": "1_0",
        "pred_relevant_windows": [[0, 7, 0.9], [3, 4, 0.2]],
        "ans": "C",
        "pred_saliency_scores": [1, -2],
    }
    found = read(tmp_path, lines(row))
    assert found.rows["1_0"] == Prediction("1_0", "C", (Span(0, 7), Span(3, 4)), (0.9, 0.2), (1.0, -2.0))


def test_windows_of_which_some_have_no_score_have_none(tmp_path: Path) -> None:
    assert (
        read(tmp_path, lines({"qid": "1_0", "pred_relevant_windows": [[0, 7, 0.9], [3, 4]]})).rows["1_0"].scores == ()
    )


def test_the_two_halves_of_nextgqa(tmp_path: Path) -> None:
    ground = tmp_path / "ground.json"
    ground.write_text(json.dumps({"1_0": [3, 9.5], "1_1": [5, 5]}))
    answers = tmp_path / "qa.json"
    answers.write_text(json.dumps({"1_0": {"prediction": 2, "answer": 1}, "2_0": {"prediction": 0, "answer": 1}}))
    found = read_predictions([ground, answers], ASKED)
    assert found.rows == {
        "1_0": Prediction("1_0", "C", (Span(3, 9.5),)),
        "1_1": Prediction("1_1", None, (Span(5, 5),)),
        "2_0": Prediction("2_0", "A"),
    }
    both = {"pred_ground": json.loads(ground.read_text()), "pred_qa": json.loads(answers.read_text())}
    assert read(tmp_path, json.dumps(both), "both.json").rows == found.rows


def test_a_failure_in_either_half_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(lines({"id": "1_0", "answer": "A"}))
    (tmp_path / "b.jsonl").write_text(lines({"id": "1_0", "spans": [], "error": "out of memory"}))
    assert read_predictions([tmp_path / "a.jsonl", tmp_path / "b.jsonl"], ASKED).rows["1_0"].failed


def test_several_spans_for_one_key(tmp_path: Path) -> None:
    assert read(tmp_path, '{"1_0": [[1, 2], [3, 4]]}', "p.json").rows["1_0"].spans == (Span(1, 2), Span(3, 4))


def test_letters_by_key(tmp_path: Path) -> None:
    found = read(tmp_path, '{"1_0": "A", "1_1": " (b) ", "2_0": null}', "p.json")
    assert [found.rows[one.id].answer for one in ASKED] == ["A", "B", None]


def test_lists_and_nested_lists(tmp_path: Path) -> None:
    flat = [{"question_id": "1_0", "question_type": "count", "option": "C"}]
    assert read(tmp_path, json.dumps(flat), "p.json").rows["1_0"].answer == "C"
    nested = [{"video_id": "1", "questions": [{"question_id": "1_0", "answer": "A", "response": "B."}]}]
    found = read(tmp_path, json.dumps(nested), "n.json")
    assert found.rows["1_0"].answer == "B"  # `answer` is the truth there


def test_the_official_reading_of_a_response_goes_first(tmp_path: Path) -> None:
    found = read(tmp_path, lines({"question_id": "1_0", "response": "B"}), response_rule=lambda text, one: text.lower())
    assert found.rows["1_0"].answer == "b"


# --- answers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "answer", "fault"),
    [
        ("C", "C", None),
        ("c", "C", None),
        ("C. cherry", "C", None),
        ("cherry", "C", None),
        (2, "C", None),
        ("", None, None),
        ("D", None, "out_of_range_answers"),
        (3, None, "out_of_range_answers"),
        (-1, None, "out_of_range_answers"),
        ("no idea", None, "unread_answers"),
        (True, None, "unread_answers"),
        (1.0, None, "unread_answers"),
        (["A"], None, "unread_answers"),
    ],
)
def test_answers(tmp_path: Path, written: Any, answer: str | None, fault: str | None) -> None:
    found = read(tmp_path, lines({"id": "1_0", "answer": written}))
    assert found.rows["1_0"].answer == answer
    assert faults(found) == ({fault: 1} if fault else {})


# --- spans ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "spans", "fault"),
    [
        ("[[NaN, 2], [1, 2]]", ((1, 2),), {"bad_spans": 1}),
        ("[[1, Infinity]]", (), {"bad_spans": 1}),
        ("[[1, null]]", (), {"bad_spans": 1}),
        ("[[1]]", (), {"bad_spans": 1}),
        ('[["1", "2"]]', (), {"bad_spans": 1}),
        ("[[true, 2]]", (), {"bad_spans": 1}),
        ("[[9, 2], [4, 4]]", ((9, 2), (4, 4)), {"reversed_spans": 1, "point_spans": 1}),
        ("[[50, 61]]", ((50, 61),), {"spans_past_end": 1}),
        ("[3, 4]", ((3, 4),), {}),
        ("null", (), {}),
    ],
)
def test_spans(tmp_path: Path, written: str, spans: tuple[Any, ...], fault: dict[str, int]) -> None:
    found = read(tmp_path, f'{{"id": "1_0", "answer": "A", "spans": {written}}}\n')
    assert found.rows["1_0"].spans == spans
    assert faults(found) == fault


# --- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 9, 24, 31])
def test_a_half_written_last_line_is_counted(tmp_path: Path, cut: int) -> None:
    last = '{"id": "1_1", "answer": "Ä", "spans": []}\n'.encode()
    found = read(tmp_path, lines({"id": "1_0", "answer": "A"}).encode() + last[:cut])
    assert set(found.rows) == {"1_0"}
    assert faults(found) == {"half_written_lines": 1}


def test_a_cut_at_any_byte_leaves_whole_rows(tmp_path: Path) -> None:
    rows = [{"id": "1_0", "answer": "A", "spans": [[1, 2]]}, {"id": "1_1", "answer": "ß"}]
    whole = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    first = whole.index(b"\n")
    for cut in range(first, len(whole)):
        found = read(tmp_path, whole[:cut])
        assert found.rows["1_0"] == Prediction("1_0", "A", (Span(1, 2),))
        complete = cut in (len(whole) - 1, len(whole))
        assert ("1_1" in found.rows) == complete
        assert found.faults["half_written_lines"] == (0 if complete or cut <= first + 1 else 1)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"p\.jsonl: line 2: not JSON"):
        read(tmp_path, '{"id": "1_0"}\n{"id": "1_\n{"id": "2_0"}\n')
    with pytest.raises(DataError, match="line 2: is not UTF-8"):
        read(tmp_path, b'{"id": "1_0"}\n{"id": "\xff"}\n{"id": "2_0"}\n')
    with pytest.raises(DataError, match="line 1: is not a JSON object"):
        read(tmp_path, "[1, 2]\n")


def test_duplicate_ids_are_named_with_both_places(tmp_path: Path) -> None:
    rows = lines({"id": "1_0", "answer": "A"}, {"id": "1_1", "answer": "A"}, {"id": "1_0", "answer": "B"})
    with pytest.raises(DataError, match="line 3: question '1_0' was answered at line 1"):
        read(tmp_path, rows)


def test_the_same_half_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"1_0": [1, 2]}')
    (tmp_path / "b.json").write_text('{"1_0": [1, 3]}')
    with pytest.raises(DataError, match=r"b\.json: key '1_0': .*another file"):
        read_predictions([tmp_path / "a.json", tmp_path / "b.json"], ASKED)


def test_unknown_ids_are_counted_and_all_unknown_is_the_wrong_file(tmp_path: Path) -> None:
    found = read(tmp_path, lines({"id": "1_0", "answer": "A"}, {"id": "9_9", "answer": "A"}))
    assert set(found.rows) == {"1_0"}
    assert faults(found) == {"unknown_ids": 1}
    with pytest.raises(DataError, match=r"'9_9': is no question of this split.*'1_0'.*--split"):
        read(tmp_path, lines({"id": "9_9", "answer": "A"}))


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("", "p.jsonl", "holds no complete row"),
        ('{"id": "1_', "p.jsonl", "holds no complete row"),
        ("[]", "p.json", "holds no complete row"),
        ('{"answer": "A"}\n', "p.jsonl", "line 1: lacks an id .* it has answer"),
        ('{"id": "1_0", "spans": "soon"}\n', "p.jsonl", "line 1: spans must be a list"),
        ('{"qid": "1_0", "pred_saliency_scores": ["a"]}\n', "p.jsonl", "line 1: pred_saliency_scores"),
        ('{"1_0": 1.5}', "p.json", "key '1_0': holds neither"),
        ("[3]", "p.json", "row 1: is not a JSON object"),
        ('{\n"a": [1,\n', "p.json", "line 1: not JSON"),
        ('{"pred_ground": 3}', "p.json", "pred_ground, pred_qa: must be objects"),
    ],
)
def test_files_that_cannot_be_understood(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, name)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_predictions([tmp_path / "none.jsonl"], ASKED)
