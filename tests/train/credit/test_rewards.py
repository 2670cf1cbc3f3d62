"""Rewards of responses: values worked by hand, every published variant, and what bad input does."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reward_example import EXAMPLE, GOOD, OURS, rewards_of

from zoomzero.config import parse_settings
from zoomzero.errors import ConfigError, DataError
from zoomzero.prompts import read_response
from zoomzero.spans import Span
from zoomzero.train.credit.answers import (
    ZoomResult,
    answer_reward,
    right_option,
    zoom_hard,
    zoom_reward,
    zoom_soft,
    zoom_substring,
    zoom_written,
)
from zoomzero.train.credit.objective import PAPER_OBJECTIVE, ObjectiveSettings, RewardSettings, RewardWeights
from zoomzero.train.credit.rewards import (
    RewardValues,
    as_columns,
    reward_values,
    scalar_reward,
    scalar_shares,
)

PAPER = PAPER_OBJECTIVE.reward
OPEN = replace(EXAMPLE, options=(), answer="a blue Key")


# --- a whole response ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD, RewardValues(1.0, 0.75, 1.0)),  # 15 of 20 seconds
        (GOOD.replace(">B<", ">A<"), RewardValues(1.0, 0.75, 0.0)),
        (GOOD.replace("[(10, 20), (30, 35)]", "[]"), RewardValues(1.0, 0.0, 1.0)),
        (GOOD.replace("30, 35", "35, 30"), RewardValues(0.0, 0.5, 1.0)),  # a reversed span: left out, not well-formed
        (GOOD.replace(">B<", "><"), RewardValues(0.0, 0.75, 0.0)),  # no answer
        (GOOD.replace("<answer>B</answer>\n", ""), RewardValues(0.0, 0.75, 0.0)),
        (GOOD[: GOOD.index("</answer>")], RewardValues(0.0, 0.0, 1.0)),  # cut off after the letter
        (GOOD[: GOOD.index("(30")], RewardValues(0.0, 0.5, 1.0)),  # cut off between two spans
        (GOOD[:20], RewardValues(0.0, 0.0, 0.0)),  # cut off while thinking
        ("", RewardValues(0.0, 0.0, 0.0)),
        (GOOD + " and more", RewardValues(0.0, 0.75, 1.0)),
        (GOOD.replace(">B<", ">b<"), RewardValues(0.0, 0.75, 1.0)),  # readable, not well-formed
        (GOOD.replace(">B<", ">E<"), RewardValues(0.0, 0.75, 0.0)),  # no such option
    ],
)
def test_by_hand(text: str, expected: RewardValues) -> None:
    assert rewards_of(text) == expected


def test_format_variants_of_the_paper() -> None:
    reversed_span = GOOD.replace("30, 35", "35, 30")
    half = RewardSettings(unread_glue=0.5)
    assert rewards_of(reversed_span, half).format == 0.5
    assert rewards_of(GOOD, half).format == 1.0
    assert rewards_of(GOOD + " and more", half).format == 0.0
    beyond = GOOD.replace(">B<", ">F<")  # three options
    assert (rewards_of(beyond, OURS).format, rewards_of(beyond, PAPER).format) == (0.0, 1.0)
    assert rewards_of(GOOD.replace(">B<", ">G<"), PAPER).format == 0.0
    assert rewards_of(beyond, PAPER).answer == 0.0


def test_modes_and_text_answers() -> None:
    brief = GOOD[GOOD.index("<answer>") :]
    reading = read_response(brief, 3, "no_think")
    assert reward_values(brief, reading, EXAMPLE, OURS, mode="no_think").format == 1.0
    assert rewards_of(brief).format == 0.0  # thinking was asked for
    named = brief.replace(">B<", ">a star<")
    reading = read_response(named, 3, "no_think", options=EXAMPLE.options, answer_as="text")
    values = reward_values(named, reading, EXAMPLE, OURS, mode="no_think", answer_as="text")
    assert values == RewardValues(1.0, 0.75, 1.0)
    paper = reward_values(named, reading, EXAMPLE, PAPER, mode="no_think", answer_as="text")
    assert paper.format == 1.0  # A-F is about letters
    direct = reward_values("B", read_response("B", 3, "direct"), EXAMPLE, OURS, mode="direct")
    assert direct == RewardValues(1.0, 0.0, 1.0)


def test_open_question() -> None:
    text = GOOD.replace(">B<", ">A  blue key<")
    values = reward_values(text, read_response(text, 0), OPEN, PAPER)
    assert values == RewardValues(1.0, 0.75, 1.0)  # letter case and spacing do not matter, A-F neither
    assert answer_reward(read_response(GOOD.replace(">B<", ">a key<"), 0), OPEN.answer) == 0.0


def test_iou_measures_unions() -> None:
    def iou(glue: str, true: list) -> float:
        text = f"<answer>A</answer>\n<glue>{glue}</glue>"
        example = replace(EXAMPLE, spans=tuple(Span(*pair) for pair in true))
        return reward_values(text, read_response(text, 2, "no_think"), example, OURS).iou

    assert iou("[(0, 6), (4, 10)]", [(0, 5), (5, 10)]) == 1.0  # overlapping against touching
    assert iou("[(0, 5)]", [(5, 10)]) == 0.0
    assert iou("[(0, 30)]", [(0, 5), (20, 30)]) == 0.5  # between the true spans is wrong
    assert iou("[(0, 5)]", []) is None, "nothing to compare with"


# --- the zoom pass ---------------------------------------------------------------------------------------------------

THIRDS = (math.log(0.25), math.log(0.5), math.log(0.25))


def test_scored_looks() -> None:
    assert zoom_hard(THIRDS, 1) == 1.0
    assert zoom_hard(THIRDS, 0) == 0.0
    assert zoom_soft(THIRDS, 1) == pytest.approx(0.5)
    assert zoom_soft(THIRDS, 2) == pytest.approx(0.25)
    assert zoom_soft((-1000.0, -1001.0), 0) == pytest.approx(1 / (1 + math.exp(-1)))
    assert zoom_soft((0.0, -math.inf), 0) == 1.0
    assert zoom_hard((-math.inf, -1.0), 1) == 1.0
    assert zoom_hard((-3.0,), 0) == 1.0  # one option: nothing else to choose


@pytest.mark.parametrize("right", [0, 1])
def test_a_tie_is_no_answer(right: int) -> None:
    assert zoom_hard((-1.0, -1.0, -2.0), right) == 0.0


@pytest.mark.parametrize("scores", [(math.nan, 0.0), (math.inf, 0.0), ()])
def test_unusable_scores(scores: tuple[float, ...]) -> None:
    for reward in (zoom_hard, zoom_soft):
        with pytest.raises(ValueError, match=r"log-probabilities must be|is not among 0"):
            reward(scores, 0)
    with pytest.raises(ValueError, match="unusable"):
        zoom_soft((-math.inf, -math.inf), 0)
    with pytest.raises(ValueError, match="is not among 2"):
        zoom_hard((0.0, -1.0), 2)


@given(st.lists(st.floats(-50, 0), min_size=1, max_size=6), st.floats(-100, 100))
def test_soft_reward_is_a_probability(scores: list[float], shift: float) -> None:
    probabilities = [zoom_soft(scores, i) for i in range(len(scores))]
    assert sum(probabilities) == pytest.approx(1.0)
    assert [zoom_soft([s + shift for s in scores], i) for i in range(len(scores))] == pytest.approx(probabilities)
    assert sum(zoom_hard(scores, i) for i in range(len(scores))) <= 1.0
    best = max(range(len(scores)), key=scores.__getitem__)
    assert all(zoom_hard(scores, i) == 0.0 for i in range(len(scores)) if i != best)


@pytest.mark.parametrize(
    ("text", "exact", "substring"),
    [
        ("B", 1.0, 1.0),
        (" B\n", 1.0, 1.0),
        ("(b)", 1.0, 0.0),
        ("B.", 1.0, 0.0),
        ("a star", 1.0, 0.0),
        ("A", 0.0, 0.0),
        ("", 0.0, 1.0),  # the paper's: an empty answer is contained in every truth
        ("   ", 0.0, 1.0),
    ],
)
def test_written_looks(text: str, exact: float, substring: float) -> None:
    assert zoom_written(text, EXAMPLE) == exact
    assert zoom_substring(text, EXAMPLE.answer) == substring
    look = ZoomResult(on_span=True, text=text)
    assert zoom_reward(look, EXAMPLE, OURS) == exact
    assert zoom_reward(look, EXAMPLE, PAPER) == substring


def test_open_question_written_look() -> None:
    assert zoom_reward(ZoomResult(on_span=True, text="A blue key"), OPEN, OURS) == 1.0
    assert zoom_reward(ZoomResult(on_span=True, text=""), OPEN, OURS) == 0.0


def test_no_usable_span_earns_nothing_unless_the_paper_says_so() -> None:
    whole = ZoomResult(on_span=False, option_log_probs=THIRDS)
    for zoom in ("hard", "soft"):
        assert zoom_reward(whole, EXAMPLE, RewardSettings(zoom=zoom)) == 0.0
        assert zoom_reward(whole, EXAMPLE, RewardSettings(zoom=zoom, zoom_without_span=True)) > 0.4
    assert zoom_reward(ZoomResult(on_span=False), EXAMPLE, RewardSettings(zoom="soft")) == 0.0  # nothing was looked at
    assert zoom_reward(ZoomResult(on_span=False, text="B"), EXAMPLE, PAPER) == 1.0


def test_zoom_in_a_whole_response() -> None:
    look = ZoomResult(on_span=True, option_log_probs=THIRDS)
    assert rewards_of(GOOD, zoom=look) == RewardValues(1.0, 0.75, 1.0, 1.0)
    assert rewards_of(GOOD, RewardSettings(zoom="soft"), look).zoom == pytest.approx(0.5)
    assert rewards_of(GOOD).zoom is None


def test_settings_that_the_look_cannot_serve() -> None:
    scored, written = ZoomResult(True, option_log_probs=THIRDS), ZoomResult(True, text="B")
    with pytest.raises(ConfigError, match=r"reward\.zoom: the zoom pass wrote no text"):
        zoom_reward(scored, EXAMPLE, PAPER)
    with pytest.raises(ConfigError, match="soft needs the options' log-probabilities"):
        zoom_reward(written, EXAMPLE, RewardSettings(zoom="soft"))
    with pytest.raises(ConfigError, match="wrote no text"):
        zoom_reward(ZoomResult(True), EXAMPLE, OURS)
    with pytest.raises(ValueError, match="2 scores for 3 options of q1"):
        zoom_reward(ZoomResult(True, option_log_probs=(0.0, -1.0)), EXAMPLE, OURS)


def test_truth_that_is_no_option() -> None:
    assert right_option(EXAMPLE) == 1
    with pytest.raises(DataError, match="example q1: answer 'D' is not one of its labels A, B, C"):
        right_option(replace(EXAMPLE, answer="D"))
    with pytest.raises(DataError, match="it has no options"):
        zoom_reward(ZoomResult(True, option_log_probs=()), OPEN, OURS)


# --- one number ------------------------------------------------------------------------------------------------------


def test_scalar() -> None:
    assert scalar_reward(RewardValues(1.0, 0.6, 1.0, 0.0)) == pytest.approx((0.5 + 1.0 + 0.6) / 3)
    assert scalar_reward(RewardValues(1.0, 0.6, 1.0)) == pytest.approx(2.6 / 3)
    assert scalar_reward(RewardValues(1.0, 1.0, 1.0, 1.0)) == pytest.approx(1.0)
    weights = RewardWeights(format=0.5, iou=2.0)
    assert scalar_reward(RewardValues(1.0, 0.5, 1.0, 0.0), weights) == pytest.approx((0.5 + 1.0 + 0.5) / 3.5)
    answer_only = RewardWeights(format=0, iou=0, zoom=0)
    assert scalar_reward(RewardValues(1.0, 0.5, 0.0, 1.0), answer_only) == 0.0


def test_shares() -> None:
    ones = RewardWeights().model_dump()
    assert scalar_shares(("format", "iou", "answer", "zoom"), ones) == pytest.approx(
        {"format": 1 / 3, "iou": 1 / 3, "answer": 1 / 6, "zoom": 1 / 6}
    )
    assert scalar_shares(("format", "iou", "answer"), ones) == pytest.approx(
        dict.fromkeys(("format", "iou", "answer"), 1 / 3)
    )
    with pytest.raises(ConfigError, match="give one a weight above 0"):
        scalar_shares(("format", "zoom"), ones | {"format": 0.0, "zoom": 0.0})


def test_columns() -> None:
    group = [RewardValues(1.0, 0.5, 0.0, 1.0), RewardValues(0.0, 0.25, 1.0, 0.5)]
    assert as_columns(group) == {"format": [1.0, 0.0], "iou": [0.5, 0.25], "answer": [0.0, 1.0], "zoom": [1.0, 0.5]}
    assert "zoom" not in as_columns([RewardValues(1.0, 0.5, 0.0)])
    with pytest.raises(ValueError, match="1 of 2 responses have a zoom reward"):
        as_columns([group[0], RewardValues(1.0, 0.5, 0.0)])


# --- settings --------------------------------------------------------------------------------------------------------


def test_settings_refuse_what_cannot_work() -> None:
    for values, where in [
        ({"reward": {"weights": dict.fromkeys(("format", "iou", "answer", "zoom"), 0)}}, "all reward weights are 0"),
        ({"reward": {"weights": {"iou": -1}}}, "reward.weights.iou"),
        ({"reward": {"weights": {"iou": math.inf}}}, "reward.weights.iou"),
        ({"reward": {"zoom": "loose"}}, "reward.zoom"),
        ({"loss": {"epsilon": 1.0}}, "loss.epsilon"),
        ({"credit": {"estimators": "grpo"}}, "credit.estimators"),
    ]:
        with pytest.raises(ConfigError, match=where):
            parse_settings(ObjectiveSettings, values, "train.toml")


def test_paper_preset_differs_from_ours_where_it_should() -> None:
    ours = ObjectiveSettings().model_dump()
    paper = PAPER_OBJECTIVE.model_dump()
    assert {key for key in ours["reward"] if ours["reward"][key] != paper["reward"][key]} == {
        "letters",
        "zoom",
        "zoom_without_span",
    }
    assert (ours["credit"]["estimator"], paper["credit"]["estimator"]) == ("select", "select_paper")
    assert ours["loss"] == paper["loss"]
    assert (paper["loss"]["epsilon"], paper["loss"]["epsilon_high"], paper["loss"]["beta"]) == (0.2, 0.28, 0.01)


def test_every_setting_has_a_sentence() -> None:
    for part in (ObjectiveSettings, RewardSettings, RewardWeights):
        assert all(field.description for field in part.model_fields.values())


def test_rewards_load_no_torch() -> None:
    code = (
        "import sys, zoomzero.train.credit.rewards; print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"
