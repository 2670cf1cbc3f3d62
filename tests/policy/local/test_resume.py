"""Further questions about frames that were read before: equal to reading everything, at the cost of what differs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from policy_models import FAMILIES, make_clip

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.kept import KeptPrefixes
from zoomzero.policy.listening import listener, listening

both = pytest.mark.parametrize("family", FAMILIES)
RECURRENT = ("qwen3_5", "qwen3_5_moe")


def clip_of(family, key="film", **values):
    return replace(make_clip(family, **values), key=key)


def chat(clip, words):
    return [Turn("user", (clip, words))]


def assert_same(policy, resumed, turns):
    """A resumed chat is the one `read` gives: its state, its positions, what follows it."""
    whole = policy.read(turns)
    torch.testing.assert_close(resumed.state.last_hidden, whole.state.last_hidden, atol=2e-5, rtol=1e-5)
    assert torch.equal(resumed.state.prompt.ids, whole.state.prompt.ids)
    assert torch.equal(resumed.state.prompt.positions, whole.state.prompt.positions)
    assert policy.score(resumed, ["the red", "B"]) == pytest.approx(policy.score(whole, ["the red", "B"]), abs=1e-4)
    greedy = Sampling(max_tokens=6)
    assert policy.generate(resumed, 1, greedy)[0].text == policy.generate(whole, 1, greedy)[0].text


@both
def test_second_question_reads_only_its_words(policies, family):
    policy, clip = policies[family], clip_of(family)
    first, second = chat(clip, "which symbol is on the red circle"), chat(clip, "what is the answer")
    seen = policy.read(first)
    resumed = policy.resume(first, seen, second)
    assert_same(policy, resumed, second)
    if family in RECURRENT:  # these layers cannot go back to where the questions part: everything is read
        assert resumed.new_tokens == resumed.prompt_tokens
        return
    assert resumed.visual_tokens == 0
    assert resumed.new_tokens < resumed.prompt_tokens - seen.visual_tokens


@both
def test_same_chat_reads_one_token(policies, family):
    policy, turns = policies[family], chat(clip_of(family), "which symbol")
    resumed = policy.resume(turns, policy.read(turns), turns)
    assert_same(policy, resumed, turns)
    assert resumed.new_tokens == (resumed.prompt_tokens if family in RECURRENT else 1)


@both
@pytest.mark.parametrize("key", ["other film", ""])
def test_other_pixels_are_read(policies, family, key):
    """Frames of the same times and sizes have the same tokens: only their keys tell them apart."""
    policy = policies[family]
    first = chat(clip_of(family), "which symbol")
    other = chat(clip_of(family, key, seed=5), "which symbol")
    resumed = policy.resume(first, policy.read(first), other)
    assert_same(policy, resumed, other)
    assert resumed.visual_tokens == make_clip(family).visual_tokens(policy.geometry)


@both
def test_second_clip_differs(policies, family):
    policy, clip = policies[family], clip_of(family)
    late = {"frames": 4, "rows": 3, "columns": 2, "start_s": 1.0}
    first = [Turn("user", (clip, "one", clip_of(family, "b", **late), "two"))]
    second = [Turn("user", (clip, "one", clip_of(family, "c", seed=3, **late), "two"))]
    resumed = policy.resume(first, policy.read(first), second)
    assert_same(policy, resumed, second)
    if family not in RECURRENT:
        assert resumed.visual_tokens == 2 * 3 * 2  # the second clip's alone


def test_same_words_at_other_rates_are_read(policies):
    """Qwen2.5-VL's positions follow the frame rate, which stands in no token."""
    policy, clip = policies["qwen2_5_vl"], clip_of("qwen2_5_vl")
    first, slower = chat(clip, "which symbol"), chat(replace(clip, fps=clip.fps / 4), "which symbol")
    resumed = policy.resume(first, policy.read(first), slower)
    assert_same(policy, resumed, slower)


def test_kept_prefixes_serve_and_stay_small(policies):
    policy = policies["qwen3_vl"]
    a, b = clip_of("qwen3_vl", "a"), clip_of("qwen3_vl", "b", seed=2)
    size = policy.read(chat(a, "one")).prompt_tokens
    kept = KeptPrefixes(2 * size)
    assert kept.read(policy, chat(a, "one")).new_tokens == size
    assert kept.read(policy, chat(a, "two")).visual_tokens == 0
    assert (len(kept), kept.tokens) == (1, size)
    kept.read(policy, chat(b, "one"))
    kept.read(policy, chat(clip_of("qwen3_vl", "c", seed=3), "one"))  # no room for three: a is given up
    assert (len(kept), kept.tokens) == (2, 2 * size)
    assert kept.read(policy, chat(a, "one")).new_tokens == size
    kept.forget()
    assert (len(kept), kept.tokens) == (0, 0)
    assert KeptPrefixes(0).read(policy, chat(a, "one")).new_tokens == size
    small = KeptPrefixes(size - 1)
    small.read(policy, chat(a, "one"))
    assert (len(small), small.tokens) == (0, 0)


@both
def test_words_are_heard_as_they_come(policies, family):
    policy = policies[family]
    context, told = policy.read(chat(clip_of(family), "which symbol")), []
    plain = policy.generate(context, 1, Sampling(max_tokens=8))[0]
    with listening(told.append):
        heard = policy.generate(context, 1, Sampling(max_tokens=8))[0]
    assert heard == plain
    assert listener() is None
    assert len(told) >= 7 or plain.finished
    assert told[-1] in plain.text
    assert [len(text) for text in told] == sorted(len(text) for text in told)


def test_a_listener_stops_the_writing(policies):
    policy = policies["qwen3_vl"]
    context, told = policy.read(chat(clip_of("qwen3_vl"), "which symbol")), []

    def stop(text):
        told.append(text)
        if len(told) == 3:
            raise InterruptedError

    with listening(stop), pytest.raises(InterruptedError):
        policy.generate(context, 1, Sampling(max_tokens=64))
    assert len(told) == 3
    with listening(told.append):
        policy.generate(context, 3, Sampling(max_tokens=4, temperature=1.0))
    assert set(told[3:]) == {""}  # of several rows nothing is told but that they are being written
