"""Drawing: the same seed draws the same, however many prompts at once and whatever is decoded ahead."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from grpo_runs import grpo_settings, make_collector, said
from scripted_rollouts import FOUR, OFF, scripted, telling

from zoomzero.data.example import Example
from zoomzero.train.rollouts.record import RolloutGroup


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
