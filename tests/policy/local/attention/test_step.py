"""The written-out decoding step equals the text model's forward, with shapes that change and with fixed ones."""

from functools import partial

import pytest
import torch
from policy_models import FAMILIES, make_clip

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.decoding import DecodePass, FixedDecodePass
from zoomzero.policy.local.attention.step import can_record, fast_step, plain_step, step
from zoomzero.policy.local.drawing import generate

OWN_FORWARD = ("qwen3_5", "qwen3_5_moe")  # no step is written out for them
both = pytest.mark.parametrize("family", FAMILIES)


def contexts_of(policy, family):
    chats = [
        [Turn("user", (make_clip(family), "which symbol"))],
        [Turn("user", ("count",))],
        [Turn("user", (make_clip(family, frames=4, seed=2), "which symbol is on the red circle"))],
    ]
    return policy.read_many(chats)


def starts_of(policy, family, sampling):
    return [
        generate.Start(c.state.segments, c.state.last_hidden, c.state.prompt.next_position, sampling)
        for c in contexts_of(policy, family)
    ]


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_the_models_own_forward(policies, family, dtype):
    """In float32, and under autocast, where queries and keys come in another type than values."""
    policy = policies[family]
    text = packed.core(policy.model).language_model
    kind = packed.family(policy.model)
    written_out = fast_step(kind, text)
    assert can_record(kind, text) == bool(written_out) == (family not in OWN_FORWARD)
    written_out = written_out or partial(plain_step, kind)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        prompts = [context.state.segments for context in contexts_of(policy, family)]
        kinds = (DecodePass, FixedDecodePass, DecodePass)
        passes = [kind(prompts, [2] * 3, 4) for kind in kinds]
        generator = torch.Generator().manual_seed(0)
        for at in range(4):
            tokens, positions = (torch.randint(5, 200, (6,), generator=generator) for _ in range(2))
            runs = (written_out, written_out, partial(plain_step, kind))
            *found, expected = (run(text, tokens, positions, p) for run, p in zip(runs, passes, strict=True))
            for hidden in found:
                if dtype == torch.float32:
                    torch.testing.assert_close(hidden, expected, atol=1e-5, rtol=1e-5)
                else:
                    assert (hidden - expected).abs().mean() < 0.02 * expected.abs().mean(), at
            for one in passes:
                one.advance()


def test_falls_back_where_modules_are_watched(policies):
    """Sharded and offloaded models bring their weights in by hooks, which the written-out step would not run."""
    policy = policies["qwen3_vl"]
    text = packed.core(policy.model).language_model
    (context,) = contexts_of(policy, "qwen3_vl")[:1]
    expected = policy.generate(context, 2, Sampling(1.0, max_tokens=6))
    calls = []
    handle = text.layers[0].register_forward_pre_hook(lambda *_: calls.append(1))
    try:
        assert fast_step(packed.family(policy.model), text) is None
        found = policy.generate(context, 2, Sampling(1.0, max_tokens=6))
    finally:
        handle.remove()
    assert len(calls) == 5
    assert [c.token_ids for c in found] == [c.token_ids for c in expected]


def test_adapters_in_linear_layers_count(policies):
    """A low-rank adapter replaces a linear layer by a module of its own."""
    policy = policies["qwen2_5_vl"]
    text = packed.core(policy.model).language_model

    class Adapted(torch.nn.Module):
        def __init__(self, base):
            super().__init__()
            self.base, self.delta = base, torch.nn.Linear(base.in_features, base.out_features, bias=False)

        def forward(self, x):
            return self.base(x) + self.delta(x)

    block = text.layers[1].self_attn
    base = block.v_proj
    prompts = [context.state.segments for context in contexts_of(policy, "qwen2_5_vl")]
    tokens, positions = torch.tensor([30, 31, 32]), torch.tensor([20, 7, 9])
    with torch.inference_mode():
        before = step(text, tokens, positions, DecodePass(prompts, [1] * 3, 1))
        block.v_proj = Adapted(base)
        try:
            found, expected = (
                run(text, tokens, positions, DecodePass(prompts, [1] * 3, 1))
                for run in (step, partial(plain_step, packed.family(policy.model)))
            )
        finally:
            block.v_proj = base
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert (found - before).abs().max() > 1e-3


@both
@pytest.mark.parametrize(
    "sampling", [Sampling(max_tokens=9), Sampling(1.0, 0.9, 20, 3), Sampling(1.0, 1.0, 1), Sampling(1.0, 1.0, 2)]
)
def test_fixed_shapes_write_the_same(policies, family, sampling):
    policy = policies[family]
    free, fixed = (
        generate.decode(policy.model, starts_of(policy, family, sampling), 3, policy._vocabulary, fixed=f)
        for f in (False, True)
    )
    for before, after in zip(free, fixed, strict=True):
        for a, b in zip(before, after, strict=True):
            assert (a.token_ids, a.finished) == (b.token_ids, b.finished)
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-5)
            assert a.peaks == pytest.approx(b.peaks, abs=1e-5)


def test_fixed_shapes_end_when_all_rows_have(policies, monkeypatch):
    policy = policies["qwen3_vl"]
    starts = starts_of(policy, "qwen3_vl", Sampling(1.0, 1.0, 200, 1))
    stops = generate.Vocabulary(policy._vocabulary.forbidden, torch.arange(0, 320, 2))  # half of all tokens
    feeds = []
    feed = generate.Writing.feed
    monkeypatch.setattr(generate.Writing, "feed", lambda self, tokens: feeds.append(1) or feed(self, tokens))
    rows = generate.decode(policy.model, starts, 2, stops, fixed=True)
    assert all(row.finished and row.token_ids[-1] % 2 == 0 for group in rows for row in group)
    assert len(feeds) <= 2 * generate.LOOK_EVERY
    free = generate.decode(policy.model, starts, 2, stops, fixed=False)
    assert [row.token_ids for group in free for row in group] == [row.token_ids for group in rows for row in group]


def test_fixed_rows_cannot_leave(policies):
    prompts = [context.state.segments for context in contexts_of(policies["qwen3_vl"], "qwen3_vl")]
    with pytest.raises(TypeError, match="cannot leave"):
        FixedDecodePass(prompts, [1] * 3, 4).keep_rows(torch.tensor([0]), [1, 0, 0])
