"""The fast paths on a GPU against the plain ones: `pytest -m gpu tests/policy`.

What needs no recorded step runs on the CPU too, in bfloat16. Head sizes, long prefixes, autocast and adapters are in
`attention/test_devices.py`.
"""

import copy

import pytest
import torch
from policy_models import FAMILIES, PATCH, make_clip, make_config, make_model

from zoomzero.policy.base import Sampling, Turn
from zoomzero.policy.local import vision
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.step import can_record
from zoomzero.policy.local.drawing import generate
from zoomzero.policy.local.drawing.recorded import Recorder
from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.load import load_policy, prepare

ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
both = pytest.mark.parametrize("family", FAMILIES)
machines = pytest.mark.parametrize(
    ("device", "dtype"),
    [("cpu", "bfloat16"), *(pytest.param("cuda", dtype, marks=ON_GPU) for dtype in ("float32", "bfloat16"))],
)

# a score in bfloat16 is off by a third of it; one head in another's place moves one by twice as much or more
HALF = {"qwen2_5_vl": 0.2, "qwen3_5": 0.02}
LENGTHS = [(5, 3, 7, 1), (4,), (2, 2, 2)]


def on_gpu(test):
    """Mark a test that means nothing elsewhere."""
    return pytest.mark.gpu(ON_GPU[1](test))


def chats(family):
    return [
        [Turn("user", (make_clip(family, frames=2 * n, seed=n), "which symbol is on the red circle"))]
        for n in (3, 1, 3)
    ]


@pytest.fixture(scope="module")
def loaded(checkpoints):
    """Return a family's policy on a device in a number type; each is loaded once."""
    held = {}

    def load(family, device, dtype):
        if (family, device, dtype) not in held:
            held[family, device, dtype] = load_policy(checkpoints[family], device=device, dtype=dtype)
        return held[family, device, dtype]

    return load


@both
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=ON_GPU)])
def test_vision_equals_transformers(family, device):
    plain = make_model(make_config(family, 32, dict.fromkeys(("video_token_id", "image_token_id"), 1))).to(device)
    ours = copy.deepcopy(plain)
    vision.install(ours.model.visual, family_class(family))
    grids = torch.tensor([[1, 18, 12], [3, 2, 2], [2, 8, 16]])
    patches = torch.randn(int(grids.prod(1).sum()), 6 * PATCH[family] ** 2, device=device)
    found = vision.encode(ours.model, patches, grids)
    expected = plain.model.get_video_features(patches, grids.to(device), return_dict=True)
    torch.testing.assert_close(found.embeds, torch.cat(list(expected.pooler_output)), atol=2e-5, rtol=1e-5)


@both
@machines
def test_scores_equal_the_cpus_in_float32(loaded, policies, family, device, dtype):
    texts = [["the red circle", "B"], ["symbol"], ["the symbol is", "A", "C"]]
    atol = 2e-4 if dtype == "float32" else HALF.get(family, 0.05)
    found = loaded(family, device, dtype).score_many(chats(family), texts)
    expected = policies[family].score_many(chats(family), texts)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, abs=atol)


@both
@machines
def test_gradients_equal_separate_rows(loaded, family, device, dtype):
    """One packed row through the fused kernels against one row for every suffix."""
    policy = loaded(family, device, dtype)
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
        (values[-1] * torch.linspace(-1, 1, len(values[-1]), device=device)).sum().backward()
        grads.append({name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None})
    close = 2e-4 if dtype == "float32" else 0.15
    torch.testing.assert_close(values[0], values[1], atol=close, rtol=0)
    assert grads[0].keys() == grads[1].keys()
    for name, grad in grads[1].items():
        assert (grads[0][name] - grad).norm() <= close * grad.norm() + 1e-4, name


@on_gpu
@both
@pytest.mark.parametrize("sampling", [Sampling(max_tokens=40), Sampling(1.0, 0.95, 40, 3)])
def test_the_recorded_step_writes_what_the_plain_loop_writes(loaded, policies, family, sampling, monkeypatch):
    policy = loaded(family, "cuda", "float32")
    samplings = [Sampling(sampling.temperature, sampling.top_p, sampling.max_tokens, seed) for seed in range(3)]
    replays = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda self: replays.append(1) or replay(self))
    recorded = policy.generate_many(policy.read_many(chats(family)), 4, samplings)
    text = packed.core(policy.model).language_model
    assert (len(replays) >= 16) == can_record(packed.family(policy.model), text)
    monkeypatch.setattr(generate, "SHORTEST_RECORDED", 10**9)
    loop = policy.generate_many(policy.read_many(chats(family)), 4, samplings)
    cpu = policies[family].generate_many(policies[family].read_many(chats(family)), 4, samplings)
    for a, b, c in zip(recorded, loop, cpu, strict=True):
        for x, y, z in zip(a, b, c, strict=True):
            assert x.token_ids == y.token_ids
            assert x.logprobs == pytest.approx(y.logprobs, abs=2e-4)
            same = next((i for i, (s, t) in enumerate(zip(x.token_ids, z.token_ids, strict=False)) if s != t), 40)
            assert x.logprobs[:same] == pytest.approx(z.logprobs[:same], abs=1e-3)


@on_gpu
@both
def test_recorded_bfloat16_logprobs_are_the_models(loaded, family):
    policy = loaded(family, "cuda", "bfloat16")
    turns = chats(family)[0]
    for completion in policy.generate(policy.read(turns), 4, Sampling(1.0, 1.0, 48, 1)):
        ids = torch.tensor(completion.token_ids)
        with torch.inference_mode():
            forced = packed.suffix_logprobs(
                policy.model, packed.packed_states(policy.model, [policy.prompt(turns)], [[ids]])
            )
        assert (torch.tensor(completion.logprobs) - forced.cpu()).abs().mean() < 0.05


@on_gpu
def test_recording_does_not_wait_for_the_device(loaded):
    """Between looks the host only launches: any read of a device value would raise."""
    policy = loaded("qwen3_vl", "cuda", "bfloat16")
    context = policy.read(chats("qwen3_vl")[0])
    start = generate.Start(
        context.state.segments,
        context.state.last_hidden,
        context.state.prompt.next_position,
        Sampling(1.0, max_tokens=30),
    )
    writing = generate.Writing(policy.model, [start], 4, policy._vocabulary, fixed=True)
    with torch.inference_mode():
        writing.feed(writing.draw())
        torch.cuda.set_sync_debug_mode("error")
        try:
            for _ in range(5):
                writing.feed(writing.draw())
        finally:
            torch.cuda.set_sync_debug_mode("default")


@on_gpu
def test_one_stream_and_two_recordings_for_many_calls(loaded, monkeypatch):
    """The first of a shape is recorded where its prompts lie, the second in memory of its own, the others replay it."""
    policy = loaded("qwen3_vl", "cuda", "float32")
    monkeypatch.setattr(policy, "_recorder", Recorder())
    streams, captures = [], []
    begin = torch.cuda.CUDAGraph.capture_begin
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "capture_begin", lambda self, *a, **how: captures.append(1) or begin(self, *a, **how)
    )
    samplings = [Sampling(1.0, 0.95, 40, seed) for seed in range(3)]
    for turn in range(5):
        asked = [
            [Turn("user", (make_clip("qwen3_vl", frames=2 * n, seed=10 * turn + n), "which symbol"))] for n in (3, 1, 2)
        ]
        contexts = policy.read_many(asked)
        found = policy.generate_many(contexts, 2, samplings)
        with monkeypatch.context() as plain:
            plain.setattr(generate, "SHORTEST_RECORDED", 10**9)
            expected = policy.generate_many(contexts, 2, samplings)
        assert [[c.token_ids for c in g] for g in found] == [[c.token_ids for c in g] for g in expected], turn
        streams.append(policy._recorder._stream)
    assert len(set(map(id, streams))) == 1
    assert len(captures) == 2
