"""Head sizes, shared heads and prefixes of real models, with autocast, adapters and a recorded step at once.

Every test runs on the CPU, and on a GPU by `pytest -m gpu tests/policy`. Errors are relative and taken head by head:
one wrong head would have an error of about 1.4.
"""

import copy

import pytest
import torch
from policy_models import make_clip, save_checkpoint, small_tokenizer

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.decoding import DecodePass, FixedDecodePass
from zoomzero.policy.local.attention.shared_attention import (
    Ragged,
    causal_attention,
    plain_suffix_attention,
    suffix_attention,
)
from zoomzero.policy.local.drawing import generate
from zoomzero.policy.local.load import load_policy

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
)
devices = pytest.mark.parametrize("device", ["cpu", CUDA])
widths = pytest.mark.parametrize("width", [64, 80, 128])
numbers = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
KV_HEADS, SHARE = 2, 7  # Qwen2.5-VL-7B shares keys among seven heads
HEADS = KV_HEADS * SHARE
CLOSE = {torch.float32: 2e-5, torch.bfloat16: 0.02, torch.float16: 0.004}  # of an output; gradients: five times as much
ROPE = {64: [12, 10, 10], 80: [16, 12, 12], 128: [24, 20, 20]}


def prefix_of(device, width, dtype):
    """8k tokens on a GPU; on a CPU in one case, for the others take as long and show no more."""
    return 8192 if device == "cuda" or (width, dtype) == (64, torch.float32) else 520


def rand(*shape, seed, like):
    """Random numbers as `like` holds them, and the same ones in float64 for the truth."""
    device, dtype = like
    value = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return value.to(device).requires_grad_(), value.double().requires_grad_()


def dense(q, k, v, sees, scale):
    """q (1, H, T, d) against k and v (1, Hkv, L, d); `sees` (T, L) bool, True = may look."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    return (q @ k.transpose(-1, -2) * scale).masked_fill(~sees, float("-inf")).softmax(-1) @ v


def worst_head(found, expected):
    """The largest relative error of a head, (1, H, T, d)."""
    off = (found.detach().double().cpu() - expected).flatten(2).norm(dim=-1)
    return float((off / expected.flatten(2).norm(dim=-1)).max())


def assert_close_by_head(found, expected, close):
    assert worst_head(found, expected) < close
    # what is called close is far from one head in another's place
    swapped = expected.detach().clone()
    swapped[:, 0] = expected[:, 1].detach()
    assert worst_head(swapped, expected) > 5 * close


def sees_own(lengths, prefix):
    """Who sees whom: all of the prefix, and causally its own suffix."""
    own = torch.block_diag(*[torch.ones(n, n).tril() for n in lengths]).bool()
    return torch.cat([torch.ones(len(own), prefix, dtype=torch.bool), own], 1)


@devices
@widths
@numbers
@pytest.mark.parametrize("function", [suffix_attention, plain_suffix_attention])
def test_suffixes_over_a_long_prefix(device, width, dtype, function):
    lengths, like, scale, prefix = (3, 1, 2), (device, dtype), width**-0.5, prefix_of(device, width, dtype)
    # sharp enough that a head's output is not the mean of all values
    q, exact_q = rand(1, HEADS, 6, width, seed=1, like=like)
    parts = [rand(1, KV_HEADS, n, width, seed=2 + i, like=like) for i, n in enumerate((6, 6, prefix, prefix))]
    (k, v, prefix_k, prefix_v), (own_k, own_v, far_k, far_v) = zip(*parts, strict=True)
    found = function(2 * q, k, v, Ragged(lengths, q.device), scale, prefix_k, prefix_v)
    keys, values = torch.cat([far_k, own_k], 2), torch.cat([far_v, own_v], 2)
    expected = dense(2 * exact_q, keys, values, sees_own(lengths, prefix), scale)
    assert_close_by_head(found, expected, CLOSE[dtype])
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    mine = torch.autograd.grad((found * weight.to(found)).sum(), [q, k, v, prefix_k, prefix_v])
    theirs = torch.autograd.grad((expected * weight).sum(), [exact_q, own_k, own_v, far_k, far_v])
    for a, b in zip(mine, theirs, strict=True):
        assert_close_by_head(a, b, 5 * CLOSE[dtype])


@devices
@widths
@numbers
def test_whole_sequences(device, width, dtype):
    length = 8192 if device == "cuda" else 96
    made = [rand(1, h, length, width, seed=h + i, like=(device, dtype)) for i, h in enumerate((HEADS, 2, 2))]
    (q, k, v), exact = zip(*made, strict=True)
    found = causal_attention(2 * q, k, v, width**-0.5)
    # of a long sequence some of the last tokens
    tail = slice(length - 96, length)
    sees = torch.ones(length, length, dtype=torch.bool).tril()[tail]
    expected = dense(2 * exact[0][:, :, tail], *exact[1:], sees, width**-0.5)
    assert_close_by_head(found[:, :, tail], expected, CLOSE[dtype])


@devices
@widths
@numbers
@pytest.mark.parametrize("kind", [DecodePass, FixedDecodePass])
def test_rows_that_write_after_long_prefixes(device, width, dtype, kind):
    """Two prompts, three rows each, two tokens; a row sees its prompt and what it has written."""
    like, scale, prefixes, rows = (device, dtype), width**-0.5, (prefix_of(device, width, dtype), 100), 3
    read = [[rand(1, KV_HEADS, n, width, seed=20 + n + i, like=like) for i in range(2)] for n in prefixes]
    with torch.inference_mode():
        attention = kind([[(tuple(x.detach() for x, _ in pair),)] for pair in read], [rows] * 2, 4)
        wrote = []
        for step in range(2):
            shapes = [(2 * rows, h, 1, width) for h in (HEADS, KV_HEADS, KV_HEADS)]
            made = [rand(*shape, seed=50 + 3 * step + i, like=like) for i, shape in enumerate(shapes)]
            q, k, v = (x.detach() for x, _ in made)
            found = attention.attend(0, 2 * q, k, v, scale)
            attention.advance()
            wrote.append([x for _, x in made[1:]])
            for row in range(2 * rows):
                past = [exact for _, exact in read[row // rows]]
                keys, values = (torch.cat([past[i], *(w[i][row : row + 1] for w in wrote)], 2) for i in range(2))
                sees = torch.ones(1, keys.shape[2], dtype=torch.bool)
                expected = dense(2 * made[0][1][row : row + 1], keys, values, sees, scale)
                assert_close_by_head(found[row : row + 1], expected, CLOSE[dtype])


@pytest.fixture(scope="module")
def adapted(tmp_path_factory):
    """Make a policy in float32 of given head width, seven heads to a key, with adapters that say something."""
    from peft import LoraConfig, get_peft_model

    def make(device, width):
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": ROPE[width], "mrope_interleaved": True}
        text = {"head_dim": width, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS}
        where = tmp_path_factory.mktemp("heads")
        save_checkpoint(where, "qwen3_vl", small_tokenizer(), rope_parameters=rope, **text)
        policy = load_policy(where, device=device, dtype="float32")
        targets = packed.family(policy.model).lora_targets
        policy.model = get_peft_model(policy.model, LoraConfig(r=4, lora_alpha=8, target_modules=targets)).eval()
        generator = torch.Generator().manual_seed(7)
        for name, parameter in policy.model.named_parameters():
            if "lora_" in name:
                parameter.data = (0.1 * torch.randn(parameter.shape, generator=generator)).to(device)
        return policy

    return make


def chats():
    frames = enumerate((6, 2, 6))
    return [
        [Turn("user", (make_clip("qwen3_vl", frames=n, seed=i), "which symbol is on the red circle"))]
        for i, n in frames
    ]


@devices
@widths
def test_autocast_and_adapters_and_a_recorded_step(adapted, device, width, monkeypatch):
    """Rows that are written by a recorded step are those of the plain loop, and teacher forcing gives their numbers."""
    policy = adapted(device, width)
    replays = []
    if device == "cuda":
        replay = torch.cuda.CUDAGraph.replay
        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda self: replays.append(1) or replay(self))
    prompts = [policy.prompt(turns) for turns in chats()]
    with torch.inference_mode(), torch.autocast(device, torch.bfloat16):
        contexts = policy.read_many(chats())
        starts = [
            generate.Start(
                c.state.segments, c.state.last_hidden, c.state.prompt.next_position, Sampling(1.0, 0.95, 26, i)
            )
            for i, c in enumerate(contexts)
        ]
        recorded, loop = (
            generate.decode(policy.model, starts, 2, policy._vocabulary, fixed=fixed) for fixed in (True, False)
        )
        forced = [
            packed.packed_states(policy.model, [p], [[torch.tensor(r.token_ids) for r in g]])
            for p, g in zip(prompts, recorded, strict=True)
        ]
        scores = [states.split(packed.suffix_logprobs(policy.model, states))[0] for states in forced]
        with policy.model.disable_adapter():
            bare = packed.packed_states(policy.model, prompts[:1], [[torch.tensor(recorded[0][0].token_ids)]])
            without = packed.suffix_logprobs(policy.model, bare).cpu()
    assert len(replays) >= 16 * (device == "cuda")
    off, same = [], 0
    for a, b, c in zip(recorded, loop, scores, strict=True):
        for x, y, z in zip(a, b, c, strict=True):
            until = next((i for i, (s, t) in enumerate(zip(x.token_ids, y.token_ids, strict=False)) if s != t), 26)
            same += until
            off.append((torch.tensor(x.logprobs) - z.cpu()).abs())
            assert x.logprobs[:until] == pytest.approx(y.logprobs[:until], abs=0.1)
    assert torch.cat(off).mean() < 0.03, "half precision rounds by about 0.01 here"
    assert same > 26, "rounding parts rows now and then, not at once"
    assert (torch.tensor(recorded[0][0].logprobs) - without).abs().mean() > 0.1, "the adapters say something"


@devices
@widths
def test_autocast_and_adapters_in_training(adapted, device, width):
    """Gradients of adapters from one packed row under autocast against separate rows in float32, matrix by matrix."""
    policy = adapted(device, width)
    model = copy.deepcopy(policy.model)
    prompts = [policy.prompt(turns) for turns in chats()]
    generator = torch.Generator().manual_seed(0)
    suffixes = [[torch.randint(30, 200, (n,), generator=generator) for n in ns] for ns in ((5, 3, 7, 1), (4,), (2, 2))]
    pairs = [(p, s) for p, group in zip(prompts, suffixes, strict=True) for s in group]
    rows = {True: [(prompts, suffixes)], False: [([p], [[s]]) for p, s in pairs]}
    values, grads = [], []
    for half in (True, False):
        model.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=half):
            found = [packed.suffix_logprobs(model, packed.packed_states(model, *row)) for row in rows[half]]
        values.append(torch.cat(found))
        (values[-1] * torch.linspace(-1, 1, len(values[-1]), device=device)).mean().backward()
        grads.append({name: p.grad.double().cpu() for name, p in model.named_parameters() if p.grad is not None})
    assert (values[0] - values[1]).abs().mean() < 0.03
    assert grads[0].keys() == grads[1].keys() != set()
    off = {name: float((grads[0][name] - grad).norm() / grad.norm()) for name, grad in grads[1].items()}
    assert max(off.values()) < 0.25, max(off, key=off.get)
