"""Several prompts read, written after and scored together: equal to one by one."""

from collections import Counter

import pytest
import torch
from policy_models import FAMILIES, make_clip

from zoomzero.errors import ModelError
from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local import qwen, vision
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.drawing import generate, sampling

both = pytest.mark.parametrize("family", FAMILIES)
WORDS = ["which symbol", "is the red circle there, and for how many seconds does it stay", "count", "which answer"]


def chats(family):
    """Four chats: different lengths, two equal ones, one with two clips, one without."""
    clips = [make_clip(family, seed=i) for i in range(2)]
    wide = make_clip(family, frames=2, rows=4, columns=5, seed=3)
    parts = [(clips[0], WORDS[0]), (wide, WORDS[1], clips[1]), (WORDS[2],), (clips[1], WORDS[0])]
    return [[Turn("user", given)] for given in parts]


def samplings(count, temperature=1.0, top_p=1.0, max_tokens=12):
    return [Sampling(temperature, top_p, max_tokens, seed=10 + i) for i in range(count)]


def same(found, expected):
    assert [c.token_ids for c in found] == [c.token_ids for c in expected]
    assert [(c.text, c.offsets, c.finished) for c in found] == [(c.text, c.offsets, c.finished) for c in expected]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.logprobs == pytest.approx(theirs.logprobs, abs=1e-5)
        assert mine.peaks == pytest.approx(theirs.peaks, abs=1e-5)


@both
@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (1.0, 1.0), (0.7, 0.9)])
def test_generate_many_equals_one_by_one(policies, family, temperature, top_p):
    policy = policies[family]
    contexts = [policy.read(turns) for turns in chats(family)]
    contexts[2] = policy.extend(contexts[2], [Turn("assistant", ("two",)), Turn("user", ("again",))])  # two stretches
    drawn = samplings(4, temperature, top_p)
    together = policy.generate_many(contexts, 5, drawn)
    for context, how, found in zip(contexts, drawn, together, strict=True):
        same(found, policy.generate(context, 5, how))
    assert len({c.token_ids for group in together for c in group}) > (4 if temperature else 1)


@both
def test_rows_that_end_leave(policies, family, monkeypatch):
    """With common tokens as stop tokens rows end all the time; the others go on unchanged."""
    policy = policies[family]
    contexts = [policy.read(turns) for turns in chats(family)]
    free = policy.generate_many(contexts, 6, samplings(4, 1.5, max_tokens=20))
    counts = Counter(t for group in free for c in group for t in c.token_ids)
    stops = {*policy.stops, *(token for token, _ in counts.most_common(15))}
    old = policy._vocabulary
    monkeypatch.setattr(policy, "_vocabulary", type(old)(old.forbidden, torch.tensor(sorted(stops))))
    sizes = []
    peakedness = generate.peakedness
    monkeypatch.setattr(generate, "peakedness", lambda x: sizes.append(len(x)) or peakedness(x))
    ended = policy.generate_many(contexts, 6, samplings(4, 1.5, max_tokens=20))
    assert sizes[0] == 24
    assert len(set(sizes)) > 3  # they left one after the other
    for before, after in zip(free, ended, strict=True):
        for a, b in zip(before, after, strict=True):
            cut = next((i + 1 for i, token in enumerate(a.token_ids) if token in stops), None)
            assert b.token_ids == a.token_ids[:cut]
            assert b.finished == (cut is not None)
            assert b.logprobs == pytest.approx(a.logprobs[:cut], abs=1e-5)


def test_a_rows_numbers_depend_on_seed_and_row_alone(policies):
    policy = policies["qwen3_vl"]
    context = policy.read(chats("qwen3_vl")[0])
    few, many = (policy.generate(context, n, Sampling(1.0, 1.0, 8, seed=3)) for n in (2, 6))
    assert [c.token_ids for c in many[:2]] == [c.token_ids for c in few]
    longer = policy.generate(context, 2, Sampling(1.0, 1.0, 11, seed=3))
    assert [c.token_ids[:8] for c in longer] == [c.token_ids[:8] for c in few]
    other = policy.generate(context, 2, Sampling(1.0, 1.0, 8, seed=-3))
    assert [c.token_ids for c in other] != [c.token_ids for c in few]


def test_uniform_numbers_are_uniform():
    numbers = sampling.uniform_numbers(5, 2, 4000)
    assert 0 <= numbers.min() < 0.01
    assert 0.99 < numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.02
    assert (sampling.uniform_numbers(5, 2, 10) == numbers[:10]).all()
    assert not (sampling.uniform_numbers(5, 3, 10) == numbers[:10]).any()


@both
def test_memory_budget_makes_batches(policies, family, monkeypatch):
    policy = policies[family]
    contexts = [policy.read(turns) for turns in chats(family)]
    expected = policy.generate_many(contexts, 2, samplings(4))
    calls = []
    decode = qwen.decode
    monkeypatch.setattr(
        qwen, "decode", lambda model, starts, *a, **k: calls.append(len(starts)) or decode(model, starts, *a, **k)
    )
    budget = contexts[0].prompt_tokens + contexts[2].prompt_tokens
    found = policy.generate_many(contexts, 2, samplings(4), max_prefix_tokens=budget)
    for mine, theirs in zip(found, expected, strict=True):
        same(mine, theirs)
    assert sum(calls) == 4
    assert len(calls) == 3  # the two shortest fit together


def test_what_cannot_go_together(policies):
    policy = policies["qwen3_vl"]
    context = policy.read(chats("qwen3_vl")[0])
    with pytest.raises(ValueError, match="seed only"):
        policy.generate_many([context] * 2, 1, [Sampling(1.0), Sampling(0.5)])
    with pytest.raises(ModelError, match="lower --budget"):
        policy.generate_many([context], 1, [Sampling(max_tokens=policy.max_tokens)])
    assert policy.generate_many([], 3, []) == []
    assert policy.generate_many([context], 0, [Sampling()]) == [[]]
    assert policy.generate(context, 1, Sampling(max_tokens=0))[0].token_ids == ()


@both
@pytest.mark.parametrize("budget", [None, 40])
def test_read_many_equals_read(policies, family, budget):
    policy = policies[family]
    given = chats(family)
    together = policy.read_many(given, max_prompt_tokens=budget)
    for turns, found in zip(given, together, strict=True):
        alone = policy.read(turns)
        torch.testing.assert_close(found.state.last_hidden, alone.state.last_hidden, atol=1e-5, rtol=1e-5)
        for layer, (mine, theirs) in enumerate(zip(found.state.segments[0], alone.state.segments[0], strict=True)):
            for which, (a, b) in enumerate(zip(mine, theirs, strict=True)):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
                own = sum(segment[layer][which].nbytes for segment in found.state.segments)
                assert a.untyped_storage().nbytes() in (a.nbytes, own)  # not a view of the whole row
        assert (found.prompt_tokens, found.new_tokens, found.visual_tokens) == (
            alone.prompt_tokens,
            alone.new_tokens,
            alone.visual_tokens,
        )
        assert found.seconds > 0
        same(
            policy.generate(found, 2, Sampling(1.0, max_tokens=6)),
            policy.generate(alone, 2, Sampling(1.0, max_tokens=6)),
        )
    assert policy.read_many([]) == []


@both
@pytest.mark.parametrize("budget", [None, 40])
def test_score_many_equals_read_and_score(policies, family, budget):
    policy = policies[family]
    texts = [["B", "the red circle", ""], ["symbol"], ["A", "B"], ["the", "the symbol", "the symbol is"]]
    given = chats(family)
    for closed in (False, True):
        found = policy.score_many(given, texts, closed=closed, max_prompt_tokens=budget)
        expected = [policy.score(policy.read(t), c, closed=closed) for t, c in zip(given, texts, strict=True)]
        assert [len(group) for group in found] == [3, 1, 2, 3]
        for mine, theirs in zip(found, expected, strict=True):
            assert mine == pytest.approx(theirs, abs=2e-5)


def test_one_token_continuations_cost_nothing(policies, monkeypatch):
    policy = policies["qwen3_vl"]
    given = chats("qwen3_vl")
    rows = []
    forward = packed.text_forward
    monkeypatch.setattr(packed, "text_forward", lambda m, ids, *a: rows.append(len(ids)) or forward(m, ids, *a))
    policy.score_many(given, [list("ABCD")] * 4)
    assert rows == [sum(len(policy.prompt(turns)) for turns in given)]


@both
def test_clips_are_encoded_together(policies, family, monkeypatch):
    policy = policies[family]
    clips = [part for turns in chats(family) for part in turns[0].parts if not isinstance(part, str)]
    alone = [policy.encode([clip]) for clip in clips]
    calls = []
    encode = vision.encode
    monkeypatch.setattr(vision, "encode", lambda *a: calls.append(a) or encode(*a))
    together = policy.encode(clips)
    assert len(calls) == 1
    # what a pair of frames becomes does not depend on what is encoded beside it
    torch.testing.assert_close(together.embeds, torch.cat([f.embeds for f in alone]), atol=1e-6, rtol=1e-6)
    for layer, found in enumerate(together.deepstack):
        torch.testing.assert_close(found, torch.cat([f.deepstack[layer] for f in alone]), atol=1e-6, rtol=1e-6)
    assert policy.encode([]) is None
