"""Groups that teach nothing are dropped and refilled; videos that cannot be read are skipped, counted and listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpo_groups import full_group
from grpo_runs import grpo_settings
from scripted_rollouts import FOUR, scripted, telling

from zoomzero.data.example import Example
from zoomzero.errors import TrainingError, VideoError
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.credit.rewards import RewardValues
from zoomzero.train.rollouts.credited import teaches
from zoomzero.train.rollouts.record import Rollout, RolloutGroup

DULL = "no idea"


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
