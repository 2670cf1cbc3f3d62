"""Estimators: what holds for every group of rollouts."""

from __future__ import annotations

from statistics import mean, stdev

import torch
from advantage_rows import NAMES, REWARDS, WITHIN
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from zoomzero.train.credit.advantages import (
    estimate,
)

unit = st.integers(0, 10).map(lambda tenths: tenths / 10)


@st.composite
def groups(draw: st.DrawFn) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    size, length = draw(st.integers(2, 6)), draw(st.integers(1, 5))
    names = list(REWARDS)[: draw(st.sampled_from([3, 4]))]
    rewards = {name: torch.tensor(draw(st.lists(unit, min_size=size, max_size=size))) for name in names}
    lengths = draw(st.lists(st.integers(0, length), min_size=size, max_size=size))
    counted = torch.tensor([[t < n for t in range(length)] for n in lengths])
    flags = st.lists(st.booleans(), min_size=size * length, max_size=size * length)
    return rewards, counted, torch.tensor(draw(flags)).view(size, length)


@settings(max_examples=60, deadline=None)
@given(group=groups(), name=st.sampled_from(WITHIN), normalize_std=st.booleans(), data=st.data())
def test_order_of_rollouts_does_not_matter(group: tuple, name: str, normalize_std: bool, data: st.DataObject) -> None:
    rewards, counted, answer = group
    order = torch.tensor(data.draw(st.permutations(range(len(counted)))))
    moved = {reward: values[order] for reward, values in rewards.items()}
    before = estimate(name, rewards, counted, answer, normalize_std=normalize_std)
    after = estimate(name, moved, counted[order], answer[order], normalize_std=normalize_std)
    torch.testing.assert_close(after, before[order], atol=1e-4, rtol=0)


@settings(max_examples=60, deadline=None)
@given(group=groups(), name=st.sampled_from(WITHIN), normalize_std=st.booleans(), shift=st.integers(-3, 3))
def test_the_same_bonus_for_everyone_changes_nothing(group: tuple, name: str, normalize_std: bool, shift: int) -> None:
    rewards, counted, answer = group
    more = {reward: values + shift for reward, values in rewards.items()}
    before = estimate(name, rewards, counted, answer, normalize_std=normalize_std)
    after = estimate(name, more, counted, answer, normalize_std=normalize_std)
    torch.testing.assert_close(after, before, atol=1e-4, rtol=0)


@settings(max_examples=60, deadline=None)
@given(group=groups(), name=st.sampled_from(WITHIN), factor=st.sampled_from([0.5, 2.0, 8.0]))
def test_scale_of_rewards(group: tuple, name: str, factor: float) -> None:
    rewards, counted, answer = group
    larger = {reward: values * factor for reward, values in rewards.items()}
    divided = [estimate(name, r, counted, answer) for r in (rewards, larger)]
    torch.testing.assert_close(divided[1], divided[0], atol=1e-3, rtol=0)
    centred = [estimate(name, r, counted, answer, normalize_std=False) for r in (rewards, larger)]
    torch.testing.assert_close(centred[1], centred[0] * factor, atol=1e-5, rtol=0)


@settings(max_examples=60, deadline=None)
@given(group=groups())
def test_select_against_a_loop(group: tuple) -> None:
    rewards, counted, answer = group
    size, length = counted.shape
    values = {name: [float(v) for v in r] for name, r in rewards.items()}
    normal = {name: [(v - mean(vs)) / (stdev(vs) + 1e-6) for v in vs] for name, vs in values.items()}
    expected = torch.zeros(size, length)
    for i in range(size):
        for t in range(length):
            about = "answer" if answer[i, t] else "iou"
            terms = [normal[name][i] for name in ("format", "zoom", about) if name in normal]
            expected[i, t] = sum(terms) / len(terms) if counted[i, t] else 0.0
    torch.testing.assert_close(estimate("select", rewards, counted, answer), expected, atol=1e-4, rtol=0)


@settings(max_examples=60, deadline=None)
@given(group=groups(), name=st.sampled_from(NAMES), normalize_std=st.booleans())
def test_result_is_finite_float32_and_zero_outside(group: tuple, name: str, normalize_std: bool) -> None:
    rewards, counted, answer = group
    advantages = estimate(name, rewards, counted, answer, normalize_std=normalize_std)
    assert advantages.dtype == torch.float32
    assert advantages.shape == counted.shape
    assert advantages.isfinite().all()
    assert not advantages[~counted].any()
    assert not advantages.requires_grad
