"""Pretraining of the embedded model's vision tower on labelled pictures, before a language model asks it anything.

Finding cannot be better than seeing, and a tower learns to see far faster from labels than from words. The first half
of its layers learns what each patch shows; the second half gathers into every patch which objects touch its token; the
mergers hand that on as visual tokens. All of it is supervised classification with linear heads that are thrown away.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from zoomzero.files import read_rows, write_whole
from zoomzero.interrupts import end_with_parent
from zoomzero.policy.local.families.base import Family
from zoomzero.policy.local.vision import tower_tables
from zoomzero.train.engine.optimizers import Muon
from zoomzero.train.settings import VisionSettings
from zoomzero.world.pictures import NO_SYMBOL, NOTHING, SIDES, Pictures, View, draw_pictures
from zoomzero.world.scenes import KINDS, SYMBOLS

# What batches show, in turn: mostly small frames at first, then more of those whose symbols can be read.
CYCLE: tuple[View, ...] = ("small", "crop", "small", "large", "small", "crop")
LATER_CYCLE: tuple[View, ...] = ("crop", "small", "crop", "large", "crop", "small")
TOUCH_PIXELS = 60  # of a token's 1024, from which an object counts as touching it
SYMBOL_WEIGHT = 4.0  # few patches carry one, and without it the larger losses drown them
STATE_FILE, LOG_FILE = "vision.pt", "vision.jsonl"
_STREAM, _HELD_OUT = 3, 4  # keep the random streams apart
_HELD_OUT_PAIRS = 192


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Pictures as the tower gets them.

    `patches` (N*P, C) float32, P patches a pair, in the order of the family's processor; `grid` (time, height, width)
    of one pair. `kinds` (N, P, 2) and `symbols` (N, P) int64 are what lies at the middle of each patch. `present`
    (N, V, 2*KINDS) float32 says for each of a pair's V visual tokens which kinds touch its square in each frame, -1
    where so little does that nobody could tell; `carried` (N, V, KINDS) int64 their symbols, -1 where unreadable.
    """

    patches: Tensor
    grid: tuple[int, int, int]
    kinds: Tensor
    symbols: Tensor
    present: Tensor
    carried: Tensor


class Heads(nn.Module):
    """Linear readers of the tower's states: patches in the middle, patches at the end, visual tokens of each merger."""

    def __init__(self, hidden: int, out: int) -> None:
        super().__init__()
        self.local = nn.Linear(hidden, 2 * (KINDS + 1) + len(SYMBOLS))
        self.gathered = nn.Linear(hidden, 2 * KINDS + KINDS * len(SYMBOLS))
        self.tokens = nn.Linear(out, 2 * KINDS + KINDS * len(SYMBOLS))
        self.deep = nn.Linear(out, 2 * KINDS)


class PictureStream(Dataset[Batch]):
    """Batch `i` of a run, a pure function of the seed and `i`."""

    def __init__(self, settings: VisionSettings, family: Family, first: int) -> None:
        self.settings, self.family, self.first = settings, family, first

    def __len__(self) -> int:
        return self.settings.steps - self.first

    def __getitem__(self, index: int) -> Batch:
        end_with_parent()
        step = self.first + index
        cycle = CYCLE if step < self.settings.symbols_from else LATER_CYCLE
        view = cycle[step % len(cycle)]
        rng = np.random.default_rng((_STREAM, self.settings.seed, step))
        lone = step < self.settings.lone_steps
        return make_batch(draw_pictures(rng, getattr(self.settings, view), view, lone=lone), self.family)


def make_batch(pictures: Pictures, family: Family) -> Batch:
    """Cut pictures into patches and give every patch its labels."""
    geometry = family.geometry
    side = pictures.kinds.shape[-1] // geometry.patch
    n = len(pictures.kinds)

    def at_patches(labels: Any) -> Tensor:
        """(N, T, side_px, side_px) -> (N, P, T): the label at the middle of each patch, in the processor's order."""
        middle = geometry.patch // 2
        grid = torch.from_numpy(labels[:, :, middle :: geometry.patch, middle :: geometry.patch].copy())
        blocks = grid.view(n, -1, side // geometry.merge, geometry.merge, side // geometry.merge, geometry.merge)
        return blocks.permute(0, 2, 4, 3, 5, 1).reshape(n, side * side, -1)

    present = _touching(pictures, geometry.factor)  # (N, V, 2, KINDS)
    carried = torch.from_numpy(pictures.carried)[:, None].expand(-1, present.shape[1], -1)
    return Batch(
        patches=family.patches(pictures.frames),
        grid=(1, side, side),
        kinds=at_patches(pictures.kinds),
        symbols=at_patches(pictures.symbols).amin(2),
        present=present.flatten(2).float(),
        carried=torch.where((present == 1).any(2), carried, -1),
    )


def _touching(pictures: Pictures, square: int) -> Tensor:
    """Return which kinds touch the square of each visual token, (N, V, 2, KINDS) int64: 1, 0, or -1 for a sliver."""
    whole = torch.from_numpy(pictures.present)[:, None]  # (N, 1, 2, KINDS)
    n, _, side, _ = pictures.kinds.shape
    across = side // square
    if across == 1:
        return whole
    kinds = torch.from_numpy(pictures.kinds.copy()).view(n, 2, across, square, across, square)
    pixels = kinds.permute(0, 2, 4, 1, 3, 5).reshape(n, across**2, 2, -1)
    counts = torch.zeros(*pixels.shape[:3], KINDS + 1, dtype=torch.int64)
    counts.scatter_add_(3, pixels, torch.ones_like(pixels))
    shown = counts[..., :KINDS]
    sliver = (shown > 0) & ((shown < TOUCH_PIXELS) | (whole < 0))
    return torch.where(sliver, -1, (shown > 0).long())


class TowerStates:
    """What the tower makes of a batch: patches after its local half and at its end, tokens of both mergers."""

    def __init__(self, tower: Any, family: type[Family]) -> None:
        self.tower, self.family = tower, family
        self._kept: dict[str, Tensor] = {}
        local = tower.deepstack_visual_indexes[0]
        self._hooks = [
            block.register_forward_hook(lambda _, __, out, name=name: self._kept.__setitem__(name, out))
            for name, block in (("local", tower.blocks[local]), ("gathered", tower.blocks[-1]))
        ]

    def __enter__(self) -> TowerStates:
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the tower as it was."""
        for hook in self._hooks:
            hook.remove()

    def __call__(self, batch: Batch) -> dict[str, Tensor]:
        """Return `local` and `gathered` (N, P, hidden), `tokens` and `deep` (N, tokens a pair, out)."""
        n = len(batch.present)
        grids = (batch.grid,) * n
        tables = tower_tables(self.tower, self.family, grids)
        out = self.tower(batch.patches, grid_thw=torch.tensor(grids), return_dict=True, **tables)
        states = {name: value.view(n, -1, value.shape[-1]) for name, value in self._kept.items()}
        tokens, deep = out.pooler_output, out.deepstack_features[0]
        return states | {"tokens": tokens.view(n, -1, tokens.shape[-1]), "deep": deep.view(n, -1, deep.shape[-1])}


def picture_loss(heads: Heads, states: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    """Return the losses by name; their sum is what is learned from."""
    local = heads.local(states["local"])  # (N, P, 50 + 8)
    kinds = local[..., : 2 * (KINDS + 1)].unflatten(-1, (2, KINDS + 1))
    losses = {"patches": 3 * F.cross_entropy(kinds.flatten(0, 2), batch.kinds.flatten())}
    glyph = batch.symbols < NO_SYMBOL
    if bool(glyph.any()):
        losses["glyphs"] = SYMBOL_WEIGHT * F.cross_entropy(local[..., 2 * (KINDS + 1) :][glyph], batch.symbols[glyph])
    for name, head in (("gathered", heads.gathered), ("tokens", heads.tokens)):
        read = head(states[name])  # (N, P or V, 48 + 192)
        each = read.shape[1] // batch.present.shape[1]  # patches of a token lie together
        losses[name] = _presence(read[..., : 2 * KINDS], batch.present.repeat_interleave(each, 1))
        if batch.present.shape[1] > 1:  # symbols cannot be read in small frames
            carried = batch.carried.repeat_interleave(each, 1)
            known = carried >= 0
            if bool(known.any()):
                symbols = read[..., 2 * KINDS :].unflatten(-1, (KINDS, len(SYMBOLS)))
                losses[f"{name}_symbols"] = SYMBOL_WEIGHT * F.cross_entropy(symbols[known], carried[known])
    losses["deep"] = _presence(heads.deep(states["deep"]), _near(batch, states["deep"].shape[1]))
    return losses


def _presence(logits: Tensor, wanted: Tensor) -> Tensor:
    """Return the binary cross-entropy over what can be told, summed over about half the kinds of a frame."""
    losses = F.binary_cross_entropy_with_logits(logits, wanted.clamp(min=0), reduction="none")
    return KINDS * (losses * (wanted >= 0)).mean()


def _near(batch: Batch, tokens: int) -> Tensor:
    """Return which kinds lie at the middle of a patch of each visual token, (N, tokens, 2*KINDS) float32."""
    kinds = batch.kinds.view(len(batch.kinds), tokens, -1, 2)  # (N, tokens, patches of one, frames)
    return F.one_hot(kinds, NOTHING + 1).amax(2)[..., :NOTHING].flatten(2).float()


@torch.no_grad()
def measure(tower: Any, heads: Heads, family: Family, seed: int) -> dict[str, float]:
    """Return how well tokens know held-out pictures: everything that touches one exactly right, and symbols read."""
    found: dict[str, float] = {}
    for view in ("small", "large"):
        rng = np.random.default_rng((_HELD_OUT, seed, SIDES[view]))
        batch = make_batch(draw_pictures(rng, _HELD_OUT_PAIRS, view), family)
        with TowerStates(tower, type(family)) as states:
            read = heads.tokens(states(batch)["tokens"])  # (N, V, 48 + 192)
        wrong = ((read[..., : 2 * KINDS] > 0).float() != batch.present) & (batch.present >= 0)
        found[f"exact_{view}"] = round(float((~wrong.any(2)).float().mean()), 4)
        if view == "large":
            known = batch.carried >= 0
            symbols = read[..., 2 * KINDS :].unflatten(-1, (KINDS, len(SYMBOLS)))[known].argmax(1)
            found["symbols"] = round(float((symbols == batch.carried[known]).float().mean()), 4)
    return found


def pretrain(
    tower: Any,
    family: Family,
    settings: VisionSettings,
    out: Path,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, text: None,
) -> dict[str, float]:
    """Train a tower in place; a killed run goes on from its last state in `out`.

    Args:
        tower: a Qwen3-VL vision model with one deepstack layer, its attention installed.
        family: cuts its frames.
        settings: steps, batches, learning rate.
        out: where the state and the log `vision.jsonl` are kept.
        progress: called after each step with its number, all steps, and a few words.

    Returns:
        The last measures on held-out pictures.
    """
    torch.manual_seed(settings.seed)
    heads = Heads(tower.config.hidden_size, tower.config.out_hidden_size)
    both = nn.ModuleDict({"tower": tower, "heads": heads}).train().requires_grad_(True)
    optimizer = Muon(both, settings.learning_rate)
    first, spent_s = _resume(out, both, optimizer)
    found = (read_rows(out / LOG_FILE) or [{}])[-1]
    stream = PictureStream(settings, family, first)
    ahead: dict[str, Any] = {"num_workers": 1, "prefetch_factor": 4} if settings.draw_ahead else {}
    began = time.perf_counter()
    with TowerStates(tower, type(family)) as states:
        for index, batch in enumerate(DataLoader(stream, batch_size=None, **ahead)):
            step = first + index
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * _rate(step, settings)
            losses = picture_loss(heads, states(batch), batch)
            loss = torch.stack(list(losses.values())).sum()
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            nn.utils.clip_grad_norm_(both.parameters(), 1.0)
            optimizer.step()
            progress(step + 1, settings.steps, f"loss {loss.item():.2f}")
            if (step + 1) % settings.measure_every == 0 or step + 1 == settings.steps:
                both.eval()
                minutes = round((spent_s + time.perf_counter() - began) / 60, 2)
                found = {"step": step + 1, "minutes": minutes, "loss": round(loss.item(), 3)}
                found |= measure(tower, heads, family, settings.seed)
                both.train()
                _keep(out, both, optimizer, step + 1, spent_s + time.perf_counter() - began, found)
    return found


def _rate(step: int, settings: VisionSettings) -> float:
    """Return the share of the learning rate: a short warm-up, constant, linear decay in the last part."""
    left = (settings.steps - step) / (settings.steps * settings.decay)
    return min(1.0, (step + 1) / 50, max(left, 0.01))


def _keep(out: Path, both: nn.Module, optimizer: Muon, step: int, spent_s: float, found: dict[str, Any]) -> None:
    """Write the state and the log's new row, each whole or not at all."""
    rows = [*(row for row in read_rows(out / LOG_FILE) if row["step"] < step), found]
    write_whole(out / LOG_FILE, "".join(json.dumps(row) + "\n" for row in rows))
    partial = out / f"{STATE_FILE}.partial"
    state = {"model": both.state_dict(), "optimizer": optimizer.state_dict(), "step": step, "spent_s": spent_s}
    torch.save(state, partial)
    partial.replace(out / STATE_FILE)


def _resume(out: Path, both: nn.Module, optimizer: Muon) -> tuple[int, float]:
    """Load the last state, if there is one, and return the step and the seconds it stands at."""
    path = out / STATE_FILE
    if not path.is_file():
        return 0, 0.0
    state = torch.load(path, weights_only=True)
    both.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["spent_s"])
