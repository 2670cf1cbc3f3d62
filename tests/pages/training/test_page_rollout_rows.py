from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rollout_groups import group, rollout

from zoomzero.pages.training.rows import group_facts, pack_group, pieces
from zoomzero.spans import Span
from zoomzero.train.credit.rewards import RewardValues

# --- tokens ---


def test_a_completion_is_cut_at_its_tokens() -> None:
    one = rollout("Añ💡b", offsets=((0, 1), (1, 2), (2, 3), (2, 3), (3, 4), (4, 4)))
    assert list(pieces(one)) == [("A", 0), ("ñ", 1), ("💡", 2), ("", 3), ("b", 4), ("", 5)]


def test_text_that_no_token_covers_is_shown_without_one() -> None:
    one = rollout("ab cd", offsets=((0, 2), (3, 4)))
    assert list(pieces(one)) == [("ab", 0), (" ", None), ("c", 1), ("d", None)]


@given(st.text(max_size=8), st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=8))
def test_the_pieces_are_the_text(text: str, pairs: list[tuple[int, int]]) -> None:
    offsets = tuple(sorted((min(a, b, len(text)), min(max(a, b), len(text))) for a, b in pairs))
    cut = list(pieces(rollout(text, offsets=offsets)))
    assert "".join(piece for piece, _ in cut) == text
    assert [token for _, token in cut if token is not None] == list(range(len(offsets)))


def test_equal_neighbours_share_their_advantage() -> None:
    first = pack_group(group(), group_facts(group()))["rollouts"][0]
    # (format + zoom + iou) / 3 on the rest, (format + zoom + answer) / 3 on the letter: N(1, 0) is 0.5 / sqrt(0.5) and
    # N(0.5, 0) is 0.25 / sqrt(0.125).
    assert first["credit"] == [
        [8, pytest.approx(0.70710, abs=1e-4), 0],
        [1, pytest.approx(0.70710, abs=1e-4), 1],
        [9, pytest.approx(0.70710, abs=1e-4), 0],
    ]
    without = replace(group(), rollouts=(rollout("ab", answer_mask=(False, True)),))
    assert pack_group(without, group_facts(without))["rollouts"][0]["credit"] == [[1, None, 0], [1, None, 1]]


# --- groups ---


def test_a_group_in_numbers() -> None:
    facts = group_facts(group(index=4, step=2))
    assert facts.place == (2, 4)
    assert facts.means == {"format": 0.5, "iou": 0.25, "answer": 0.5, "zoom": 0.5}
    assert facts.stds["format"] == pytest.approx(math.sqrt(0.5))
    assert facts.stds["iou"] == pytest.approx(math.sqrt(0.125))
    # scalar rewards ((1 + 1)/2 + 1 + 0.5)/3 = 5/6 and 0
    assert facts.spread == pytest.approx(5 / 6 / math.sqrt(2))
    assert (facts.rollouts, facts.mean_tokens, facts.misread_share, facts.cut_share) == (2, 12.5, 0.5, 0.5)
    assert facts.strongest == (pytest.approx(0.70710, abs=1e-4), pytest.approx(0.70710, abs=1e-4))


def test_a_group_without_spread_or_zoom() -> None:
    plain = replace(rollout(), rewards=RewardValues(1.0, 0.5, 1.0), zoom=None)
    facts = group_facts(replace(group(), rollouts=(plain, plain)))
    assert facts.flat == {"format": True, "iou": True, "answer": True}
    assert facts.spread == 0.0
    packed = pack_group(replace(group(), rollouts=(plain,)), facts)
    assert packed["mean"] == [1.0, 0.5, 1.0, None]
    assert packed["flat"] == [True, True, True, None]
    assert packed["rollouts"][0]["zoom"] is None


def test_spans_lie_on_the_videos_axis() -> None:
    packed = pack_group(group(), group_facts(group()))
    assert packed["spans"] == [[10.0, 10.0, "00:10 – 00:20"]]
    assert packed["rollouts"][0]["spans"] == [[10.0, 20.0, "00:10 – 00:30"]]
    assert packed["ticks"][:2] == [[0.0, "00:00"], [15.0, "00:15"]]
    far = replace(group(), rollouts=(rollout(spans=(Span(90, 130), Span(200, 210))),))
    one = pack_group(far, group_facts(far))["rollouts"][0]
    assert (one["spans"], one["outside"]) == ([[90.0, 10.0, "01:30 – 01:40"]], 1)


def test_the_zoom_look_becomes_probabilities() -> None:
    first, second = pack_group(group(), group_facts(group()))["rollouts"]
    assert first["zoom"] == {"on": True, "chances": [0.25, 0.75], "text": None}
    assert second["zoom"] == {"on": False, "chances": None, "text": None}
    assert (first["right"], second["right"]) == (True, False)
