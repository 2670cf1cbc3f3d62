"""What is chosen for a machine, and the memory-efficient kernel's calls, by the facts of machines that are not here."""

from types import SimpleNamespace

import pytest
import torch

from zoomzero.policy.base import Sampling
from zoomzero.policy.local.attention import shared_attention
from zoomzero.policy.local.attention.shared_attention import (
    LSE_BLOCK,
    Ragged,
    causal_attention,
    plain_suffix_attention,
    suffix_attention,
)
from zoomzero.policy.local.drawing.sampling import Sampler
from zoomzero.policy.local.machine import attention_kernel, best_device, best_dtype

VOLTA, TURING, AMPERE, HOPPER = (7, 0), (7, 5), (8, 0), (9, 0)
F64, F32, F16, BF16 = torch.float64, torch.float32, torch.float16, torch.bfloat16


@pytest.mark.parametrize(
    ("device", "capability", "dtype", "width", "kernel"),
    [
        ("cuda", HOPPER, BF16, 128, "flash"),
        ("cuda", AMPERE, F16, 80, "flash"),
        ("cuda", (8, 6), BF16, 64, "flash"),
        ("cuda", HOPPER, F32, 128, "efficient"),
        ("cuda", TURING, F32, 64, "efficient"),
        ("cuda", TURING, F16, 128, "efficient"),
        ("cuda", VOLTA, F16, 80, "efficient"),
        ("cuda", TURING, BF16, 128, "plain"),  # older GPUs have no bfloat16
        ("cuda", HOPPER, F64, 128, "plain"),
        ("cuda", HOPPER, BF16, 36, "plain"),
        ("cuda", HOPPER, BF16, 512, "plain"),
        ("cpu", None, F32, 36, "cpu"),
        ("cpu", None, BF16, 128, "cpu"),
        ("cpu", None, F64, 8, "cpu"),
        ("mps", None, F16, 128, "plain"),
        ("xpu", None, BF16, 128, "plain"),
    ],
)
def test_the_kernel_of_a_machine(device, capability, dtype, width, kernel):
    assert attention_kernel(device, capability, dtype, width) == kernel


def test_the_kernel_is_chosen_by_the_devices_own_capability(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: TURING if device.index else AMPERE)
    like = [SimpleNamespace(device=torch.device(f"cuda:{i}"), dtype=F16, shape=(1, 4, 9, 64)) for i in (0, 1)]
    assert [shared_attention.kernel_of(query) for query in like] == ["flash", "efficient"]


def test_auto():
    found = [best_device(cuda, mps) for cuda in (True, False) for mps in (True, False)]
    assert found == ["cuda", "cuda", "mps", "cpu"]
    assert [best_dtype("cuda", c) for c in (VOLTA, TURING, AMPERE, HOPPER)] == [F16, F16, BF16, BF16]
    assert best_dtype("mps", parameters=7 * 10**9) == F16
    # 4 bytes of 7 billion are 28 GB before anything is read
    assert [best_dtype("cpu", parameters=n) for n in (8 * 10**8, 10**9, 10**9 + 1, 7 * 10**9)] == [F32, F32, BF16, BF16]


def test_apples_gpus_draw_in_float32():
    assert Sampler([Sampling()], 1, torch.device("mps")).wide == F32
    assert Sampler([Sampling()], 1, torch.device("cpu")).wide == F64


@pytest.mark.parametrize("top_p", [1.0, 0.9])
def test_what_has_no_probability_is_never_drawn(monkeypatch, top_p):
    """In float32 a number just below 1 is rounded to 1, beyond the last id that may be drawn."""
    monkeypatch.setattr("zoomzero.policy.local.drawing.sampling.drawing_dtype", lambda _: F32)
    sampler = Sampler([Sampling(1.0, top_p, 3)], 1, torch.device("cpu"))
    assert sampler.uniform.dtype == F32
    sampler.uniform = torch.tensor([1 - 2**-40, 0.0, 0.5], dtype=F64).to(F32)
    assert sampler.uniform[0] == 1
    logits = torch.tensor([[float("-inf"), 1.0, 0.5, 1.0, float("-inf"), float("-inf")]]).expand(3, -1)
    drawn = sampler.draw(logits.contiguous(), torch.arange(3)).tolist()
    assert set(drawn) <= {1, 2, 3}
    assert drawn[0] == (3 if top_p == 1 else 2)


def emulated(grouped):
    """The memory-efficient kernel as it is called, on a CPU: padded log-sum-exp, no grouped heads, no mask."""

    def scores_of(q, k, causal, scale):
        scores = q @ k.transpose(-1, -2) * scale
        return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), float("-inf")) if causal else scores

    def forward(q, k, v, bias, compute_lse, dropout, causal, *, scale):
        assert (bias, compute_lse, dropout) == (None, True, 0.0)
        assert q.shape[1] == k.shape[1], "the kernel knows no grouped heads"
        grouped.append(tuple(q.shape))
        scores = scores_of(q, k, causal, scale)
        lse = torch.nn.functional.pad(scores.logsumexp(-1), (0, -q.shape[2] % LSE_BLOCK), value=float("nan"))
        return scores.softmax(-1) @ v, lse, torch.tensor(0), torch.tensor(0)

    def backward(grad, q, k, v, bias, out, lse, seed, offset, dropout, wanted, causal, *, scale):
        assert (bias, dropout, wanted) == (None, 0.0, [True, True, True, False])
        assert lse.shape[2] % LSE_BLOCK == 0
        assert lse.is_contiguous()
        weights = (scores_of(q, k, causal, scale) - lse[..., : q.shape[2], None]).exp()
        slopes = weights * (grad @ v.transpose(-1, -2) - (grad * out).sum(-1, keepdim=True)) * scale
        return slopes @ k, slopes.transpose(-1, -2) @ q, weights.transpose(-1, -2) @ grad, None

    return SimpleNamespace(
        _scaled_dot_product_efficient_attention=forward, _scaled_dot_product_efficient_attention_backward=backward
    )


def rand(*shape, seed, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=F64).to(**options)


@pytest.mark.parametrize("share", [1, 3])
@pytest.mark.parametrize("prefixes", [(), (40,), (3, 33)])
def test_the_memory_efficient_kernel_is_called_right(monkeypatch, share, prefixes):
    ragged = Ragged([5, 34, 1], torch.device("cpu"))
    q = rand(1, 2 * share, 40, 8, seed=1).requires_grad_()
    k, v = (rand(1, 2, 40, 8, seed=s).requires_grad_() for s in (2, 3))
    segments = [rand(1, 2, p, 8, seed=9 + p + i).requires_grad_() for p in prefixes for i in range(2)]
    leaves = [q, k, v, *segments]
    expected = plain_suffix_attention(q, k, v, ragged, 0.4, *segments)
    calls = []
    monkeypatch.setattr(shared_attention, "aten", emulated(calls))
    monkeypatch.setattr(shared_attention, "kernel_of", lambda _: "efficient")
    found = suffix_attention(q, k, v, ragged, 0.4, *segments)
    assert len(calls) == 1 + len(prefixes)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)  # the plain form computes in float32
    weight = rand(*found.shape, seed=4)
    grads = [torch.autograd.grad((out * weight).sum(), leaves) for out in (found, expected)]
    for mine, theirs in zip(*grads, strict=True):
        torch.testing.assert_close(mine, theirs, atol=5e-6, rtol=1e-4)


def test_the_memory_efficient_kernel_takes_these_calls(monkeypatch):
    """Without a GPU torch still checks names, order and shapes of what its own operator is given."""
    monkeypatch.setattr(shared_attention, "kernel_of", lambda _: "efficient")
    q, k, v = (torch.randn(1, heads, 6, 8, device="meta", dtype=F16, requires_grad=True) for heads in (4, 2, 2))
    keys, values = (torch.randn(1, 2, 40, 8, device="meta", dtype=F16, requires_grad=True) for _ in range(2))
    out = suffix_attention(q, k, v, Ragged([2, 2, 2], torch.device("meta")), 0.4, keys, values)
    grads = torch.autograd.grad(out.sum(), [q, k, v, keys, values])
    assert [g.shape for g in grads] == [x.shape for x in (q, k, v, keys, values)]


@pytest.mark.parametrize("kernel", ["efficient", "plain", "cpu"])
def test_grouped_heads_are_repeated_but_for_the_flash_kernel(monkeypatch, kernel):
    """torch sends grouped heads to the quadratic kernel wherever the flash kernel is not there."""
    given = []
    monkeypatch.setattr(shared_attention, "kernel_of", lambda _: kernel)
    monkeypatch.setattr(
        torch.nn.functional, "scaled_dot_product_attention", lambda q, k, v, **how: given.append((k.shape, how)) or q
    )
    q, k = torch.zeros(1, 6, 4, 8), torch.zeros(1, 2, 4, 8)
    causal_attention(q, k, k, 1.0)
    monkeypatch.setattr(shared_attention, "kernel_of", lambda _: "flash")
    causal_attention(q, k, k, 1.0)
    assert [(shape[1], how["enable_gqa"]) for shape, how in given] == [(6, False), (2, True)]
