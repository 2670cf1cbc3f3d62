"""What is done at once follows from free memory; keys and values are there once; memory that ends halves batches."""

import weakref

import pytest
import torch
from policy_models import make_clip

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local import context, encoder, memory, qwen
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.group_attention import Group, PackedRow
from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.memory import OutOfMemory, in_halves, token_bytes, tokens_that_fit

CHATS = [[Turn("user", ("which symbol is on the " + "red " * i,))] for i in range(5)]
SAMPLINGS = [Sampling(max_tokens=6, temperature=1.0, seed=seed) for seed in range(5)]


def test_bytes_of_a_token_by_hand(policies):
    # 3 layers with 2 heads of 16 for keys and for values; perceptrons of 128 beside 96 numbers; 2 deepstack levels
    config = policies["qwen3_vl"].model.config
    found = token_bytes(family_class("qwen3_vl"), config, 2)
    assert found.kept == 3 * 2 * 2 * 16 * 2
    assert found.work == (2 * 128 + (8 + 3) * 96) * 2
    assert found.seen == 4 * (4 * 3 * 2 * 16 * 16 + (2 * 80 + 8 * 40) * 2)
    assert found.state == 0
    # two of three layers are recurrent: 4 heads of 8 x 12 float32, and 3 inputs of 2 * 2 * 8 + 4 * 12 channels
    found = token_bytes(family_class("qwen3_5"), policies["qwen3_5"].model.config, 2)
    assert found.kept == 1 * 2 * 2 * 16 * 2
    assert found.state == 2 * (4 * 4 * 8 * 12 + 3 * (2 * 2 * 8 + 4 * 12) * 2)


def test_free_memory_says_how_much_is_done_at_once(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (900, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 400)
    gpu = torch.device("cuda", 0)
    assert tokens_that_fit(gpu, 10.0, 1000) == 60  # 0.6 of 900 free and 100 reserved but unused bytes
    assert tokens_that_fit(gpu, 10.0, 20) == 20
    assert tokens_that_fit(gpu, 1e9, 20) == 1
    assert tokens_that_fit(torch.device("cpu"), 1e9, 20) == 20


@pytest.fixture
def small(policies, monkeypatch):
    """A policy on a device where so many bytes are free."""
    policy = policies["qwen3_vl"]

    def make(free):
        def fit(device, bytes_per_token, most):
            return max(1, min(most, int(memory.SPENT * free / bytes_per_token)))

        monkeypatch.setattr(qwen, "tokens_that_fit", fit)
        monkeypatch.setattr(encoder, "tokens_that_fit", fit)
        return policy

    return make


def test_windows_and_rows_follow_from_free_memory(policies, small, monkeypatch):
    """Chats whose contexts do not fit together are read and written in several batches; what is written is the same."""
    expected = [one.completions for one in policies["qwen3_vl"].write_many(CHATS, 2, SAMPLINGS)]
    kept = token_bytes(family_class("qwen3_vl"), policies["qwen3_vl"].model.config, 4).kept
    longest = max(policies["qwen3_vl"].prompt_length(chat) for chat in CHATS) + 2 * 6
    read, sizes = qwen.QwenPolicy.read_many, []
    monkeypatch.setattr(
        qwen.QwenPolicy, "read_many", lambda self, chats, **more: sizes.append(len(chats)) or read(self, chats, **more)
    )
    for together, free in ((5, 1e9), (2, 2.2 * longest * kept / memory.SPENT), (1, 1.0)):
        sizes.clear()
        written = small(free).write_many(CHATS, 2, SAMPLINGS)
        assert max(sizes) == together
        assert [[c.token_ids for c in one.completions] for one in written] == [
            [c.token_ids for c in some] for some in expected
        ]


def test_the_tower_looks_at_what_fits(policies, small, monkeypatch):
    clip = make_clip("qwen3_vl", frames=8)
    expected = policies["qwen3_vl"].encode([clip]).embeds
    run, patches = encoder.vision.encode, []
    monkeypatch.setattr(
        encoder.vision, "encode", lambda model, x, grids: patches.append(len(x)) or run(model, x, grids)
    )
    torch.testing.assert_close(small(1.0).encode([clip]).embeds, expected, atol=1e-5, rtol=1e-5)
    assert patches == [24] * 4  # a pair of frames of 2 x 3 visual tokens at a time: no less can be seen
    patches.clear()
    small(1e9).encode([clip])
    assert patches == [96]


def test_memory_that_ends_while_writing_halves_the_batch(policies, monkeypatch):
    """Reading fits, writing after five chats at once does not: they are written after fewer at a time."""
    policy = policies["qwen3_vl"]
    expected = [[c.token_ids for c in one.completions] for one in policy.write_many(CHATS, 2, SAMPLINGS)]
    decode, tried = qwen.decode, []

    def tight(model, starts, *rest, **options):
        tried.append(len(starts))
        if len(starts) > 2:
            raise torch.OutOfMemoryError("CUDA")
        return decode(model, starts, *rest, **options)

    monkeypatch.setattr(qwen, "decode", tight)
    written = policy.write_many(CHATS, 2, SAMPLINGS)
    assert [[c.token_ids for c in one.completions] for one in written] == expected
    assert max(tried) == 5
    assert sum(count for count in tried if count <= 2) == 5


def test_reading_that_ends_for_others_contexts_is_done_anew(policies, monkeypatch):
    """A device that holds two contexts: the third read fails alone, so fewer chats are begun at once."""
    policy = policies["qwen3_vl"]
    expected = [[c.token_ids for c in one.completions] for one in policy.write_many(CHATS, 1, SAMPLINGS)]
    forward, cut, alive = packed.text_forward, context.segments_of, []

    def kept(attention, lengths):
        found = cut(attention, lengths)
        alive.extend(weakref.ref(segments[0][0][0]) for segments in found)
        return found

    def two(model, ids, positions, where, features, attention):
        if len(attention.groups) > 1 or sum(one() is not None for one in alive) >= 2:
            raise torch.OutOfMemoryError("CUDA")
        return forward(model, ids, positions, where, features, attention)

    monkeypatch.setattr(context, "segments_of", kept)
    monkeypatch.setattr(packed, "text_forward", two)
    written = policy.write_many(CHATS, 1, SAMPLINGS)
    assert [[c.token_ids for c in one.completions] for one in written] == expected


def test_one_thing_too_large_is_an_error():
    def run(batch):
        if 3 in batch:
            raise OutOfMemory("x", "out of memory", "use less")
        done.extend(batch)

    done = []
    with pytest.raises(OutOfMemory):
        in_halves([1, 2, 3, 4], run)
    assert done == [1, 2]


def test_keys_and_values_are_there_once():
    """Prompts read as one row get copies of their own layer by layer; the row's are gone before the next layer's."""
    row = PackedRow([Group(4), Group(2)], torch.device("cpu"), keep=True)
    row.kept = [(torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8)) for _ in range(3)]
    whole = [(k.clone(), v.clone()) for k, v in row.kept]
    alive = [weakref.ref(k) for k, _ in row.kept]
    seen = []

    class Watched(list):
        def __getitem__(self, layer):
            seen.append(sum(one() is not None for one in alive))
            return super().__getitem__(layer)

    row.kept = Watched(row.kept)
    (first,), (second,) = context.segments_of(row, [4, 2])
    assert seen == [3, 3, 2]  # when a layer is taken, the one before is the last that is still held
    assert all(one() is None for one in alive)
    for layer, (k, v) in enumerate(whole):
        assert torch.equal(torch.cat([first[layer][0], second[layer][0]], 2), k)
        assert torch.equal(torch.cat([first[layer][1], second[layer][1]], 2), v)
