"""A model behind a server answers as the model itself: every mode, exact times, honest scores and costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_server import Abilities, FakeServer
from scripted_policy import ScriptedPolicy, rates, says
from small_videos import write_small
from zoomzero.answer.ask import answer
from zoomzero.answer.names import MODES
from zoomzero.answer.trace import Trace
from zoomzero.config import PassSettings, load_model_settings
from zoomzero.errors import ConfigError, ModelError, ServerError
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.capabilities import capabilities
from zoomzero.policy.open import open_model
from zoomzero.policy.remote.policy import RemotePolicy
from zoomzero.policy.remote.probe import PROBE_TIMES_S, probe_clip
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.video.types import Clip

pytest.importorskip("openai")
WINDOW = PassSettings(fps=1, max_tokens=16, max_frames=16, min_frame_tokens=1, max_frame_tokens=1)
OPTIONS = ("E", "H", "K")


@pytest.fixture(scope="module")
def tiny() -> Any:
    from zoomzero.policy.local.load import load_policy

    return load_policy("tiny", device="cpu")


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small(tmp_path_factory.mktemp("remote") / "small.mp4")


@pytest.fixture(scope="module")
def served(tiny: Any) -> Iterator[FakeServer]:
    """The embedded model behind a server."""
    with FakeServer(tiny) as server:
        yield server


def scripted(**more: Any) -> ScriptedPolicy:
    return ScriptedPolicy(says("B", [(18.0, 20.0)], p=0.6), rates(1, 8, 1), forever=True)


def remote(server: FakeServer, **settings: Any) -> RemotePolicy:
    return RemotePolicy(ServerSettings(url=server.url, model="fake", retries=settings.pop("retries", 0), **settings))


def ask(policy: Any, video: Path, mode: str, options: tuple[str, ...] = OPTIONS) -> Trace:
    from zoomzero.policy.local.load import find

    changes = {
        "window": WINDOW,
        "max_new_tokens": 40,
        "candidates": 2,
        "weak": 0.99,
        "outside_looks": 1,
        "score_options_as": "letter",
    }
    settings = load_model_settings(find("tiny")).model_copy(update=changes)
    return answer(policy, settings, video, "Which symbol is on the red circle?", options, mode=mode)[0]  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode != "context"])
def test_every_mode_answers_as_the_model_itself(tiny: Any, served: FakeServer, video: Path, mode: str) -> None:
    policy = remote(served)
    mine, theirs = ask(policy, video, mode), ask(tiny, video, mode)
    assert [one.name for one in mine.passes] == [one.name for one in theirs.passes]
    assert (mine.answer, mine.option, mine.spans) == (theirs.answer, theirs.option, theirs.spans)
    assert mine.confidence == pytest.approx(theirs.confidence, abs=1e-4)
    for a, b in zip(mine.passes, theirs.passes, strict=True):
        assert (a.text, a.found, a.prompt_tokens) == (b.text, b.found, b.prompt_tokens)
        assert a.times_s == b.times_s
        assert a.option_probabilities == pytest.approx(b.option_probabilities, abs=1e-4)
        assert a.span_confidence == pytest.approx(b.span_confidence, abs=1e-3)
    assert mine.server is not None
    assert mine.server["layout"] == "native"
    assert mine.server["video_times"] == "exact"
    assert mine.server["resized"] is False
    assert theirs.server is None


def test_the_second_clip_of_a_chat_is_sent_as_images(video: Path) -> None:
    with FakeServer(scripted()) as server:
        policy = remote(server)
        trace = ask(policy, video, "context")
        first, second = (p for turn in server.seen[-1].turns for p in turn.parts if isinstance(p, Clip))
        assert first.times_s == trace.passes[0].times_s
        assert second.times_s == pytest.approx(trace.passes[1].times_s, abs=0.051)
        assert trace.option == "B"


def test_frames_and_irregular_times_arrive_exactly() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 96, 3), dtype=np.uint8)
    clip = Clip(frames, (0.5, 2.833, 61.2, 62.111), 1.0, probe_clip().spans, 4)
    with FakeServer(scripted()) as server:
        remote(server).write([Turn("user", (clip, "What?"))], 1, Sampling())
        (got,) = (p for p in server.seen[-1].turns[0].parts if isinstance(p, Clip))
        assert got.times_s == (0.5, 2.833, 61.2, 62.111)
        assert np.array_equal(got.frames, frames)
        assert server.seen[-1].turns[0].parts[1] == "What?"  # the question after the frames
        remote(server, image_format="jpeg").write([Turn("user", (clip, "What?"))], 1, Sampling())
        (lossy,) = (p for p in server.seen[-1].turns[0].parts if isinstance(p, Clip))
        assert 0 < np.abs(lossy.frames.astype(int) - frames).mean() < 8
        remote(server, layout="interleaved").write([Turn("user", (clip, "What?"))], 1, Sampling())
        (images,) = (p for p in server.seen[-1].turns[0].parts if isinstance(p, Clip))
        assert np.array_equal(images.frames, frames)
        assert images.times_s == (0.5, 2.8, 61.2, 62.1)


@pytest.mark.parametrize(("version", "sent"), [("0.32.0", -1), (None, None)])
def test_a_checkpoints_own_sampling_defaults_are_overruled(version: str | None, sent: int | None) -> None:
    """Such a server would draw among Qwen3-VL's 20 likeliest tokens; others refuse what the protocol does not know."""
    with FakeServer(scripted(), Abilities(version=version)) as server:
        remote(server).write([Turn("user", (probe_clip(), "What?"))], 1, Sampling())
        body = server.seen[-1].body
    assert (body.get("top_k"), body.get("repetition_penalty")) == (sent, None if sent is None else 1.0)


# --- the probe ---


@pytest.mark.parametrize(
    ("can", "expected"),
    [
        (
            {},
            {
                "video": True,
                "video_times": "exact",
                "outer_pair": False,
                "video_frames": 36,
                "layout": "native",
                "option_ids": True,
            },
        ),
        ({"outer_pair": True}, {"outer_pair": True, "video_times": "exact", "layout": "native"}),
        (
            {"trust": False},
            {"outer_pair": None, "video": False, "video_times": "unknown", "layout": "interleaved", "images": True},
        ),
        ({"times": "invented"}, {"video": True, "video_times": "invented", "layout": "interleaved"}),
        ({"ids": False}, {"video_times": "unknown", "layout": "interleaved", "option_ids": False, "top_logprobs": 20}),
        ({"video": False, "top": 5}, {"video": False, "top_logprobs": 5, "layout": "interleaved"}),
        ({"top": 0, "many": False}, {"top_logprobs": 0, "option_ids": False, "many": False}),
        ({"version": None, "cached": False}, {"kind": "unknown", "cached_tokens": False}),
    ],
)
def test_the_probe_finds_out_what_a_server_can_do(can: dict[str, Any], expected: dict[str, Any]) -> None:
    with FakeServer(scripted(), Abilities(**can)) as server:
        facts = remote(server).facts.to_dict()
    assert {name: facts[name] for name in expected} == expected
    assert facts["context_tokens"] == 100_000
    if "trust" in can:
        assert "--trust-request-mm-kwargs" in facts["video_refusal"]


@pytest.mark.parametrize(
    ("can", "layout", "complaint"),
    [
        (
            Abilities(video=False, images=False),
            "auto",
            "takes neither a video with exact times nor images .*not supported",
        ),
        (Abilities(trust=False), "native", "cannot be told .* exact times .*--trust-request-mm-kwargs"),
        (Abilities(most_frames=32), "native", r"cannot be told a video's exact times \(32 of 36 frames arrive\); set"),
    ],
)
def test_a_server_that_takes_no_frames_is_refused_with_the_reason(can: Abilities, layout: str, complaint: str) -> None:
    with FakeServer(scripted(), can) as server, pytest.raises(ServerError, match=complaint):
        remote(server, layout=layout)


def test_the_probes_times_are_sent_as_they_are() -> None:
    with FakeServer(scripted()) as server:
        remote(server)
        clips = [p for one in server.seen for t in one.turns for p in t.parts if isinstance(p, Clip)]
        assert [clip.times_s for clip in clips] == [PROBE_TIMES_S]


# --- scores ---


@pytest.mark.parametrize(
    ("can", "confidence", "source"),
    [
        ({}, 0.8, "option scores"),
        ({"ids": False}, 0.8, "top 20 tokens"),
        ({"ids": False, "top": 5}, 0.8, "top 5 tokens"),
        ({"top": 0}, None, "unknown"),
    ],
)
def test_scores_come_from_where_they_can_be_had_and_are_never_made_up(
    video: Path, can: dict[str, Any], confidence: float | None, source: str
) -> None:
    brain = scripted()
    if can.get("top") == 0:
        brain = ScriptedPolicy(says(text="<answer>B</answer>"), forever=True)
    with FakeServer(brain, Abilities(**can)) as server:
        trace = ask(remote(server), video, "direct")
    assert trace.option == "B"
    assert trace.confidence == (None if confidence is None else pytest.approx(confidence, abs=1e-6))
    assert trace.passes[0].confidence_from == source
    assert trace.passes[0].text == ("" if confidence else "<answer>B</answer>")


def test_an_answer_is_restricted_to_the_options_where_none_is_scored(video: Path) -> None:
    with FakeServer(scripted(), Abilities(top=0, restricts=True)) as server:
        policy = remote(server)
        trace = ask(policy, video, "direct")
        assert policy.facts.restricts
    (one,) = trace.passes
    assert (trace.option, trace.confidence, one.confidence_from) == ("B", None, "unknown")
    assert one.text == '{"answer": "B"}'


class NamesTimes(ScriptedPolicy):
    """Says when the last pair of frames was, as far as it was told."""

    def write(self, turns: Any, n: int, sampling: Sampling) -> Any:
        (clip,) = (part for turn in turns for part in turn.parts if isinstance(part, Clip))
        middle = (clip.times_s[-1] + clip.times_s[-2]) / 2
        return replace(super().write(turns, n, sampling), completions=(says(text=f"It is {middle:.1f}"),))


@pytest.mark.parametrize(("times", "found"), [("exact", "exact"), ("invented", "unknown")])
def test_where_no_prompt_is_told_the_model_is_asked_for_its_times(times: str, found: str) -> None:
    brain = NamesTimes(says("B"), rates(1, 8), forever=True)
    with FakeServer(brain, Abilities(ids=False, times=times)) as server:
        facts = remote(server).facts
    assert (facts.video_times, facts.times_by) == (found, "answers" if found == "exact" else "")
    assert facts.layout == ("native" if found == "exact" else "interleaved")


def test_options_are_compared_by_letters_only() -> None:
    with FakeServer(scripted()) as server:
        policy = remote(server)
        with pytest.raises(ConfigError, match=r"^score_options_as: .*; set score_options_as=letter"):
            policy.choose([Turn("user", (probe_clip(), "?"))], ["a cap", "a bag"], closed=True)


def test_costs_are_the_servers_and_say_so(video: Path) -> None:
    with FakeServer(scripted()) as server:
        trace = ask(remote(server), video, "zoom")
    assert [one.tokens_from for one in trace.passes] == ["server", "server"]
    assert all(one.prompt_tokens > one.visual_tokens > 0 for one in trace.passes)


# --- several at once ---


def test_requests_run_side_by_side_up_to_the_limit() -> None:
    with FakeServer(scripted(), slow_s=0.2) as server:
        policy = remote(server, concurrency=3)
        server.most_running = 0
        chats = [[Turn("user", (probe_clip(), f"question {i}"))] for i in range(7)]
        found = policy.write_many(chats, 1, [Sampling()] * 7)
    assert len(found) == 7
    assert server.most_running == 3
    assert capabilities(policy) == ("batch",)


def test_a_server_that_draws_one_at_a_time_is_asked_with_other_seeds() -> None:
    with FakeServer(scripted(), Abilities(many=False)) as server:
        policy = remote(server)
        before = len(server.seen)
        written = policy.write([Turn("user", (probe_clip(), "?"))], 3, Sampling(temperature=1.0, seed=5))
        assert len(written.completions) == 3
        assert sorted(one.body["seed"] for one in server.seen[before:]) == [5, 6, 7]


def test_a_model_is_opened_by_its_address_or_a_file(tmp_path: Path) -> None:
    with FakeServer(scripted()) as server:
        policy, settings = open_model(server.model, overrides=["coarse.fps=2", "server.retries=0"])
        assert (settings.coarse.fps, policy.name) == (2.0, server.model)
        only, _ = open_model(server.url, overrides=["server.retries=0"])
        assert only.name == server.model
        file = tmp_path / "server.toml"
        file.write_text(f'widen_s = 3.0\n[server]\nurl = "{server.url}"\nmodel = "fake"\nretries = 0\n')
        policy, settings = open_model(str(file), overrides=["server.concurrency=2"])
        assert (settings.widen_s, policy.settings.concurrency) == (3.0, 2)  # type: ignore[attr-defined]


def test_the_checkpoint_that_is_served_says_how_it_is_asked(tmp_path: Path) -> None:
    with FakeServer(scripted()) as server:
        asked = ["server.retries=0", "server.checkpoint=tiny"]
        with pytest.raises(ConfigError, match=r"^score_options_as: .* not their texts; set score_options_as=letter"):
            open_model(server.model, overrides=asked)
        _, settings = open_model(server.model, overrides=[*asked, "score_options_as=letter", "widen_s=2"])
        assert (settings.style, settings.coarse.max_tokens, settings.widen_s) == ("brief", 40, 2.0)
        asked[1] = f"server.checkpoint={tmp_path / 'none'}"
        with pytest.raises(ModelError, match="none"):
            open_model(server.model, overrides=asked)
