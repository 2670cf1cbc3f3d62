"""Seconds by phase, with a clock that the test turns."""

from __future__ import annotations

import pytest

from zoomzero.train import stopwatch
from zoomzero.train.stopwatch import PHASES, Stopwatch


class Clock:
    """Stands still unless told otherwise."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(stopwatch, "time", clock)
    return clock


def test_inner_phases_are_not_counted_twice(clock: Clock) -> None:
    watch = Stopwatch()
    with watch.phase("log_probs"):
        clock.now += 1
        with watch.phase("vision"):
            clock.now += 10
            with watch.phase("decode"):
                clock.now += 100
            clock.now += 1000
        clock.now += 10_000
    clock.now += 5  # no phase
    with watch.phase("vision"):
        clock.now += 0.5
    taken = watch.take()
    assert taken == dict.fromkeys(PHASES, 0.0) | {"log_probs": 10_001.0, "vision": 1010.5, "decode": 100.0}
    assert watch.take() == dict.fromkeys(PHASES, 0.0), "taking starts again from 0"


def test_a_phase_ends_with_an_error_too(clock: Clock) -> None:
    watch = Stopwatch()

    def break_off() -> None:
        with watch.phase("zoom"):
            clock.now += 2
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    clock.now += 3
    assert watch.take()["zoom"] == 2.0


def test_the_device_is_waited_for_whenever_the_clock_is_read(clock: Clock) -> None:
    """A GPU works on while Python runs ahead: what it still has to do belongs to the phase that asked for it."""
    watch = Stopwatch(synchronize=lambda: setattr(clock, "now", clock.now + 4.0))
    with watch.phase("generate"):
        clock.now += 1
    assert watch.take()["generate"] == 5.0


def test_whoever_follows_is_told_what_begins(clock: Clock) -> None:
    watch, heard = Stopwatch(), []
    watch.entered = heard.append
    with watch.phase("generate"), watch.phase("vision"):
        pass
    assert heard == ["generate", "vision"]
