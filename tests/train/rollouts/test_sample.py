"""Drawing answers: what is written, the same again after being cut off anywhere, unreadable videos counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sft_models import SETTINGS

from zoomzero.answer.session import QuestionSession
from zoomzero.answer.writing import write
from zoomzero.config import ModelSettings
from zoomzero.data.example import Example, read_examples
from zoomzero.errors import ConfigError, DataError, VideoError
from zoomzero.policy.base import Sampling
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.prompts import read_response
from zoomzero.train.rollouts.sample import SampleSettings, sample
from zoomzero.train.rollouts.stream import prompt_seed
from zoomzero.video.plan import plan_regular
from zoomzero.video.probe import probe

RULES = SampleSettings(n=3, max_new_tokens=12, at_once=2, seed=5)
ME = {"model": "abc"}


@pytest.fixture
def examples(small_world: Path) -> list[Example]:
    return read_examples(small_world)


@pytest.fixture
def policy(family_policies: dict[str, Any]) -> QwenPolicy:
    return family_policies["qwen3_vl"]


@pytest.fixture
def draw(policy: QwenPolicy, examples: list[Example]) -> Callable[..., None]:
    def run(path: Path, settings: SampleSettings = RULES, of: list[Example] | None = None, **more: Any) -> None:
        sample(lambda: (policy, SETTINGS), examples if of is None else of, settings, path, more.pop("me", ME), **more)

    return run


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def nobody() -> tuple[QwenPolicy, ModelSettings]:
    pytest.fail("the model is loaded although nothing is left to draw")


def test_every_example_gets_its_answers(draw: Callable[..., None], examples: list[Example], tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    draw(tmp_path / "s.jsonl", progress=lambda done, total: steps.append((done, total)))
    rows = rows_of(tmp_path / "s.jsonl")
    assert [(row["id"], row["sample"]) for row in rows] == [(e.id, k) for e in examples for k in range(3)]
    assert steps == [(0, 5), (2, 5), (4, 5), (5, 5)]
    assert len({row["text"] for row in rows}) > 5


def test_answers_are_what_the_coarse_pass_would_draw(
    draw: Callable[..., None], policy: QwenPolicy, examples: list[Example], tmp_path: Path
) -> None:
    draw(tmp_path / "s.jsonl")
    place, one = 3, examples[3]
    asked = QuestionSession(policy, SETTINGS, probe(one.video), one.question, one.options)
    look = write(asked, "coarse", plan_regular(asked.info, SETTINGS.coarse.budget(), policy.geometry))
    drawn = look.prefix.write(3, Sampling(1.0, 1.0, 12, prompt_seed(5, place))).completions
    rows = [row for row in rows_of(tmp_path / "s.jsonl") if row["id"] == one.id]
    assert [row["text"] for row in rows] == [completion.text for completion in drawn]
    for row in rows:
        reading = read_response(row["text"], 4, asked.mode, options=one.options)
        assert row["answer"] == (None if reading.option is None else "ABCD"[reading.option])
        assert row["spans"] == [list(span) for span in reading.spans]


def test_a_run_killed_at_any_byte_goes_on_to_the_same_file(
    draw: Callable[..., None], examples: list[Example], tmp_path: Path
) -> None:
    path = tmp_path / "s.jsonl"
    draw(path)
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 1, ends[0], ends[2], ends[2] + 5, ends[7], ends[8] - 1, ends[-1] - 1, ends[-2]):
        path.write_bytes(whole[:cut])
        draw(path)
        assert path.read_bytes() == whole, cut


def test_a_finished_file_needs_no_model(draw: Callable[..., None], examples: list[Example], tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    draw(path)
    sample(nobody, examples, RULES, path, ME)
    sample(nobody, examples, RULES.model_copy(update={"at_once": 1, "timeout_s": 5.0}), path, ME)


def test_skipped_examples_are_not_asked(draw: Callable[..., None], examples: list[Example], tmp_path: Path) -> None:
    skip = {examples[0].id, examples[4].id}
    draw(tmp_path / "some.jsonl", skip=skip)
    draw(tmp_path / "all.jsonl")
    wanted = [row for row in rows_of(tmp_path / "all.jsonl") if row["id"] not in skip]
    assert rows_of(tmp_path / "some.jsonl") == wanted  # and the others draw what they always draw


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"settings": RULES.model_copy(update={"n": 4})}, "sampling.n"),
        ({"settings": RULES.model_copy(update={"temperature": 0.5, "seed": 6})}, "sampling.temperature, sampling.seed"),
        ({"me": {"model": "xyz"}}, "model"),
    ],
)
def test_a_file_drawn_otherwise_is_refused(
    change: dict[str, Any], named: str, draw: Callable[..., None], tmp_path: Path
) -> None:
    draw(tmp_path / "s.jsonl")
    with pytest.raises(ConfigError, match=f"was drawn with other {named}; give another --samples-file, or delete it"):
        draw(tmp_path / "s.jsonl", **change)
    (tmp_path / "s.jsonl.run.json").unlink()
    with pytest.raises(ConfigError, match=r"has no s\.jsonl\.run\.json that says how it was drawn"):
        draw(tmp_path / "s.jsonl")


def test_unreadable_videos_are_rows_and_are_counted_by_video(
    draw: Callable[..., None], examples: list[Example], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video at all")
    # both questions about one of the two videos
    mixed = [replace(one, video=str(broken)) if one.id.startswith("1") else one for one in examples]
    path = tmp_path / "s.jsonl"
    draw(path, RULES.model_copy(update={"max_unreadable": 0.5}), of=mixed)
    errors = [row for row in rows_of(path) if "error" in row]
    assert [row["id"] for row in errors] == [one.id for one in mixed if one.video == str(broken)]
    assert all("broken.mp4: cannot open" in row["error"] for row in errors)
    assert len([row for row in rows_of(path) if "error" not in row]) == 3 * 3
    sample(nobody, mixed, RULES.model_copy(update={"max_unreadable": 0.5}), path, ME)


def test_too_many_unreadable_videos_stop_the_run(
    draw: Callable[..., None], examples: list[Example], tmp_path: Path
) -> None:
    gone = [replace(one, video=str(tmp_path / f"{one.id}.mp4")) for one in examples]
    with pytest.raises(VideoError, match=r"2 of 5 videos cannot be read \(first .*; mend them and .*max_unreadable"):
        draw(tmp_path / "s.jsonl", of=gone)
    assert len(rows_of(tmp_path / "s.jsonl")) == 2  # what was found out is kept
    with pytest.raises(VideoError, match="2 of 5 videos cannot be read"):
        sample(nobody, gone, RULES, tmp_path / "s.jsonl", ME)


def test_a_line_that_is_no_answer_is_named(draw: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    draw(path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"{broken\n" + b"".join(lines[1:]))
    with pytest.raises(DataError, match=r"s\.jsonl: line 2: is no answer"):
        draw(path)
