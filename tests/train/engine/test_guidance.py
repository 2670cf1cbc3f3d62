"""Attention guidance: which token looks where, and what the loss of looking elsewhere is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from zoomzero.policy.local.attention.packed import packed_states
from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.train.engine.sft import GUIDED_LAYER, SFTLoss, guidance_loss
from zoomzero.train.engine.sft_samples import PackedSFTSamples, pack_sft_samples
from zoomzero.world.curriculum import Stage, step_samples
from zoomzero.world.start import TINY_SETTINGS, write_start

STAGE = Stage(steps=1, clips=2, zooms=1, shortest_s=16, longest_s=40, questions=2, lookups=4, listing=0.0)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> QwenPolicy:
    write_start(directory := tmp_path_factory.mktemp("start"), seed=1)
    return load_policy(directory, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def packed(policy: QwenPolicy) -> PackedSFTSamples:
    samples = step_samples(3, 0, [STAGE], TINY_SETTINGS, policy.geometry)
    return pack_sft_samples(samples, policy.builder, policy.end_of_turn)


def test_a_start_looks_at_the_pair_of_frames_that_begins_with_it(policy: QwenPolicy, packed: PackedSFTSamples) -> None:
    """At 1 frame a second from 0 s, pair k begins at 2 k seconds."""
    found = 0
    for suffixes, looks in zip(packed.suffixes, packed.looks, strict=True):
        for suffix, pairs in zip(suffixes, looks, strict=True):
            for token, pair in pairs.tolist():
                (said,) = (policy.builder.codec.decode([int(suffix[token])])[0],)
                assert int(said) == 2 * pair
                found += 1
    assert found >= 6


@torch.no_grad()
def test_the_loss_by_hand(policy: QwenPolicy, packed: PackedSFTSamples) -> None:
    seen = packed_states(
        policy.model, packed.prompts, packed.suffixes, positions=packed.positions, watch=(GUIDED_LAYER,)
    )
    query, key = (x[0].numpy() for x in seen.watched[GUIDED_LAYER])  # (H, L, d), (KV, L, d)
    losses, first = [], 0
    for visual, lengths, looks in zip(seen.visual, seen.lengths, packed.looks, strict=True):
        for length, pairs in zip(lengths, looks, strict=True):
            for token, pair in pairs.tolist():
                row = int(seen.predictors[first + token])
                scores = np.array([query[0, row] @ key[0, int(place)] for place in visual]) / np.sqrt(query.shape[-1])
                losses.append(np.log(np.exp(scores).sum()) - scores[pair])
            first += length
    assert guidance_loss(seen, packed).item() == pytest.approx(float(np.mean(losses)), rel=1e-5)


@torch.no_grad()
def test_watching_changes_nothing_and_the_weight_adds_the_loss(policy: QwenPolicy, packed: PackedSFTSamples) -> None:
    plain = packed_states(policy.model, packed.prompts, packed.suffixes, positions=packed.positions)
    seen = packed_states(policy.model, packed.prompts, packed.suffixes, positions=packed.positions, watch=(2,))
    assert torch.equal(plain.states, seen.states)
    assert not plain.watched
    without, half = SFTLoss(policy.model)(packed)["loss"], SFTLoss(policy.model, 0.5)(packed)["loss"]
    assert half.item() - without.item() == pytest.approx(0.5 * guidance_loss(seen, packed).item(), rel=1e-5)


def test_guidance_reaches_the_guided_head(tmp_path: Path, packed: PackedSFTSamples) -> None:
    write_start(tmp_path, seed=2)
    model = load_policy(tmp_path, device="cpu", dtype="float32").model.requires_grad_(True)
    seen = packed_states(model, packed.prompts, packed.suffixes, positions=packed.positions, watch=(GUIDED_LAYER,))
    guidance_loss(seen, packed).backward()
    layers = model.model.language_model.layers
    assert layers[GUIDED_LAYER].self_attn.q_proj.weight.grad.abs().sum() > 0
    assert layers[GUIDED_LAYER].self_attn.v_proj.weight.grad is None
    assert layers[GUIDED_LAYER + 1].self_attn.q_proj.weight.grad is None
