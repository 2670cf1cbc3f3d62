"""Rollouts: what is drawn, kept, dropped and refilled; rewards and credit worked by hand from the texts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from grpo_groups import full_group
from grpo_runs import asked_about, grpo_settings, make_collector, said, spans_text, tiny_settings
from scripted_rollouts import FOUR, OFF, scripted, telling

from zoomzero.data.example import Example
from zoomzero.prompts import read_response
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult, zoom_hard
from zoomzero.train.credit.rewards import RewardValues
from zoomzero.train.rollouts.collector import chose_right, pseudo_truth
from zoomzero.train.rollouts.credited import group_masks
from zoomzero.train.rollouts.record import group_from_json
from zoomzero.video.types import Clip


def test_rewards_and_advantages_by_hand(tiny_policy: Any, symbol: Example) -> None:
    collector = scripted(
        tiny_policy, [symbol], {symbol.question: [FOUR]}, OFF | {"rollout": {"num_generations": 4, **OFF["rollout"]}}
    )
    (group,), dropped = collector.collect(1, step=3)
    assert not dropped
    assert (group.index, group.step, group.kept, group.example) == (0, 3, True, symbol)
    assert [r.text for r in group.rollouts] == FOUR
    assert [r.option for r in group.rollouts] == ["C", "A", "C", None]
    assert [r.rewards for r in group.rollouts] == [
        RewardValues(1.0, 1.0, 1.0),
        RewardValues(1.0, 0.5, 0.0),
        RewardValues(0.0, 0.0, 1.0),
        RewardValues(0.0, 0.0, 0.0),
    ]
    # format 1 1 0 0: mean 1/2, deviation 0.57735; iou 1 0.5 0 0: mean 0.375, deviation 0.478714; answer 1 0 1 0
    by_hand = [
        ((0.866025 + 1.305582) / 2, (0.866025 + 0.866025) / 2),
        ((0.866025 + 0.261116) / 2, (0.866025 - 0.866025) / 2),
        ((-0.866025 - 0.783349) / 2, (-0.866025 + 0.866025) / 2),
        ((-0.866025 - 0.783349) / 2, None),
    ]
    for rollout, (rest, answer) in zip(group.rollouts, by_hand, strict=True):
        assert len(rollout.advantages) == len(rollout.token_ids) == len(rollout.answer_mask) == len(rollout.offsets)
        for advantage, in_answer in zip(rollout.advantages, rollout.answer_mask, strict=True):
            assert advantage == pytest.approx(answer if in_answer else rest, abs=1e-4)
        assert any(rollout.answer_mask) is (answer is not None)
        if answer is not None:
            letter = rollout.text.index("<answer>") + len("<answer>")
            (token,) = [i for i, (start, end) in enumerate(rollout.offsets) if start <= letter < end]
            assert rollout.answer_mask[token]
        assert rollout.zoom is None
        assert rollout.old_log_probs is rollout.ref_log_probs is None


def test_zoom_rewards_come_from_the_verifier(tiny_policy: Any, symbol: Example) -> None:
    collector = scripted(tiny_policy, [symbol], {symbol.question: [FOUR]}, {"rollout": {"num_generations": 4}})
    (group,), _ = collector.collect(1, step=0)
    asked = asked_about(tiny_policy, symbol)
    expected = collector.verifier.judge([collector.verifier.prompt(asked, said(text)) for text in FOUR])
    for rollout, look in zip(group.rollouts, expected, strict=True):
        assert rollout.zoom is not None
        assert rollout.zoom.on_span is look.on_span
        right = 0.0
        if look.option_log_probs is not None:
            assert rollout.zoom.option_log_probs == pytest.approx(look.option_log_probs, abs=1e-5)
            right = zoom_hard(look.option_log_probs, 2)
        assert rollout.rewards.zoom == right
    assert [look.on_span for look in expected] == [True, True, False, False]
    assert group.rollouts[0].rewards.zoom == 1.0, "the embedded model reads the symbol off the right span"
    # select: format, iou and zoom credit what is not the answer, (N(format) + N(iou) + N(zoom)) / 3
    assert group.rollouts[2].advantages[0] < group.rollouts[1].advantages[0] < group.rollouts[0].advantages[0]


def test_completions_that_were_cut_off_can_be_left_out(tiny_policy: Any, symbol: Example) -> None:
    texts = [*FOUR[:3], "<answer>C</answer>\n<glue>[(8.0..."]
    found = {}
    for masked in (True, False):
        changes = {
            "rollout": {"num_generations": 4, "verifier": "off"},
            "objective": {"credit": {"mask_truncated_completions": masked}},
        }
        collector = scripted(tiny_policy, [symbol], {symbol.question: [texts]}, changes)
        (group,), _ = collector.collect(1, step=0)
        assert [r.finished for r in group.rollouts] == [True, True, True, False]
        found[masked] = group
        mask, answer = group_masks(group.rollouts, grpo_settings(changes))
        lengths = [len(r.token_ids) for r in group.rollouts]
        assert mask.sum(1).tolist() == [*lengths[:3], 0 if masked else lengths[3]]
        assert not (answer & ~mask).any()
    assert not any(found[True].rollouts[3].advantages)
    assert any(found[False].rollouts[3].advantages)
    assert any(found[False].rollouts[3].answer_mask)
    assert found[True].rollouts[0].advantages == found[False].rollouts[0].advantages, "its rewards still count"


def test_masks_by_hand() -> None:
    short = full_group().rollouts[0]
    long = replace(short, token_ids=(1, 2, 3), answer_mask=(True, False, True))
    mask, answer = group_masks([short, long], grpo_settings())
    assert torch.equal(mask, torch.tensor([[True, True, False], [True, True, True]]))
    assert torch.equal(answer, torch.tensor([[False, True, False], [True, False, True]]))


# --- examples without spans ---


def test_without_spans_answer_and_zoom_teach(tiny_policy: Any, symbol: Example) -> None:
    blind = replace(symbol, spans=())
    changes = {
        "rollout": {"num_generations": 4, "filter": {"enabled": False}},
        "objective": {"reward": {"weights": {"wasserstein": 1.0}}},
    }
    collector = scripted(tiny_policy, [blind], {symbol.question: [FOUR]}, changes)
    (group,), _ = collector.collect(1, step=0)
    assert all(set(r.rewards.there()) == {"format", "answer", "zoom"} for r in group.rollouts)
    assert any(a for r in group.rollouts for a in r.advantages)
    assert group.pseudo_truth == ()


def test_what_verified_responses_agree_on_stands_in_for_the_spans(symbol: Example) -> None:
    blind = replace(symbol, spans=())
    spans, options = [(8.0, 15.0), (9.0, 20.0), (30.0, 40.0), (9.0, 12.0)], ["C", "C", "C", "A"]
    texts = [spans_text(span, option=option) for span, option in zip(spans, options, strict=True)]
    readings = [read_response(text, 4) for text in texts]
    right = ZoomResult(True, option_log_probs=(-2.0, -2.0, -0.1, -2.0))
    wrong = ZoomResult(True, option_log_probs=(-0.1, -2.0, -2.0, -2.0))
    # the third is not confirmed by its close look, the fourth names another option
    assert pseudo_truth(blind, readings, [right, right, wrong, right]) == (Span(9.0, 15.0),)
    assert pseudo_truth(blind, readings, [right, wrong, wrong, right]) == (), "one alone agrees with nobody"
    assert pseudo_truth(symbol, readings, [right] * 4) == (), "an example with spans keeps them"
    assert pseudo_truth(replace(blind, options=()), readings, [right] * 4) == ()


def test_pseudo_truth_is_rewarded_and_written_down(tiny_policy: Any, symbol: Example) -> None:
    """All four say the same, so if the close look agrees they are each other's truth."""
    texts = [spans_text((8.0, 15.0), option="C")] * 4
    changes = {
        "rollout": {"num_generations": 4, "filter": {"enabled": False}},
        "objective": {"reward": {"consensus": True}},
    }
    collector = scripted(tiny_policy, [replace(symbol, spans=())], {symbol.question: [texts]}, changes)
    (group,), _ = collector.collect(1, step=0)
    seen = group.rollouts[0].zoom is not None and chose_right(group.rollouts[0].zoom, symbol)
    assert group.pseudo_truth == ((Span(8.0, 15.0),) if seen else ())
    assert {r.rewards.iou for r in group.rollouts} == ({1.0} if seen else {None})
    assert group_from_json(json.loads(group.to_json())) == group


# --- the frames of the coarse pass ---


def test_each_prompt_draws_its_own_number_of_frames(tiny_policy: Any, examples: list[Example]) -> None:
    settings = grpo_settings({"rollout": {"coarse_frames": [4, 16]}})
    collector = make_collector(tiny_policy, examples, settings)

    def frames(place: int, asker: Any = collector) -> int:
        chat = asker.ask(place, examples[0]).chat
        (clip,) = [part for turn in chat for part in turn.parts if isinstance(part, Clip)]
        return len(clip.times_s)

    drawn = [frames(place) for place in range(12)]
    collector.close()
    assert drawn == [frames(place) for place in range(12)], "a resumed run sees the same"
    assert min(drawn) >= 4
    assert max(drawn) <= 16
    assert len(set(drawn)) > 3
    whole = make_collector(tiny_policy, examples, grpo_settings())
    assert frames(-1) == frames(0, whole), "validation gets the whole budget"


def test_prompts_are_shown_as_text(tiny_policy: Any, symbol: Example) -> None:
    collector = scripted(tiny_policy, [symbol], {symbol.question: [telling(symbol)]}, OFF)
    (group,), _ = collector.collect(1, step=0)
    assert group.prompt.startswith("[32 frames of 32x32, 0.0-31.0 s]\n")
    assert symbol.question in group.prompt
    assert tiny_settings().style == "brief"
