"""The zoom pass as a reward: what the verifier is shown, what it answers, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from grpo_runs import asked_about, grpo_settings, said, spans_text, tiny_settings

from zoomzero.answer.confidence import softmax
from zoomzero.answer.scoring import score
from zoomzero.config import PassSettings
from zoomzero.data.example import Example, read_examples
from zoomzero.errors import ModelError
from zoomzero.policy.local.attention import packed
from zoomzero.policy.local.features import FeatureCache
from zoomzero.policy.local.load import load_policy
from zoomzero.spans import Span
from zoomzero.train.credit.answers import ZoomResult, zoom_reward
from zoomzero.train.engine.build import make_reference, make_verifier
from zoomzero.train.engine.loading import add_adapter
from zoomzero.train.rollouts.verify import Verifier
from zoomzero.train.settings import GrpoSettings, LoraSettings
from zoomzero.train.stopwatch import Stopwatch
from zoomzero.video.plan import plan_on_grid
from zoomzero.video.types import Clip


@pytest.fixture(scope="module")
def examples(small_world: Path) -> list[Example]:
    return read_examples(small_world)


def make(policy: Any, changes: dict[str, Any] | None = None, **model_settings: Any) -> Verifier:
    return Verifier(policy, grpo_settings(changes), tiny_settings(**model_settings), Stopwatch())


def clip_of(prompt: Any) -> Clip:
    (clip,) = [part for turn in prompt.chat for part in turn.parts if isinstance(part, Clip)]
    return clip


def words_of(prompt: Any) -> str:
    return "".join(part for turn in prompt.chat for part in turn.parts if isinstance(part, str))


@pytest.fixture
def counted(tiny_policy: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The embedded model with an empty feature cache, and the chats it is asked to score."""
    calls: dict[str, Any] = {"scored": []}
    score_many = tiny_policy.score_many

    def noted(chats: Any, *rest: Any, **named: Any) -> Any:
        calls["scored"].append(len(chats))
        return score_many(chats, *rest, **named)

    monkeypatch.setattr(tiny_policy, "score_many", noted)
    tiny_policy.features = calls["features"] = FeatureCache(64 << 20)
    yield calls
    tiny_policy.features = None


# --- what it is shown ---


def test_frames_of_overlapping_spans_are_decoded_and_encoded_once(
    tiny_policy: Any, examples: list[Example], counted: dict[str, Any]
) -> None:
    """Widened by 0.5 s and on patches of 2 s, (4, 8) takes the frames at 2-9 s and (6, 10) those at 4-11 s."""
    asked, verifier = asked_about(tiny_policy, examples[0]), make(tiny_policy)
    texts = [spans_text((4.0, 8.0)), spans_text((6.0, 10.0))]
    prompts = [verifier.prompt(asked, said(text)) for text in texts]
    assert [clip_of(prompt).times_s for prompt in prompts] == [
        tuple(map(float, r)) for r in (range(2, 10), range(4, 12))
    ]
    assert asked.cache.misses == 10, "10 different frames"
    assert asked.cache.hits == 6
    verifier.judge(prompts)
    counts = counted["features"].counts
    assert counts.misses == 5, "5 different temporal patches"
    assert counts.memory_hits + counts.repeats == 3


def test_equal_sights_are_answered_once(tiny_policy: Any, examples: list[Example], counted: dict[str, Any]) -> None:
    """Spans that fall on the same patches show the same; another question about them does not."""
    asked, other = asked_about(tiny_policy, examples[0]), asked_about(tiny_policy, examples[1])
    verifier = make(tiny_policy)
    near = [verifier.prompt(asked, said(spans_text(span))) for span in [(4.6, 7.2), (4.9, 7.3), (20.0, 22.0)]]
    looks = verifier.judge(
        [*near, verifier.prompt(asked, said("what?")), verifier.prompt(other, said(spans_text((5, 7))))]
    )
    assert counted["scored"] == [3]
    assert looks[0] == looks[1]
    assert looks[0].option_log_probs != looks[2].option_log_probs
    assert looks[3] == ZoomResult(False)
    assert looks[4].option_log_probs not in (None, looks[0].option_log_probs)


def test_spans_are_merged_clipped_and_widened(tiny_policy: Any, examples: list[Example]) -> None:
    asked = asked_about(tiny_policy, examples[0])
    reading = said(spans_text((30.5, 99.0), (4.0, 6.0), (5.0, 7.9)))
    shown = clip_of(make(tiny_policy).prompt(asked, reading))  # by the model's own 0.5 s: 3.5-8.4 and 30-32
    assert shown.times_s == (2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 30.0, 31.0)
    assert shown.spans == (Span(2.0, 10.0), Span(30.0, 32.0))
    exactly = clip_of(make(tiny_policy, {"rollout": {"zoom_widen_s": 0.0}}).prompt(asked, reading))
    assert exactly.times_s == (4.0, 5.0, 6.0, 7.0, 30.0, 31.0)
    widely = clip_of(make(tiny_policy, {"rollout": {"zoom_widen_s": 2.1}}).prompt(asked, said(spans_text((10, 11)))))
    assert widely.times_s == tuple(map(float, range(6, 14)))


def test_without_a_usable_span_nothing_is_shown_and_nothing_earned(
    tiny_policy: Any, examples: list[Example], counted: dict[str, Any]
) -> None:
    asked, verifier, settings = asked_about(tiny_policy, examples[0]), make(tiny_policy), grpo_settings()
    texts = ["", spans_text(), spans_text((9.0, 4.0)), spans_text((40.0, 50.0)), "<glue>[(nan, 3)]</glue>"]
    texts.append(spans_text((5.0, 5.0000001)))
    prompts = [verifier.prompt(asked, said(text)) for text in texts]
    assert [prompt.chat for prompt in prompts] == [None] * 6
    looks = verifier.judge(prompts)
    assert looks == [ZoomResult(False)] * 6
    assert counted["scored"] == []
    assert [zoom_reward(look, examples[0], settings.objective.reward) for look in looks] == [0.0] * 6


# --- what it answers ---


def test_scores_are_those_of_a_zoom_pass_over_the_same_frames(tiny_policy: Any, examples: list[Example]) -> None:
    verifier = make(tiny_policy)
    asked = [asked_about(tiny_policy, example) for example in examples]
    spans = [[Span(3.0, 7.0)], [Span(10.0, 14.0), Span(20.0, 22.0)], [Span(0.0, 5.0)], [Span(8.0, 30.0)], [Span(1, 2)]]
    prompts = [verifier.look_at(one, some) for one, some in zip(asked, spans, strict=True)]
    for one, some, look in zip(asked, spans, verifier.judge(prompts), strict=True):
        wide = [(max(s - 0.5, 0.0), min(e + 0.5, 32.0)) for s, e in some]
        plan = plan_on_grid(one.info, wide, one.settings.zoom.budget(), tiny_policy.geometry)
        expected = score(one, "zoom", plan, header="").trace
        assert look.on_span
        assert look.option_log_probs is not None
        assert softmax(look.option_log_probs) == pytest.approx(expected.option_probabilities, abs=1e-5)


def test_the_embedded_model_reads_symbols_off_the_right_spans(tiny_policy: Any, examples: list[Example]) -> None:
    """What makes the reward a signal: on true spans it is right more often than on wrong ones."""
    verifier, found = make(tiny_policy), {"true": 0.0, "wrong": 0.0}
    symbols = [example for example in examples if "symbol" in example.id]
    for example in symbols:
        asked = asked_about(tiny_policy, example)
        true = example.spans
        wrong = [Span(start, start + 3.0) for start in range(29) if not overlaps(start, true)][:1]
        looks = verifier.judge([verifier.look_at(asked, true), verifier.look_at(asked, wrong)])
        for name, look in zip(found, looks, strict=True):
            assert look.option_log_probs is not None
            found[name] += softmax(look.option_log_probs)["ABCD".index(example.answer)] / len(symbols)
    assert found["true"] > 0.5
    assert found["true"] > found["wrong"] + 0.2


def overlaps(start_s: float, spans: tuple[Span, ...]) -> bool:
    return any(start_s - 3 < end and start_s + 6 > start for start, end in spans)


def test_open_questions_are_written_and_read_exactly(tiny_policy: Any, examples: list[Example]) -> None:
    right = "ABCD".index(examples[0].answer)
    open_question = replace(examples[0], options=(), answer=examples[0].options[right])
    verifier, settings = make(tiny_policy), grpo_settings()
    prompts = [verifier.look_at(asked_about(tiny_policy, e), e.spans) for e in (open_question, examples[1])]
    written, scored = verifier.judge(prompts)
    assert written.text is not None
    assert written.option_log_probs is None
    assert scored.option_log_probs is not None
    expected = float(written.text.strip().casefold() == open_question.answer.casefold())
    assert zoom_reward(written, open_question, settings.objective.reward) == expected


def test_scores_that_are_not_numbers_stop_the_run(examples: list[Example]) -> None:
    policy = load_policy("tiny", device="cpu")
    policy.model.model.language_model.norm.weight.data.fill_(math.nan)
    prompt = make(policy).look_at(asked_about(policy, examples[0]), [Span(3.0, 7.0)])
    with pytest.raises(ModelError, match="scores of the options are not numbers"):
        make(policy).judge([prompt])


# --- the paper's variants ---

PAPER = {"preset": "paper"}
ROOMY = PassSettings(fps=1.0, max_tokens=512, max_frames=32, min_frame_tokens=16, max_frame_tokens=16)


def test_paper_shows_uniform_frames_when_there_is_no_span(tiny_policy: Any, examples: list[Example]) -> None:
    asked = asked_about(tiny_policy, examples[0], tiny_settings(zoom=ROOMY))
    verifier = make(tiny_policy, PAPER, zoom=ROOMY)
    prompt = verifier.prompt(asked, said("<think>no idea</think>"))
    assert len(clip_of(prompt).times_s) == 20
    assert not prompt.on_span
    (look,) = verifier.judge([prompt])
    assert not look.on_span
    truth = replace(examples[0], answer=look.text.strip() if look.text else "A")
    assert zoom_reward(look, truth, grpo_settings(PAPER).objective.reward) == 1.0, "and it earns the reward"


def test_paper_pastes_the_thoughts_without_their_times(tiny_policy: Any, examples: list[Example]) -> None:
    asked = asked_about(tiny_policy, examples[0])
    text = spans_text((4.0, 8.0), think="the red <time>(4.0, 8.0)</time> circle shows <b>")
    leaked = words_of(make(tiny_policy, PAPER).prompt(asked, said(text)))
    plain = words_of(make(tiny_policy).prompt(asked, said(text)))
    assert leaked.endswith(plain)
    before = leaked.removesuffix(plain)
    assert " ".join(before.split()) == "the red circle shows"
    assert before.endswith("\n")


def test_paper_writes_its_answer_and_matches_by_substring(tiny_policy: Any, examples: list[Example]) -> None:
    verifier, settings = make(tiny_policy, PAPER), grpo_settings(PAPER).objective.reward
    asked = asked_about(tiny_policy, examples[0])
    look, nothing = verifier.judge([verifier.prompt(asked, said(spans_text((4.0, 8.0)))), nothing_to_see(asked)])
    assert look.option_log_probs is None
    assert look.text is not None
    assert zoom_reward(look, examples[0], settings) == float(look.text.strip() in examples[0].answer)
    assert nothing == ZoomResult(False, text=""), (
        "what does not decode is an empty answer, which the paper counts as right"
    )
    assert zoom_reward(nothing, examples[0], settings) == 1.0


def nothing_to_see(asked: Any) -> Any:
    from zoomzero.train.rollouts.verify import ZoomPrompt

    return ZoomPrompt(asked, False, None)


def test_paper_joins_spans_as_if_contiguous(tiny_policy: Any, examples: list[Example]) -> None:
    asked = asked_about(tiny_policy, examples[0])
    reading = said(spans_text((4.0, 6.0), (20.0, 22.0)))
    joined, kept = (make(tiny_policy, {"rollout": {"zoom_joined": on, "zoom_widen_s": 0.0}}) for on in (True, False))
    there, here = clip_of(kept.prompt(asked, reading)), clip_of(joined.prompt(asked, reading))
    assert there.times_s == (4.0, 5.0, 20.0, 21.0)
    assert here.times_s == (0.0, 1.0, 2.0, 3.0)
    assert here.spans == (Span(0.0, 4.0),)
    assert (here.frames == there.frames).all()
    assert here.key == there.key, "the pixels are the same"
    assert joined.judge([joined.prompt(asked, reading)]) != kept.judge([kept.prompt(asked, reading)])


# --- who it is ---


def trained_with_adapter(settings: GrpoSettings) -> Any:
    """The embedded model with an adapter that changes what it says."""
    policy = load_policy("tiny", device="cpu")
    policy.model = add_adapter(policy.model, LoraSettings(rank=2))
    generator = torch.Generator().manual_seed(0)
    for name, weight in policy.model.named_parameters():
        if "lora_B" in name:
            weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    return policy


@pytest.mark.filterwarnings("ignore:.*checkpointing.* is deprecated:FutureWarning")  # renamed after 5.17
@pytest.mark.parametrize("who", ["reference", "policy"])
def test_under_lora_the_reference_is_the_model_without_its_adapter(
    tiny_policy: Any, examples: list[Example], who: str
) -> None:
    settings = grpo_settings({"rollout": {"verifier": who}, "lora": {"rank": 2}})
    trained = trained_with_adapter(settings)
    reference = make_reference(settings, trained)
    assert reference is not None
    assert reference.policy is trained, "no second copy of the weights"
    verifier = make_verifier(settings, tiny_settings(), trained, reference, Stopwatch())
    assert verifier is not None
    asked = asked_about(trained, examples[0])
    (look,) = verifier.judge([verifier.look_at(asked, [Span(4.0, 8.0)])])
    (start,) = make(tiny_policy).judge([make(tiny_policy).look_at(asked, [Span(4.0, 8.0)])])
    assert look.option_log_probs is not None
    assert start.option_log_probs is not None
    if who == "reference":
        assert look.option_log_probs == pytest.approx(start.option_log_probs, abs=1e-6)
    else:
        assert look.option_log_probs != pytest.approx(start.option_log_probs, abs=1e-2)


def test_without_lora_the_reference_is_a_copy_that_stays_as_it_was(tiny_policy: Any, examples: list[Example]) -> None:
    settings = grpo_settings()
    trained = load_policy("tiny", device="cpu")
    reference = make_reference(settings, trained)
    assert reference is not None
    trained.model.model.language_model.norm.weight.data *= 0.1
    verifier = make_verifier(settings, tiny_settings(), trained, reference, Stopwatch())
    assert verifier is not None
    asked = asked_about(trained, examples[0])
    (look,) = verifier.judge([verifier.look_at(asked, [Span(4.0, 8.0)])])
    (start,) = make(tiny_policy).judge([make(tiny_policy).look_at(asked, [Span(4.0, 8.0)])])
    assert look == start


def test_nobody_verifies_when_it_is_off(tiny_policy: Any) -> None:
    settings = grpo_settings({"rollout": {"verifier": "off"}})
    assert make_verifier(settings, tiny_settings(), tiny_policy, None, Stopwatch()) is None


@pytest.mark.parametrize(
    ("verifier", "beta", "needed"),
    [
        ("reference", 0.0, True),
        ("policy", 0.0, False),
        ("off", 0.0, False),
        ("off", 0.01, True),
        ("policy", 0.01, True),
    ],
)
def test_a_reference_is_made_only_when_somebody_asks_it(
    tiny_policy: Any, verifier: str, beta: float, needed: bool
) -> None:
    settings = grpo_settings(
        {"rollout": {"verifier": verifier}, "objective": {"loss": {"beta": beta}}, "lora": {"rank": 1}}
    )
    assert settings.needs_reference is needed
    assert (make_reference(settings, tiny_policy) is not None) is needed


# --- rows ---


@pytest.mark.parametrize("most", [1, 300, 10**6])
def test_rows_hold_everything_once_and_one_kind_each(
    tiny_policy: Any, examples: list[Example], monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Scored and written looks never share a row, and a row of several keeps to `row_tokens`."""
    rows: dict[str, list[list[int]]] = {"scored": [], "written": []}
    states, read_many = packed.packed_states, tiny_policy.read_many

    def noted_states(model: Any, prompts: Any, *rest: Any) -> Any:
        rows["scored"].append([len(prompt) for prompt in prompts])
        return states(model, prompts, *rest)

    def noted_reading(chats: Any, **named: Any) -> Any:
        rows["written"].append([tiny_policy.prompt_length(chat) for chat in chats])
        return read_many(chats, **named)

    verifier, alone = make(tiny_policy, {"row_tokens": most}), make(tiny_policy)
    asked = [asked_about(tiny_policy, e) for e in (examples[0], replace(examples[1], options=()), examples[2])]
    prompts = [verifier.look_at(one, [Span(start, start + 4.0)]) for start in (2.0, 12.0, 20.0) for one in asked]
    expected = [alone.judge([prompt])[0] for prompt in prompts]
    monkeypatch.setattr(packed, "packed_states", noted_states)
    monkeypatch.setattr(tiny_policy, "read_many", noted_reading)
    looks = verifier.judge(prompts)
    assert [sum(map(len, found)) for found in rows.values()] == [6, 3]
    for row in [*rows["scored"], *rows["written"]]:
        assert len(row) == 1 or sum(row) <= most
    assert len(rows["scored"]) == {1: 6, 10**6: 1}.get(most, len(rows["scored"]))
    for look, wanted in zip(looks, expected, strict=True):
        assert (look.text, look.on_span) == (wanted.text, True)
        assert look.option_log_probs == pytest.approx(wanted.option_log_probs, abs=1e-4)
