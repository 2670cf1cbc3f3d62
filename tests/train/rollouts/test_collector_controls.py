"""Controls: true and random spans are looked at for the log, and judged strictly."""

from __future__ import annotations

from typing import Any

import pytest
from grpo_runs import grpo_settings, make_collector
from scripted_rollouts import Script, scripted, telling

from zoomzero.data.example import Example
from zoomzero.train.credit.answers import ZoomResult
from zoomzero.train.rollouts.collector import chose_right


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
