"""Rollout groups survive a trip through JSON exactly, and damaged files are told apart from running ones."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from grpo_groups import full_group
from hypothesis import given
from hypothesis import strategies as st

from zoomzero.data.example import Example
from zoomzero.errors import DataError
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.credit.rewards import RewardValues
from zoomzero.train.rollouts.record import Rollout, RolloutGroup, group_from_json, read_groups

numbers = st.floats(allow_nan=False, allow_infinity=False)
some = st.lists(numbers, max_size=4).map(tuple)
spans = st.lists(st.builds(Span, numbers, numbers), max_size=3).map(tuple)
texts = st.text(max_size=12)  # any Unicode, line ends and U+2028 included
examples = st.builds(
    Example, texts, texts, texts, st.lists(texts, max_size=4).map(tuple), texts, spans, numbers, texts, texts
)
looks = st.builds(ZoomResult, st.booleans(), st.none() | some, st.none() | texts)
rollouts = st.builds(
    Rollout,
    text=texts,
    token_ids=st.lists(st.integers(0, 200_000), max_size=4).map(tuple),
    offsets=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=4).map(tuple),
    finished=st.booleans(),
    option=st.none() | texts,
    spans=spans,
    problems=st.lists(texts, max_size=2).map(tuple),
    answer_mask=st.lists(st.booleans(), max_size=4).map(tuple),
    rewards=st.builds(RewardValues, numbers, numbers, numbers, st.none() | numbers),
    zoom=st.none() | looks,
    advantages=some,
    old_log_probs=st.none() | some,
    ref_log_probs=st.none() | some,
)
groups = st.builds(
    RolloutGroup,
    index=st.integers(0, 10**6),
    step=st.integers(0, 10**6),
    example=examples,
    prompt=texts,
    rollouts=st.lists(rollouts, max_size=3).map(tuple),
    kept=st.booleans(),
)


@given(groups)
def test_round_trip_is_exact(group: RolloutGroup) -> None:
    line = group.to_json()
    assert "\n" not in line
    assert group_from_json(json.loads(line)) == group


def test_round_trip_keeps_the_last_bit_of_every_float() -> None:
    group = full_group()
    back = group_from_json(json.loads(group.to_json()))
    assert back == group
    assert math.copysign(1.0, back.rollouts[0].ref_log_probs[1]) == -1.0  # type: ignore[index]
    assert isinstance(back.rollouts[0].spans[0], Span)


def test_numbers_that_json_does_not_know_are_refused_unless_asked_for() -> None:
    rollout = replace(full_group().rollouts[0], old_log_probs=(math.nan, -math.inf))
    group = full_group(rollouts=(rollout,))
    with pytest.raises(ValueError, match="not JSON compliant"):
        group.to_json()
    back = group_from_json(json.loads(group.to_json(finite=False)))
    assert back.rollouts[0].old_log_probs is not None
    assert math.isnan(back.rollouts[0].old_log_probs[0])
    assert back.rollouts[0].old_log_probs[1] == -math.inf


def test_files_are_read_in_order_without_a_half_written_last_line(tmp_path: Path) -> None:
    path = tmp_path / "rollouts.jsonl"
    whole = [full_group(index=i) for i in range(3)]
    lines = [group.to_json() + "\n" for group in whole]
    path.write_text("".join(lines), encoding="utf-8")
    assert list(read_groups(path)) == whole
    path.write_text("".join(lines)[:-1], encoding="utf-8")  # all there but the line end: it may be half a number
    assert list(read_groups(path)) == whole[:2]
    path.write_text("".join(lines) + lines[0][:100], encoding="utf-8")
    assert list(read_groups(path)) == whole
    path.write_text("", encoding="utf-8")
    assert list(read_groups(path)) == []


@pytest.mark.parametrize(
    "damaged",
    ["{}", "[]", "not json", '{"index": 1}', "", full_group().to_json().replace('"offsets": [[0, 8]', '"offsets": [8')],
)
def test_a_damaged_line_is_named(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "rollouts.jsonl"
    path.write_text(f"{full_group().to_json()}\n{damaged}\n{full_group().to_json()}\n", encoding="utf-8")
    read = read_groups(path)
    assert next(read) == full_group()
    with pytest.raises(DataError, match=r"rollouts\.jsonl: line 2: is no rollout group"):
        next(read)


def test_a_missing_file_says_who_writes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rollouts\.jsonl: file: no such file; a training run writes"):
        next(read_groups(tmp_path / "rollouts.jsonl"))
