"""Rollouts: what is drawn, kept, dropped and refilled; rewards and credit worked by hand from the texts."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_groups import full_group
from grpo_runs import asked_about, grpo_settings, make_collector, said, spans_text, tiny_settings

from zoomzero.data.example import Example, read_examples
from zoomzero.errors import TrainingError, VideoError
from zoomzero.policy.base import Completion, Sampling, Turn
from zoomzero.policy.local.generate import Row
from zoomzero.prompts import read_response
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult, zoom_hard
from zoomzero.train.credit.rewards import RewardValues
from zoomzero.train.rollouts.collector import chose_right, pseudo_truth
from zoomzero.train.rollouts.credited import group_masks, teaches
from zoomzero.train.rollouts.record import Rollout, RolloutGroup, group_from_json
from zoomzero.video.types import Clip

OFF = {"rollout": {"verifier": "off"}}
DULL = "no idea"


class Script:
    """A rollout engine that writes what it is told, for each question one group after the other."""

    def __init__(self, policy: Any, texts: dict[str, list[list[str]]]) -> None:
        self.policy, self.texts = policy, texts
        self.samplings: list[Sampling] = []

    draws_ahead = False

    def update(self, weights: Any, update: int) -> None:
        """There are none."""

    def close(self) -> None:
        """Nothing works in the background."""

    def generate(
        self, chats: Sequence[Sequence[Turn]], n: int, samplings: Sequence[Sampling]
    ) -> list[list[Completion]]:
        """Take the next texts of the question in each chat; a text that ends in ... was cut off."""
        self.samplings += samplings
        found = []
        for chat in chats:
            asked = "".join(part for turn in chat for part in turn.parts if isinstance(part, str))
            (question,) = [q for q in self.texts if q in asked]
            texts = self.texts[question].pop(0)
            assert len(texts) == n
            found.append([self._completion(text) for text in texts])
        return found

    def _completion(self, text: str) -> Completion:
        ids = self.policy.tokens(text.removesuffix("..."), end=not text.endswith("...")).tolist()
        zeros = (0.0,) * len(ids)
        completion: Completion = self.policy._completion(Row(tuple(ids), zeros, zeros, not text.endswith("...")), "")
        assert completion.text == text.removesuffix("..."), "the tokenizer knows these characters"
        return completion


@pytest.fixture(scope="module")
def examples(small_world: Path) -> list[Example]:
    return read_examples(small_world)


@pytest.fixture(scope="module")
def symbol(examples: list[Example]) -> Example:
    """A question whose answer is C, its evidence on screen from 8 to 15 s."""
    (example,) = [one for one in examples if one.id == "1-symbol"]
    # the numbers below were worked out for an answer C and these seconds, in which the object is on screen
    options, right = list(example.options), "ABCD".index(example.answer)
    options[right], options[2] = options[2], options[right]
    return replace(example, options=tuple(options), answer="C", spans=(Span(8.0, 15.0),))


def scripted(policy: Any, examples: list[Example], texts: dict[str, list[list[str]]], changes: dict[str, Any]) -> Any:
    settings = grpo_settings(changes)
    return make_collector(policy, examples, settings, engine=Script(policy, texts))


# --- rewards and credit ---

FOUR = [
    spans_text((8.0, 15.0), option="C"),  # all right
    spans_text((8.0, 11.5), option="A"),  # half of the evidence, wrong option
    "<answer>C</answer>",  # neither thoughts nor spans
    "<think>no idea</think>",  # no answer at all
]


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


# --- the online filter ---


def group_with(answers: list[float], overlaps: list[float]) -> RolloutGroup:
    one = full_group().rollouts[0]
    rewards = [RewardValues(0.0, iou, answer) for answer, iou in zip(answers, overlaps, strict=True)]
    return full_group(rollouts=tuple(replace(one, rewards=r) for r in rewards))


@pytest.mark.parametrize(
    ("answers", "overlaps", "kept"),
    [
        ([1, 0, 0, 0], [0, 0, 0, 0], True),  # mean answer 0.25
        ([1, 1, 1, 1], [0, 0, 0, 0], False),
        ([0, 0, 0, 0], [0, 0, 0, 0], False),
        ([1, 1, 1, 1], [0.5, 0.5, 0.5, 0.5], False),
        ([0, 0, 0, 0], [0.5, 0.5, 0.5, 0.6], True),  # 0.6 - 0.525 = 0.075 > 0.01
        ([0, 0, 0, 0], [0.50, 0.50, 0.50, 0.512], False),  # 0.512 - 0.503 = 0.009
        ([1, 1, 1, 1], [0.3, 0.9, 0.9, 0.9], True),  # 0.9 - 0.75
    ],
)
def test_filter_rule_by_hand(answers: list[float], overlaps: list[float], kept: bool) -> None:
    group = group_with(answers, overlaps)
    assert teaches(group.rollouts, grpo_settings()) is kept
    assert teaches(group.rollouts, grpo_settings({"rollout": {"filter": {"enabled": False}}}))


def test_filter_looks_at_the_evidence_rewards_that_count() -> None:
    """All miss the truth, so the overlaps are equal; how far off they are is not."""
    group = group_with([0, 0, 0, 0], [0, 0, 0, 0])
    far = [
        replace(r, rewards=replace(r.rewards, more={"wasserstein": w}))
        for r, w in zip(group.rollouts, (0.4, 0.1, 0.1, 0.1), strict=True)
    ]
    assert not teaches(group.rollouts, grpo_settings())
    assert teaches(far, grpo_settings({"objective": {"reward": {"weights": {"wasserstein": 1.0}}}}))


def test_filter_without_spans_looks_at_the_close_look() -> None:
    group = group_with([1, 1, 1, 1], [0, 0, 0, 0])

    def zoomed(*values: float) -> list[Rollout]:
        rewards = [replace(r.rewards, iou=None, zoom=z) for r, z in zip(group.rollouts, values, strict=True)]
        return [replace(r, rewards=one) for r, one in zip(group.rollouts, rewards, strict=True)]

    assert teaches(zoomed(1, 0, 0, 0), grpo_settings())
    assert not teaches(zoomed(1, 1, 1, 1), grpo_settings())


def test_filter_limits_are_settings() -> None:
    rules = {"rollout": {"filter": {"low": 0.3, "high": 0.6}}}
    assert not teaches(group_with([1, 0, 0, 0], [0, 0, 0, 0]).rollouts, grpo_settings(rules))
    assert teaches(group_with([1, 1, 0, 0], [0, 0, 0, 0]).rollouts, grpo_settings(rules))
    assert not teaches(group_with([1, 1, 1, 0], [0, 0, 0, 0.3]).rollouts, grpo_settings(rules))
    assert teaches(group_with([1, 1, 1, 0], [0, 0, 0, 0.5]).rollouts, grpo_settings(rules))  # 0.5 - 0.125 > 0.3


def telling(example: Example) -> list[str]:
    """Two completions that differ in the answer."""
    return [
        spans_text((1.0, 2.0), option=option) for option in (example.answer, "ABCD"["ABCD".index(example.answer) - 1])
    ]


@pytest.mark.parametrize("tries", [3, 2, 0])
def test_dropped_groups_are_refilled_up_to_the_tries(tiny_policy: Any, examples: list[Example], tries: int) -> None:
    rules = {"max_tries": tries} if tries else {"enabled": False}
    changes = {"rollout": {"verifier": "off", "filter": rules}}
    collector = scripted(tiny_policy, examples, {}, changes)
    order = [example for _, example in collector.stream.peek(6)]
    good = (1, 4)  # places whose group teaches something; 2, 3 and 5 are looked at because of 0, 2 and 3
    collector.engine.texts = {
        e.question: [telling(e) if place in good else [DULL, DULL] for place in range(6) if order[place] is e]
        for e in examples
    }
    kept, dropped = collector.collect(3, step=0)
    if tries == 3:  # places 0 1 2, then 3 4 for 0 and 2, then 5 for 3; 5 stays for want of a better one
        assert [(g.index, g.kept) for g in kept] == [(1, True), (4, True), (5, False)]
        assert [(g.index, g.kept) for g in dropped] == [(0, False), (2, False), (3, False)]
        assert (collector.tally.drawn, collector.tally.dropped, collector.tally.filled) == (6, 3, 1)
    elif tries == 2:
        assert [(g.index, g.kept) for g in kept] == [(1, True), (3, False), (4, True)]
        assert [g.index for g in dropped] == [0, 2]
        assert (collector.tally.drawn, collector.tally.dropped, collector.tally.filled) == (5, 2, 1)
    else:
        assert [(g.index, g.kept) for g in kept] == [(0, True), (1, True), (2, True)]
        assert (collector.tally.drawn, collector.tally.dropped, collector.tally.filled) == (3, 0, 0)
        assert not dropped


def test_one_try_is_no_refilling(tiny_policy: Any, examples: list[Example]) -> None:
    changes = {"rollout": {"verifier": "off", "filter": {"max_tries": 1}}}
    collector = scripted(tiny_policy, examples, {e.question: [[DULL, DULL]] for e in examples}, changes)
    kept, dropped = collector.collect(2, step=0)
    assert [g.index for g in kept] == [0, 1]
    assert not dropped
    assert (collector.tally.drawn, collector.tally.dropped, collector.tally.filled) == (2, 0, 2)


# --- videos that cannot be read ---


def test_unreadable_videos_are_skipped_counted_and_listed(
    tiny_policy: Any, examples: list[Example], tmp_path: Path
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    broken = replace(examples[0], id="broken", video=str(tmp_path / "text.mp4"))
    changes = {"rollout": {"verifier": "off"}, "data": {"max_unreadable": 0.5}}
    collector = scripted(tiny_policy, [*examples, broken], {e.question: [telling(e)] * 3 for e in examples}, changes)
    kept, _ = collector.collect(5, step=0)
    assert sorted(g.example.id for g in kept) == sorted(e.id for e in examples)
    assert (collector.seen, collector.unreadable) == (6, 1)
    (message,) = collector.tally.unreadable
    assert "text.mp4" in message


def test_too_many_unreadable_videos_stop_the_run(tiny_policy: Any, examples: list[Example], tmp_path: Path) -> None:
    broken = replace(examples[0], id="broken", video=str(tmp_path / "none.mp4"))
    changes = {"rollout": {"verifier": "off"}, "data": {"max_unreadable": 0.1}}
    collector = scripted(
        tiny_policy, [examples[0], broken], {examples[0].question: [telling(examples[0])] * 9}, changes
    )
    with pytest.raises(TrainingError, match=r"after step 7: 1 of 2 videos cannot be read, the last: .*none\.mp4"):
        collector.collect(2, step=7)


def test_a_run_without_any_readable_video_ends(tiny_policy: Any, examples: list[Example], tmp_path: Path) -> None:
    broken = [replace(examples[0], id=str(i), video=str(tmp_path / f"{i}.mp4")) for i in range(3)]
    collector = scripted(tiny_policy, broken, {}, {"rollout": {"verifier": "off"}, "data": {"max_unreadable": 1.0}})
    with pytest.raises(TrainingError, match="3 of 3 videos cannot be read"):
        collector.collect(1, step=0)


def test_a_close_look_that_does_not_decode_earns_nothing(
    tiny_policy: Any, symbol: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spans in a damaged part of a video: no zoom reward, no control, and the log says so."""
    collector = scripted(tiny_policy, [symbol], {symbol.question: [FOUR]}, {"rollout": {"num_generations": 4}})

    def fails(*args: Any, **named: Any) -> None:
        raise VideoError(symbol.video, "decode", "damaged", "mend it")

    monkeypatch.setattr(collector.verifier, "look_at", fails)
    (group,), _ = collector.collect(1, step=0)
    assert [r.zoom for r in group.rollouts] == [ZoomResult(False)] * 4
    assert [r.rewards.zoom for r in group.rollouts] == [0.0] * 4
    assert len(collector.tally.unreadable) == 3  # two responses have spans, and the true ones were looked at
    assert all(message.startswith("close look: ") for message in collector.tally.unreadable)
    assert collector.tally.controls == 0


# --- drawing ---


def drawn(policy: Any, examples: list[Example], changes: dict[str, Any]) -> tuple[list[RolloutGroup], Any]:
    changes = {"rollout": {"num_generations": 2, "max_new_tokens": 32, "filter": {"enabled": False}, **changes}}
    collector = make_collector(policy, examples, grpo_settings({**changes, "seed": changes["rollout"].pop("seed", 0)}))
    return collector.collect(5, step=0)[0], collector


@pytest.fixture(scope="module")
def alone(tiny_policy: Any, examples: list[Example]) -> tuple[list[RolloutGroup], Any]:
    """Five prompts drawn one by one."""
    return drawn(tiny_policy, examples, {"prompts_at_once": 1})


@pytest.mark.parametrize("at_once", [2, 5])
def test_the_same_seed_draws_the_same_however_many_at_once(
    tiny_policy: Any, examples: list[Example], alone: tuple[list[RolloutGroup], Any], at_once: int
) -> None:
    together, _ = drawn(tiny_policy, examples, {"prompts_at_once": at_once})
    for one, other in zip(alone[0], together, strict=True):
        assert [r.text for r in one.rollouts] == [r.text for r in other.rollouts]
        assert [r.token_ids for r in one.rollouts] == [r.token_ids for r in other.rollouts]
        assert [r.rewards for r in one.rollouts] == [r.rewards for r in other.rollouts]
        assert [r.advantages for r in one.rollouts] == [r.advantages for r in other.rollouts]
        assert (one.prompt, one.example, one.index) == (other.prompt, other.example, other.index)


def test_other_seeds_draw_others(
    tiny_policy: Any, examples: list[Example], alone: tuple[list[RolloutGroup], Any]
) -> None:
    other, _ = drawn(tiny_policy, examples, {"prompts_at_once": 5, "seed": 1})
    assert {r.text for g in other for r in g.rollouts} != {r.text for g in alone[0] for r in g.rollouts}
    assert [g.example.id for g in other] != [g.example.id for g in alone[0]]


def test_every_prompt_of_a_run_has_a_seed_of_its_own(tiny_policy: Any, symbol: Example) -> None:
    collector = scripted(tiny_policy, [symbol], {symbol.question: [telling(symbol)] * 3}, OFF)
    for step in range(3):
        collector.collect(1, step)
    assert len({sampling.seed for sampling in collector.engine.samplings}) == 3
    assert {(s.temperature, s.top_p, s.max_tokens) for s in collector.engine.samplings} == {(1.0, 1.0, 48)}


def test_what_was_asked_is_kept_for_learning(alone: tuple[list[RolloutGroup], Any]) -> None:
    """The trainer packs the very prompts the rollouts were drawn from; only after a resume are they made again."""
    groups, collector = alone
    looked_up = collector.cache.hits + collector.cache.misses
    prompts = [collector.prompt_of(group) for group in groups]
    assert collector.cache.hits + collector.cache.misses == looked_up
    assert [p.example for p in prompts] == [g.example for g in groups]
    fresh = make_collector(collector.policy, list(collector.stream.examples), collector.settings)
    again = fresh.prompt_of(groups[0])
    assert [str(part) for turn in again.chat for part in turn.parts if isinstance(part, str)] == [
        str(part) for turn in prompts[0].chat for part in turn.parts if isinstance(part, str)
    ]
    clips = [part for chat in (again.chat, prompts[0].chat) for part in chat[0].parts if not isinstance(part, str)]
    assert (clips[0].frames == clips[1].frames).all()
    assert clips[0].times_s == clips[1].times_s


def test_decoding_ahead_changes_nothing(
    tiny_policy: Any,
    examples: list[Example],
    alone: tuple[list[RolloutGroup], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = grpo_settings(
        {
            "rollout": {"num_generations": 2, "max_new_tokens": 32, "prompts_at_once": 1, "filter": {"enabled": False}},
        }
    )
    collector = make_collector(tiny_policy, examples, settings)
    asked: list[int] = []
    ask = collector.ask

    def noted(place: int, example: Example) -> Any:
        asked.append(place)
        return ask(place, example)

    monkeypatch.setattr(collector, "ask", noted)
    groups = [collector.collect(1, step=0)[0][0] for _ in range(5)]
    collector.close()
    assert groups == alone[0]
    assert asked[:5] == [0, 1, 2, 3, 4], "no video is decoded twice"
    assert len(asked) <= 7


def test_a_video_that_cannot_be_read_ahead_is_counted_when_its_turn_comes(
    tiny_policy: Any, examples: list[Example], tmp_path: Path
) -> None:
    broken = [replace(one, video=str(tmp_path / "none.mp4")) for one in examples]
    texts = {e.question: [telling(e)] * 3 for e in examples}
    changes = {"rollout": {"verifier": "off"}, "data": {"max_unreadable": 0.9}}
    collector = scripted(tiny_policy, [examples[0], *broken[1:]], texts, changes)
    kept, _ = collector.collect(2, step=0)
    collector.close()
    assert [g.example.id for g in kept] == [examples[0].id] * 2
    assert collector.unreadable == collector.seen - 2


def test_close_looks_are_decoded_while_the_next_prompt_is_written(
    tiny_policy: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(prompts_at_once: int) -> Any:
        changes = {"rollout": {"prompts_at_once": prompts_at_once, "filter": {"enabled": False}}}
        return scripted(tiny_policy, examples, {e.question: [telling(e)] for e in examples}, changes)

    expected, _ = make(5).collect(5, step=0)
    collector = make(1)
    written, met = [threading.Event() for _ in examples], []
    generate, prompt = collector.engine.generate, collector.verifier.prompt

    def noted(*args: Any) -> Any:
        next(event for event in written if not event.is_set()).set()
        return generate(*args)

    def late(asked: Any, reading: Any) -> Any:
        """Decode for a prompt only once the one after it is being written."""
        place = [e.question for e in order].index(asked.question)
        met.append(place == len(order) - 1 or written[place + 1].wait(60))
        return prompt(asked, reading)

    order = [example for _, example in collector.stream.peek(5)]
    assert len({example.question for example in order}) == 5
    monkeypatch.setattr(collector.engine, "generate", noted)
    monkeypatch.setattr(collector.verifier, "prompt", late)
    groups, _ = collector.collect(5, step=0)
    collector.close()
    assert met
    assert all(met)
    assert [(g.index, g.example.id, g.kept) for g in groups] == [(g.index, g.example.id, g.kept) for g in expected]
    for group, other in zip(groups, expected, strict=True):
        for mine, theirs in zip(group.rollouts, other.rollouts, strict=True):
            assert mine.zoom is not None
            assert mine.zoom.option_log_probs == pytest.approx(theirs.zoom.option_log_probs, abs=1e-4)
            assert mine.rewards.zoom == pytest.approx(theirs.rewards.zoom, abs=1e-4)


def test_a_closed_roller_decodes_no_further_look(
    tiny_policy: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = scripted(tiny_policy, examples, {}, {})
    begun, go_on, looked = threading.Event(), threading.Event(), []

    def prompt(asked: Any, reading: Any) -> None:
        looked.append(reading)
        begun.set()
        assert go_on.wait(60)

    monkeypatch.setattr(collector.verifier, "prompt", prompt)
    coming = collector.looks.start(collector.ask(0, examples[0]), [said(text) for text in FOUR])
    assert begun.wait(60)
    collector.close()
    go_on.set()
    with pytest.raises(CancelledError):
        coming.result(60)
    assert len(looked) == 1


# --- controls ---


def test_true_and_random_spans_are_looked_at_for_the_log(
    tiny_policy: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = {e.question: [telling(e)] * 2 for e in examples}
    collector = scripted(tiny_policy, examples, texts, {"rollout": {"controls": 3, "prompts_at_once": 2}})
    looked: list[list[tuple[float, float]]] = []
    look_at = collector.verifier.look_at

    def noted(asked: Any, spans: Any, *rest: Any) -> Any:
        looked.append([tuple(span) for span in spans])
        return look_at(asked, spans, *rest)

    collector.collect(5, step=0)
    assert collector.tally.controls == 3
    assert 0 <= collector.tally.true_right <= 3
    monkeypatch.setattr(collector.verifier, "look_at", noted)
    prompted = [collector.ask(place, example) for place, example in enumerate(examples[:2])]
    collector.tally.controls = collector.tally.control_prompts = 2  # one more is wanted
    before = (collector.tally.true_right, collector.tally.random_right)
    monkeypatch.setattr(collector.engine, "texts", {e.question: [["nothing"] * 2] for e in examples})
    collector.roll(prompted, step=0)
    assert collector.tally.controls == 3
    ((true,), (other,)) = looked
    assert true in [tuple(span) for example in examples[:2] for span in example.spans]
    assert other[1] - other[0] == pytest.approx(true[1] - true[0])
    assert 0.0 <= other[0] <= 32.0 - (true[1] - true[0])
    assert collector.tally.true_right - before[0] in (0, 1)


@pytest.mark.parametrize(
    ("look", "right"),
    [
        (ZoomResult(True, option_log_probs=(-1.0, -3.0, -0.5, -2.0)), True),
        (ZoomResult(True, option_log_probs=(-0.5, -3.0, -0.5, -2.0)), False),  # a tie is no answer
        (ZoomResult(True, text="C"), True),
        (ZoomResult(True, text="(C)"), True),
        (ZoomResult(True, text=""), False),
        (ZoomResult(True, text="A"), False),
    ],
)
def test_controls_are_judged_strictly_whatever_the_reward_is(symbol: Example, look: ZoomResult, right: bool) -> None:
    assert chose_right(look, symbol) is right


def test_controls_of_the_paper_are_written(tiny_policy: Any, examples: list[Example]) -> None:
    changes = {"preset": "paper", "rollout": {"controls": 5, "prompts_at_once": 5}}
    texts = {e.question: [telling(e)] for e in examples}
    settings = grpo_settings(changes)
    collector = make_collector(tiny_policy, examples, settings, engine=Script(tiny_policy, texts))
    collector.collect(5, step=0)
    assert collector.tally.controls == 5
    assert collector.tally.true_right > 0, "the embedded model answers some questions on the right span"


def test_prompts_are_shown_as_text(tiny_policy: Any, symbol: Example) -> None:
    collector = scripted(tiny_policy, [symbol], {symbol.question: [telling(symbol)]}, OFF)
    (group,), _ = collector.collect(1, step=0)
    assert group.prompt.startswith("[32 frames of 32x32, 0.0-31.0 s]\n")
    assert symbol.question in group.prompt
    assert tiny_settings().style == "brief"
