from __future__ import annotations

import math
from dataclasses import replace

from rollout_groups import group, rollout

from zoomzero.pages.training.curves import curves, thin
from zoomzero.pages.training.rollouts import rollout_curves
from zoomzero.pages.training.rows import group_facts


def test_the_rollouts_stand_in_for_a_log() -> None:
    flat = replace(group(3, 1), rollouts=(rollout(), rollout()))
    found = rollout_curves([group_facts(group(0)), group_facts(group(1)), group_facts(flat), group_facts(group(2, 1))])
    assert found["reward/iou"] == ((0.0, 0.25), (1.0, 0.375))
    assert found["zero_variance/iou"] == ((0.0, 0.0), (1.0, 0.5))
    assert found["completion/truncated"] == ((0.0, 0.5), (1.0, 0.25))
    drawn = curves({"loss/kl": ((0.0, 0.1), (1.0, 0.2))}, found)
    assert drawn is not None
    assert {one.title: one.logged for one in drawn.charts} == {
        **{f"{name} reward": False for name in ("format", "iou", "answer", "zoom")},
        "tokens a completion": False,
        "completions at fault": False,
        "KL to the reference": True,
    }


def test_a_band_worked_by_hand() -> None:
    drawn = curves(
        {"reward/iou": ((0.0, 0.0), (5.0, 0.25), (10.0, 1.0)), "reward/iou_std": ((0.0, 0.1), (5.0, 0.5), (10.0, 0.1))},
        {},
    )
    assert drawn is not None
    (chart,) = drawn.charts
    assert chart.band == (((0.0, 0.0), (5.0, 0.0), (10.0, 0.9)), ((0.0, 0.1), (5.0, 0.75), (10.0, 1.0)))
    assert (chart.lines[0].last, chart.share) == ("1", True)
    assert (drawn.first, drawn.last, drawn.low, drawn.high) == (0, 10, -0.1, 10.1)


def test_the_last_number_is_told_where_the_log_ends_without_one() -> None:
    drawn = curves({"loss": ((0.0, 1.0), (1.0, math.nan), (2.0, 3.0), (3.0, math.inf))}, {})
    assert drawn is not None
    (other,) = drawn.others
    assert (other.lines[0].last, other.band, other.share) == ("3", None, False)
    assert "loss by step" in drawn.draw(other)


def test_phases_are_stacked_in_the_order_of_the_step() -> None:
    drawn = curves(
        {
            "seconds/backward": ((0.0, 3.0), (1.0, 1.0)),
            "seconds/log_probs": ((0.0, 1.0),),
            "seconds/other": ((1.0, 1.0),),
        },
        {},
    )
    assert drawn is not None
    assert [(one.label, one.mean_s, round(one.share, 3)) for one in drawn.phases] == [
        ("log probs", 0.5, 0.167),
        ("backward", 2.0, 0.667),
        ("other", 0.5, 0.167),
    ]
    assert drawn.phases[0].points == ((0.0, 1.0), (1.0, 0.0))  # no seconds where none were logged
    assert (drawn.low, drawn.high) == (-0.5, 1.5)  # room for the whole of the first and the last bar
    assert "Seconds of each phase" in drawn.draw_phases()
    assert not drawn.others


def test_long_runs_are_thinned_to_means() -> None:
    points = tuple((float(i), float(i)) for i in range(10))
    assert thin(points, 5) == ((0.5, 0.5), (2.5, 2.5), (4.5, 4.5), (6.5, 6.5), (8.5, 8.5))
    assert thin(points, 10) is points
    (gap,) = thin(((0.0, math.nan), (1.0, math.nan)), 1)
    assert gap[0] == 0.5
    assert math.isnan(gap[1])
    assert thin(((0.0, math.nan), (1.0, 2.0)), 1) == ((0.5, 2.0),)


def test_nothing_to_draw() -> None:
    assert curves({}, {}) is None
