"""Words of a model behind a server while they come: the same reply as at once, and a way to stop."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from fake_server import Abilities, FakeServer
from scripted_policy import ScriptedPolicy, rates, says
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.listening import listening
from zoomzero.policy.remote.policy import RemotePolicy
from zoomzero.policy.remote.settings import ServerSettings
from zoomzero.policy.remote.streaming import Pieces
from zoomzero.spans import Span
from zoomzero.video.types import Clip

pytest.importorskip("openai")
CHAT = [Turn("user", (Clip(np.zeros((2, 32, 32, 3), np.uint8), (0.0, 1.0), 1.0, (Span(0.0, 2.0),), 2), "what?"))]
GREEDY = Sampling(max_tokens=64)


def remote(server: FakeServer) -> RemotePolicy:
    return RemotePolicy(ServerSettings(url=server.url, model="fake", retries=1))


def brain() -> ScriptedPolicy:
    return ScriptedPolicy(says("B", [(18.0, 20.0)], p=0.6), rates(1, 8, 1), forever=True)


@pytest.mark.parametrize("top", [20, 0])
def test_a_streamed_reply_is_the_whole_one(top: int) -> None:
    with FakeServer(brain(), Abilities(top=top)) as server:
        policy, told = remote(server), []
        plain = policy.write(CHAT, 1, GREEDY)
        with listening(told.append):
            heard = policy.write(CHAT, 1, GREEDY)
        assert heard.completions == plain.completions
        assert replace(heard.usage, seconds=0) == replace(plain.usage, seconds=0)
        assert told[-1] == plain.completions[0].text
        assert len(set(told)) > 5
        assert all(later.startswith(earlier) for earlier, later in pairwise(told))
        assert [one.body.get("stream", False) for one in server.seen[-2:]] == [False, True]


def test_a_server_that_does_not_stream_is_asked_at_once() -> None:
    with FakeServer(brain(), Abilities(streams=False)) as server:
        policy, told = remote(server), []
        with listening(told.append):
            heard = policy.write(CHAT, 1, GREEDY)
        assert heard.completions == policy.write(CHAT, 1, GREEDY).completions
        assert told == []


@pytest.mark.parametrize("fault", ["closes", "truncates", "garbage", "garbled stream", "no choices"])
def test_a_broken_stream_is_asked_again(fault: str) -> None:
    with FakeServer(brain()) as server:
        policy = remote(server)
        server.faults.append(fault)
        with listening(lambda text: None):
            heard = policy.write(CHAT, 1, GREEDY)
        assert heard.completions[0].text == says("B", [(18.0, 20.0)], p=0.6).text


def test_a_listener_stops_the_request() -> None:
    with FakeServer(brain()) as server:
        policy, told = remote(server), []

        def stop(text: str) -> None:
            told.append(text)
            if len(text) > 10:
                raise InterruptedError

        with listening(stop), pytest.raises(InterruptedError):
            policy.write(CHAT, 1, GREEDY)
        assert len(told[-1]) < 20
        assert policy.write(CHAT, 1, GREEDY).completions[0].finished  # the connection is free again


def test_several_continuations_are_not_streamed() -> None:
    with FakeServer(brain()) as server:
        policy, told = remote(server), []
        with listening(told.append):
            assert len(policy.write(CHAT, 2, GREEDY).completions) == 2
        assert told == []
        assert not server.seen[-1].body.get("stream")


def test_pieces_are_put_together() -> None:
    pieces = Pieces()
    chunks: list[Any] = [
        {"id": "x", "choices": [{"delta": {"role": "assistant"}, "finish_reason": None}]},
        {"choices": [{"delta": {"content": "an"}, "logprobs": {"content": [{"token": "an", "logprob": -1}]}}]},
        "not of the protocol",
        {"choices": [{"delta": {"content": "swer"}, "token_ids": [7], "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 3}},
    ]
    for chunk in chunks:
        pieces.add(chunk)
    assert pieces.whole() == {
        "id": "x",
        "usage": {"prompt_tokens": 3},
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "answer"},
                "logprobs": {"content": [{"token": "an", "logprob": -1}]},
                "token_ids": [7],
            }
        ],
    }
