"""The batched vision tower is exact, and has no loop over frames or windows."""

import copy

import pytest
import torch
import torch.nn.functional as F
from policy_models import DEEPSTACK, FAMILIES, PATCH, make_config, make_model

from zoomzero.policy.local import vision
from zoomzero.policy.local.families import family_class
from zoomzero.policy.local.vision import group_segments, segment_attention

IDS = {"video_token_id": 1, "image_token_id": 2, "vision_start_token_id": 3, "vision_end_token_id": 4}
# whole windows, cut windows, single windows, several frames; every mix of them
MIXES = [[[3, 8, 8]], [[2, 6, 10], [1, 4, 4]], [[1, 18, 12], [3, 2, 2], [2, 8, 16]], [[4, 4, 22], [4, 22, 4]]]


@pytest.fixture(scope="module")
def towers():
    """For each family the plain model and the one with our vision attention, equal weights."""
    pairs = {}
    for family in FAMILIES:
        plain = make_model(make_config(family, 32, IDS))
        ours = copy.deepcopy(plain)
        vision.install(ours.model.visual, family_class(family))
        pairs[family] = plain, ours
    return pairs


def patches_for(family, grids):
    count = sum(t * h * w for t, h, w in grids)
    return torch.randn(count, 3 * 2 * PATCH[family] ** 2, generator=torch.Generator().manual_seed(count))


def test_group_segments_by_hand():
    segments = group_segments([2, 1, 2], torch.device("cpu"))
    assert [(n, index.tolist()) for n, index in segments.buckets] == [(1, [2]), (2, [0, 1, 3, 4])]
    assert segments.restore.tolist() == [1, 2, 0, 3, 4]
    assert group_segments([4, 4], torch.device("cpu")).buckets == ((4, None),)


def test_segment_attention_stays_inside_segments():
    q, k, v = torch.randn(3, 1, 2, 5, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    out = segment_attention(q, k, v, group_segments([2, 3], torch.device("cpu")), 0.5)
    for part in (slice(0, 2), slice(2, 5)):
        weights = (q[:, :, part] @ k[:, :, part].transpose(-1, -2) * 0.5).softmax(-1)
        torch.testing.assert_close(out[:, :, part], weights @ v[:, :, part])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("grids", MIXES)
def test_features_and_gradients_equal_transformers(towers, family, grids):
    plain, ours = towers[family]
    patches, grid = patches_for(family, grids), torch.tensor(grids)
    found = vision.encode(ours.model, patches, grid)
    expected = plain.model.get_video_features(patches, grid, return_dict=True)
    embeds = torch.cat(list(expected.pooler_output))
    torch.testing.assert_close(found.embeds, embeds, atol=1e-5, rtol=1e-5)
    deep = [
        torch.cat(list(f)) if isinstance(f, (list, tuple)) else f for f in getattr(expected, "deepstack_features", [])
    ]
    assert len(found.deepstack) == len(deep) == (2 if family in DEEPSTACK else 0)
    for mine, theirs in zip(found.deepstack, deep, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-5)
    weight = torch.randn(embeds.shape, generator=torch.Generator().manual_seed(1))
    grads = [
        torch.autograd.grad(
            (e * weight).sum() + sum(d.sum() for d in ds),
            list(m.model.visual.parameters()),
            allow_unused=True,
        )
        for m, e, ds in ((ours, found.embeds, found.deepstack), (plain, embeds, deep))
    ]
    names = [n for n, _ in ours.model.visual.named_parameters()]
    theirs = dict(zip([n for n, _ in plain.model.visual.named_parameters()], grads[1], strict=True))
    for name, grad in zip(names, grads[0], strict=True):
        torch.testing.assert_close(grad, theirs[name], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_one_attention_call_a_layer_when_frames_are_alike(towers, family, monkeypatch):
    _, ours = towers[family]
    calls = []
    plain = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(a[0].shape) or plain(*a, **k))
    vision.encode(ours.model, patches_for(family, [[5, 8, 8]]), torch.tensor([[5, 8, 8]]))
    assert len(calls) == ours.config.vision_config.depth
    assert all(shape[0] == 5 and shape[2] == 64 for shape in calls)


@pytest.mark.parametrize("family", FAMILIES)
def test_also_exact_through_transformers_own_forward(towers, family):
    plain, ours = towers[family]
    grids = MIXES[2]
    patches, grid = patches_for(family, grids), torch.tensor(grids)
    mine, theirs = (m.model.get_video_features(patches, grid, return_dict=True) for m in (ours, plain))
    torch.testing.assert_close(
        torch.cat(list(mine.pooler_output)), torch.cat(list(theirs.pooler_output)), atol=1e-5, rtol=1e-5
    )


def test_large_batches_are_cut(monkeypatch):
    monkeypatch.setattr(vision, "MAX_BATCH", 2)
    q, k, v = torch.randn(3, 1, 2, 10, 8, generator=torch.Generator().manual_seed(0)).unbind(0)
    segments = group_segments([2] * 5, torch.device("cpu"))
    cut = segment_attention(q, k, v, segments, 0.5)
    monkeypatch.undo()
    torch.testing.assert_close(cut, segment_attention(q, k, v, segments, 0.5))


def test_install_keeps_the_state_dict(towers):
    plain, ours = towers["qwen3_vl"]
    assert plain.state_dict().keys() == ours.state_dict().keys()
    vision.install(ours.model.visual, family_class("qwen3_vl"))  # again: nothing changes
    assert plain.state_dict().keys() == ours.state_dict().keys()
