"""Learning to see: labels are those of the patches beside them, losses are worked out by hand, a killed run goes on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoomzero.policy.local import vision as inference
from zoomzero.policy.local.families.qwen3_vl import Qwen3VL
from zoomzero.policy.local.load import load_policy
from zoomzero.train.engine import vision
from zoomzero.train.engine.vision import (
    CYCLE,
    LATER_CYCLE,
    LOG_FILE,
    STATE_FILE,
    TOUCH_PIXELS,
    Batch,
    Heads,
    PictureStream,
    TowerStates,
    make_batch,
    measure,
    picture_loss,
    pretrain,
)
from zoomzero.train.settings import VisionSettings
from zoomzero.video.types import Geometry
from zoomzero.world.pictures import NO_SYMBOL, NOTHING, Pictures, View, draw_pictures
from zoomzero.world.scenes import KINDS

FAMILY = Qwen3VL(Geometry(patch=8, merge=4), (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 3, 4)  # the embedded model's
SETTINGS = VisionSettings(
    steps=6, small=4, crop=3, large=2, lone_steps=2, symbols_from=3, measure_every=2, draw_ahead=False, seed=5
)


def pictures_of(view: View, count: int = 5, seed: int = 2) -> Pictures:
    return draw_pictures(np.random.default_rng(seed), count, view)


def patch_corners(side_patches: int) -> list[tuple[int, int]]:
    """Row and column of every patch in the processor's order: token by token, 4 x 4 patches each."""
    tokens = range(side_patches // 4)
    return [(4 * y + r, 4 * x + c) for y in tokens for x in tokens for r in range(4) for c in range(4)]


@pytest.fixture
def policy(family_checkpoints: dict[str, Path]) -> Any:
    """A small random model of its own for each test, for pretraining changes it."""
    return load_policy(family_checkpoints["qwen3_vl"], device="cpu", dtype="float32")


@pytest.fixture
def few_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision, "_HELD_OUT_PAIRS", 4)


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("view", "side"), [("small", 4), ("crop", 8), ("large", 16)])
def test_patches_and_their_labels_lie_at_the_same_place(view: View, side: int) -> None:
    """By a plain loop over patches: the pixels of each, and what lies at its middle."""
    made = pictures_of(view)
    batch = make_batch(made, FAMILY)
    assert batch.grid == (1, side, side)
    corners = patch_corners(side)
    assert batch.patches.shape == (5 * side * side, 3 * 2 * 8 * 8)
    patches = batch.patches.view(5, side * side, 3, 2, 8, 8)
    for n in range(5):
        for p, (row, column) in enumerate(corners):
            at = (slice(2 * n, 2 * n + 2), slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
            pixels = torch.from_numpy(made.frames[at].copy()).permute(3, 0, 1, 2) / 255  # (3, 2, 8, 8)
            torch.testing.assert_close(patches[n, p] * 0.5 + 0.5, pixels, rtol=0, atol=1e-5)
            kinds = [int(made.kinds[n, t, 8 * row + 4, 8 * column + 4]) for t in (0, 1)]
            symbols = [int(made.symbols[n, t, 8 * row + 4, 8 * column + 4]) for t in (0, 1)]
            assert batch.kinds[n, p].tolist() == kinds
            assert int(batch.symbols[n, p]) == min(symbols), "a symbol in either frame"


@pytest.mark.parametrize(("view", "across"), [("small", 1), ("crop", 2), ("large", 4)])
def test_token_is_told_what_touches_its_square(view: View, across: int) -> None:
    """By a plain loop over tokens, frames and kinds; in a small frame the one token stands for the whole frame."""
    made = pictures_of(view, 12)
    batch = make_batch(made, FAMILY)
    assert batch.present.shape == (12, across**2, 2 * KINDS)
    assert batch.carried.shape == (12, across**2, KINDS)
    came_up = set()
    for n in range(12):
        for token in range(across**2):
            y, x = divmod(token, across)
            square = made.kinds[n, :, 32 * y : 32 * y + 32, 32 * x : 32 * x + 32]
            for kind in range(KINDS):
                said = []
                for frame in (0, 1):
                    whole, pixels = int(made.present[n, frame, kind]), int((square[frame] == kind).sum())
                    sliver = pixels > 0 and (pixels < TOUCH_PIXELS or whole < 0)
                    right = whole if across == 1 else -1 if sliver else int(pixels > 0)
                    assert batch.present[n, token, KINDS * frame + kind] == right
                    said.append(right)
                carried = int(made.carried[n, kind]) if 1 in said else -1
                assert int(batch.carried[n, token, kind]) == carried
                came_up.update(said)
    assert came_up >= ({0, 1} if view == "small" else {-1, 0, 1})


def test_token_that_holds_a_corner_of_an_object_by_hand() -> None:
    """An object of 48 x 48 pixels at (20, 20) of a 64 x 64 crop: 12 x 12 pixels in the first square, 144 >= 60."""
    kinds = np.full((1, 2, 64, 64), NOTHING)
    kinds[:, :, 20:64, 20:64] = 7
    kinds[:, 1] = NOTHING  # in the first frame only
    kinds[0, 0, 33:36, 0:3] = 9  # a sliver of 9 pixels
    symbols = np.full((1, 2, 64, 64), NO_SYMBOL)
    present = np.zeros((1, 2, KINDS), np.int64)
    present[0, 0, 7], present[0, 0, 9] = 1, -1
    carried = np.full((1, KINDS), -1)
    carried[0, 7] = 3
    made = Pictures(np.zeros((2, 64, 64, 3), np.uint8), kinds, symbols, present, carried)
    batch = make_batch(made, FAMILY)
    wanted = torch.zeros(4, 2 * KINDS)
    wanted[:, 7] = 1
    wanted[2, 9] = -1
    assert torch.equal(batch.present[0], wanted)
    assert batch.carried[0, :, 7].tolist() == [3, 3, 3, 3]
    assert int((batch.carried >= 0).sum()) == 4
    near = vision._near(batch, 4)[0]  # patches of the first token whose middle lies in the object: rows 20, 28
    assert near[:, 7].tolist() == [1, 1, 1, 1]
    assert float(near.sum()) == 4


def test_stream_follows_its_cycles_and_is_a_pure_function() -> None:
    assert CYCLE.count("small") == LATER_CYCLE.count("crop") == 3
    stream = PictureStream(SETTINGS, FAMILY, 0)
    assert len(stream) == 6
    sides = {"small": 4, "crop": 8, "large": 16}
    views = [*CYCLE[:3], *LATER_CYCLE[3:]]  # from step 3 on the later cycle, at its own place
    for step, view in enumerate(views):
        batch = stream[step]
        assert batch.grid == (1, sides[view], sides[view])
        assert len(batch.kinds) == getattr(SETTINGS, view)
        lone = ((batch.kinds < NOTHING).flatten(1).any(1)).all() and all(
            len(set(kinds[kinds < NOTHING].tolist())) == 1 for kinds in batch.kinds
        )
        assert lone or step >= SETTINGS.lone_steps
    later = PictureStream(SETTINGS, FAMILY, 4)
    assert len(later) == 2
    assert torch.equal(later[0].patches, stream[4].patches), "what comes next does not depend on where a run began"
    assert not torch.equal(stream[0].patches, stream[2].patches)


# --- the tower's states and the losses --------------------------------------------------------------------------------


def test_states_are_those_of_inference_and_the_tower_is_left_as_it_was(policy: Any) -> None:
    tower, batch = policy.model.model.visual, make_batch(pictures_of("crop", 3), policy.family)
    with torch.no_grad():
        before = inference.encode(policy.model.model, batch.patches, torch.tensor([batch.grid] * 3))
        with TowerStates(tower, type(policy.family)) as states:
            found = states(batch)
        after = inference.encode(policy.model.model, batch.patches, torch.tensor([batch.grid] * 3))
    assert {name: tuple(value.shape) for name, value in found.items()} == {
        "local": (3, 16, 24),
        "gathered": (3, 16, 24),
        "tokens": (3, 4, 48),
        "deep": (3, 4, 48),
    }
    assert torch.equal(found["tokens"].flatten(0, 1), before.embeds)
    assert torch.equal(found["deep"].flatten(0, 1), before.deepstack[0])
    assert torch.equal(before.embeds, after.embeds)
    assert not any(module._forward_hooks for module in tower.modules())


def blank_states(batch: Batch, hidden: int = 8) -> dict[str, Tensor]:
    n, p, v = *batch.kinds.shape[:2], batch.present.shape[1]
    sizes = {"local": p, "gathered": p, "tokens": v, "deep": v}
    return {name: torch.zeros(n, size, hidden) for name, size in sizes.items()}


def blank_heads() -> Heads:
    """Heads that say nothing: every logit is 0."""
    heads = Heads(8, 8)
    with torch.no_grad():
        for p in heads.parameters():
            p.zero_()
    return heads


def test_losses_of_one_who_knows_nothing_by_hand() -> None:
    """25 things a patch may show, 8 symbols, and for each kind a coin: ln 25, ln 8 and ln 2, times their weights."""
    batch = make_batch(pictures_of("large", 6), FAMILY)
    losses = {name: x.item() for name, x in picture_loss(blank_heads(), blank_states(batch), batch).items()}
    told = float((batch.present >= 0).float().mean())
    assert told < 1
    expected = {
        "patches": 3 * math.log(25),
        "glyphs": 4 * math.log(8),
        "gathered": 24 * math.log(2) * told,
        "gathered_symbols": 4 * math.log(8),
        "tokens": 24 * math.log(2) * told,
        "tokens_symbols": 4 * math.log(8),
        "deep": 24 * math.log(2),
    }
    assert losses == pytest.approx(expected, rel=1e-5)


def test_small_frames_ask_for_no_symbols() -> None:
    batch = make_batch(pictures_of("small"), FAMILY)
    names = set(picture_loss(blank_heads(), blank_states(batch), batch))
    assert names - {"glyphs"} == {"patches", "gathered", "tokens", "deep"}


def test_what_nobody_can_tell_teaches_nothing() -> None:
    batch = make_batch(pictures_of("crop", 12), FAMILY)
    unknown = batch.present < 0
    assert unknown.any()
    logits = torch.zeros_like(batch.present, requires_grad=True)
    vision._presence(logits, batch.present).backward()
    assert logits.grad is not None
    assert (logits.grad[unknown] == 0).all()
    assert (logits.grad[batch.present == 1] < 0).all(), "towards there"
    assert (logits.grad[batch.present == 0] > 0).all(), "towards not there"


class Knowing:
    """Stands for a tower that knows the labels: its tokens are what a perfect head would say, some made wrong."""

    def __init__(self, tower: Any, wrong: float = 0.0) -> None:
        self.wrong = wrong

    def __enter__(self) -> Knowing:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        present = torch.where(batch.present > 0, 9.0, -9.0)
        n, v = present.shape[:2]
        symbols = torch.zeros(n, v, KINDS, 8).scatter_(3, batch.carried.clamp(min=0)[..., None], 9.0).flatten(2)
        flipped = present.flatten(0, 1)
        flipped[: round(self.wrong * n * v), 0] *= -1
        return {"tokens": torch.cat([flipped.view_as(present), symbols], 2)}


@pytest.mark.parametrize("wrong", [0.0, 0.25])
def test_measure_counts_tokens_that_are_right_in_everything(
    wrong: float, monkeypatch: pytest.MonkeyPatch, few_held_out: None
) -> None:
    monkeypatch.setattr(vision, "TowerStates", lambda tower, family: Knowing(tower, wrong))
    heads = Heads(8, 8)
    heads.tokens = nn.Identity()
    found = measure(None, heads, FAMILY, seed=1)
    assert found["symbols"] == 1.0
    # a flipped kind counts unless nobody could tell it
    assert found["exact_small"] == pytest.approx(1 - wrong, abs=0.26 * (wrong > 0))
    assert found["exact_large"] == pytest.approx(1 - wrong, abs=0.05 * (wrong > 0))
    assert (found["exact_large"] == 1.0) == (wrong == 0)


# --- runs -------------------------------------------------------------------------------------------------------------


class Killed(Exception):
    """Stands for whatever ends a run in the middle."""


def weights_of(policy: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in policy.model.model.visual.state_dict().items()}


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / LOG_FILE).read_text().splitlines()]


def test_killed_run_goes_on_as_if_nothing_had_happened(
    policy: Any, family_checkpoints: dict[str, Path], few_held_out: None, tmp_path: Path
) -> None:
    """Killed in step 6 of 6, so its last state is that of step 4: one step is made again."""
    (tmp_path / "straight").mkdir()
    (tmp_path / "killed").mkdir()
    start = weights_of(policy)
    steps: list[tuple[int, int, str]] = []
    found = pretrain(
        policy.model.model.visual,
        policy.family,
        SETTINGS,
        tmp_path / "straight",
        progress=lambda *said: steps.append(said),
    )
    straight = weights_of(policy)
    assert [said[:2] for said in steps] == [(i, 6) for i in range(1, 7)]
    changed = {name for name in start if not torch.equal(start[name], straight[name])}
    assert changed == set(start) - {name for name in start if "inv_freq" in name}, "every weight learns"
    assert [row["step"] for row in rows_of(tmp_path / "straight")] == [2, 4, 6]
    assert found == rows_of(tmp_path / "straight")[-1]
    assert {"step", "minutes", "loss", "exact_small", "exact_large", "symbols"} == set(found)

    def stop(done: int, total: int, text: str) -> None:
        if done == 5:
            raise Killed

    again = load_policy(family_checkpoints["qwen3_vl"], device="cpu", dtype="float32")
    with pytest.raises(Killed):
        pretrain(again.model.model.visual, again.family, SETTINGS, tmp_path / "killed", progress=stop)
    assert not any(module._forward_hooks for module in again.model.model.visual.modules())
    assert torch.load(tmp_path / "killed" / STATE_FILE, weights_only=True)["step"] == 4
    third = load_policy(family_checkpoints["qwen3_vl"], device="cpu", dtype="float32")
    resumed: list[int] = []
    last = pretrain(
        third.model.model.visual,
        third.family,
        SETTINGS,
        tmp_path / "killed",
        progress=lambda done, total, text: resumed.append(done),
    )
    assert resumed == [5, 6]
    mine = weights_of(third)
    assert all(torch.equal(mine[name], straight[name]) for name in straight)
    for row, same in zip(rows_of(tmp_path / "killed"), rows_of(tmp_path / "straight"), strict=True):
        assert {k: v for k, v in row.items() if k != "minutes"} == {k: v for k, v in same.items() if k != "minutes"}
    assert last["step"] == 6
    assert not list(tmp_path.rglob("*.partial"))


def test_finished_run_is_loaded_and_not_made_again(
    policy: Any, family_checkpoints: dict[str, Path], few_held_out: None, tmp_path: Path
) -> None:
    short = SETTINGS.model_copy(update={"steps": 2})
    found = pretrain(policy.model.model.visual, policy.family, short, tmp_path)
    again = load_policy(family_checkpoints["qwen3_vl"], device="cpu", dtype="float32")
    steps: list[int] = []
    loaded = pretrain(
        again.model.model.visual, again.family, short, tmp_path, progress=lambda done, *rest: steps.append(done)
    )
    assert (steps, loaded) == ([], found)
    mine, theirs = weights_of(again), weights_of(policy)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_pictures_drawn_ahead_are_the_same(
    policy: Any, family_checkpoints: dict[str, Path], few_held_out: None, tmp_path: Path
) -> None:
    other = load_policy(family_checkpoints["qwen3_vl"], device="cpu", dtype="float32")
    for one, ahead in ((policy, False), (other, True)):
        out = tmp_path / str(ahead)
        out.mkdir()
        settings = SETTINGS.model_copy(update={"steps": 3, "draw_ahead": ahead})
        pretrain(one.model.model.visual, one.family, settings, out)
    mine, theirs = weights_of(policy), weights_of(other)
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


def test_rate_warms_up_and_falls_to_nearly_nothing() -> None:
    settings = VisionSettings(steps=1000, decay=0.4)
    rates = [vision._rate(step, settings) for step in (0, 24, 49, 300, 600, 800, 999)]
    assert rates == pytest.approx([0.02, 0.5, 1.0, 1.0, 1.0, 0.5, 0.01])


def test_some_steps_lower_the_loss(policy: Any, few_held_out: None, tmp_path: Path) -> None:
    losses: list[float] = []
    settings = VisionSettings(
        steps=42, small=16, crop=4, large=2, lone_steps=42, measure_every=42, learning_rate=1e-2, draw_ahead=False
    )
    pretrain(
        policy.model.model.visual,
        policy.family,
        settings,
        tmp_path,
        progress=lambda done, total, text: losses.append(float(text.removeprefix("loss "))),
    )
    small = [loss for step, loss in enumerate(losses) if CYCLE[step % 6] == "small"]
    assert np.mean(small[-5:]) < 0.7 * small[0], small
