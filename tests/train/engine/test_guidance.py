"""Attention guidance: which token looks where, and what the loss of looking elsewhere is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from zoomzero.policy.local.attention.packed import packed_states
from zoomzero.policy.local.load import load_policy
from zoomzero.policy.local.qwen import QwenPolicy
from zoomzero.train.engine.sft import GUIDED_HEADS, GUIDED_LAYER, LABEL_HEAD, LABEL_LAYER, SFTLoss, guidance_loss
from zoomzero.train.engine.sft_samples import LOOKS, PackedSFTSamples, pack_sft_samples
from zoomzero.world.curriculum import Stage, step_samples
from zoomzero.world.start import TINY_SETTINGS, write_start

STAGE = Stage(steps=1, clips=2, zooms=1, shortest_s=16, longest_s=40, questions=5, lookups=4, listing=1.0)
WATCHED = (LABEL_LAYER, GUIDED_LAYER)


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> QwenPolicy:
    write_start(directory := tmp_path_factory.mktemp("start"), seed=1)
    return load_policy(directory, device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def packed(policy: QwenPolicy) -> PackedSFTSamples:
    samples = step_samples(3, 0, [STAGE], TINY_SETTINGS, policy.geometry)
    return pack_sft_samples(samples, policy.builder, policy.end_of_turn)


def test_tokens_look_at_what_they_say(policy: QwenPolicy, packed: PackedSFTSamples) -> None:
    """At 1 frame a second from 0 s, pair k begins at 2 k seconds; a letter looks at the option that was written."""
    found = dict.fromkeys(LOOKS, 0)
    decode = policy.builder.codec.decode
    for group, looks, options in zip(packed.suffixes, packed.looks, packed.options, strict=True):
        for suffix, rows, ends in zip(group, looks, options, strict=True):
            for token, kind, place in rows.tolist():
                said = decode([int(suffix[token])])[0]
                found[LOOKS[kind]] += 1
                if (
                    LOOKS[kind] == "when"
                ):  # a number, or the first word or one time more, which look where the number does
                    after = decode(suffix[token:].tolist())[0]
                    assert int(re.search(r"\d+", after)[0]) == 2 * place
                    assert said.isdigit() or said in ("the", "<time>")
                elif (
                    LOOKS[kind] == "what"
                ):  # "... red ring visible<time>(12.0, ..." or, in a listing, " red ring (12.0, ..."
                    after = decode(suffix[token:].tolist())[0]
                    assert int(re.search(r"\((\d+)\.", after)[1]) == 2 * place
                else:
                    last = decode([int(suffix[int(ends[place, 1])])])[0]
                    assert decode([int(suffix[int(ends[place, 0])])])[0] == f" ({said})"
                    assert decode(suffix[:token].tolist())[0].endswith(f"{last}</think>\n<answer>")
                    assert said == "ABCD"[place]
    assert min(found.values()) >= 2


@torch.no_grad()
def test_the_loss_by_hand(policy: QwenPolicy, packed: PackedSFTSamples) -> None:
    seen = packed_states(policy.model, packed.prompts, packed.suffixes, positions=packed.positions, watch=WATCHED)
    losses: dict[str, list[float]] = {kind: [] for kind in (*LOOKS, "label")}

    def loss(layer: int, head: int, row: int, places: list[int], right: int) -> float:
        query, key = (x[0].numpy() for x in seen.watched[layer])  # (H, L, d), (KV, L, d)
        keys = [key[head // (len(query) // len(key)), place] for place in places]
        scores = np.array([query[head, row] @ one for one in keys]) / np.sqrt(query.shape[-1])
        return float(np.log(np.exp(scores).sum()) - scores[right])

    predictors = seen.predictors.tolist()
    first = 0
    for visual, lengths, looks, options in zip(seen.visual, seen.lengths, packed.looks, packed.options, strict=True):
        for length, rows, ends in zip(lengths, looks, options, strict=True):
            for token, kind, right in rows.tolist():
                ended = [predictors[first + end + 1] for _, end in ends.tolist()]
                places = ended if LOOKS[kind] == "which" else visual.tolist()
                head = GUIDED_HEADS[LOOKS[kind]]
                losses[LOOKS[kind]].append(loss(GUIDED_LAYER, head, predictors[first + token], places, right))
            for label, end in ends.tolist():
                places = [predictors[first + i + 1] for i in range(end + 1)]
                losses["label"].append(loss(LABEL_LAYER, LABEL_HEAD, places[-1], places, label))
            first += length
    assert all(losses.values())
    by_hand = sum(float(np.mean(of_kind)) for of_kind in losses.values())
    assert guidance_loss(seen, packed).item() == pytest.approx(by_hand, rel=1e-5)


@torch.no_grad()
def test_watching_changes_nothing_and_the_weight_adds_the_loss(policy: QwenPolicy, packed: PackedSFTSamples) -> None:
    plain = packed_states(policy.model, packed.prompts, packed.suffixes, positions=packed.positions)
    seen = packed_states(policy.model, packed.prompts, packed.suffixes, positions=packed.positions, watch=WATCHED)
    assert torch.equal(plain.states, seen.states)
    assert not plain.watched
    without, half = SFTLoss(policy.model)(packed)["loss"], SFTLoss(policy.model, 0.5)(packed)["loss"]
    assert half.item() - without.item() == pytest.approx(0.5 * guidance_loss(seen, packed).item(), rel=1e-5)


def test_guidance_reaches_the_guided_head(tmp_path: Path, packed: PackedSFTSamples) -> None:
    write_start(tmp_path, seed=2)
    model = load_policy(tmp_path, device="cpu", dtype="float32").model.requires_grad_(True)
    seen = packed_states(model, packed.prompts, packed.suffixes, positions=packed.positions, watch=WATCHED)
    guidance_loss(seen, packed).backward()
    layers = model.model.language_model.layers
    assert layers[GUIDED_LAYER].self_attn.q_proj.weight.grad.abs().sum() > 0
    assert layers[GUIDED_LAYER].self_attn.v_proj.weight.grad is None
    assert layers[GUIDED_LAYER + 1].self_attn.q_proj.weight.grad is None
