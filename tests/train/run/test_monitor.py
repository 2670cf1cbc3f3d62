"""What is logged, with numbers worked by hand, and pooled over processes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from grpo_groups import full_group

from zoomzero.policy.local.features import FeatureCounts
from zoomzero.train.credit.loss import LossDiagnostics
from zoomzero.train.credit.rewards import RewardValues
from zoomzero.train.rollouts.collector import Tally
from zoomzero.train.rollouts.record import RolloutGroup
from zoomzero.train.run import monitor as monitor_module
from zoomzero.train.run.monitor import Monitor, peak_mb, pooled
from zoomzero.train.run.progress import nothing_to_learn
from zoomzero.train.settings_server import RolloutServerSettings


class Clock:
    """Stands still unless told otherwise."""

    def __init__(self) -> None:
        self.now = 50.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(monitor_module, "time", clock)
    return clock


def group_of(*rewards: RewardValues, tokens: int = 2, problems: tuple[str, ...] = ()) -> RolloutGroup:
    """A group whose completions have these rewards and nothing else to tell them apart."""
    model = full_group().rollouts[0]
    alike = {"token_ids": tuple(range(tokens)), "problems": problems, "spans": () if problems else model.spans}
    return full_group(rollouts=tuple(replace(model, rewards=one, **alike) for one in rewards))


def diagnostics(tokens: float, kl: float | None = 0.5, **values: float) -> LossDiagnostics:
    names = ("clip_share", "clip_low_share", "clip_high_share", "ratio", "entropy")
    found = {name: torch.tensor(values.get(name, 0.0)) for name in names}
    return LossDiagnostics(tokens=torch.tensor(tokens), kl=None if kl is None else torch.tensor(kl), **found)


def test_a_server_by_hand() -> None:
    """Its log-probabilities lie 0.5 under and 1.0 over the model's: weights e^0.5 cut to 1.5, and e^-1."""
    model = full_group().rollouts[0]
    drawn = replace(model, old_log_probs=(-1.0, -3.0), server_log_probs=(-1.5, -2.0), drawn_at=2)
    monitor = Monitor()
    monitor.add_served([full_group(rollouts=(drawn,), step=5)], RolloutServerSettings(url="http://h", max_weight=1.5))
    found = pooled([monitor.take()])
    assert found["server/gap"] == pytest.approx(0.75)
    assert found["server/gap_max"] == 1.0
    assert found["server/weight"] == pytest.approx((1.5 + math.exp(-1.0)) / 2)
    assert (found["server/truncated"], found["server/staleness"]) == (0.5, 3.0)
    monitor.add_served([full_group(rollouts=(drawn,))], None)
    assert "server/gap" not in monitor.take(), "nothing is told of rollouts of this process"


def test_rewards_by_hand() -> None:
    monitor = Monitor()
    varied = group_of(RewardValues(1.0, 0.0, 1.0, 1.0), RewardValues(1.0, 0.6, 0.0, 1.0))
    alike = group_of(RewardValues(0.0, 0.2, 0.0, 0.0), RewardValues(0.0, 0.2, 0.0, 0.0))
    monitor.add_rollouts([varied, alike], Tally())
    found = pooled([monitor.take()])
    assert found["reward/format"] == pytest.approx(0.5)
    assert found["reward/iou"] == pytest.approx((0.3 + 0.2) / 2)
    assert found["reward/answer"] == pytest.approx(0.25)
    assert found["reward/zoom"] == pytest.approx(0.5)
    # deviations inside a group, n - 1: of (0, 0.6) it is 0.6 / sqrt 2; then the mean over the two groups
    assert found["reward/iou_std"] == pytest.approx(0.6 / math.sqrt(2) / 2)
    assert found["reward/answer_std"] == pytest.approx(1 / math.sqrt(2) / 2)
    assert found["reward/format_std"] == 0.0
    shares = {name: found[f"zero_variance/{name}"] for name in ("format", "iou", "answer", "zoom")}
    assert shares == {"format": 1.0, "iou": 0.5, "answer": 0.5, "zoom": 1.0}


def test_without_a_verifier_there_is_no_zoom_reward() -> None:
    monitor = Monitor()
    monitor.add_rollouts([group_of(RewardValues(1.0, 1.0, 1.0), RewardValues(0.0, 0.0, 0.0))], Tally())
    found = pooled([monitor.take()])
    assert "reward/answer" in found
    assert not any("zoom" in name for name in found)


def test_completions_by_hand() -> None:
    reward = RewardValues(0.0, 0.0, 0.0)
    cut = replace(group_of(reward, tokens=10, problems=("no_answer", "truncated")).rollouts[0], finished=False)
    odd = group_of(reward, tokens=4, problems=("loose_answer",)).rollouts[0]
    fine = group_of(reward, reward, tokens=1).rollouts
    monitor = Monitor()
    monitor.add_rollouts([full_group(rollouts=(cut, odd, *fine))], Tally())
    found = pooled([monitor.take()])
    assert found["completion/tokens"] == pytest.approx((10 + 4 + 1 + 1) / 4)
    assert found["completion/truncated"] == pytest.approx(1 / 4)
    assert found["completion/parse_failures"] == pytest.approx(2 / 4)
    assert found["completion/no_answer"] == pytest.approx(1 / 4)
    assert found["completion/no_span"] == pytest.approx(2 / 4)


def test_tally_by_hand() -> None:
    tally = Tally(drawn=10, dropped=3, filled=1, unreadable=["a", "b"], true_right=3, random_right=1, controls=4)
    monitor = Monitor()
    monitor.add_rollouts([], tally)
    found = pooled([monitor.take()])
    assert (found["filter/dropped"], found["filter/filled"]) == (0.3, 0.1)
    assert (found["zoom/true_span"], found["zoom/random_span"]) == (0.75, 0.25)
    assert found["data/unreadable"] == 2


def test_updates_are_weighted_by_their_tokens() -> None:
    monitor = Monitor()
    monitor.add_update(diagnostics(10, kl=1.0, ratio=1.0, clip_share=0.5), tokens=100)
    monitor.add_update(diagnostics(30, kl=2.0, ratio=1.4), tokens=100)
    found = pooled([monitor.take()])
    assert found["loss/kl"] == pytest.approx((10 * 1 + 30 * 2) / 40)
    assert found["loss/ratio"] == pytest.approx((10 * 1.0 + 30 * 1.4) / 40)
    assert found["loss/clip_share"] == pytest.approx(0.125)
    monitor.add_update(diagnostics(10, kl=None), tokens=1)
    assert "loss/kl" not in pooled([monitor.take()])


def test_seconds_are_means_over_updates() -> None:
    monitor = Monitor()
    monitor.add_seconds({"decode": 8.0, "backward": 1.0})
    monitor.add_seconds({"decode": 0.0, "backward": 2.0})
    found = pooled([monitor.take()])
    assert (found["seconds/decode"], found["seconds/backward"]) == (4.0, 1.5)


def test_kept_features_are_weighted_by_what_was_asked_for() -> None:
    """6 of 8 and 0 of 4 patches were there: 6 of 12."""
    monitor, counts = Monitor(), FeatureCounts(memory_hits=3, disk_hits=2, repeats=3, misses=4)
    monitor.add_features(counts.since(FeatureCounts(memory_hits=1, repeats=1, misses=2)))
    assert counts.hit_rate == pytest.approx(8 / 12)
    monitor.add_features(FeatureCounts(misses=4))
    monitor.add_features(FeatureCounts())  # nothing was asked for
    assert pooled([monitor.take()])["features/hit_rate"] == pytest.approx(6 / 12)


def test_tokens_per_second_leave_validation_out(clock: Clock) -> None:
    monitor = Monitor()
    monitor.add_update(diagnostics(1), tokens=300)
    monitor.add_update(diagnostics(1), tokens=100)
    clock.now += 10
    assert pooled([monitor.take()])["tokens_per_second"] == 40
    clock.now += 60
    monitor.leave_out(60.0)
    monitor.add_update(diagnostics(1), tokens=100)
    clock.now += 5
    assert pooled([monitor.take()])["tokens_per_second"] == 20


def test_processes_are_pooled_as_if_they_were_one() -> None:
    """Means by weight, not means of means; what counts things adds up; a name may be missing somewhere."""
    parts = [
        {"reward/iou": (0.9, 3.0), "tokens_per_second": (100.0, 1.0), "data/unreadable": (2.0, 1.0)},
        {"reward/iou": (0.1, 1.0), "tokens_per_second": (50.0, 1.0), "loss/kl": (1.0, 4.0)},
    ]
    assert pooled(parts) == {
        "reward/iou": pytest.approx(0.25),
        "tokens_per_second": 150.0,
        "data/unreadable": 2.0,
        "loss/kl": 0.25,
    }
    groups = [group_of(RewardValues(1.0, i / 7, 0.0), RewardValues(0.0, i / 9, 1.0), tokens=i + 1) for i in range(5)]
    one, two, three = Monitor(), Monitor(), Monitor()
    one.add_rollouts(groups, Tally())
    two.add_rollouts(groups[:1], Tally())
    three.add_rollouts(groups[1:], Tally())
    assert pooled([two.take(), three.take()]) == pytest.approx(pooled([one.take()]))


def test_taking_starts_again() -> None:
    monitor = Monitor()
    monitor.add("loss/kl", 3.0)
    monitor.take()
    assert set(monitor.take()) == {"tokens_per_second"}


def test_peak_memory_is_that_of_this_process() -> None:
    before = peak_mb()
    held = torch.ones(64 << 18)  # 64 MiB
    assert peak_mb() > 50
    assert peak_mb() >= before
    del held


def test_a_batch_that_teaches_nothing_is_said() -> None:
    """No token has an advantage; the line says how often each reward was equal."""

    def without_credit(*rewards: RewardValues) -> RolloutGroup:
        group = group_of(*rewards)
        return replace(group, rollouts=tuple(replace(one, advantages=(0.0, 0.0)) for one in group.rollouts))

    monitor = Monitor()
    flat = without_credit(RewardValues(1.0, 0.0, 0.0), RewardValues(1.0, 0.0, 0.0))
    monitor.add_rollouts([flat, without_credit(RewardValues(1.0, 0.0, 1.0), RewardValues(1.0, 0.0, 0.0))], Tally())
    logs = pooled([monitor.take()])
    assert (logs["zero_variance/all"], logs["zero_variance/iou"], logs["zero_variance/answer"]) == (1.0, 1.0, 0.5)
    line = nothing_to_learn(logs)
    assert "(equal: format in 100%, iou in 100%, answer in 50% of the groups)" in line
    credited = replace(flat.rollouts[0], advantages=(0.5,))
    monitor.add_rollouts([replace(flat, rollouts=(credited, flat.rollouts[1]))], Tally())
    assert pooled([monitor.take()])["zero_variance/all"] == 0.0
