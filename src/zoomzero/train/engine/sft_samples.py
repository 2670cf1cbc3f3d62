"""SFT samples as tensors, and SFT samples from examples with real videos."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from zoomzero.config import ModelSettings
from zoomzero.data.example import Example
from zoomzero.data.sft_sample import Look, SFTItem, SFTSample
from zoomzero.errors import ConfigError
from zoomzero.policy.base import Turn
from zoomzero.policy.local.attention.packed import Prompt
from zoomzero.policy.local.positions import continue_positions
from zoomzero.prompts import Mode, coarse_text, format_response, option_labels, video_header, zoom_text
from zoomzero.spans import clip as clip_spans
from zoomzero.spans import widen
from zoomzero.train.rollouts.stream import ExampleStream
from zoomzero.video.cache import FrameCache
from zoomzero.video.decode import decode
from zoomzero.video.plan import plan_regular, plan_spans
from zoomzero.video.probe import probe
from zoomzero.video.types import Clip, FramePlan, Geometry, VideoInfo

if TYPE_CHECKING:
    from zoomzero.policy.local.prompt import PromptBuilder
    from zoomzero.policy.local.text import TextCodec

DECISIVE = 4.0  # how much more a decisive token counts than others
LOOKS: tuple[str, ...] = ("when", "what", "which")  # kinds of looks, see `Look`


@dataclass(frozen=True, slots=True, eq=False)
class PackedSFTSamples:
    """Samples as tensors: one prompt each, the items as its suffixes.

    `weights[i][j]` is (S,) float32 for suffix j of sample i: how much each of its tokens counts, 0 for the question.
    `positions[i][j]` is (3, S), where inference would put these tokens. `looks[i][j]` is (n, 3) int64: a token of
    suffix j, what kind of look writes it (its place in `LOOKS`), and what must be looked at: a visual token of the
    prompt, or an option, by its place. `options[i][j]` (K, 2) int64 are the tokens of suffix j with an option's letter
    and with the last of its text.
    """

    prompts: tuple[Prompt, ...]
    suffixes: tuple[tuple[Tensor, ...], ...]
    weights: tuple[tuple[Tensor, ...], ...]
    positions: tuple[tuple[Tensor, ...], ...]
    looks: tuple[tuple[Tensor, ...], ...]
    options: tuple[tuple[Tensor, ...], ...]

    @property
    def tokens(self) -> int:
        """Tokens in the packed row."""
        return sum(len(p) for p in self.prompts) + sum(len(s) for group in self.suffixes for s in group)

    @property
    def look_counts(self) -> Tensor:
        """How many looks there are of each kind in `LOOKS`, and last how many options, (len(LOOKS) + 1,) float32."""
        kinds = torch.cat([rows[:, 1] for group in self.looks for rows in group])
        options = sum(len(ends) for group in self.options for ends in group)
        return torch.tensor([*torch.bincount(kinds, minlength=len(LOOKS)).tolist(), options], dtype=torch.float32)


def pack_sft_samples(samples: Sequence[SFTSample], builder: PromptBuilder, end_of_turn: int) -> PackedSFTSamples:
    """Turn samples into prompts and suffixes.

    The items' whole prompts are built as inference builds them; what they have in common is the shared prompt, so
    training reads exactly the tokens that inference will.

    Args:
        samples: at least one; equal prompt lengths side by side are batched, so they are sorted by length here.
        builder: of the model that will read them.
        end_of_turn: the token that closes an answer.
    """
    packed = [_pack_one(sample, builder, end_of_turn) for sample in samples]
    packed.sort(key=lambda parts: len(parts[0]))
    return PackedSFTSamples(*zip(*packed, strict=True))


def _pack_one(
    sample: SFTSample, builder: PromptBuilder, end_of_turn: int
) -> tuple[Prompt, tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the shared prompt and, for every item, its tokens, their weights, positions, looks and options."""
    before = [turn for e in sample.history for turn in (Turn("user", (e.clip, e.text)), Turn("assistant", (e.reply,)))]
    chats = [[*before, Turn("user", (sample.clip, sample.header + item.text))] for item in sample.items]
    clips = [*(e.clip for e in sample.history), sample.clip]
    messages = [builder.messages(chat) for chat in chats]
    # an answer without thinking comes after a think block that the chat template opens was ended
    wholes = [
        builder.layout(message, [] if i else clips, closed=not item.target.startswith("<think>"))
        for i, (message, item) in enumerate(zip(messages, sample.items, strict=True))
    ]
    first = wholes[0]
    shared = _common_prefix([whole.ids for whole in wholes], len(first))
    prompt = Prompt(first.ids[:shared], first.positions[:, :shared], first.visual_index, first.patches, first.grids)
    suffixes, weights, positions, looks, options = [], [], [], [], []
    for whole, item in zip(wholes, sample.items, strict=True):
        said = builder.unwritten(item.target)
        target = [*builder.codec.encode(said), end_of_turn]
        _, offsets = builder.codec.decode(target)
        begun = len(item.target) - len(said)  # characters the chat template writes
        learned = [_weight(item, start + begun, end + begun) for start, end in offsets]
        suffixes.append(torch.cat([whole.ids[shared:], torch.tensor(target)]))
        weights.append(torch.tensor([0.0] * (len(whole) - shared) + learned))
        after = continue_positions(whole.next_position, len(target))
        positions.append(torch.cat([whole.positions[:, shared:], after], 1))
        asked = len(whole) - shared
        said_at = [asked + _token_at(offsets, look.character - begun) for look in item.looks]
        options.append(_option_tokens(item, builder.codec, whole.ids[shared:].tolist()))
        looks.append(_looks(item, said_at, sample.clip.times_s[1::2], bool(len(options[-1]))))
    return prompt, tuple(suffixes), tuple(weights), tuple(positions), tuple(looks), tuple(options)


def _token_at(offsets: Sequence[tuple[int, int]], character: int) -> int:
    """Return which token holds a character."""
    return next(i for i, (_, end) in enumerate(offsets) if end > character)


def _looks(item: SFTItem, tokens: Sequence[int], ends_s: Sequence[float], options: bool) -> Tensor:
    """Return an item's looks, (n, 3) int64, given the tokens they write and when each visual token's time ends.

    Looks at options are left out where these are not among the item's own tokens.
    """
    rows = [
        (token, LOOKS.index(look.kind), _looked_at(item, look, ends_s))
        for token, look in zip(tokens, item.looks, strict=True)
        if options or look.kind != "which"
    ]
    return torch.tensor(rows, dtype=torch.int64).view(-1, 3)


def _looked_at(item: SFTItem, look: Look, ends_s: Sequence[float]) -> int:
    return int(look.at) if look.kind == "which" else bisect_left(ends_s, look.at)


def _option_tokens(item: SFTItem, codec: TextCodec, question: Sequence[int]) -> Tensor:
    """Return an item's tokens with its options' letters and ends, (K, 2) int64; none where items share them."""
    text, offsets = codec.decode(question)
    places = [text.rfind(item.text[place:]) for pair in item.options for place in pair]
    if any(place < 0 for place in places):
        places = []
    return torch.tensor([_token_at(offsets, place) for place in places], dtype=torch.int64).view(-1, 2)


def _weight(item: SFTItem, start: int, end: int) -> float:
    """Return how much the token of a range of the target's characters counts."""

    def within(ranges: Sequence[tuple[int, int]]) -> bool:
        return any(low < end and start < high for low, high in ranges)

    if within(item.untrained):
        return 0.0
    return item.weight * (DECISIVE if within(item.decisive) else 1.0)


def _common_prefix(rows: Sequence[Tensor], longest: int) -> int:
    """Return how many leading tokens all rows share, leaving at least one token of each outside."""
    shortest = min(longest, *(len(row) for row in rows)) - 1
    same = torch.stack([row[:shortest] for row in rows])
    differs = (same != same[0]).any(0)
    return int(differs.int().argmax()) if bool(differs.any()) else shortest


class ExampleSFTSamples:
    """Samples from examples with real videos, without end: by turns a coarse look and a close look at each video.

    Args:
        examples: with at least one span each.
        settings: how the model is asked.
        geometry: of the model.
        seed: of the order of the videos, anew in every epoch; None: as they come.
        weights: how often each example is to be met, relative to the others; None: its video once an epoch.
        cache: keeps decoded frames.
        timeout_s: seconds one decoding job may take.

    Raises:
        ConfigError: no example has spans.
        VideoError: when a sample is asked for whose video cannot be read.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        settings: ModelSettings,
        geometry: Geometry,
        *,
        seed: int | None = None,
        weights: Sequence[float] | None = None,
        cache: FrameCache | None = None,
        timeout_s: float = 120.0,
    ) -> None:
        videos: dict[str, list[Example]] = {}
        shares: dict[str, float] = {}
        for example, weight in zip(examples, weights or [1.0] * len(examples), strict=True):
            if example.spans:
                videos.setdefault(example.video, []).append(example)
                shares[example.video] = shares.get(example.video, 0.0) + weight
        if not videos:
            raise ConfigError(
                "data.examples", "holds no example with spans", "give examples that say when the evidence is"
            )
        self.groups = list(videos.values())
        self.settings, self.geometry, self.seed = settings, geometry, seed
        self.cache, self.timeout_s = cache or FrameCache(0), timeout_s
        drawn = None if weights is None else [shares[video] for video in videos]
        self._infos: dict[str, VideoInfo] = {}
        self.stream = None if seed is None else ExampleStream(self.groups, seed, weights=drawn)

    def __call__(self, index: int, attempt: int = 0) -> SFTSample:
        """Return sample `index`: even ones look at a whole video, odd ones closely at one example's spans.

        Args:
            index: of the sample.
            attempt: above 0 another video takes the place of one that cannot be read, always the same one.
        """
        turn, place = divmod(index // 2, len(self.groups))
        group = self.groups[place] if self.stream is None else self.stream.at(index // 2)
        if attempt:
            group = self.groups[int(np.random.default_rng((self.seed or 0, index, attempt)).integers(len(self.groups)))]
        return self._coarse(group) if index % 2 == 0 else self._zoom(group[turn % len(group)])

    def _probed(self, video: str) -> VideoInfo:
        if video not in self._infos:
            self._infos[video] = probe(video, timeout_s=self.timeout_s)
        return self._infos[video]

    def _decoded(self, info: VideoInfo, plan: FramePlan) -> Clip:
        return decode(info, plan, cache=self.cache, timeout_s=self.timeout_s)

    def _coarse(self, group: Sequence[Example]) -> SFTSample:
        info = self._probed(group[0].video)
        plan = plan_regular(info, self.settings.coarse.budget(), self.geometry)
        items = [self._coarse_item(example, info.duration_s) for example in group]
        return SFTSample(self._decoded(info, plan), video_header(info.duration_s), tuple(items))

    def _coarse_item(self, example: Example, duration_s: float) -> SFTItem:
        settings = self.settings
        mode: Mode = "think" if settings.think else "no_think"
        spans = clip_spans(example.spans, 0.0, duration_s)
        text = coarse_text(
            example.question, example.options, mode, settings.style, long=duration_s > settings.long_after_s
        )
        return SFTItem(text, format_response("", example.answer, spans, mode, times=spans))

    def _zoom(self, example: Example) -> SFTSample:
        settings, info = self.settings, self._probed(example.video)
        spans = widen(example.spans, settings.widen_s, 0.0, info.duration_s)
        plan = plan_spans(info, spans, settings.zoom.budget(), self.geometry)
        target = example.answer
        if example.options and settings.score_options_as == "text":
            target = example.options[option_labels(len(example.options)).index(example.answer)]
        text = zoom_text(example.question, example.options, settings.style, settings.score_options_as)
        return SFTSample(self._decoded(info, plan), "", (SFTItem(text, target),))
