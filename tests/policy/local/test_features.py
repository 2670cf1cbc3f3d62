"""Features of a frozen tower are used again exactly, within bounds, in memory and from disk."""

import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from policy_models import DEEPSTACK, FAMILIES, make_clip
from safetensors.torch import load_file

from zoomzero.errors import ConfigError
from zoomzero.policy.base import Turn
from zoomzero.policy.local import features, vision
from zoomzero.policy.local.attention.packed import encode_prompts, packed_states
from zoomzero.policy.local.features import FeatureCache, patch_keys, tower_files_key, tower_key
from zoomzero.policy.local.load import load_policy

both = pytest.mark.parametrize("family", FAMILIES)
F32 = torch.float32


@pytest.fixture
def cached(policies, request):
    """The policy of a family with an empty cache, and what its tower is asked to encode."""

    def prepare(family, cache):
        policy = policies[family]
        policy.features = cache
        request.addfinalizer(lambda: setattr(policy, "features", None))
        grids = []
        encode = vision.encode
        patch = pytest.MonkeyPatch()
        request.addfinalizer(patch.undo)
        patch.setattr(vision, "encode", lambda m, p, g: grids.append(g.tolist()) or encode(m, p, g))
        return policy, grids

    return prepare


def equal(a, b):
    return torch.equal(a.embeds, b.embeds) and all(
        torch.equal(*pair) for pair in zip(a.deepstack, b.deepstack, strict=True)
    )


@both
def test_a_second_look_encodes_nothing_and_is_bit_equal(cached, family):
    policy, grids = cached(family, None)
    clip, other = make_clip(family), make_clip(family, frames=4, rows=3, columns=2, seed=1)
    plain = policy.encode([clip, other])
    policy.features = FeatureCache(1 << 20)
    grids.clear()
    first, second = policy.encode([clip, other]), policy.encode([clip, other])
    assert grids == [[[3, 4, 6], [2, 6, 4]]]
    assert equal(first, second)
    torch.testing.assert_close(first.embeds, plain.embeds, atol=1e-6, rtol=1e-6)
    assert len(first.deepstack) == len(plain.deepstack) == (2 if family in DEEPSTACK else 0)
    assert (policy.features.counts.misses, policy.features.counts.memory_hits) == (5, 5)
    assert policy.features.counts.hit_rate == 0.5


@both
def test_only_new_pairs_are_encoded_wherever_they_lie(cached, family):
    policy, grids = cached(family, FeatureCache(1 << 20))
    long = make_clip(family, frames=10)
    pairs = [replace(long, frames=long.frames[i : i + 2], times_s=long.times_s[i : i + 2]) for i in range(0, 10, 2)]
    alone = [policy.encode([pair]) for pair in (pairs[1], pairs[3])]
    grids.clear()
    whole = policy.encode([long])
    assert grids == [[[1, 4, 6], [1, 4, 6], [1, 4, 6]]] or grids == [[[3, 4, 6]]]
    pieces = whole.embeds.split(6)
    assert torch.equal(pieces[1], alone[0].embeds)
    assert torch.equal(pieces[3], alone[1].embeds)
    policy.features = None
    torch.testing.assert_close(whole.embeds, policy.encode([long]).embeds, atol=1e-6, rtol=1e-6)


def test_repeats_in_one_call_are_encoded_once(cached):
    policy, grids = cached("qwen3_vl", FeatureCache(0))  # a cache that holds nothing still avoids them
    clip = make_clip("qwen3_vl", frames=2)
    moved = replace(clip, times_s=(7.0, 7.5))
    found = policy.encode([clip, moved, clip])
    assert grids == [[[1, 4, 6]]]
    assert torch.equal(*found.embeds.split(6)[:2])
    assert policy.features.counts.repeats == 2
    assert len(policy.features) == policy.features.bytes == 0


@both
def test_reading_and_scoring_through_the_cache(cached, family):
    policy, grids = cached(family, None)
    chats = [[Turn("user", (make_clip(family, seed=i), "which symbol"))] for i in (0, 1, 0)]
    expected = policy.score_many(chats, [["B", "the red circle"]] * 3)
    policy.features = FeatureCache(1 << 20)
    policy.read(chats[0])
    grids.clear()
    for mine, theirs in zip(policy.score_many(chats, [["B", "the red circle"]] * 3), expected, strict=True):
        assert mine == pytest.approx(theirs, abs=2e-5)
    assert grids == [[[3, 4, 6]]]  # the second chat's clip alone


def test_features_made_while_answering_serve_training(cached):
    policy, grids = cached("qwen3_vl", FeatureCache(1 << 20))
    turns = [Turn("user", (make_clip("qwen3_vl"), "which symbol"))]
    policy.read(turns)
    grids.clear()
    policy.model.model.language_model.requires_grad_(True)
    try:
        prompt = policy.prompt(turns)
        found = policy.encode([make_clip("qwen3_vl")])
        packed_states(policy.model, [prompt], [[torch.tensor([5, 6])]], found).states.sum().backward()
        expected = encode_prompts(policy.model, [prompt])
    finally:
        policy.model.zero_grad()
        policy.model.requires_grad_(False)
    assert not found.embeds.is_inference()
    torch.testing.assert_close(found.embeds, expected.embeds, atol=1e-6, rtol=1e-6)


def test_a_tower_in_training_is_never_cached(cached):
    policy, grids = cached("qwen3_vl", FeatureCache(1 << 20))
    policy.model.model.visual.requires_grad_(True)
    try:
        found = [policy.encode([make_clip("qwen3_vl")]) for _ in range(2)]
    finally:
        policy.model.requires_grad_(False)
    assert len(grids) == 2
    assert found[0].embeds.requires_grad
    assert len(policy.features) == 0


def test_autocast_features_are_kept_apart(cached):
    policy, _ = cached("qwen3_vl", FeatureCache(1 << 20))
    clip = make_clip("qwen3_vl")
    exact = policy.encode([clip])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = policy.encode([clip])
    assert policy.features.counts.misses == 6
    assert not torch.equal(exact.embeds.float(), rough.embeds.float())
    assert equal(policy.encode([clip]), exact)


def make(value, tokens=4):
    return (torch.full((tokens, 8), value), torch.full((tokens, 8), value + 1))  # 256 bytes


def test_bounded_in_bytes_oldest_go_first():
    cache = FeatureCache(600)
    for i in range(2):
        cache.put(f"k{i}", make(float(i)))
    assert cache.bytes == 512
    assert cache.get("k0", F32) is not None  # now k1 is the oldest
    cache.put("k2", make(2.0))
    assert cache.get("k1", F32) is None
    assert cache.get("k0", F32)[0][0, 0] == 0.0
    cache.put("k2", make(3.0))  # again: its bytes are not counted twice
    assert cache.bytes == 512
    cache.put("big", make(1.0, tokens=40))
    assert cache.get("big", F32) is None
    assert len(cache) == 2
    counts = cache.counts
    assert (counts.memory_hits, counts.misses, counts.evictions) == (2, 2, 1)
    assert counts.hit_rate == 0.5
    with pytest.raises(ValueError, match="negative"):
        FeatureCache(-1)


def test_on_disk_float16_between_runs(tmp_path):
    values = (torch.tensor([[1.0, 0.1]]), torch.tensor([[1e6, -2.0]]))  # the second is more than float16 holds
    FeatureCache(1 << 20, tmp_path).put("abc", values)
    kept = load_file(tmp_path / "ab" / "abc.safetensors")
    assert (kept["0"].dtype, kept["1"].dtype) == (torch.float16, F32)
    again = FeatureCache(1 << 20, tmp_path)
    for source in ("disk_hits", "memory_hits"):
        found = again.get("abc", F32)
        torch.testing.assert_close(found[0], values[0], atol=0, rtol=1e-3)
        assert torch.equal(found[1], values[1])
        assert all(x.dtype == F32 for x in found)
        assert getattr(again.counts, source) == 1
    assert again.get("xyz", F32) is None
    assert not list(tmp_path.rglob("*.safetensors.*"))  # no half-written files


def test_damaged_files_are_counted_and_replaced(cached, tmp_path):
    policy, grids = cached("qwen3_vl", FeatureCache(1 << 20, tmp_path))
    clip = make_clip("qwen3_vl", frames=2)
    expected = policy.encode([clip])
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    policy.features = FeatureCache(1 << 20, tmp_path)
    assert equal(policy.encode([clip]), expected)
    assert (policy.features.counts.damaged, policy.features.counts.misses) == (1, 1)
    policy.features = FeatureCache(1 << 20, tmp_path)
    grids.clear()
    torch.testing.assert_close(policy.encode([clip]).embeds, expected.embeds, atol=5e-3, rtol=2e-3)
    assert grids == []


def test_a_full_disk_does_not_stop_a_run(tmp_path, caplog, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    cache = FeatureCache(1 << 20, tmp_path)
    monkeypatch.setattr(features, "save_file", full)
    with caplog.at_level(logging.WARNING):
        for i in range(2):
            cache.put(f"k{i}", make(1.0))
    assert [r.getMessage() for r in caplog.records] == [
        f"features are no longer kept in {tmp_path}: [Errno 28] No space left on device"
    ]
    assert cache.get("k1", F32) is not None


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="choose a directory"):
        FeatureCache(1, tmp_path / "file" / "below")


def test_keys_name_pixels_shape_and_tower():
    frames = np.arange(4 * 2 * 6 * 3, dtype=np.uint8).reshape(4, 2, 6, 3)
    ((a, b),) = patch_keys([frames], 2, "tower")
    assert a != b
    assert patch_keys([frames[2:], frames[:2].copy()], 2, "tower") == [[b], [a]]
    assert patch_keys([frames.reshape(4, 6, 2, 3)], 2, "tower")[0][0] != a
    assert patch_keys([frames], 2, "other")[0][0] != a
    large = np.random.default_rng(0).integers(0, 256, (16, 512, 512, 3), np.uint8)  # more than one thread's worth
    assert patch_keys([large], 2, "t")[0] == [patch_keys([large[i : i + 2]], 2, "t")[0][0] for i in range(0, 16, 2)]


def test_towers_with_other_weights_have_other_keys(plain_models):
    tower = plain_models["qwen3_vl"].model.visual
    before = tower_key(tower, "x")
    assert tower_key(tower, "x") == before != tower_key(tower, "y")
    weight = tower.blocks[1].attn.qkv.weight
    with torch.no_grad():
        weight[3, 5] += 0.01
        assert tower_key(tower, "x") != before
        weight[3, 5] -= 0.01


def test_the_number_type_changes_no_key_on_disk(checkpoints, tmp_path):
    """What a bfloat16 policy has encoded serves a float32 one, from disk; in memory each type keeps its own."""
    clip = make_clip("qwen3_vl", frames=4)
    cache = FeatureCache(1 << 20, tmp_path)
    half, whole = (load_policy(checkpoints["qwen3_vl"], device="cpu", dtype=d) for d in ("bfloat16", "float32"))
    for policy in (half, whole):
        policy.features = cache
    rough = half.encode([clip])
    assert (cache.counts.misses, cache.counts.disk_hits) == (2, 0)
    found = whole.encode([clip])
    assert (cache.counts.misses, cache.counts.disk_hits) == (2, 2)
    assert (rough.embeds.dtype, found.embeds.dtype) == (torch.bfloat16, F32)
    torch.testing.assert_close(found.embeds, rough.embeds.float(), atol=1e-3, rtol=1e-2)
    assert equal(half.encode([clip]), rough)


def test_the_number_type_changes_no_key(checkpoints, tmp_path):
    """Weights that no half type holds exactly are named by the files' own values, whatever they are loaded in."""
    from safetensors.torch import load_file, save_file

    keys = set()
    for dtype in ("float32", "bfloat16", "float16"):
        policy = load_policy(checkpoints["qwen3_vl"], device="cpu", dtype=dtype)
        keys.add(policy._encoder._tower_key(policy.model.model.visual))
    assert len(keys) == 1
    where = shutil.copytree(checkpoints["qwen3_vl"], tmp_path / "other")
    weights = load_file(where / "model.safetensors")
    name = next(name for name in weights if name.endswith("visual.blocks.1.attn.qkv.weight"))
    weights[name][3, 5] = torch.nextafter(weights[name][3, 5], torch.tensor(9.0))
    save_file(weights, where / "model.safetensors", metadata={"format": "pt"})
    policy = load_policy(where, device="cpu", dtype="float16")
    assert policy._encoder._tower_key(policy.model.model.visual) not in keys
    assert tower_files_key(tmp_path, policy.model.model.visual) is None  # no weights there
