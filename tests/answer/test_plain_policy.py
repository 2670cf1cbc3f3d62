"""Every mode needs `Policy` and nothing else: a policy behind strings and frames gives the answers of the local one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from plain_policy import PlainPolicy
from small_videos import write_small
from zoomzero.answer.ask import answer
from zoomzero.answer.names import MODES
from zoomzero.answer.trace import Trace
from zoomzero.config import PassSettings, load_model_settings
from zoomzero.errors import ModelError
from zoomzero.policy.base import BatchPolicy, PrefixPolicy
from zoomzero.policy.capabilities import capabilities, require
from zoomzero.policy.local.load import find, load_policy

WINDOW = PassSettings(fps=1, max_tokens=16, max_frames=16, min_frame_tokens=1, max_frame_tokens=1)


@pytest.fixture(scope="module")
def tiny() -> Any:
    return load_policy("tiny", device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("plain") / "small.mp4")


def ask(policy: Any, video: Path, mode: str, options: tuple[str, ...]) -> Trace:
    changes = {"window": WINDOW, "max_new_tokens": 40, "candidates": 2, "weak": 0.99, "outside_looks": 1}
    settings = load_model_settings(find("tiny")).model_copy(update=changes)
    return answer(policy, settings, video, "Which symbol is on the red circle?", options, mode=mode)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [("E", "H", "K"), ()])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_answers_as_the_local_policy_does(
    tiny: Any, video: Path, mode: str, options: tuple[str, ...]
) -> None:
    plain = PlainPolicy(tiny)
    mine, theirs = ask(plain, video, mode, options), ask(tiny, video, mode, options)
    assert [one.name for one in mine.passes] == [one.name for one in theirs.passes]
    assert (mine.answer, mine.option, mine.spans) == (theirs.answer, theirs.option, theirs.spans)
    assert mine.confidence == pytest.approx(theirs.confidence, abs=1e-4)
    for a, b in zip(mine.passes, theirs.passes, strict=True):
        assert (a.text, a.found, a.prompt_tokens, a.generated_tokens) == (
            b.text,
            b.found,
            b.prompt_tokens,
            b.generated_tokens,
        )
        assert a.option_probabilities == pytest.approx(b.option_probabilities, abs=1e-4)
        assert a.span_confidence == pytest.approx(b.span_confidence, abs=1e-3)
        assert a.new_tokens >= b.new_tokens  # what is not kept is read again
    if mode in ("context", "search") and theirs.spans:
        assert mine.costs["prefill_tokens"] > theirs.costs["prefill_tokens"]


@pytest.mark.parametrize("mode", MODES)
def test_a_policy_that_tells_no_probabilities_is_not_believed_to_be_sure(tiny: Any, video: Path, mode: str) -> None:
    trace = ask(PlainPolicy(tiny, tells=False), video, mode, ("E", "H", "K"))
    answered = [one for one in trace.passes if one.answer is not None]
    assert answered
    assert [one.confidence for one in answered] == [None] * len(answered)
    assert all(one.span_confidence is None for one in trace.passes if one.text)
    assert trace.answer is not None
    assert trace.confidence is None
    if mode == "zoom" and len(trace.passes) == 2:
        assert trace.reason == "zoom is believed; how sure the model is of its answers is not known"


def test_what_a_policy_can_do_is_named_and_training_refuses_one_that_cannot(tiny: Any) -> None:
    plain = PlainPolicy(tiny)
    assert capabilities(tiny) == ("prefix", "resume", "batch", "train")
    assert capabilities(plain) == ()
    assert not isinstance(plain, (PrefixPolicy, BatchPolicy))
    require(tiny, "train", "training")
    with pytest.raises(ModelError) as caught:
        require(plain, "train", "training")
    assert str(caught.value) == (
        "model tiny: training needs a model that has its weights in this process, and this one is not such a model; "
        "give a checkpoint directory or a hub id"
    )
