"""Shared-prefix attention against dense attention with an explicit mask."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomzero.policy.local.attention.group_attention import Group, PackedRow
from zoomzero.policy.local.attention.shared_attention import Ragged, join, plain_suffix_attention, suffix_attention

CPU = torch.device("cpu")


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def dense(q, k, v, sees, scale):
    """q (1, H, T, d) against k, v (1, Hkv, L, d); sees (T, L) bool, True = may look."""
    share = q.shape[1] // k.shape[1]
    scores = q @ k.repeat_interleave(share, 1).transpose(-1, -2) * scale
    return scores.masked_fill(~sees, float("-inf")).softmax(-1) @ v.repeat_interleave(share, 1)


def suffix_sees(prefix, lengths):
    """Who sees whom: rows are suffix tokens, columns the prefix tokens and then the suffix tokens."""
    total = sum(lengths)
    sees = torch.zeros(total, prefix + total, dtype=torch.bool)
    sees[:, :prefix] = True
    start = 0
    for n in lengths:
        sees[start : start + n, prefix + start : prefix + start + n] = torch.ones(n, n, dtype=torch.bool).tril()
        start += n
    return sees


@pytest.mark.parametrize("function", [suffix_attention, plain_suffix_attention])
@settings(max_examples=30, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    prefixes=st.lists(st.integers(1, 7), min_size=0, max_size=3),
    share=st.sampled_from([1, 3]),
)
def test_equal_to_dense_with_gradients(function, lengths, prefixes, share):
    total, kv_heads = sum(lengths), 2
    q = rand(1, kv_heads * share, total, 8, seed=1).requires_grad_()
    k, v = (rand(1, kv_heads, total, 8, seed=s).requires_grad_() for s in (2, 3))
    sizes = [p for p in prefixes for _ in "kv"]
    segments = [rand(1, kv_heads, p, 8, seed=10 + i).requires_grad_() for i, p in enumerate(sizes)]
    found = function(q, k, v, Ragged(lengths, CPU), 0.4, *segments)
    keys, values = (torch.cat([*segments[i::2], own], 2) for i, own in ((0, k), (1, v)))
    expected = dense(q, keys, values, suffix_sees(sum(prefixes), lengths), 0.4)
    # the plain form and the join of parts compute in float32
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)
    weight = rand(*found.shape, seed=4)
    grads = [torch.autograd.grad((out * weight).sum(), [q, k, v, *segments]) for out in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=5e-6, rtol=1e-4)


def test_padding_cannot_blow_up():
    # a padded row repeats the suffix's first query, which there would look at the second key too: far above
    # the
    # log-sum-exp of the first row
    q, k, v = (torch.zeros(1, 1, 5, 8) for _ in range(3))
    q[0, 0, 0] = k[0, 0, 1] = 30.0
    leaves = [x.requires_grad_() for x in (q, k, v)]
    out = suffix_attention(*leaves, Ragged([2, 3], CPU), 1.0, torch.zeros(1, 1, 2, 8), torch.zeros(1, 1, 2, 8))
    for grad in torch.autograd.grad(out.sum(), leaves):
        assert torch.isfinite(grad).all()


def test_ragged_by_hand():
    ragged = Ragged([1, 3], CPU)
    row = torch.tensor([10.0, 20, 21, 22]).view(1, 1, 4, 1)
    assert ragged.pad(row)[:, 0, :, 0].tolist() == [[10, 10, 10], [20, 21, 22]]
    assert ragged.pad_with(row, -1)[:, 0, :, 0].tolist() == [[10, -1, -1], [20, 21, 22]]
    assert torch.equal(ragged.unpad(ragged.pad(row)), row)


def test_join_by_hand():
    # one key of score 0 and value 1, and one of score log 3 and value 5: (1*1 + 3*5) / 4 = 4
    outs = [torch.tensor([[[[1.0]]]]), torch.tensor([[[[5.0]]]])]
    lses = [torch.tensor([[[0.0]]]), torch.tensor([[[3.0]]]).log()]
    out, lse = join(outs, lses)
    assert out.item() == pytest.approx(4.0)
    assert lse.exp().item() == pytest.approx(4.0)


@pytest.mark.parametrize(
    "groups",
    [
        [Group(5, (2, 3))],
        [Group(4, (2,)), Group(4, (2,)), Group(3)],
        [Group(4, (1, 1)), Group(4, (3,)), Group(6, (2, 2, 1)), Group(5, ())],
    ],
)
def test_packed_row_equal_to_dense(groups):
    """A row holds all causal parts, then all shared suffixes."""
    heads, kv_heads, scale = 4, 2, 0.3
    blocks, start, prefixes = [], 0, []
    for group in groups:  # the causal parts
        prefixes.append(start)
        blocks.append((start, group.causal_length))
        start += group.causal_length
    length = start + sum(sum(g.suffixes) for g in groups if not g.chained)
    sees = torch.zeros(length, length, dtype=torch.bool)
    for first, n in blocks:
        sees[first : first + n, first : first + n] = torch.ones(n, n, dtype=torch.bool).tril()
    for group, first in zip(groups, prefixes, strict=True):
        for n in () if group.chained else group.suffixes:
            sees[start : start + n, first : first + group.prefix] = True
            sees[start : start + n, start : start + n] = torch.ones(n, n, dtype=torch.bool).tril()
            start += n
    q, k, v = (rand(1, h, length, 8, seed=s).float() for s, h in ((1, heads), (2, kv_heads), (3, kv_heads)))
    found = PackedRow(groups, CPU).attend(0, q, k, v, scale)
    torch.testing.assert_close(found, dense(q, k, v, sees, scale), atol=1e-5, rtol=1e-5)
