"""One packed row equals G separate forward passes of the plain model, values and gradients."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch
from policy_models import FAMILIES, PATCH, TIMES_IN_TEXT, make_config, make_model
from torch.utils._python_dispatch import TorchDispatchMode

from zoomzero.policy.local import vision
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.attention.packed import (
    PackedStates,
    Prompt,
    encode_prompts,
    packed_states,
    suffix_logprobs,
    suffix_scores,
)
from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.load import prepare
from zoomzero.policy.local.positions import VisionBlocks, continue_positions, mrope_positions, visual_index

QWEN3 = family_class("qwen3_vl")
PAD, VOCABULARY = 4, 60
IDS = {"video_token_id": PAD, "image_token_id": 5, "vision_start_token_id": 2, "vision_end_token_id": 3}
GRIDS = [(3, 6, 10), (2, 18, 12), (3, 6, 10), (1, 4, 4)]
LENGTHS = [(5, 3, 7, 1), (4,), (2, 2, 2), (1, 1)]  # ragged; one suffix; alike; single tokens


def make_prompt(family, grid, seed):
    """A prompt with one clip, laid out as the family lays it out."""
    t, h, w = grid
    ids, starts, grids = [7, 8, 9], [], []
    for i in range(t if family in TIMES_IN_TEXT else 1):
        ids += [10 + i, 2]
        starts.append(len(ids))
        grids.append((1 if family in TIMES_IN_TEXT else t, h // 2, w // 2))
        ids += [PAD] * (grids[-1][0] * h * w // 4) + [3]
    ids += [20, 21, 22]
    blocks = VisionBlocks(torch.tensor(starts), torch.tensor(grids), torch.full((len(starts),), 2.0))
    patches = torch.randn(t * h * w, 6 * PATCH[family] ** 2, generator=torch.Generator().manual_seed(seed))
    return Prompt(
        torch.tensor(ids),
        mrope_positions(len(ids), blocks),
        visual_index(blocks),
        patches,
        torch.tensor([grid]),
    )


@pytest.fixture(scope="module", params=FAMILIES)
def setting(request):
    """(plain model, our model, prompts, suffixes) of one family."""
    plain = make_model(make_config(request.param, VOCABULARY, IDS))
    ours = prepare(copy.deepcopy(plain))
    prompts = [make_prompt(request.param, grid, i) for i, grid in enumerate(GRIDS)]
    generator = torch.Generator().manual_seed(3)
    suffixes = [[torch.randint(30, VOCABULARY, (n,), generator=generator) for n in ns] for ns in LENGTHS]
    return plain, ours, prompts, suffixes


def separate_logprobs(plain, prompts, suffixes):
    """The usual way: one full sequence for every suffix, through transformers' own forward."""
    out = []
    for prompt, group in zip(prompts, suffixes, strict=True):
        for suffix in group:
            ids = torch.cat([prompt.ids, suffix])
            tail = continue_positions(prompt.next_position, len(suffix))
            kinds = torch.zeros_like(ids)
            kinds[prompt.visual_index] = 2
            logits = plain(
                input_ids=ids[None],
                position_ids=torch.cat([prompt.positions, tail], 1)[:, None],
                pixel_values_videos=prompt.patches,
                video_grid_thw=prompt.grids,
                mm_token_type_ids=kinds[None],
                use_cache=False,
            ).logits[0, len(prompt) - 1 : -1]
            out.append(logits.log_softmax(-1).gather(1, suffix[:, None])[:, 0])
    return torch.cat(out)


def gradients(model, logprobs):
    weight = torch.randn(len(logprobs), generator=torch.Generator().manual_seed(5))
    model.zero_grad()
    (logprobs * weight).mean().backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.filterwarnings("ignore:.*checkpointing.* is deprecated:FutureWarning")  # renamed after 5.17
@pytest.mark.parametrize("checkpointing", [None, {"use_reentrant": False}, {"use_reentrant": True}])
def test_values_and_gradients_equal_separate_forwards(setting, checkpointing):
    plain, ours, prompts, suffixes = setting
    for model in (plain, ours):
        model.train()
        if checkpointing:
            model.gradient_checkpointing_enable(checkpointing)
            assert model.is_gradient_checkpointing
    try:
        found = suffix_logprobs(ours, packed_states(ours, prompts, suffixes))
        expected = separate_logprobs(plain, prompts, suffixes)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
        mine, theirs = gradients(ours, found), gradients(plain, expected)
    finally:
        for model in (plain, ours):
            model.gradient_checkpointing_disable()
            model.eval()
    assert mine.keys() == theirs.keys()
    assert any("visual" in name for name in mine)
    # a gated delta net sums in chunks, which lie elsewhere in a packed row; test_recurrent compares in float64
    close = 1e-4 if "qwen3_5" in ours.config.model_type else 2e-5
    for name, grad in theirs.items():
        assert (mine[name] - grad).abs().max() <= close * grad.abs().max() + 1e-7, name


def test_with_adapters_on_and_off(setting):
    """Adapters on both models: the same values and gradients; switched off, the bare model's values."""
    from peft import LoraConfig, get_peft_model

    plain, ours, prompts, suffixes = setting
    config = LoraConfig(r=2, lora_alpha=4, target_modules=packed.family(ours).lora_targets)
    theirs, mine = (get_peft_model(copy.deepcopy(model), config) for model in (plain, ours))
    for model in (theirs, mine):
        generator = torch.Generator().manual_seed(7)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    found = suffix_logprobs(mine, packed_states(mine, prompts, suffixes))
    expected = separate_logprobs(theirs, prompts, suffixes)
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
    grads = gradients(mine, found), gradients(theirs, expected)
    assert grads[0].keys() == grads[1].keys() == {name for name, p in mine.named_parameters() if "lora_" in name}
    for name, grad in grads[1].items():
        assert (grads[0][name] - grad).abs().max() <= 1e-4 * grad.abs().max() + 1e-7, name
    with torch.no_grad():
        bare = suffix_logprobs(ours, packed_states(ours, prompts, suffixes))
        assert (found - bare).abs().max() > 0.1, "the adapters say something"
        with mine.disable_adapter():
            assert torch.equal(suffix_logprobs(mine, packed_states(mine, prompts, suffixes)), bare)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor any operation made."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def head_only(tied):
    """A model of nothing but an embedding and a head, and states for it."""
    vocabulary, width, tokens = 50, 12, 23
    generator = torch.Generator().manual_seed(0)
    embedding = torch.nn.Embedding(vocabulary, width)
    lm_head = torch.nn.Linear(width, vocabulary, bias=False)
    embedding.weight.data, lm_head.weight.data = (0.4 * torch.randn(2, vocabulary, width, generator=generator)).unbind(
        0
    )
    if tied:
        lm_head.weight = embedding.weight
    states = torch.randn(tokens, width, generator=generator).requires_grad_()
    targets = torch.randint(0, vocabulary, (tokens,), generator=generator)
    model = SimpleNamespace(lm_head=lm_head, embed=embedding, zoomzero_family=QWEN3)
    return model, embedding, states, targets


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("chunk", [1, 5, 23, 100])
def test_chunked_head_equals_the_plain_one(tied, temperature, chunk):
    model, embedding, states, targets = head_only(tied)
    # the embedding is used too, so that a tied weight gets both gradients
    inputs = states + embedding(targets)
    found = suffix_scores(model, PackedStates(inputs, targets, ((23,),)), temperature, chunk, entropy=True)
    logprobs = (model.lm_head(inputs) / temperature).log_softmax(1)
    expected = logprobs.gather(1, targets[:, None])[:, 0], -(logprobs.exp() * logprobs).sum(1)
    assert not found[1].requires_grad, "entropy is watched, not learned from"
    weights = torch.randn(23, generator=torch.Generator().manual_seed(1))
    leaves = [states, embedding.weight, *([] if tied else [model.lm_head.weight])]
    losses = [(values[0] * weights).sum() for values in (found, expected)]
    grads = [torch.autograd.grad(loss, leaves, retain_graph=True) for loss in losses]
    for a, b in [*zip(found, expected, strict=True), *zip(*grads, strict=True)]:
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)
    assert suffix_scores(model, PackedStates(inputs, targets, ((23,),)))[1] is None


def test_entropy_by_hand():
    # probabilities 1/2, 1/4, 1/4: 1.5 bits
    lm_head = torch.nn.Linear(1, 3, bias=False)
    lm_head.weight.data = torch.tensor([[0.5], [0.25], [0.25]]).log()
    packed_row = PackedStates(torch.ones(1, 1), torch.tensor([0]), ((1,),))
    logprobs, entropy = suffix_scores(SimpleNamespace(lm_head=lm_head, zoomzero_family=QWEN3), packed_row, entropy=True)
    assert logprobs.item() == pytest.approx(math.log(0.5))
    assert entropy.item() == pytest.approx(1.5 * math.log(2))
    lm_head.weight.data[2] = -math.inf  # a token that cannot come: 2/3 and 1/3
    entropy = suffix_scores(SimpleNamespace(lm_head=lm_head, zoomzero_family=QWEN3), packed_row, entropy=True)[1]
    assert entropy.item() == pytest.approx(math.log(3) - 2 / 3 * math.log(2))


def test_full_logits_never_exist():
    model, _, states, targets = head_only(tied=False)
    with Largest() as largest:
        suffix_scores(model, PackedStates(states, targets, ((23,),)), chunk=4, entropy=True)[0].sum().backward()
    assert largest.numel == 50 * 12  # the head's own gradient; 4 x 50 logits are smaller, 23 x 50 would be larger


def test_chunks_of_a_real_row(setting):
    _, ours, prompts, suffixes = setting
    ours.requires_grad_(True)
    grads = []
    for chunk in (3, 1000):
        found = suffix_logprobs(ours, packed_states(ours, prompts, suffixes), 0.8, chunk)
        grads.append((found.detach(), gradients(ours, found)))
    torch.testing.assert_close(grads[0][0], grads[1][0], atol=1e-5, rtol=1e-5)
    for name, grad in grads[1][1].items():
        assert (grads[0][1][name] - grad).abs().max() <= 1e-5 * grad.abs().max() + 1e-7, name


def test_bfloat16_autocast_is_close_and_has_gradients(setting):
    _, ours, prompts, suffixes = setting
    expected = suffix_logprobs(ours, packed_states(ours, prompts, suffixes)).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = suffix_logprobs(ours, packed_states(ours, prompts, suffixes))
    assert found.dtype == torch.float32
    # in half precision a router now and then picks another expert
    assert (found - expected).abs().max() < (0.4 if ours.config.model_type.endswith("moe") else 0.15)
    grads = gradients(ours, found)
    assert all(torch.isfinite(g).all() for g in grads.values())
    assert grads["model.visual.blocks.0.attn.qkv.weight"].abs().max() > 0


def test_training_after_reading_the_same_shapes(setting):
    """What is cached per shape while answering must not be an inference tensor."""
    _, ours, prompts, suffixes = setting
    vision._tables.cache_clear()
    with torch.inference_mode():
        packed_states(ours, prompts, suffixes)
    gradients(ours, suffix_logprobs(ours, packed_states(ours, prompts, suffixes)))


def test_features_can_be_reused(setting, monkeypatch):
    _, ours, prompts, suffixes = setting
    with torch.no_grad():
        features = encode_prompts(ours, prompts)
        expected = packed_states(ours, prompts, suffixes).states
        monkeypatch.setattr(packed, "encode_prompts", lambda *_: pytest.fail("encoded again"))
        found = packed_states(ours, prompts, suffixes, features).states
    assert torch.equal(found, expected)


def test_prompt_without_video(setting):
    plain, ours, *_ = setting
    blocks = VisionBlocks(torch.empty(0, dtype=torch.int64), torch.empty(0, 3, dtype=torch.int64), torch.empty(0))
    ids = torch.tensor([7, 8, 9, 30])
    prompt = Prompt(ids, mrope_positions(4, blocks), visual_index(blocks), None, torch.empty(0, 3, dtype=torch.int64))
    suffixes = [torch.tensor([31, 32, 33]), torch.tensor([40])]
    with torch.no_grad():
        found = packed_states(ours, [prompt], [suffixes])
        logits = plain(input_ids=torch.cat([ids, suffixes[0]])[None]).logits[0, 3:-1]
    torch.testing.assert_close(ours.lm_head(found.states)[:3], logits, atol=2e-5, rtol=1e-5)


def test_targets_and_split(setting):
    _, ours, prompts, suffixes = setting
    with torch.no_grad():
        states = packed_states(ours, prompts, suffixes)
    pieces = states.split(states.targets)
    assert [[len(p) for p in group] for group in pieces] == [list(ns) for ns in LENGTHS]
    assert all(torch.equal(p, s) for a, b in zip(pieces, suffixes, strict=True) for p, s in zip(a, b, strict=True))


def test_own_forward_and_generate_still_work_after_prepare(setting):
    plain, ours, *_ = setting
    ids = torch.tensor([[7, 8, 9, 30], [0, 0, 8, 30]])
    mask = (ids != 0).long()  # left padding: a mask must still be honoured
    with torch.no_grad():
        a, b = (m(input_ids=ids, attention_mask=mask).logits for m in (ours, plain))
    torch.testing.assert_close(a[mask.bool()], b[mask.bool()], atol=2e-5, rtol=1e-5)
    a, b = (
        m.generate(ids, attention_mask=mask, max_new_tokens=6, do_sample=False, pad_token_id=0) for m in (ours, plain)
    )
    assert torch.equal(a, b)


def test_watching_entropy_keeps_little_memory():
    """What the backward pass keeps of a chunk, in chunks of logits: 3.3 where entropy is learned from, too."""
    tokens, vocabulary = 64, 1000
    lm_head = torch.nn.Linear(16, vocabulary, bias=False)
    states, targets = torch.randn(tokens, 16, requires_grad=True), torch.zeros(tokens, dtype=torch.int64)
    packed_row = PackedStates(states, targets, ((tokens,),))
    kept: dict[int, int] = {}

    def note(tensor):
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        suffix_scores(SimpleNamespace(lm_head=lm_head, zoomzero_family=QWEN3), packed_row, entropy=True)
    assert sum(kept.values()) < 1.5 * tokens * vocabulary * 4
