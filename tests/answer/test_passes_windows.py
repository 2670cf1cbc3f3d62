"""Windows read and written together give what they give one by one."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from small_videos import damage, write_small
from zoomzero.answer import windows
from zoomzero.answer.session import QuestionSession
from zoomzero.config import PassSettings, load_model_settings
from zoomzero.errors import ModelError
from zoomzero.policy.base import BatchPolicy, PrefixPolicy, TokenCompletion
from zoomzero.policy.local.load import find, load_policy
from zoomzero.video.plan import plan_windows
from zoomzero.video.probe import probe

WINDOW = PassSettings(fps=1, max_tokens=16, max_frames=8, min_frame_tokens=1, max_frame_tokens=1)


class OneByOne:
    """A policy without what takes several chats at once."""

    def __init__(self, policy: Any) -> None:
        self.name, self.geometry = policy.name, policy.geometry
        self.write, self.choose = policy.write, policy.choose
        self.read, self.extend, self.generate, self.score = policy.read, policy.extend, policy.generate, policy.score


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load_policy("tiny", device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("windows") / "small.mp4")


def asked(policy: Any, video: Path) -> QuestionSession:
    settings = load_model_settings(find("tiny")).model_copy(update={"window": WINDOW, "max_new_tokens": 40})
    return QuestionSession(policy, settings, probe(video), "Which symbol is on the red circle?", ("E", "H", "K"))


def look(one: QuestionSession) -> list[Any]:
    plans = plan_windows(one.info, WINDOW.budget(), one.policy.geometry, WINDOW.max_frames)
    assert len(plans) == 6
    return windows.write_windows(one, [f"window {i}" for i in range(6)], plans)


@pytest.mark.parametrize("at_once", [1, 4, 100])
def test_equal_to_one_by_one(tiny: Any, video: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOWS_AT_ONCE", at_once)
    single = OneByOne(tiny)
    assert isinstance(tiny, BatchPolicy)
    assert isinstance(single, PrefixPolicy)
    assert not isinstance(single, BatchPolicy)
    seen: list[str] = []
    together, alone = (look(replace(asked(policy, video), progress=seen.append)) for policy in (tiny, single))
    assert seen == [f"window {i}" for i in range(6)] * 2
    for a, b in zip(together, alone, strict=True):
        assert a.prefix.context is b.prefix.context is None  # a long video's windows must not pile up
        assert (a.trace.name, a.trace.text, a.trace.found) == (b.trace.name, b.trace.text, b.trace.found)
        assert (a.trace.times_s, a.trace.prompt_tokens) == (b.trace.times_s, b.trace.prompt_tokens)
        assert a.trace.confidence == pytest.approx(b.trace.confidence, abs=1e-5)
        assert a.trace.span_confidence == pytest.approx(b.trace.span_confidence, abs=1e-4)
        assert a.trace.decode_seconds > 0
        assert a.trace.seconds > 0


def test_the_next_windows_are_decoded_while_the_model_works(
    tiny: Any, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "WINDOWS_AT_ONCE", 2)
    begun = {f"window {i}": threading.Event() for i in range(6)}
    met: list[bool] = []
    read_many = tiny.read_many

    def waits(chats: Any) -> Any:
        """Read a run once the decoding of the one after it has begun."""
        after = 2 * (len(met) + 1)
        met.append(after == 6 or begun[f"window {after}"].wait(60))
        return read_many(chats)

    monkeypatch.setattr(tiny, "read_many", waits)
    found = look(replace(asked(tiny, video), progress=lambda name: begun[name].set()))
    assert met == [True] * 3
    assert [one.trace.name for one in found] == list(begun)


def test_an_interrupted_answer_decodes_no_further_run(tiny: Any, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOWS_AT_ONCE", 1)
    seen: list[str] = []

    def interrupted(chats: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tiny, "read_many", interrupted)
    with pytest.raises(KeyboardInterrupt):
        look(replace(asked(tiny, video), progress=seen.append))
    assert seen in (["window 0"], ["window 0", "window 1"])


def test_a_window_that_does_not_decode_is_left_out(tiny: Any, video: Path) -> None:
    holed = damage(video, video.parent / "holed.mp4", 16.0, 32.0)
    for policy in (tiny, OneByOne(tiny)):
        one = asked(policy, holed)
        found = look(one)
        assert [x is None for x in found] == [False, False, True, True, False, False]
        assert [note.split(" was")[0] for note in one.missed] == ["window 2", "window 3"]


def test_numbers_that_are_none_are_refused(tiny: Any, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = TokenCompletion("x", (1,), ((0, 1),), (float("nan"),), (0.0,), True)
    monkeypatch.setattr(tiny, "generate_many", lambda contexts, n, samplings: [[nan]] * len(contexts))
    with pytest.raises(ModelError, match="NaN"):
        look(asked(tiny, video))
