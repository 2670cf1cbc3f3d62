"""The front door: light to import, answers as `answer` gives them, typed errors for what is no question."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoomzero
from small_videos import write_small
from zoomzero.answer.ask import answer
from zoomzero.inputs.frames import frames_video
from zoomzero.model import Ask, Model
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular
from zoomzero.video.probe import probe
from zoomzero.video.types import FrameBudget

QUESTION, OPTIONS = "Which symbol is on the red circle?", ["E", "H", "K"]


@pytest.fixture(scope="module")
def model() -> Model:
    return zoomzero.load("tiny", device="cpu", settings=["max_new_tokens=40"])


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("model") / "small.mp4")


def test_importing_loads_nothing_heavy() -> None:
    code = "import sys, zoomzero; print([m for m in ('torch', 'transformers', 'av', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_public_names_are_loaded_when_they_are_used_and_are_those_type_checkers_read() -> None:
    tree = ast.parse(Path(zoomzero.__file__).read_text(encoding="utf-8"))
    (block,) = [one for one in tree.body if isinstance(one, ast.If) and ast.unparse(one.test) == "TYPE_CHECKING"]
    homes = {alias.name: one.module for one in block.body for alias in one.names}  # type: ignore[attr-defined]
    assert homes.pop("Model") == "zoomzero.model"  # what `load` returns: to be named, not to be made
    assert sorted([*homes, "load"]) == zoomzero.__all__
    for name, home in homes.items():
        assert getattr(zoomzero, name) is getattr(importlib.import_module(home), name)
    assert set(zoomzero.__all__) <= set(dir(zoomzero))
    with pytest.raises(AttributeError, match="'zoomzero' has no attribute 'Spam'"):
        zoomzero.Spam  # noqa: B018


def test_all_public_names_can_be_imported_at_once_without_torch() -> None:
    code = (
        "import sys, zoomzero; before = set(zoomzero.__all__) <= set(dir(zoomzero))\n"
        "from zoomzero import *\n"
        "print(before, Span(1.0, 2.0), issubclass(VideoError, ZoomZeroError), Trace.__name__, callable(load))\n"
        "print([m for m in ('torch', 'transformers', 'av') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.splitlines() == ["True Span(start_s=1.0, end_s=2.0) True Trace True", "[]"]


def test_ask_is_answer(model: Model, video: Path) -> None:
    trace = model.ask(video, QUESTION, OPTIONS, mode="zoom")
    assert isinstance(trace, zoomzero.Trace)
    same, _ = answer(model.policy, model.settings, video, QUESTION, OPTIONS, mode="zoom")
    assert (trace.answer, trace.spans, trace.confidence) == (same.answer, same.spans, same.confidence)
    assert all(isinstance(span, zoomzero.Span) for span in trace.spans)
    assert model.settings.max_new_tokens == 40


def test_ask_many_keeps_the_order_and_an_error_costs_one_answer(model: Model, video: Path, tmp_path: Path) -> None:
    missing = tmp_path / "missing.mp4"
    asked: list[Any] = [(video, QUESTION, OPTIONS), (missing, "q"), Ask(video, QUESTION, OPTIONS), (video, "  ")]
    first, lost, again, empty = model.ask_many(asked, mode="direct")
    assert isinstance(first, zoomzero.Trace)
    assert isinstance(again, zoomzero.Trace)
    assert (first.option, first.confidence) == (again.option, again.confidence)
    assert isinstance(lost, zoomzero.VideoError)
    assert str(missing) in str(lost)
    assert isinstance(empty, zoomzero.ConfigError)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("ab", "--option: 'ab' is one text, not several options; give a list: ['a', 'b']"),
        ("a cap", "--option: 'a cap' is one text, not several options; give a list with one text for each option"),
        (["a"], "--option: one option leaves nothing to choose"),
    ],
)
def test_options_are_a_list_of_texts(model: Model, options: Any, complaint: str) -> None:
    with pytest.raises(zoomzero.ConfigError) as caught:
        model.ask("nowhere.mp4", "q", options)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("video", [None, 7, []])
def test_what_is_no_path_is_refused(model: Model, video: Any) -> None:
    with pytest.raises(
        zoomzero.ConfigError, match=r"^VIDEO: is a .*, not a path; give the path of a file, or of a dir"
    ):
        model.ask(video, "q")


def test_frames_in_memory_are_a_video(model: Model, video: Path) -> None:
    """Two frames a second of a video, as an array, are answered as the same pictures in a folder are."""
    info = probe(video)
    clip = decode(info, plan_regular(info, FrameBudget(2, 4096, max_frames=96), model.policy.geometry))
    fps = (len(clip.times_s) - 1) / (clip.times_s[-1] - clip.times_s[0])
    trace = model.ask(clip.frames, QUESTION, OPTIONS, fps=fps)
    listed = model.ask(list(clip.frames), QUESTION, OPTIONS, fps=fps)
    assert trace.video == f"{len(clip.frames)} frames in memory"
    assert trace.duration_s == pytest.approx(len(clip.frames) / fps)
    assert (trace.answer, trace.spans, trace.confidence) == (listed.answer, listed.spans, listed.confidence)
    with frames_video(clip.frames, fps) as made:
        again = [*model.ask_many([(made, QUESTION, OPTIONS)]), model.ask(made, QUESTION, OPTIONS)]
        assert Path(made.path).is_dir()
    assert [(one.answer, one.confidence) for one in again] == [(trace.answer, trace.confidence)] * 2  # type: ignore[union-attr]
    assert not Path(made.path).exists(), "nothing is left behind"


@pytest.mark.parametrize(
    ("frames", "fps", "complaint"),
    [
        (np.zeros((4, 32, 32, 3)), 2.0, r"VIDEO: frames are float64 of shape \(4, 32, 32, 3\); give RGB, uint8"),
        (np.zeros((4, 3, 32, 32), np.uint8), 2.0, r"of shape \(4, 3, 32, 32\); give RGB, uint8, of shape \(T, H, W"),
        ((np.zeros((4, 32, 32, 3)), [0, 1, 2, 3]), 2.0, "VIDEO: frames make no array"),
        (np.zeros((4, 32, 32, 3), np.uint8), None, "fps: 4 frames have no times; give their frames a second"),
        (np.zeros((4, 32, 32, 3), np.uint8), -1.0, "frames a second; give a rate above 0"),
    ],
)
def test_frames_that_are_none_are_refused(model: Model, frames: Any, fps: float | None, complaint: str) -> None:
    with pytest.raises(zoomzero.ConfigError, match=complaint):
        model.ask(frames, "q", fps=fps)


def test_errors_of_loading_are_typed(tmp_path: Path) -> None:
    with pytest.raises(zoomzero.ModelError, match="no such directory"):
        zoomzero.load(str(tmp_path / "nothing"))
    with pytest.raises(zoomzero.ConfigError, match="colour"):
        zoomzero.load("tiny", settings=["zoom.colour=1"])
