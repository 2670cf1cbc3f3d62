"""A real vLLM answers as the local policy on the same weights: prompts, option scores, greedy words, every mode."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small_videos import write_small
from zoomzero.answer.ask import answer
from zoomzero.answer.names import MODES
from zoomzero.config import ModelSettings, PassSettings
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.load import load_policy
from zoomzero.policy.remote.layouts import FrameEncoder, messages
from zoomzero.policy.remote.policy import RemotePolicy
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.spans import Span
from zoomzero.video.types import Clip

pytestmark = pytest.mark.server
pytest.importorskip("openai")
TIMES_S = (0.5, 2.8, 61.2, 62.1, 75.0, 190.375)
LETTERS = ("A", "B", "C", "D")
SETTINGS = ModelSettings(
    style="brief",
    coarse=PassSettings(fps=1, max_tokens=192, max_frames=16, min_frame_tokens=4),
    zoom=PassSettings(fps=2, max_tokens=192, max_frames=16, min_frame_tokens=4),
    window=PassSettings(fps=1, max_tokens=96, max_frames=16, min_frame_tokens=4),
    max_new_tokens=24,
    widen_s=2.0,
    candidates=2,
    outside_looks=1,
)


@pytest.fixture(scope="module")
def remote(vllm: Any) -> RemotePolicy:
    return RemotePolicy(ServerSettings(url=vllm.url, model="small"))


@pytest.fixture(scope="module")
def local(vllm: Any) -> Any:
    return load_policy(vllm.checkpoint, device="cpu", dtype="float32")


def chat(seed: int = 0, text: str = "Which symbol is shown?\nA. red\nB. blue") -> list[Turn]:
    frames = np.random.default_rng(seed).integers(0, 255, (6, 64, 96, 3), dtype=np.uint8)
    return [Turn("user", (Clip(frames, TIMES_S, 1.0, (Span(0.0, 191.0),), 6), text))]


def test_the_probe_finds_exact_times_and_scores(remote: RemotePolicy) -> None:
    facts = remote.facts
    assert facts.kind.startswith("vLLM 0.32")
    assert (facts.video_times, facts.video_frames, facts.layout, facts.outer_pair) == ("exact", 36, "native", False)
    assert facts.resized is False
    assert (facts.top_logprobs, facts.option_ids, facts.many, facts.context_tokens) == (20, True, True, 8192)


def test_an_outer_pair_is_seen_and_a_template_of_ours_leaves_it_out(vllm: Any, tmp_path: Path) -> None:
    """As released checkpoints' templates have it, and as they were trained (docs/servers.md)."""
    bare = (vllm.checkpoint / "chat_template.jinja").read_text()
    path = tmp_path / "released.jinja"
    path.write_text(bare.replace("<|video_pad|>", "<|vision_start|><|video_pad|><|vision_end|>"))
    settings = ServerSettings(url=vllm.url, model="small", chat_template=str(path))
    facts = RemotePolicy(settings).facts
    assert (facts.outer_pair, facts.video_times, facts.layout) == (True, "exact", "native")
    path.write_text(bare)
    assert RemotePolicy(settings).facts.outer_pair is False


def test_prompt_ids_are_the_local_ones(remote: RemotePolicy, local: Any) -> None:
    body, extra = messages(chat(), "native", FrameEncoder(remote.settings))
    reply = remote.client.chat({"messages": body, "max_tokens": 1, "temperature": 0, "return_token_ids": True, **extra})
    assert reply["prompt_token_ids"] == local.prompt(chat()).ids.tolist()


def test_option_scores_are_the_local_ones(remote: RemotePolicy, local: Any) -> None:
    mine, theirs = remote.choose(chat(), LETTERS), local.choose(chat(), LETTERS)
    assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    assert mine.usage.prompt_tokens == theirs.usage.prompt_tokens
    assert mine.usage.visual_tokens == theirs.usage.visual_tokens


def test_greedy_words_are_the_local_ones(remote: RemotePolicy, local: Any) -> None:
    """A random model may write a visual placeholder, which the local policy never draws: a chat without is asked."""

    def written(turns: list[Turn]) -> list[int]:
        body, extra = messages(turns, "native", FrameEncoder(remote.settings))
        asked = {"messages": body, "max_tokens": 24, "temperature": 0, "return_token_ids": True, **extra}
        ids: list[int] = remote.client.chat(asked)["choices"][0]["token_ids"]
        return ids

    asked = next(turns for turns in map(chat, range(8)) if not set(written(turns)) & set(local.never_drawn))
    (mine,), (theirs,) = (policy.write(asked, 1, Sampling(max_tokens=24)).completions for policy in (remote, local))
    assert (mine.text, mine.finished) == (theirs.text, theirs.finished)
    assert mine.generated_tokens == theirs.generated_tokens
    assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-4)
    assert mine.peaks == pytest.approx(theirs.peaks, abs=1e-3)


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_runs(remote: RemotePolicy, local: Any, tmp_path_factory: pytest.TempPathFactory, mode: str) -> None:
    video: Path = tmp_path_factory.getbasetemp() / "small.mp4"
    if not video.exists():
        write_small(video)
    question = (video, "Which symbol is on the red circle?", ("E", "H", "K"))
    mine, theirs = (answer(policy, SETTINGS, *question, mode=mode)[0] for policy in (remote, local))  # type: ignore[arg-type]
    assert mine.server is not None
    assert mine.server["layout"] == "native"
    if mode in ("direct", "coarse", "zoom", "divide"):  # nothing is drawn, and no second clip is sent as images
        assert (mine.answer, mine.spans) == (theirs.answer, theirs.spans)
        assert mine.confidence == pytest.approx(theirs.confidence, abs=1e-4)
