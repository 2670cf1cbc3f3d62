"""From a question to its row, with a scripted model on real videos: what rows hold, and that errors are rows."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scripted_policy import ScriptedPolicy, broken, rates, says
from small_videos import DURATION_S, write_small
from zoomzero.benchmarks.runner.asking import Asker, Item, ModelSpec, describe, make_batches
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.data.annotation import Question
from zoomzero.errors import ConfigError, VideoError
from zoomzero.policy.base import Context, Turn
from zoomzero.spans import Span

SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=64, min_frame_tokens=1, max_frame_tokens=1),
    zoom=PassSettings(fps=1, max_tokens=144, min_frame_tokens=1),
    window=PassSettings(fps=1, max_tokens=32, max_frames=32, min_frame_tokens=1, max_frame_tokens=1),
    widen_s=2.0,
)
SPEC = ModelSpec("scripted", SETTINGS)
ASKED = Question("q1", "small.mp4", "Which?", ("E", "H", "M"), "B", (Span(18, 25),), DURATION_S)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_small(tmp_path_factory.mktemp("asking") / "small.mp4"))


def ask(policy: ScriptedPolicy, *items: Item, spec: ModelSpec = SPEC) -> list[dict[str, Any]]:
    asker = Asker(policy, spec)
    return [json.loads(asker.ask(item)) for item in items]


def test_a_row_holds_the_answer_its_costs_passes_and_evidence(video: str) -> None:
    policy = ScriptedPolicy(says("A", [(16.0, 20.0)], p=0.6), rates(1, 8, 1))
    (row,) = ask(policy, Item(ASKED, video, "zoom"))
    assert (row["id"], row["mode"], row["answer"], row["said"], row["failed"]) == ("q1", "zoom", "B", "H", None)
    assert row["spans"] == [[16.0, 20.0]]
    assert row["confidence"] == pytest.approx(0.8)
    assert (row["video"], row["duration_s"]) == (video, DURATION_S)
    coarse, zoom = row["passes"]
    assert (coarse["name"], zoom["name"]) == ("coarse", "zoom")
    assert coarse["found"] == row["spans"]
    assert zoom["spans"] == [[14.0, 22.0]]  # widened by 2 s
    assert zoom["option_probabilities"] == pytest.approx([0.1, 0.8, 0.1])
    assert "times_s" not in zoom
    assert zoom["frames"] == 8
    assert row["costs"]["frames"] == coarse["frames"] + 8
    assert row["costs"]["visual_tokens"] == coarse["visual_tokens"] + zoom["visual_tokens"]
    # frames at 14, 15, .. 21 s, four of them (18 to 21) within 18-25 s
    assert row["evidence"] == {"hit": 0.5, "gap": None}
    assert row["seconds"] >= row["costs"]["seconds"] > 0


def test_faithfulness_takes_two_more_looks_of_the_same_length(video: str) -> None:
    policy = ScriptedPolicy(says("A", [(16.0, 20.0)], p=0.6), rates(1, 8, 1), rates(1, 8, 1), rates(5, 1, 1))
    (row,) = ask(policy, Item(ASKED, video, "zoom"), spec=replace(SPEC, faithfulness=True))
    evidence = row["evidence"]
    assert evidence["gap"] == 1  # B at the found spans, A elsewhere; B is right
    faithful, random = evidence["looks"]
    assert (faithful["option"], random["option"]) == ("B", "A")
    assert faithful["spans"] == [[14.0, 22.0]]
    ((start, end),) = random["spans"]
    assert end - start == pytest.approx(8.0, abs=0.01)
    assert evidence["costs"]["visual_tokens"] == faithful["visual_tokens"] + random["visual_tokens"]
    assert row["costs"]["visual_tokens"] == sum(one["visual_tokens"] for one in row["passes"])  # theirs not among them


@pytest.mark.parametrize(
    ("mode", "reply", "options"),
    [
        ("direct", rates(1, 8, 1), ("E", "H", "M")),  # names no spans
        ("coarse", says("A", []), ("E", "H", "M")),  # found nothing
        ("coarse", says("A", [(1.0, 47.5)]), ("E", "H", "M")),  # there is nowhere else
        ("coarse", says("a cap", [(16.0, 20.0)]), ()),  # an open question
    ],
)
def test_where_there_is_nothing_to_compare_the_gap_is_unknown(
    video: str, mode: Any, reply: Any, options: tuple[str, ...]
) -> None:
    question = replace(ASKED, options=options)
    (row,) = ask(ScriptedPolicy(reply), Item(question, video, mode), spec=replace(SPEC, faithfulness=True))
    assert (row["failed"], row["evidence"]) == (None, {"hit": None, "gap": None})


def test_open_questions_have_words_and_no_label(video: str) -> None:
    (row,) = ask(ScriptedPolicy(says("a red circle", [(1.0, 2.0)])), Item(replace(ASKED, options=()), video, "coarse"))
    assert (row["answer"], row["said"], row["spans"]) == (None, "a red circle", [[1.0, 2.0]])


@pytest.mark.parametrize("options", [("same", "same", "other"), ("", "x", "y"), ("", "", "")])
@pytest.mark.parametrize("mode", ["direct", "zoom"])
def test_options_are_asked_as_they_are_annotated(video: str, mode: Any, options: tuple[str, ...]) -> None:
    policy = ScriptedPolicy(says("A", [(16.0, 20.0)], p=0.6), rates(1, 8, 1), forever=True)
    (row,) = ask(policy, Item(replace(ASKED, options=options), video, mode))
    assert (row["failed"], row["answer"]) == (None, "B")


@pytest.mark.parametrize(
    ("text", "spans"),
    [
        ("<think>x</think>\n<answer>B</answer>\n<glue>[(nan, 3), (1, inf), (20, 10), (5, 9)]</glue>", [[5.0, 9.0]]),
        ("<think>x</think>\n<answer>B</answer>\n<glue>[(30, 900)]</glue>", [[30.0, DURATION_S]]),
        ("<think>x</think>\n<answer>B</answer>\n<glue>[(900, 950)]</glue>", []),
        ("no idea", []),
    ],
)
def test_spans_of_any_kind_make_a_row_that_is_json(video: str, text: str, spans: list[list[float]]) -> None:
    # a reply that names no option has its options scored instead
    (row,) = ask(ScriptedPolicy(says(text=text), rates(1, 1, 8)), Item(ASKED, video, "coarse"))
    assert (row["failed"], row["spans"]) == (None, spans)
    assert row["answer"] == ("C" if text == "no idea" else "B")


def test_questions_about_a_video_share_its_frames_and_every_mode_pays_for_its_own(video: str) -> None:
    policy = ScriptedPolicy(says("A", [(16.0, 20.0)], p=0.6), rates(1, 8, 1), forever=True)
    second = replace(ASKED, id="q2")
    items = [Item(one, video, mode) for mode in ("direct", "zoom") for one in (ASKED, second)]
    rows = ask(policy, *items)
    decoded = [row["costs"]["decoded_frames"] for row in rows]
    assert decoded[1] == decoded[3] == 0
    assert min(decoded[0], decoded[2]) > 0
    assert [row["costs"]["frames"] for row in rows] == [48, 48, 56, 56]


# --- errors are rows ---


def failed(row: dict[str, Any]) -> str:
    assert (row["answer"], row["said"], row["spans"], row["confidence"]) == (None, None, [], 0.0)
    assert (row["costs"], row["passes"], row["evidence"]) == ({}, [], {"hit": None, "gap": None})
    assert "\n" not in row["failed"]
    return str(row["failed"])


def test_an_unreadable_video_fails_its_questions_and_is_opened_once(
    video: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zoomzero.benchmarks.runner import asking

    opened: list[str] = []
    real = asking.probe
    monkeypatch.setattr(asking, "probe", lambda path, **more: opened.append(path) or real(path, **more))
    bad = tmp_path / "bad.mp4"
    bad.write_text("no video")
    policy = ScriptedPolicy(rates(1, 8, 1), forever=True)
    items = [
        Item(ASKED, str(bad), "direct"),
        Item(replace(ASKED, id="q2"), str(bad), "direct"),
        Item(ASKED, video, "direct"),
    ]
    first, second, good = ask(policy, *items)
    assert failed(first) == failed(second)
    assert "bad.mp4: cannot open" in first["failed"]
    assert (good["failed"], good["answer"]) == (None, "B")
    assert opened == [str(bad), video]


def test_a_model_of_nans_fails(video: str) -> None:
    (row,) = ask(ScriptedPolicy(broken(says("A", [(1.0, 2.0)]))), Item(ASKED, video, "coarse"))
    assert "its probabilities are not numbers (NaN)" in failed(row)


def test_a_number_that_json_has_no_word_for_fails(video: str) -> None:
    odd = replace(says("A", [(16.0, 20.0)]), peaks=(math.inf,) * 200)
    (row,) = ask(ScriptedPolicy(odd), Item(ASKED, video, "coarse"))
    assert "ValueError" in failed(row)


class Raising(ScriptedPolicy):
    """A model that raises an error once, and answers after that."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(rates(1, 8, 1), forever=True)
        self.error: BaseException | None = error

    def read(self, turns: Sequence[Turn]) -> Context:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        return super().read(turns)


class OutOfMemoryError(RuntimeError):
    """Called like torch's."""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OutOfMemoryError("CUDA out of\nmemory"), "out of memory (CUDA out of memory); lower --budget"),
        (MemoryError(), "out of memory (); lower --budget"),
        (RuntimeError("device-side assert"), "RuntimeError: device-side assert (test_eval_asking.py:"),
        (KeyError("x"), "KeyError: 'x' (test_eval_asking.py:"),
        (OSError(5, "Input/output error"), "OSError: [Errno 5] Input/output error"),
        (ConfigError("--budget", "too small", "give more"), "--budget: too small; give more"),
    ],
)
def test_one_bad_question_does_not_stop_the_others(video: str, error: BaseException, said: str) -> None:
    first, second = ask(Raising(error), Item(ASKED, video, "direct"), Item(replace(ASKED, id="q2"), video, "direct"))
    assert failed(first).startswith(said)
    assert (second["id"], second["failed"], second["answer"]) == ("q2", None, "B")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1)])
def test_who_stops_the_run_stops_it(video: str, error: BaseException) -> None:
    with pytest.raises(type(error)):
        ask(Raising(error), Item(ASKED, video, "direct"))


def test_an_error_is_one_line() -> None:
    assert describe(VideoError("a.mp4", "open", "a\nb", "c")) == "a.mp4: cannot open: a b; c"
    assert describe(ValueError("x" * 1000)) == "ValueError: " + "x" * 300


# --- the order of asking ---


def test_batches_hold_one_video_and_mode_and_keep_the_order() -> None:
    def item(id_: str, video: str, mode: Any) -> Item:
        return Item(replace(ASKED, id=id_), video, mode)

    items = [
        item(id_, video, mode) for id_, video in (("1", "a"), ("2", "b"), ("3", "a")) for mode in ("direct", "zoom")
    ]
    batches = make_batches(items)
    assert [[(one.question.id, one.mode) for one in batch] for batch in batches] == [
        [("1", "direct"), ("3", "direct")],
        [("1", "zoom"), ("3", "zoom")],
        [("2", "direct")],
        [("2", "zoom")],
    ]
    assert make_batches([]) == []
