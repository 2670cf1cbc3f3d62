"""Forked recurrent states in float64 against whole sequences, and the gated delta net against its rule written out."""

import pytest
import torch
import torch.nn.functional as F
from policy_models import make_config, make_model

from zoomzero.policy.local.attention import delta_net
from zoomzero.policy.local.attention.group_attention import CachedPass, Group, PackedRow
from zoomzero.policy.local.attention.recurrent import last_inputs

CPU = torch.device("cpu")
HEADS, KEY, VALUE, KERNEL = (2, 4), 8, 6, 4  # (query and key heads, value heads), widths, tokens a convolution sees
CHANNELS = 2 * HEADS[0] * KEY + HEADS[1] * VALUE
GROUPS = [Group(5, (3, 1, 2)), Group(4, (2,)), Group(7, (2, 2))]  # ragged; one suffix; alike
IDS = {"video_token_id": 4, "image_token_id": 5, "vision_start_token_id": 2, "vision_end_token_id": 3}


def written_out(weight, heads=HEADS, key=KEY, value=VALUE):
    """The rule of a gated delta net, a token at a time, in its inputs' own number type: a `recurrent.Mixer`.

    Source: Gated Delta Networks (arXiv 2412.06464), equation 10.
    """

    def unit(x):
        return (x * (x.square().sum(-1, keepdim=True) + 1e-6).rsqrt()).repeat_interleave(heads[1] // heads[0], 2)

    def mix(x, decay, beta, begin, lengths):
        older = weight.shape[-1] - 1
        before = x.new_zeros(len(x), older, x.shape[2]) if begin is None else begin[0]
        inputs = torch.cat([before, x], 1)
        mixed = F.silu(F.conv1d(inputs.transpose(1, 2), weight, groups=x.shape[2])).transpose(1, 2)
        parts = mixed.split([heads[0] * key, heads[0] * key, heads[1] * value], 2)
        q, k, v = (part.unflatten(2, (-1, d)) for part, d in zip(parts, (key, key, value), strict=True))
        q, k = unit(q) * key**-0.5, unit(k)  # (n, L, H, dk)
        memory = x.new_zeros(len(x), heads[1], key, value) if begin is None else begin[1]
        outs = []
        for t in range(x.shape[1]):
            memory = memory * decay[:, t, :, None, None].exp()
            wrong = v[:, t] - torch.einsum("nhk,nhkv->nhv", k[:, t], memory)
            memory = memory + torch.einsum("nhk,nhv->nhkv", k[:, t], beta[:, t, :, None] * wrong)
            outs.append(torch.einsum("nhk,nhkv->nhv", q[:, t], memory))
        return torch.stack(outs, 1), (last_inputs(inputs, older, lengths), memory)

    return mix


def sequences(groups):
    """Every causal part and every shared suffix as (places of its whole sequence, how many are its prefix's)."""
    found, start = [], 0
    for group in groups:
        found.append((torch.arange(start, start + group.causal_length), 0))
        start += group.causal_length
    for group, (prefix, _) in zip(groups, list(found), strict=True):
        for length in () if group.chained else group.suffixes:
            found.append((torch.cat([prefix, torch.arange(start, start + length)]), len(prefix)))
            start += length
    return found, start


def separate(row, groups, mix):
    """The usual way: each sequence from its first token on."""
    pieces = [
        (mix(*(part[:, places] for part in row), None, None)[0][:, before:], places[before:])
        for places, before in sequences(groups)[0]
    ]
    order = torch.cat([places for _, places in pieces]).argsort()
    return torch.cat([out for out, _ in pieces], 1)[:, order]


def make_row(length, seed=0):
    """Inputs of the convolution, decays, strengths and the convolution's weight; float64, for gradients."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    decay, beta = -0.3 * normal(1, length, HEADS[1]).sigmoid(), normal(1, length, HEADS[1]).sigmoid()
    row = normal(1, length, CHANNELS), decay, beta, normal(CHANNELS, 1, KERNEL) / 2
    return [x.requires_grad_() for x in row]


def gradients_of(out, leaves):
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    return torch.autograd.grad((out * weight).mean(), leaves)


@pytest.mark.parametrize("marks", [(), (2, 0, 5)])
def test_forked_states_equal_whole_sequences_with_gradients(marks):
    *row, weight = make_row(sequences(GROUPS)[1])
    mix = written_out(weight)
    found = PackedRow(GROUPS, CPU, marks=marks).recur(0, *row, mix)
    expected = separate(row, GROUPS, mix)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    for mine, theirs in zip(*(gradients_of(out, [*row, weight]) for out in (found, expected)), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-12, rtol=0)


def test_a_read_prefix_is_forked_too():
    group = Group(6, (3, 1, 2))
    *row, weight = make_row(sequences([group])[1])
    mix = written_out(weight)
    reading = PackedRow([Group(6)], CPU, keep=True)
    reading.recur(0, *(part[:, :6] for part in row), mix)
    going_on = CachedPass([tuple(reading.kept)], group.suffixes, CPU, keep=False)
    found = going_on.recur(0, *(part[:, 6:] for part in row), mix)
    torch.testing.assert_close(found, separate(row, [group], mix)[:, 6:], atol=1e-12, rtol=0)


@pytest.mark.parametrize("which", [0, 1], ids=["inputs", "memory"])
@pytest.mark.parametrize("fault", ["lost", "detached"])
def test_a_lost_state_would_be_seen(which, fault):
    """What the equality above would miss if it compared things that do not depend on the state."""
    *row, weight = make_row(sequences(GROUPS)[1])
    right = written_out(weight)

    def wrong(x, decay, beta, begin, lengths):
        if begin is not None:
            harmed = begin[which].detach() if fault == "detached" else torch.zeros_like(begin[which])
            begin = (harmed, begin[1]) if which == 0 else (begin[0], harmed)
        return right(x, decay, beta, begin, lengths)

    outs = [PackedRow(GROUPS, CPU).recur(0, *row, mix) for mix in (wrong, right)]
    grads = [gradients_of(out, row) for out in outs]
    assert ((outs[0] - outs[1]).abs().max() > 0.01) == (fault == "lost")
    for mine, theirs in zip(*grads, strict=True):
        if which == 0 and mine.shape[2] == HEADS[1] and fault == "detached":
            continue  # decays and strengths do not reach the convolution's inputs
        assert (mine - theirs).abs().max() > 0.01 * theirs.abs().max()


@pytest.mark.parametrize("family", ["qwen3_5", "qwen3_5_moe"])
def test_the_layer_equals_its_rule_written_out(family):
    """transformers' functions in float32, chunked, against float64; forked, with padding, and one token alone."""
    layers = make_model(make_config(family, 60, IDS)).model.language_model.layers
    delta_net.install(layers)
    net = layers[0].linear_attn
    net.requires_grad_(True)
    heads = (net.num_k_heads, net.num_v_heads)
    generator = torch.Generator().manual_seed(1)
    for lengths in (torch.tensor([70, 40]), torch.tensor([1, 1])):
        shape = (2, int(lengths.max()))
        x = torch.randn(*shape, net.conv_dim, generator=generator)
        decay, beta = (torch.rand(*shape, heads[1], generator=generator) for _ in range(2))
        real = (torch.arange(shape[1]) < lengths[:, None])[..., None]
        begin = (
            torch.randn(2, net.conv_kernel_size - 1, net.conv_dim, generator=generator),
            torch.randn(2, heads[1], net.head_k_dim, net.head_v_dim, generator=generator),
        )
        given = [x, -0.3 * decay * real, beta * real, *begin]
        runs = []
        for dtype in (torch.float32, torch.float64):
            leaves = [one.detach().to(dtype, copy=True).requires_grad_() for one in given]
            weight = net.conv1d.weight.detach().to(dtype).requires_grad_()
            mix = net.mix if dtype == torch.float32 else written_out(weight, heads, net.head_k_dim, net.head_v_dim)
            out, (inputs, memory) = mix(*leaves[:3], tuple(leaves[3:]), lengths)
            values = [out * real[..., None], inputs, memory]
            loss = sum((value.double() ** 2).mean() for value in values)
            wanted = [*leaves, net.conv1d.weight if dtype == torch.float32 else weight]
            runs.append((values, torch.autograd.grad(loss, wanted)))
        for mine, theirs in zip(*(values for values, _ in runs), strict=True):
            torch.testing.assert_close(mine.double(), theirs, atol=1e-5, rtol=0)
        for mine, theirs in zip(*(grads for _, grads in runs), strict=True):
            assert (mine - theirs).abs().max() <= 2e-5 * theirs.abs().max()


def test_which_function_runs_where():
    one, chunks = "torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule"
    half, full = torch.bfloat16, torch.float32
    pick = delta_net.pick_rule
    assert pick("cuda", half, 1, learning=False) == (one, True)
    assert pick("cuda", half, 1, learning=True) == (chunks, True), "the kernel for single tokens has no backward pass"
    assert pick("cuda", torch.float16, 9, learning=True) == (chunks, True)
    assert pick("cuda", full, 1, learning=True) == (one, False)
    assert pick("cuda", full, 9, learning=False) == (chunks, False), "the chunked kernel does not take float32"
    assert pick("cpu", half, 1, learning=True) == (one, False)
    assert pick("cpu", half, 9, learning=False) == (chunks, False)


@pytest.mark.parametrize("length", [1, 5])
def test_a_cpu_needs_no_kernel_although_the_package_is_installed(monkeypatch, length):
    """With flash-linear-attention installed transformers' functions call its kernels, which know GPUs only."""
    from transformers.models.qwen3_5 import modeling_qwen3_5

    layers = make_model(make_config("qwen3_5", 60, IDS)).model.language_model.layers
    delta_net.install(layers)
    net = layers[0].linear_attn
    for name in ("torch_recurrent_gated_delta_rule", "torch_chunk_gated_delta_rule"):
        plain = getattr(modeling_qwen3_5, name)

        def kernel(*args, **kwargs):
            raise RuntimeError("Pointer argument cannot be accessed from Triton (cpu tensor?)")

        kernel.__wrapped__ = getattr(plain, "__wrapped__", plain)
        monkeypatch.setattr(modeling_qwen3_5, name, kernel)
    x, gate = torch.randn(2, length, net.conv_dim), torch.rand(2, length, net.num_v_heads)
    assert torch.isfinite(net.mix(x, -gate, gate, None, None)[0]).all()
