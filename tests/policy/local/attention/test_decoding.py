"""One token for each row of several prompts, against dense attention over everything the row sees."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zoomzero.policy.local.attention import decoding
from zoomzero.policy.local.attention.decoding import DecodePass

HEADS, KV_HEADS, WIDTH, SCALE = 4, 2, 8, 0.3


def rand(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_prompts(lengths):
    """A prompt for each tuple of stretch lengths; one layer."""
    return [
        [
            ((rand(1, KV_HEADS, n, WIDTH, seed=100 * i + j), rand(1, KV_HEADS, n, WIDTH, seed=50 + 100 * i + j)),)
            for j, n in enumerate(stretches)
        ]
        for i, stretches in enumerate(lengths)
    ]


def dense(q, keys, values):
    """q (H, d) against keys and values (Hkv, L, d) -> (H, d)."""
    share = HEADS // KV_HEADS
    weights = (q[:, None] @ keys.repeat_interleave(share, 0).transpose(1, 2) * SCALE).softmax(-1)
    return (weights @ values.repeat_interleave(share, 0))[:, 0]


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=2), min_size=1, max_size=5),
    rows=st.integers(1, 3),
    padded_share=st.sampled_from([0.0, 1.2, 100.0]),
    leave=st.lists(st.integers(0, 14), min_size=4, max_size=4),
)
def test_equal_to_dense_while_rows_leave(lengths, rows, padded_share, leave):
    prompts = make_prompts(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "PADDED_SHARE", padded_share)
        patch.setattr(decoding, "FIRST_CACHE", 2)  # so that it grows
        attention = DecodePass(prompts, [rows] * len(prompts), capacity=4)
    owner = [i for i in range(len(prompts)) for _ in range(rows)]
    wrote: list[tuple[list[torch.Tensor], list[torch.Tensor]]] = [([], []) for _ in owner]
    for step in range(4):
        count = len(owner)
        q, k, v = (rand(count, h, 1, WIDTH, seed=7 + step + h) for h in (HEADS, KV_HEADS, KV_HEADS))
        k = k + 1.0
        found = attention.attend(0, q, k, v, SCALE)
        for row, (keys, values) in enumerate(wrote):
            keys.append(k[row])
            values.append(v[row])
            read = [segment[0] for segment in prompts[owner[row]]]
            expected = dense(
                q[row, :, 0],
                torch.cat([*(a[0] for a, _ in read), *keys], 1),
                torch.cat([*(b[0] for _, b in read), *values], 1),
            )
            torch.testing.assert_close(found[row, :, 0], expected, atol=2e-6, rtol=1e-5)
        attention.advance()
        going = [row for row in range(count) if row != leave[step] % count or count == 1]
        owner, wrote = [owner[i] for i in going], [wrote[i] for i in going]
        attention.keep_rows(torch.tensor(going), [owner.count(i) for i in range(len(prompts))])


def test_blocks_by_hand():
    prompts = make_prompts([[4], [5], [6], [40], [20, 22], [41]])
    attention = DecodePass(prompts, [1] * 6, 1)
    assert [block.prompts for block in attention.blocks] == [(0, 1, 2), (3, 4, 5)]
    assert [block.stretches[0][0][0].shape for block in attention.blocks] == [(3, 2, 6, 8), (3, 2, 42, 8)]
    assert attention.blocks[0].mask[:, 0, 0].isinf().sum(1).tolist() == [2, 1, 0]


def test_a_prompt_on_its_own_is_not_copied():
    prompts = make_prompts([[4, 3]])
    attention = DecodePass(prompts, [3], 1)
    assert attention.blocks[0].stretches[1][0][0] is prompts[0][1][0][0]


def test_prompts_without_rows_are_dropped():
    attention = DecodePass(make_prompts([[4], [5], [6], [7], [70]]), [1] * 5, 1)
    attention.keep_rows(torch.tensor([0, 1, 2]), [1, 1, 1, 0, 0])
    assert [block.prompts for block in attention.blocks] == [(0, 1, 2, 3)]  # not worth a copy; the long one is gone
    attention.keep_rows(torch.tensor([0, 2]), [1, 0, 1, 0, 0])
    assert [block.prompts for block in attention.blocks] == [(0, 2)]
    assert attention.blocks[0].mask.shape == (2, 1, 1, 7)
