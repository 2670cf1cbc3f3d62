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


def test_a_lines_places_worked_by_hand() -> None:
    drawn = curves(
        {"reward/iou": ((0.0, 0.0), (5.0, 0.25), (10.0, 1.0)), "reward/iou_std": ((0.0, 0.1), (5.0, 0.5), (10.0, 0.1))},
        {},
    )
    assert drawn is not None
    (chart,) = drawn.charts
    assert chart.lines[0].path == "M0 40h0L50 30L100 0"  # 40 high, 1 at the top
    assert chart.band == "M0 36L50 10L100 0L100 4L50 40L0 40Z"  # cut to [0, 1]
    assert (chart.lines[0].last, chart.low, chart.high) == ("1", "0", "1")


def test_a_value_that_is_no_number_leaves_a_gap() -> None:
    drawn = curves({"loss": ((0.0, 1.0), (1.0, math.nan), (2.0, 3.0), (3.0, math.inf), (4.0, 4.0))}, {})
    assert drawn is not None
    (other,) = drawn.others
    assert other.lines[0].path == "M0 30h0M50 10h0M100 0h0"
    assert (other.low, other.high, other.lines[0].last) == ("0", "4", "4")


def test_axes_start_at_zero_unless_values_stay_away_from_it() -> None:
    drawn = curves(
        {"a": ((0.0, 90.0), (1.0, 100.0)), "b": ((0.0, 5.0), (1.0, 5.0)), "c": ((0.0, -1.0), (1.0, 1.0))}, {}
    )
    assert drawn is not None
    assert [(one.low, one.high) for one in drawn.others] == [("90", "100"), ("0", "5"), ("-1", "1")]


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
    assert drawn.phases_high_s == 4.0
    # bars reach 42 % of the way to their neighbours; log probs fills the lowest quarter of the first
    assert drawn.phases[0].path == "M0.00 40H42.00V30H0.00Z"
    assert drawn.phases[1].path == "M0.00 30H42.00V0H0.00ZM58.00 40H100.00V30H58.00Z"
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
