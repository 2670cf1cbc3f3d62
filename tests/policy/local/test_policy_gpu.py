"""The fast paths on a GPU against the plain ones: `pytest -m gpu tests/policy`. Skipped without one."""

import copy

import pytest
import torch
from policy_models import FAMILIES, PATCH, make_clip, make_config, make_model

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local import generate, vision
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.load import load_policy, prepare

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
both = pytest.mark.parametrize("family", FAMILIES)
LENGTHS = [(5, 3, 7, 1), (4,), (2, 2, 2)]


def chats(family):
    return [
        [Turn("user", (make_clip(family, frames=2 * n, seed=n), "which symbol is on the red circle"))]
        for n in (3, 1, 3)
    ]


@pytest.fixture(scope="module")
def gpu(checkpoints):
    """Every family in float32 and bfloat16 on the GPU."""
    return {
        (family, dtype): load_policy(where, device="cuda", dtype=dtype)
        for family, where in checkpoints.items()
        for dtype in ("float32", "bfloat16")
    }


@both
def test_vision_equals_transformers(family):
    plain = make_model(make_config(family, 32, dict.fromkeys(("video_token_id", "image_token_id"), 1))).cuda()
    ours = copy.deepcopy(plain)
    vision.install(ours.model.visual, family_class(family))
    grids = torch.tensor([[1, 18, 12], [3, 2, 2], [2, 8, 16]])
    patches = torch.randn(int(grids.prod(1).sum()), 6 * PATCH[family] ** 2, device="cuda")
    found = vision.encode(ours.model, patches, grids)
    expected = plain.model.get_video_features(patches, grids.cuda(), return_dict=True)
    torch.testing.assert_close(found.embeds, torch.cat(list(expected.pooler_output)), atol=2e-5, rtol=1e-5)


@both
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 2e-4), ("bfloat16", 0.5)])
def test_scores_equal_the_cpu(gpu, policies, family, dtype, atol):
    texts = [["the red circle", "B"], ["symbol"], ["the symbol is", "A", "C"]]
    found = gpu[family, dtype].score_many(chats(family), texts)
    expected = policies[family].score_many(chats(family), texts)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=atol)


@both
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_equal_separate_rows(gpu, family, dtype):
    """One packed row through the fused kernels against one row for every suffix."""
    policy = gpu[family, dtype]
    model = copy.deepcopy(policy.model).train().requires_grad_(True)
    prepare(model)
    prompts = [policy.prompt(turns) for turns in chats(family)]
    generator = torch.Generator().manual_seed(0)
    suffixes = [[torch.randint(30, 200, (n,), generator=generator) for n in ns] for ns in LENGTHS]
    grads, values = [], []
    for separate in (False, True):
        model.zero_grad()
        pairs = [(p, [s]) for p, g in zip(prompts, suffixes, strict=True) for s in g]
        rows = [([p], [g]) for p, g in pairs] if separate else [(prompts, suffixes)]
        found = [packed.suffix_logprobs(model, packed.packed_states(model, *row)) for row in rows]
        values.append(torch.cat(found))
        (values[-1] * torch.linspace(-1, 1, len(values[-1]), device="cuda")).sum().backward()
        grads.append({name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None})
    close = 2e-4 if dtype == "float32" else 0.15
    torch.testing.assert_close(values[0], values[1], atol=close, rtol=0)
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[1].items():
        assert (grads[0][name] - grad).norm() <= close * grad.norm() + 1e-4, name


@both
@pytest.mark.parametrize("sampling", [Sampling(max_tokens=40), Sampling(1.0, 0.95, 40, 3)])
def test_the_recorded_step_writes_what_the_plain_loop_writes(gpu, policies, family, sampling, monkeypatch):
    policy = gpu[family, "float32"]
    samplings = [Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens, seed) for seed in range(3)]
    replays = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda self: replays.append(1) or replay(self))
    recorded = policy.generate_many(policy.read_many(chats(family)), 4, samplings)
    assert len(replays) >= 16
    monkeypatch.setattr(generate, "SHORTEST_RECORDED", 10**9)
    loop = policy.generate_many(policy.read_many(chats(family)), 4, samplings)
    cpu = policies[family].generate_many(policies[family].read_many(chats(family)), 4, samplings)
    for a, b, c in zip(recorded, loop, cpu, strict=True):
        for x, y, z in zip(a, b, c, strict=True):
            assert x.token_ids == y.token_ids
            assert x.logprobs == pytest.approx(y.logprobs, abs=2e-4)
            same = next((i for i, (s, t) in enumerate(zip(x.token_ids, z.token_ids, strict=False)) if s != t), 40)
            assert x.logprobs[:same] == pytest.approx(z.logprobs[:same], abs=1e-3)


@both
def test_recorded_bfloat16_logprobs_are_the_models(gpu, family):
    policy = gpu[family, "bfloat16"]
    turns = chats(family)[0]
    for completion in policy.generate(policy.read(turns), 4, Sampling(1.0, 1.0, 48, 1)):
        ids = torch.tensor(completion.token_ids)
        with torch.inference_mode():
            forced = packed.suffix_logprobs(
                policy.model, packed.packed_states(policy.model, [policy.prompt(turns)], [[ids]])
            )
        assert (torch.tensor(completion.logprobs) - forced.cpu()).abs().mean() < 0.05


def test_recording_does_not_wait_for_the_device(gpu):
    """Between looks the host only launches: any read of a device value would raise."""
    policy = gpu["qwen3_vl", "bfloat16"]
    context = policy.read(chats("qwen3_vl")[0])
    start = generate.Start(
        context.state.segments,
        context.state.last_hidden,
        context.state.prompt.next_position,
        Sampling(1.0, max_tokens=30),
    )
    writing = generate._Writing(policy.model, [start], 4, policy._vocabulary, fixed=True)
    with torch.inference_mode():
        writing.feed(writing.draw())
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(5):
                writing.feed(writing.draw())
        finally:
            torch.cuda.set_sync_debug_mode("default")
